"""Requests: what a caller wants to move or delete, and with which options."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

__all__ = [
    "BACKEND_OPTIONS",
    "CHECKSUMS",
    "FAULT_GRACE",
    "LABEL_LIMIT",
    "NOTIFY_EVENTS",
    "SYNC_LEVELS",
    "DeleteRequest",
    "FilterRule",
    "Item",
    "Request",
    "SyncLevel",
    "TransferItem",
    "TransferRequest",
    "contradiction",
    "is_checksum",
    "items_of",
    "notify_events",
]

#: Default number of seconds to tolerate a permanent fault: enough for a file that is still being created, and for a
#: laptop that changes networks.
FAULT_GRACE = 60.0

#: Length of the longest label that the Globus service accepts (docs.globus.org, "Task Submission", 2.2).
LABEL_LIMIT = 128

#: The task events for which a service can send an e-mail.
NOTIFY_EVENTS = ("succeeded", "failed", "inactive")

#: The request fields that only some backends support; `Capabilities.options` lists those of a backend.
BACKEND_OPTIONS = (
    "checksum_algorithm",
    "destination_local_user",
    "encrypt_data",
    "fail_on_quota_errors",
    "globs",
    "local_user",
    "notify",
    "skip_source_errors",
    "source_local_user",
    "submission_id",
)

#: When to skip an existing destination. ``mtime`` compares the clocks of both stores: they may differ by less than the
#: time from a copy to the next change of its source; with ``preserve_timestamp``, by any amount.
SyncLevel = Literal["exists", "size", "mtime", "checksum"]

#: The sync levels from the weakest to the strictest; all but ``exists`` compare sizes.
SYNC_LEVELS: tuple[SyncLevel, ...] = ("exists", "size", "mtime", "checksum")

#: The algorithms of an expected checksum, with the number of hexadecimal digits. All of them detect corruption; md5 and
#: sha1 do not protect against tampering.
CHECKSUMS: Mapping[str, int] = {"md5": 32, "sha1": 40, "sha256": 64, "sha512": 128}


def is_checksum(text: str) -> bool:
    """Whether a text is a checksum in the form that `TransferItem` requires."""
    algorithm, _, digits = text.partition(":")
    return len(digits) == CHECKSUMS.get(algorithm) and re.fullmatch("[0-9a-f]*", digits) is not None


def notify_events(value: object) -> tuple[str, ...] | None:
    """Return the events that a value of ``notify`` stands for; None if it is invalid.

    The value is True, False, ``"on"``, ``"off"``, or a list or comma-separated string of ``NOTIFY_EVENTS``.
    """
    if isinstance(value, bool) or value in ("on", "off"):
        return NOTIFY_EVENTS if value in (True, "on") else ()
    names = value.split(",") if isinstance(value, str) else value
    if not isinstance(names, list | tuple) or not all(name in NOTIFY_EVENTS for name in names):
        return None
    return tuple(event for event in NOTIFY_EVENTS if event in names)


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferItem:
    """One source-destination pair.

    Parameters
    ----------
    source, destination : str
        Paths on their endpoints; ``destination`` is the complete new path.
    checksum : str
        The expected checksum of the file, as ``"sha256:..."``: an algorithm of ``CHECKSUMS``, a colon and the digits,
        all in lower case. It is checked even without ``verify_checksum``; a file with other content fails with the code
        ``EXTERNAL_CHECKSUM_MISMATCH``, and an existing destination is kept. A checksum is allowed only for a single
        file without a sync level, because skipped files are not read. Empty: no checksum is expected.
    """

    source: str
    destination: str
    checksum: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FilterRule:
    """Whether files or folders whose base name matches ``name`` are transferred; the first rule that matches decides.

    Parameters
    ----------
    method : {"include", "exclude"}
        What to do with a file or folder that matches.
    name : str
        A shell pattern (``*``, ``?``, ``[...]``) for the base name.
    kind : {"file", "dir"}
        What the rule applies to. An excluded folder is skipped with its contents, and is not created.
    """

    method: Literal["include", "exclude"]
    name: str
    kind: Literal["file", "dir"] = "file"


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferRequest:
    """A transfer from one endpoint to another.

    Parameters
    ----------
    source, destination : str
        Names of endpoints.
    items : tuple of TransferItem
        What to move; at least one item.
    recursive : bool
        True: every item is a folder, and its contents are moved to the destination. False: every item is a file. A
        mismatch is an error, as at Globus (Transfer API, "transfer item", ``recursive``).
    sync_level : {"exists", "size", "mtime", "checksum"} or None
        When to skip an existing destination file: if it exists; if its size is equal; if its size is equal and it is
        not older; if its size and content are equal. None: always replace it. ``mtime`` compares the clocks of source
        and destination, unless ``preserve_timestamp`` is set: if the clock of the destination is ahead, a source that
        changes within that difference after its copy is skipped.
    verify_checksum : bool
        Compare the checksums of the data read and the data written; if they differ, the file fails.
    preserve_timestamp : bool
        Give a destination file the modification time of its source.
    filters : tuple of FilterRule
        Rules for the files and folders below the folder of the request; only with ``recursive``.
    delete_destination_extra : bool
        Whether to remove files that exist only in the destination folder, after everything was moved; only with
        ``recursive``, and with one item. Files that the sync level skips are kept, and so are files that the filters
        exclude, even if the source does not contain them. Nothing is removed if anything could not be listed, read or
        written. Nothing outside the destination folder is removed; a link is removed, but not its target.
    skip_source_errors : bool
        Whether to skip and report a file or folder whose source is missing or unreadable, and move the rest. A
        `BatchingBackend` needs this to share one task among many callers. One of ``BACKEND_OPTIONS``.
    accept_skipped : bool
        Whether a skipped item counts as done, because its caller requested ``skip_source_errors``.
    label : str
        A label, at most 128 characters (docs.globus.org, "Task Submission", 2.2).
    deadline : datetime or None
        UTC time at which the backend stops the task; None: the default of the backend.
    encrypt_data, fail_on_quota_errors : bool or None
        Whether to encrypt data in transit, and whether a task fails at the first quota error instead of retrying.
        None: as in the settings of the backend. These fields and those below are ``BACKEND_OPTIONS``.
    checksum_algorithm : str
        The one of ``CHECKSUMS`` that the service uses to verify and compare files; empty: its default.
    source_local_user, destination_local_user : str
        The account on each side to which the service maps the user; empty: its default.
    notify : tuple of str or None
        The ``NOTIFY_EVENTS`` for which the service sends an e-mail; None: as in the settings of the backend.
    submission_id : str
        An id that the caller got from the service. If a task was submitted with this id before, that task is returned,
        even if it has ended. A request with an id never shares a task. Empty: a new id.
    """

    source: str
    destination: str
    items: tuple[TransferItem, ...]
    recursive: bool = False
    sync_level: SyncLevel | None = None
    verify_checksum: bool = True
    preserve_timestamp: bool = False
    filters: tuple[FilterRule, ...] = ()
    delete_destination_extra: bool = False
    skip_source_errors: bool = False
    accept_skipped: bool = False
    label: str = ""
    deadline: datetime | None = None
    encrypt_data: bool | None = None
    fail_on_quota_errors: bool | None = None
    checksum_algorithm: str = ""
    source_local_user: str = ""
    destination_local_user: str = ""
    notify: tuple[str, ...] | None = None
    submission_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteRequest:
    """A deletion on an endpoint.

    Parameters
    ----------
    endpoint : str
        Name of the endpoint.
    paths : tuple of str
        The paths to remove, at least one; the root of an endpoint is always refused.
    recursive : bool
        Remove folders with their contents; if False, a folder is an error.
    ignore_missing : bool
        Whether a missing path counts as removed.
    globs : bool
        Whether the last name of each path is a pattern; see ``chiltepin.protocol.paths.glob``. If nothing matches
        it, the path is missing. If False, a star is part of a name. One of ``BACKEND_OPTIONS``.
    label, deadline, notify, submission_id
        As in `TransferRequest`.
    local_user : str
        As ``source_local_user`` of `TransferRequest`.
    """

    endpoint: str
    paths: tuple[str, ...]
    recursive: bool = False
    ignore_missing: bool = False
    label: str = ""
    deadline: datetime | None = None
    globs: bool = False
    local_user: str = ""
    notify: tuple[str, ...] | None = None
    submission_id: str = ""


def contradiction(request: TransferRequest) -> str:
    """Return why the options of a request contradict each other, as a sentence; empty if they do not."""
    checksums = [item.checksum for item in request.items if item.checksum]
    algorithms = {text.partition(":")[0] for text in checksums}
    wrong = [text for text in checksums if not is_checksum(text)]
    files, extra = not request.recursive, request.delete_destination_extra
    rules = {
        f"{wrong} are not valid checksums; give 'sha256:' and 64 digits, or another of {', '.join(CHECKSUMS)}.": wrong,
        "A checksum is for one file, but recursive=True moves a folder; remove one of the two.": (
            checksums and request.recursive
        ),
        "Files that sync_level skips are not compared with a checksum; remove one of the two.": (
            checksums and request.sync_level
        ),
        "A checksum names its algorithm itself; remove checksum_algorithm.": (
            request.checksum_algorithm and algorithms - {request.checksum_algorithm}
        ),
        "include and exclude select files of a folder; set recursive=True, or remove them.": (
            request.filters and files
        ),
        "Source files that cannot be read would be deleted at the destination; remove skip_source_errors or "
        "delete_destination_extra.": extra and request.skip_source_errors,
        "delete_destination_extra applies to a folder; set recursive=True, or remove it.": extra and files,
        "delete_destination_extra applies to one folder at a time; make one request for each.": (
            extra and len(request.items) > 1
        ),
    }
    return next((sentence for sentence, broken in rules.items() if broken), "")


Request = TransferRequest | DeleteRequest

Item = TransferItem | str


def items_of(request: Request) -> tuple[Item, ...]:
    """Return the items of a transfer, or the paths of a deletion."""
    return request.paths if isinstance(request, DeleteRequest) else request.items
