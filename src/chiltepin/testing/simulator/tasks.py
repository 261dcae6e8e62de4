"""A task: what was submitted, its progress, and the documents that describe it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any

from chiltepin.testing.simulator.clock import utc

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from chiltepin.testing.simulator.collection import Collection
    from chiltepin.testing.simulator.submissions import Submission
    from chiltepin.testing.simulator.task_faults import TaskFault

__all__ = ["PROGRESS_DEADLINE", "Counters", "Event", "Phase", "Task"]

#: Seconds for which a queued task still shows an error (docs.globus.org, "Task Behavior", 2).
ERROR_SHOWN = 15 * 60

#: Seconds to the deadline of a transfer after progress (docs.globus.org, "Task Behavior", 3).
PROGRESS_DEADLINE = 72 * 3600


class Phase(Enum):
    """What the service does with a task; only ``WORKING`` uses a slot."""

    QUEUED = "queued"
    WORKING = "working"
    BACKING_OFF = "backing off"
    HELD = "held"
    OVER = "over"


@dataclass
class Counters:
    """The counters of a task; the names are those of the task document."""

    bytes_checksummed: int = 0
    bytes_transferred: int = 0
    directories: int = 0
    files: int = 0
    files_skipped: int = 0
    files_transferred: int = 0
    symlinks: int = 0
    subtasks_skipped_errors: int = 0
    subtasks_succeeded: int = 0
    subtasks_total: int = 0


@dataclass(frozen=True)
class Event:
    """An event of a task."""

    time: float
    code: str
    details: str
    is_error: bool = False

    def document(self) -> dict[str, Any]:
        """Return the event document."""
        return {
            "DATA_TYPE": "event",
            "code": self.code,
            "description": described(self.code),
            "details": self.details,
            "is_error": self.is_error,
            "time": utc(self.time).isoformat(timespec="seconds"),
        }


@dataclass(eq=False)
class Task:
    """One task of the user ``owner_id``.

    All times are seconds since 1970 UTC; ``now`` returns the simulated time.
    """

    id: str
    submission_id: str
    submission: Submission
    owner_id: str
    request_time: float
    deadline: float
    now: Callable[[], float]
    status: str = "ACTIVE"
    phase: Phase = Phase.QUEUED
    paused: bool = False
    #: Whether a rule of a collection has paused it.
    by_rule: bool = False
    #: The message of the administrator who paused or canceled it.
    admin_message: str = ""
    #: The side whose administrator canceled it: ``SOURCE`` or ``DESTINATION``; empty if neither did.
    canceled_by: str = ""
    #: When the next step is due; None while it waits for a slot, or is held.
    due: float | None = None
    #: Its place in the queue.
    turn: int = 0
    started: bool = False
    completion_time: float | None = None
    fatal_error: dict[str, str] | None = None
    fault: TaskFault | None = None
    fault_time: float = 0.0
    faults: int = 0
    #: Subtasks that had a fault in the last round.
    retrying: int = 0
    counters: Counters = field(default_factory=Counters)
    events: list[Event] = field(default_factory=list)
    successful: list[dict[str, Any]] = field(default_factory=list)
    skipped: list[dict[str, Any]] = field(default_factory=list)
    #: What the next round skips because it is done: paths, or pairs of paths.
    done: set[object] = field(default_factory=set)
    #: What has been counted, so that a retry counts nothing twice.
    seen: set[object] = field(default_factory=set)
    work: Generator[float, None, bool] | None = None

    @property
    def kind(self) -> str:
        """TRANSFER or DELETE."""
        return self.submission.kind

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self.phase is Phase.OVER

    @property
    def collections(self) -> tuple[Collection, ...]:
        """The collections that it uses."""
        source, destination = self.submission.source, self.submission.destination
        return (source,) if destination is None else (source, destination)

    def count(self, what: object, **amounts: int) -> bool:
        """Count something once; return whether this was the first time."""
        if what in self.seen:
            return False
        self.seen.add(what)
        self.add(**amounts)
        return True

    def add(self, **amounts: int) -> None:
        """Add to counters."""
        for name, amount in amounts.items():
            setattr(self.counters, name, getattr(self.counters, name) + amount)

    def add_event(self, code: str, details: object, *, is_error: bool = False) -> None:
        """Add an event at the current time."""
        text = details if isinstance(details, str) else json.dumps(details)
        self.events.append(Event(self.now(), code, text, is_error))

    def add_fault(self, fault: TaskFault) -> None:
        """Record a fault at the current time."""
        self.faults += 1
        self.fault, self.fault_time = fault, self.now()
        self.add_event(fault.code, fault.details, is_error=True)

    def retry(self, fault: TaskFault) -> None:
        """Record a fault after which a subtask is retried."""
        self.retrying += 1
        self.add_fault(fault)

    def progressed(self) -> None:
        """Extend the deadline after progress, unless the user has set it."""
        if self.kind == "TRANSFER" and not self.submission.fixed_deadline:
            self.deadline = max(self.deadline, self.now() + PROGRESS_DEADLINE)

    def _nice_status(self, now: float) -> tuple[str, str]:
        if self.paused:
            return "PAUSED", "The task is paused."
        fresh = self.phase is not Phase.QUEUED or now - self.fault_time <= ERROR_SHOWN
        if self.fault is not None and fresh:
            return self.fault.code, self.fault.details
        if self.phase is Phase.QUEUED:
            return "Queued", "The task waits for other tasks of this user."
        return "OK", ""

    def _rate(self, now: float) -> int:
        seconds = (self.completion_time or now) - self.request_time
        return int(self.counters.bytes_transferred / seconds) if seconds > 0 else self.counters.bytes_transferred

    def _subtasks(self) -> dict[str, int]:
        """Return the counts of subtasks; they add up to the total."""
        total, succeeded = self.counters.subtasks_total, self.counters.subtasks_succeeded
        skipped = self.counters.subtasks_skipped_errors
        left = max(0, total - succeeded - skipped)
        code = (self.fatal_error or {}).get("code")
        retrying = min(left, self.retrying) if not self.over else 0
        return {
            "subtasks_canceled": left if self.over and code == "CANCELED" else 0,
            "subtasks_expired": left if self.over and code == "EXPIRED" else 0,
            "subtasks_failed": left if self.over and code not in (None, "CANCELED", "EXPIRED") else 0,
            "subtasks_pending": 0 if self.over else left - retrying,
            "subtasks_retrying": retrying,
        }

    def document(self, now: float) -> dict[str, Any]:
        """Return the task document as of ``now``."""
        word, details = self._nice_status(now)
        said = not self.over
        return {
            "DATA_TYPE": "task",
            **self.submission.document(),
            **asdict(self.counters),
            **self._subtasks(),
            "canceled_by_admin": self.canceled_by or None,
            "canceled_by_admin_message": self.admin_message if self.canceled_by else None,
            "completion_time": None if self.completion_time is None else _instant(self.completion_time),
            "deadline": _instant(self.deadline),
            "effective_bytes_per_second": self._rate(now),
            "fatal_error": self.fatal_error,
            "faults": self.faults,
            "history_deleted": False,
            "is_ok": self.fault is None and not self.paused if said else None,
            "is_paused": self.paused,
            "nice_status": word if said else None,
            "nice_status_details": details if said else None,
            "nice_status_expires_in": -1 if said else None,
            "nice_status_short_description": described(word) if said else None,
            "owner_id": self.owner_id,
            "request_time": _instant(self.request_time),
            "status": self.status,
            "task_id": self.id,
            "username": f"u_{self.owner_id.replace('-', '')[:26]}",
        }


def described(code: str) -> str:
    """Return a code in plain words."""
    return code.replace("_", " ").lower()


def _instant(seconds: float) -> str:
    return utc(seconds).isoformat(timespec="seconds")
