"""One request on its way through a service: when to look at it, when to stop it, and how it ends."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import replace
from typing import TYPE_CHECKING

from chiltepin.errors import ServiceUnavailableError, TaskCanceledError, TaskTimeoutError
from chiltepin.model import TaskState, TaskStatus
from chiltepin.outcomes import describe

if TYPE_CHECKING:
    from chiltepin.model import Request, TaskHandle

__all__ = ["FIRST_LOOK", "LOOK_SHARE", "STOP_GRACE", "UNHEALING", "Errand"]

#: Seconds before the first look at a task, and the least time between two looks; no task of a service ends sooner.
FIRST_LOOK = 0.5

#: The next look comes after this share of the time that has gone by: an end is noticed at most a tenth late.
LOOK_SHARE = 0.1

#: Seconds that a task which was told to stop has for stopping, before it is left to itself.
STOP_GRACE = 10.0

#: Seconds by which the service's clock may be before ours.
CLOCK_SKEW = 10.0

#: Troubles that do not go away by themselves, in Globus's words. The service itself would try on until the deadline, by
#: default a day (docs.globus.org, "Task Behavior", 3 and 4).
UNHEALING = frozenset(
    {
        "ACL_CHANGED",
        "AMBIGUOUS_PATH",
        "AUTH",
        "EXTERNAL_CHECKSUM_MISMATCH",
        "FILE_ACCESS",
        "FILE_NOT_FOUND",
        "GC_NOT_CONNECTED",
        "GC_PAUSED",
        "GSI_DN_MISMATCH",
        "INVALID_PATH_NAME",
        "INVALID_SERVICE_CREDENTIAL",
        "INVALID_SYMLINK",
        "IS_A_DIRECTORY",
        "IS_A_FILE",
        "LIMIT_EXCEEDED",
        "NOT_A_DIRECTORY",
        "NOT_A_FILE",
        "NO_APPEND_FILESYSTEM",
        "NO_CREDENTIALS",
        "NO_SPACE_LEFT",
        "PERMISSION_DENIED",
        "QUOTA_EXCEEDED",
    }
)


class Errand:
    """One request on its way; times are seconds of the hub's clock.

    Parameters
    ----------
    request : TransferRequest or DeleteRequest
        What is wanted.
    timeout : float
        Seconds from ``begun`` after which the task is cancelled.
    polling_interval : float
        Longest time between two looks, in seconds.
    grace : float
        Seconds for which a trouble that does not heal by itself is borne, as long as nothing moves.
    begun : float
        When it started.

    Attributes
    ----------
    future : Future of TaskStatus
        Ends with the final status of the task, or with the error that says why there is none.
    handle : TaskHandle or None
        The task, once it is submitted.
    status : TaskStatus or None
        What the last look said.
    """

    def __init__(
        self, request: Request, *, timeout: float, polling_interval: float, grace: float, begun: float
    ) -> None:
        self.request, self.timeout, self.polling_interval, self.grace = request, timeout, polling_interval, grace
        self.begun, self.submitted = begun, begun
        self.future: Future[TaskStatus] = Future()
        # Parsl stumbles over a future that is cancelled under it; a running one cannot be.
        self.future.set_running_or_notify_cancel()
        self.submission_id, self.refused = "", ""
        self.handle: TaskHandle | None = None
        self.status: TaskStatus | None = None
        #: Why it has to stop: "cancel", "timeout" or "trouble"; empty if it has not.
        self.stopping = ""
        self.cancel_heard = False
        self.cancel_tried = float("-inf")
        self._stopped_at: float | None = None
        #: The status of a trouble, and since when the task has stood there.
        self._trouble: tuple[TaskStatus, float] | None = None

    @property
    def limit(self) -> float:
        """When its time is up."""
        return self.begun + self.timeout

    def stop(self) -> None:
        """Wish it stopped; may be called by any thread."""
        self.stopping = self.stopping or "cancel"

    def watch(self, now: float) -> None:
        """Take note of the time."""
        if not self.stopping and now >= self.limit:
            self.stopping = "timeout"
        if self.stopping and self._stopped_at is None:
            self._stopped_at = now

    def wants_cancel(self, now: float) -> bool:
        """Whether the service has to be told to stop the task, now."""
        return bool(self.stopping) and not self.cancel_heard and now >= self.cancel_tried + FIRST_LOOK

    def given_up(self, now: float) -> bool:
        """Whether the task was told to stop, and its time for that is over."""
        return self._stopped_at is not None and now >= self._stopped_at + STOP_GRACE

    def next_look(self, looked: float) -> float:
        """Return when to look at the task again, if the last look was at ``looked``."""
        looked = max(looked, self.submitted)
        if self.stopping:
            return looked + min(FIRST_LOOK, self.polling_interval)
        pause = min(max(FIRST_LOOK, (looked - self.begun) * LOOK_SHARE), self.polling_interval)
        patience = self._trouble[1] + self.grace if self._trouble else self.limit
        return min(looked + pause, max(looked, patience), max(looked, self.limit))

    def hear(self, status: TaskStatus, now: float) -> None:
        """Take note of what a look said, and wish the task stopped if it stands in a trouble for too long."""
        self.status = status
        if self.stopping or status.state.final:
            return
        if status.state is not TaskState.PAUSED and status.code not in UNHEALING:
            self._trouble = None
            return
        before, since = self._trouble or (status, now)
        moved = (status.bytes_done, status.files_done) != (before.bytes_done, before.files_done)
        self._trouble = status, now if moved else since
        if now >= self._trouble[1] + self.grace:
            self.stopping = "trouble"

    def end(self, now: float, error: BaseException | None) -> None:
        """End the future: with ``error``, else with what became of the task."""
        outcome = error or self._outcome(now)
        if isinstance(outcome, BaseException):
            self.future.set_exception(outcome)
        else:
            self.future.set_result(outcome)

    def _outcome(self, now: float) -> TaskStatus | BaseException:
        status = self.status
        if status is not None and status.state is TaskState.SUCCEEDED:
            return status
        # The deadline at the service is the same moment by another clock, and may come first.
        expired = status is not None and status.state is TaskState.EXPIRED and now >= self.limit - CLOCK_SKEW
        if self.stopping == "timeout" or expired:
            return self._timed_out()
        if self._trouble is not None and self.stopping == "trouble":
            return self._stopped_in_trouble(self._trouble[0])
        if status is not None and status.state.final:
            return status
        ended = "was told to stop and has not stopped yet" if self.handle else "was cancelled before it began"
        return TaskCanceledError(f"{describe(self.request)} {ended}.", status=status)

    def _timed_out(self) -> BaseException:
        what, status = describe(self.request), self.status
        if self.handle is None and self.refused:
            return ServiceUnavailableError(
                f"{what} could not be submitted within {self.timeout:g} seconds: {self.refused}", transient=True
            )
        said = f" Last word of the service: {status.reason}" if status and status.reason else ""
        return TaskTimeoutError(
            f"{what} was not done within {self.timeout:g} seconds and was stopped; give a longer timeout=.{said}",
            status=status,
        )

    def _stopped_in_trouble(self, trouble: TaskStatus) -> TaskStatus:
        """Return the status of a task that was stopped because it would not get anywhere."""
        state = TaskState.PAUSED if trouble.state is TaskState.PAUSED else TaskState.FAILED
        said = f"It did not get on for {self.grace:g} seconds and was stopped. {trouble.reason}"
        return replace(trouble, state=state, reason=said)
