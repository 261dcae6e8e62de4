"""Tasks: their handles, their states and statuses, and the outcomes of their items."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from datetime import datetime

__all__ = [
    "CLIENT_FAILED",
    "NO_TASK",
    "SKIPPED_KEPT",
    "UNREAD",
    "ItemOutcome",
    "TaskEvent",
    "TaskHandle",
    "TaskInfo",
    "TaskState",
    "TaskStatus",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskHandle:
    """The identity of a task, valid in any process and after a restart.

    Parameters
    ----------
    backend : str
        Name of the backend that created the task.
    task_id : str
        Its id at the backend.
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


#: The handle of a request that never became a task.
NO_TASK = TaskHandle(backend="", task_id="", submission_id="")

#: Maximum number of ``skipped_paths`` in a status.
SKIPPED_KEPT = 1000

#: The code of a status that could not be parsed: the state of the task is unknown.
UNREAD = "UNREAD"

#: Code of an error raised by a client that the caller provided; it ends the request or task concerned.
CLIENT_FAILED = "CLIENT_FAILED"


class TaskState(Enum):
    """The state of a task. All states but ``ACTIVE`` and ``PAUSED`` are final.

    Attributes
    ----------
    final : bool
        Whether the task has ended.
    """

    ACTIVE = "active"
    PAUSED = "paused"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"
    EXPIRED = "expired"
    LOST = "lost"

    def __init__(self, value: str) -> None:
        self.final = value not in ("active", "paused")


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskStatus:
    """The status of a task at one moment.

    Parameters
    ----------
    handle : TaskHandle
        The task.
    state : TaskState
        Its state.
    code : str
        A code of Globus (``FILE_NOT_FOUND``, ``PERMISSION_DENIED``, ...) for a fault or failure; empty otherwise.
    reason : str
        The fault or failure as a sentence.
    bytes_done : int
        Bytes of complete files so far; from a service, all bytes transferred.
    bytes_moving : int
        Bytes of incomplete files, if the backend counts them separately, for a progress bar.
    files_done : int
        Files moved or removed so far.
    files_skipped : int
        Files skipped by the sync level, by a filter, or because they are special files; and the paths skipped by
        ``skip_source_errors``.
    skipped_paths : tuple of str
        The source paths skipped by ``skip_source_errors``, at most ``SKIPPED_KEPT``. A service reports them only in
        the final status.
    faults : int
        Faults and failed files so far.
    """

    handle: TaskHandle
    state: TaskState
    code: str = ""
    reason: str = ""
    bytes_done: int = 0
    bytes_moving: int = 0
    files_done: int = 0
    files_skipped: int = 0
    skipped_paths: tuple[str, ...] = ()
    faults: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemOutcome:
    """The outcome of one item of a task that has ended.

    Parameters
    ----------
    done : bool
        Whether the whole item is done.
    code, reason : str
        Why it is not done, as in `TaskStatus`.
    skipped_paths : tuple of str
        The paths in a done item that ``skip_source_errors`` has skipped, as in `TaskStatus`.
    """

    done: bool
    code: str = ""
    reason: str = ""
    skipped_paths: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskInfo:
    """What a backend knows about a task from its id, whatever program submitted it. Times are UTC.

    Parameters
    ----------
    status : TaskStatus
        Its status.
    kind : {"transfer", "delete"}
        The kind of task.
    source, destination : str
        Names of its endpoints; the destination of a deletion is empty.
    label : str
        Its label; empty for none.
    asked : datetime
        When it was submitted.
    ended : datetime or None
        When it ended.
    deadline : datetime or None
        When the backend stops it; None if unknown.
    """

    status: TaskStatus
    kind: Literal["transfer", "delete"]
    source: str
    destination: str
    label: str
    asked: datetime
    ended: datetime | None = None
    deadline: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskEvent:
    """An event of a task.

    Parameters
    ----------
    time : datetime
        Time of the event, in UTC.
    code : str
        A code of Globus, such as ``STARTED`` or ``FILE_NOT_FOUND``.
    is_error : bool
        Whether it is a fault or a failure.
    details : str
        What happened, in one line.
    """

    time: datetime
    code: str
    is_error: bool
    details: str
