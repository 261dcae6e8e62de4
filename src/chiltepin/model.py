"""The plain data that backends and callers exchange.

All of it is frozen, keyword-only and made of strings, numbers and tuples, so that it can cross a process, a pickle or
a JSON document. Times are UTC, sizes are bytes, paths are POSIX paths on an endpoint.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

__all__ = [
    "CHECKSUMS",
    "FAULT_GRACE",
    "LABEL_LIMIT",
    "NO_TASK",
    "SYNC_LEVELS",
    "THIS_MACHINE",
    "UNREAD",
    "UUID",
    "Capabilities",
    "DeleteRequest",
    "DirEntry",
    "FilterRule",
    "Item",
    "ItemOutcome",
    "Request",
    "SyncLevel",
    "TaskHandle",
    "TaskState",
    "TaskStatus",
    "TransferItem",
    "TransferRequest",
    "contradiction",
    "endpoint_name",
    "is_checksum",
    "items_of",
]

#: What a UUID looks like.
UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")

#: Seconds for which a trouble that does not heal by itself is borne, if nobody says otherwise: enough for a file that
#: is just being put in its place, and for a laptop that changes its network.
FAULT_GRACE = 60.0

#: Longest label that the Globus service takes (docs.globus.org, "Task Submission", 2.2).
LABEL_LIMIT = 128

#: The name of the collection of Globus Connect Personal on the machine where the workflow runs.
THIS_MACHINE = "this-machine"


def endpoint_name(name: str) -> str:
    """Return the name by which an endpoint is known: a UUID in small letters, any other name as it is."""
    return name.lower() if UUID.fullmatch(name) else name


SyncLevel = Literal["exists", "size", "mtime", "checksum"]

#: The sync levels in rising strictness; each one also checks what those before it check.
SYNC_LEVELS: tuple[SyncLevel, ...] = ("exists", "size", "mtime", "checksum")

#: The algorithms of a checksum that a caller knows of a file, each with the number of its hexadecimal digits. Any of
#: them finds damage; md5 and sha1 say nothing about who made the file.
CHECKSUMS: Mapping[str, int] = {"md5": 32, "sha1": 40, "sha256": 64, "sha512": 128}


def is_checksum(text: str) -> bool:
    """Whether a text is a checksum as `TransferItem` has it."""
    algorithm, _, digits = text.partition(":")
    return len(digits) == CHECKSUMS.get(algorithm) and re.fullmatch("[0-9a-f]*", digits) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferItem:
    """One source-destination pair.

    Parameters
    ----------
    source, destination : str
        Paths on their endpoints; ``destination`` is the whole new path.
    checksum : str
        What the content of the file has to hash to, as ``"sha256:..."``: an algorithm of ``CHECKSUMS``, a colon and the
        digits, all in small letters. It is checked whatever ``verify_checksum`` says; a file with another content
        fails with the code ``EXTERNAL_CHECKSUM_MISMATCH``, and what was at the destination stays. Only of a file,
        and without a sync level: what that leaves alone nobody reads. Empty: nothing is known of the content.
    """

    source: str
    destination: str
    checksum: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FilterRule:
    """Whether files whose base name matches ``name`` are transferred; the first rule that matches decides.

    Parameters
    ----------
    method : {"include", "exclude"}
        What happens to a file that matches.
    name : str
        A shell pattern (``*``, ``?``, ``[...]``) for the base name of a file. Folders are never filtered.
    """

    method: Literal["include", "exclude"]
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferRequest:
    """What a caller wants moved from one endpoint to another.

    Parameters
    ----------
    source, destination : str
        Names of endpoints.
    items : tuple of TransferItem
        What to move, at least one.
    recursive : bool
        True: every item is a folder, and what is in it goes into the destination folder. False: every item is a file.
        The wrong one is an error, as at Globus (Transfer API, "transfer item", ``recursive``).
    sync_level : {"exists", "size", "mtime", "checksum"} or None
        When an existing destination file is left alone: if it is there, if also its size is right, if also it is not
        older, if also its content is the same. None: it is always written anew.
    verify_checksum : bool
        Compare a checksum of what was read with one of what was written; a difference fails the file.
    preserve_timestamp : bool
        Give a destination file the modification time of its source.
    filters : tuple of FilterRule
        Which files of a folder are moved; only with ``recursive``.
    delete_destination_extra : bool
        Whether what is in a destination folder and not in its source folder is removed, after everything was moved;
        only with ``recursive``, and of one item. What the source holds counts, not what of it is moved: what the sync
        level leaves alone stays, and so does a file that the filters leave out, be it at the source or not. Nothing is
        removed if something could not be listed, read or written, and nothing ever outside the destination folder; a
        link goes itself.
    skip_source_errors : bool
        Whether an item whose source cannot be read is left out, and told afterwards, while the others go on. What a
        `BatchingBackend` needs for many callers in one task; nobody else asks for it.
    label : str
        A name for people, at most 128 characters (docs.globus.org, "Task Submission", 2.2).
    deadline : datetime or None
        When the backend gives up by itself, in UTC; None leaves that to the backend.
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
    label: str = ""
    deadline: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteRequest:
    """What a caller wants removed from an endpoint.

    Parameters
    ----------
    endpoint : str
        Name of the endpoint.
    paths : tuple of str
        What to remove, at least one; the root of an endpoint is always refused.
    recursive : bool
        Remove folders with all that is in them; without it a folder is an error.
    ignore_missing : bool
        Whether a path where nothing is counts as removed.
    label, deadline
        As in `TransferRequest`.
    """

    endpoint: str
    paths: tuple[str, ...]
    recursive: bool = False
    ignore_missing: bool = False
    label: str = ""
    deadline: datetime | None = None


