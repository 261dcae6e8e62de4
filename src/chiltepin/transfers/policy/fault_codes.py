"""Which fault codes end an item or a task: the event codes of Globus, as its staff listed them.

The source is Globus developer-discuss, 2020.
"""

from __future__ import annotations

#: A path was not found.
NOT_FOUND = "FILE_NOT_FOUND"

#: Faults that one item of a task causes; the rest may succeed without it.
PER_ITEM_CODES = frozenset(
    {
        "AMBIGUOUS_PATH",
        "EXTERNAL_CHECKSUM_MISMATCH",
        "FILE_ACCESS",
        NOT_FOUND,
        "INVALID_PATH_NAME",
        "INVALID_SYMLINK",
        "IS_A_DIRECTORY",
        "IS_A_FILE",
        "MPU_NOT_FOUND",
        "NOT_A_DIRECTORY",
        "NOT_A_FILE",
        "NOT_A_SYMLINK",
        "PERMISSION_DENIED",
    }
)

#: Faults that do not resolve by themselves, including faults of items. The service itself would retry until the
#: deadline, by default a day (docs.globus.org, "Task Behavior", 3 and 4). A wrong checksum fails at once: a retry would
#: move all bytes again.
PERMANENT_CODES = (PER_ITEM_CODES - {"EXTERNAL_CHECKSUM_MISMATCH"}) | {
    "ACL_CHANGED",
    "AUTH",
    "GC_NOT_CONNECTED",
    "GC_PAUSED",
    "GSI_DN_MISMATCH",
    "INVALID_SERVICE_CREDENTIAL",
    "LIMIT_EXCEEDED",
    "NO_APPEND_FILESYSTEM",
    "NO_CREDENTIALS",
    "NO_PHYSICALS",
    "NO_SPACE_LEFT",
    "QUOTA_EXCEEDED",
}

#: Suffixes of the error and event codes for a folder that cannot be listed although its endpoint responds.
FOLDER_CODES = ("NotDirectory", "SizeLimit", "NOT_A_DIRECTORY", "INVALID_SYMLINK", "INVALID_PATH_NAME")
