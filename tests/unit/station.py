"""A backend by the clock: its tasks take some seconds, and it can have every trouble that a service has."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone

from chiltepin.model import Capabilities, TaskHandle, TaskState, TaskStatus

EPOCH = datetime(2026, 1, 1, tzinfo=timezone.utc)


@dataclass
class Clock:
    """A clock that moves only when somebody sleeps."""

    time: float = 1000.0
    sleeps: list[float] = field(default_factory=list)

    def monotonic(self) -> float:
        """Tell the time."""
        return self.time

    def now(self) -> datetime:
        """Tell the time of day."""
        return EPOCH + timedelta(seconds=self.time)

    def sleep(self, seconds: float) -> None:
        """Let the time go by at once."""
        self.sleeps.append(seconds)
        self.time += seconds


class Station:
    """A backend whose tasks take some seconds of the clock, and some more to stop."""

    name = "station"

    def __init__(self, clock, *, lasts=5.0, stops_in=0.0, outcome=TaskState.SUCCEEDED, runs_on="service"):
        self.capabilities = Capabilities(runs_on=runs_on, durable=True)
        self.clock, self.lasts, self.stops_in, self.outcome = clock, lasts, stops_in, outcome
        self.tasks, self.requests, self.cancelled, self.asked = {}, {}, {}, []
        #: What the next calls of a method raise, by its name; and the trouble that live tasks stand in.
        self.refusals = {"new_submission_id": [], "submit": [], "poll": [], "cancel": []}
        self.lost_replies = 0
        self.trouble = (TaskState.ACTIVE, "", 0)

    @classmethod
    def from_config(cls, endpoints, options):
        """Make a station with a clock of its own."""
        return cls(Clock(), **options)

    def _refuse(self, method):
        if self.refusals[method]:
            raise self.refusals[method].pop(0)

    @property
    def polls(self):
        """How often it was asked."""
        return len(self.asked)

    def new_submission_id(self):
        """Count."""
        self._refuse("new_submission_id")
        return f"id-{len(self.tasks)}"

    def submit(self, request, submission_id):
        """Start a task, once for an id."""
        if not self.lost_replies:
            self._refuse("submit")
        self.tasks.setdefault(submission_id, self.clock.time)
        self.requests[submission_id] = request
        if self.lost_replies:
            self.lost_replies -= 1
            self._refuse("submit")
        return TaskHandle(backend=self.name, task_id=submission_id, submission_id=submission_id)

    def poll(self, handles):
        """Tell by the clock."""
        self.asked.append(list(handles))
        self._refuse("poll")
        return [self._status(handle) for handle in handles]

    def _status(self, handle):
        stopped = self.cancelled.get(handle.task_id)
        state, code, done = self.trouble
        if stopped is not None and self.clock.time >= stopped + self.stops_in:
            state = code = TaskState.CANCELED
        elif stopped is None and self.clock.time >= self.tasks[handle.task_id] + self.lasts:
            state = code = self.outcome
        code = code if isinstance(code, str) else code.name
        return TaskStatus(handle=handle, state=state, code=code, reason="As the station says.", bytes_done=done)

    def wait(self, handle, seconds):
        """Let the time go by until the task has ended, or as long as is wanted."""
        ends = self.tasks[handle.task_id] + self.lasts
        self.clock.sleep(max(0.0, min(seconds, ends - self.clock.time)))

    def cancel(self, handle):
        """Begin to stop."""
        self._refuse("cancel")
        self.cancelled.setdefault(handle.task_id, self.clock.time)

    def ls(self, endpoint, path):
        """Have no files."""
        return []

    def close(self):
        """Hold nothing."""