def contradiction(request: TransferRequest) -> str:
    """Return why nobody can do what a request asks for, as a sentence; empty if its options go together."""
    checksums = [item.checksum for item in request.items if item.checksum]
    wrong = [text for text in checksums if not is_checksum(text)]
    files, extra = not request.recursive, request.delete_destination_extra
    rules = {
        f"{wrong} are no checksums; give 'sha256:' and its 64 digits, or another of {', '.join(CHECKSUMS)}.": wrong,
        "A checksum is of one file, and recursive=True moves a folder; leave one of the two out.": (
            checksums and request.recursive
        ),
        "What sync_level leaves alone is not compared with a checksum; leave one of the two out.": (
            checksums and request.sync_level
        ),
        "include and exclude choose files of a folder; give recursive=True, or leave them out.": (
            request.filters and files
        ),
        "delete_destination_extra is about what is in a folder; give recursive=True, or leave it out.": extra and files,
        "delete_destination_extra is for one folder at a time; make a request of each.": (
            extra and len(request.items) > 1
        ),
    }
    return next((sentence for sentence, broken in rules.items() if broken), "")


Request = TransferRequest | DeleteRequest

Item = TransferItem | str


def items_of(request: Request) -> tuple[Item, ...]:
    """Return what a request moves or removes."""
    return request.paths if isinstance(request, DeleteRequest) else request.items


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskHandle:
    """The name of a task, good in any process and after a restart.

    Parameters
    ----------
    backend : str
        Name of the backend that made the task.
    task_id : str
        The backend's id of it.
    submission_id : str
        The id that made its submission idempotent.
    """

    backend: str
    task_id: str
    submission_id: str

    @classmethod
    def at_worker(cls, backend: str, submission_id: str) -> TaskHandle:
        """Return the handle of a task of a `WorkerBackend`, whose task id is the submission id."""
        return cls(backend=backend, task_id=submission_id, submission_id=submission_id)


#: The handle of what never became a task.
NO_TASK = TaskHandle(backend="", task_id="", submission_id="")

#: The code of the status of a task of which the answer could not be read: nothing is known of it now.
UNREAD = "UNREAD"


class TaskState(Enum):
    """Where a task stands. ``ACTIVE`` and ``PAUSED`` live; each of the others is final."""

    ACTIVE = "active"
    PAUSED = "paused"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"
    EXPIRED = "expired"
    LOST = "lost"

    @property
    def final(self) -> bool:
        """Whether the task will never change again."""
        return self not in (TaskState.ACTIVE, TaskState.PAUSED)


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskStatus:
    """What a backend knows of a task at one moment.

    Parameters
    ----------
    handle : TaskHandle
        The task.
    state : TaskState
        Where it stands.
    code : str
        One word for why, in Globus's vocabulary (``FILE_NOT_FOUND``, ``PERMISSION_DENIED``, ...); empty if all is well.
    reason : str
        The same as a sentence for people.
    bytes_done : int
        Bytes that are whole at their destination, so far; of a service, all that have arrived.
    bytes_moving : int
        Bytes of files that are not whole yet, where the backend counts them apart: what a bar shows of a large file.
    files_done : int
        Files moved or removed, so far.
    files_skipped : int
        Files left alone: by the sync level, by a filter, or because they are neither file nor folder.
    faults : int
        Hiccups and failed files, so far.
    """

    handle: TaskHandle
    state: TaskState
    code: str = ""
    reason: str = ""
    bytes_done: int = 0
    bytes_moving: int = 0
    files_done: int = 0
    files_skipped: int = 0
    faults: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemOutcome:
    """What became of one item of a task that has ended.

    Parameters
    ----------
    done : bool
        Whether it was done, whole.
    code, reason : str
        Why not, as in `TaskStatus`.
    """

    done: bool
    code: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DirEntry:
    """One entry of a folder.

    Parameters
    ----------
    name : str
        Its base name.
    kind : {"file", "dir", "link", "other"}
        A link is not followed; ``other`` is a device, a socket or a pipe.
    size : int or None
        Bytes; 0 for anything but a file, None where the store does not tell.
    modified : datetime or None
        Last modification in UTC; None where the store keeps none.
    """

    name: str
    kind: Literal["file", "dir", "link", "other"]
    size: int | None = 0
    modified: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What a backend can do; what it cannot, it refuses before anything is submitted.

    Parameters
    ----------
    runs_on : {"service", "worker"}
        Who moves the bytes: a service elsewhere, or the process that calls ``submit``.
    durable : bool
        Whether a task outlives the process that submitted it.
    deadline : bool
        Whether the backend itself stops a task at ``deadline``.
    sync_levels : tuple of str
        The sync levels that it knows.
    filters : bool
        Whether it knows filter rules.
    checksums : tuple of str
        The algorithms of ``CHECKSUMS`` by which it checks an item.
    deletes_extra : bool
        Whether it knows ``delete_destination_extra``.
    max_items : int or None
        Most items in one request; None means no limit.
    finds_endpoints : bool
        Whether it finds endpoints by itself that the settings do not declare.
    batches : bool
        Whether it tells the outcome of each item of a task; then the items of many callers go as one task, and it is a
        `BatchingBackend`.
    slots : int or None
        Tasks of one kind that the service works on at a time; None means that more tasks are done sooner.
    """

    runs_on: Literal["service", "worker"]
    durable: bool
    deadline: bool = True
    sync_levels: tuple[SyncLevel, ...] = SYNC_LEVELS
    filters: bool = True
    checksums: tuple[str, ...] = ()
    deletes_extra: bool = False
    max_items: int | None = None
    finds_endpoints: bool = False
    batches: bool = False
    slots: int | None = None
