"""Faults that stop a task from making progress, with the codes of the service's events."""

from __future__ import annotations

import errno
import os

from chiltepin.backends.filesystem.errors import Fault

__all__ = ["FROM_DISK", "SKIPPABLE", "TaskFault", "fault_from_error"]

#: The faults that ``skip_source_errors`` skips, on the source only (docs.globus.org, "Task Behavior", 4.1).
SKIPPABLE = frozenset({"PERMISSION_DENIED", "FILE_NOT_FOUND", "AMBIGUOUS_PATH"})

_CODES = {
    errno.ENOENT: "FILE_NOT_FOUND",
    errno.EACCES: "PERMISSION_DENIED",
    errno.EPERM: "PERMISSION_DENIED",
    errno.EROFS: "PERMISSION_DENIED",
    errno.EISDIR: "IS_A_DIRECTORY",
    errno.ENOTDIR: "NOT_A_DIRECTORY",
    errno.ENOSPC: "NO_SPACE_LEFT",
    errno.EDQUOT: "QUOTA_EXCEEDED",
    errno.ELOOP: "INVALID_SYMLINK",
    errno.ENAMETOOLONG: "INVALID_PATH_NAME",
    errno.EILSEQ: "INVALID_PATH_NAME",
}


class TaskFault(Exception):  # noqa: N818 - it is retried more often than it is an error
    """Why a file, or a task, cannot be processed now: the code and the details of an event.

    Parameters
    ----------
    fatal : bool
        Whether it ends the task at once.
    everywhere : bool
        Whether every other file of the task would fail in the same way now.
    outside : bool
        Whether the path leads outside its collection.
    """

    def __init__(
        self, code: str, details: str, *, fatal: bool = False, everywhere: bool = False, outside: bool = False
    ) -> None:
        super().__init__(details)
        self.code, self.details = code, details
        self.fatal, self.everywhere, self.outside = fatal, everywhere, outside


#: All exceptions that reading or writing a path may raise; `fault_from_error` converts each of them.
FROM_DISK = (OSError, ValueError, Fault, TaskFault)


def fault_from_error(error: Exception, what: str) -> TaskFault:
    """Return the fault for an error of the disk.

    ``what`` is the path and its collection.
    """
    if isinstance(error, TaskFault):
        return error
    if isinstance(error, Fault):
        # The store itself denies permission only for links that lead outside it.
        return TaskFault(error.code, f"{what}: {error.reason}", outside=error.code == "PERMISSION_DENIED")
    if isinstance(error, OSError) and error.errno:
        return TaskFault(_CODES.get(error.errno, "ENDPOINT_ERROR"), f"{what}: {os.strerror(error.errno)}")
    return TaskFault("ENDPOINT_ERROR", f"{what}: {type(error).__name__}")
