"""One caller's request to a service, and how it ends for this caller."""

from __future__ import annotations

from concurrent.futures import InvalidStateError
from contextlib import suppress
from typing import TYPE_CHECKING, cast

from chiltepin.errors import ServiceUnavailableError, TaskCanceledError
from chiltepin.model import TaskState, TaskStatus, items_of
from chiltepin.transfers import policy
from chiltepin.transfers.callbacks import CallbackFuture
from chiltepin.transfers.outcomes import describe, error_from_status
from chiltepin.transfers.timeouts import timeout_error

if TYPE_CHECKING:
    from chiltepin.model import Request, TaskHandle

__all__ = ["PendingRequest", "TaskProgress"]


class TaskProgress:
    """The state of the task that processes a request, possibly together with other requests.

    ``handle`` is None until it is submitted, and ``status`` is from the last poll. ``status_before_stop`` is from the
    last poll before Chiltepin canceled it: later ones only reflect the cancellation. ``refused`` is why the last
    submission failed, if it is retried, and ``unconfirmed`` whether the service may have received it anyway.
    """

    handle: TaskHandle | None = None
    status: TaskStatus | None = None
    status_before_stop: TaskStatus | None = None
    refused = ""
    unconfirmed = False


class PendingRequest:
    """One request to a service until its end; times are in seconds on the task manager's clock.

    ``timeout`` counts from ``started``; then the request fails with a `TaskTimeoutError`, or with a
    `ServiceUnavailableError` if its submissions failed. ``grace`` is how long a permanent fault is tolerated.
    ``raises`` tells whether the future also ends with an error if the task did not succeed.

    Attributes
    ----------
    items, times_out_at
        The items of the request, and when its timeout ends.
    future : Future of TaskStatus
        Ends with the final status of the task, or with an error if there is none.
    stop_reason : str
        Why it was stopped: "cancel" or "timeout"; empty if it was not.
    """

    def __init__(
        self,
        request: Request,
        *,
        timeout: float,
        polling_interval: float,
        grace: float,
        started: float,
        workflow: str = "",
        raises: bool = False,
    ) -> None:
        self.workflow, self._raises = workflow, raises
        self.request, self.timeout, self.polling_interval, self.grace = request, timeout, polling_interval, grace
        self.items = items_of(request)
        self.started, self.times_out_at = started, started + timeout
        self.future: CallbackFuture[TaskStatus] = CallbackFuture()
        # Parsl never ends a task whose future is canceled; a running future cannot be canceled.
        self.future.set_running_or_notify_cancel()
        self.stop_reason = ""
        self.ended = False
        #: Its task, and the maximum number of items in that task.
        self.task: TaskProgress | None = None
        self.max_items: int | None = None
        #: When the fault of its item began, and the earliest time of its next submission.
        self.fault_since: float | None = None
        self.not_before = float("-inf")
        #: Whether its item may already be done; then the next task leaves it alone if it is.
        self.may_be_done = False
        #: How many tasks ended without an outcome for its item.
        self.unproven = 0
        #: The outcome of its item before the retry.
        self.last_status: TaskStatus | None = None
        self._final: TaskStatus | None = None

    @property
    def handle(self) -> TaskHandle | None:
        """The task; None until it is submitted."""
        return self.task.handle if self.task else None

    @property
    def status(self) -> TaskStatus | None:
        """The final status; until then, the status of the last poll or the reason for the retry."""
        return self._final or (self.task.status if self.task else None) or self.last_status

    def outcome(self, now: float, status: TaskStatus | None) -> TaskStatus | BaseException:
        """Return its outcome if its task, which no other request shares, has this status."""
        if status is not None and status.state is TaskState.SUCCEEDED:
            return status
        # The deadline at the service is the same time on another clock, which may be ahead.
        expired = (
            status is not None
            and status.state is TaskState.EXPIRED
            and now >= self.times_out_at - policy.wait_times.CLOCK_SKEW
        )
        if self.stop_reason == "timeout" or expired:
            return self.timed_out(status)
        if status is not None and (status.state.final or not self.stop_reason):
            return status
        if self.handle is not None and not self.stop_reason:
            # Its task was stopped because of a fault, and has ended.
            reason = "The task has ended, and the service did not report the outcome."
            return TaskStatus(handle=self.handle, state=TaskState.FAILED, code="UNPROVEN", reason=reason)
        ended = "was asked to stop and has not stopped yet" if self.handle else "was canceled before it began"
        if self.handle is None and self.task is not None and self.task.unconfirmed:
            ended = "was canceled, but may still run: the service did not confirm its submission"
        return TaskCanceledError(f"{describe(self.request)} {ended}.", status=status)

    def detached_error(self, others: int) -> BaseException:
        """Return the error that ends it while its task continues for other requests."""
        task = f"a task with {others} other items continues, and may still process it"
        if self.stop_reason == "timeout":
            return timeout_error(
                self.request, self.timeout, status=self.status, continues=task, last=self._last_fault()
            )
        return TaskCanceledError(f"{describe(self.request)} was canceled; {task}.", status=self.status)

    def timed_out(self, status: TaskStatus | None = None) -> BaseException:
        """Return the error that ends it after its timeout, if its task has this status."""
        if self.handle is None and self.task is not None and self.task.refused:
            said = f"{self.task.refused}{' It may still run.' if self.task.unconfirmed else ''}"
            return ServiceUnavailableError(
                f"{describe(self.request)} could not be submitted within {self.timeout:g} seconds: {said}",
                transient=True,
            )
        return timeout_error(self.request, self.timeout, status=status, last=self._last_fault())

    def _last_fault(self) -> str:
        """Return the last message of the service about the task before it was stopped, as a sentence."""
        task = self.task
        last = ((task.status_before_stop or task.status) if task else None) or self.last_status
        return f" Last status of the service: {last.reason}" if last and last.reason else ""

    def finish(self, outcome: TaskStatus | BaseException) -> None:
        """End the future, unless it has ended."""
        if not isinstance(outcome, BaseException):
            self._final = outcome
        error = self._error(outcome)
        with suppress(InvalidStateError):
            if error is not None:
                self.future.set_exception(error)
            else:
                self.future.set_result(cast("TaskStatus", outcome))

    def _error(self, outcome: TaskStatus | BaseException) -> BaseException | None:
        if isinstance(outcome, BaseException):
            return outcome
        try:
            return error_from_status(outcome, self.request) if self._raises else None
        except Exception as unexpected:  # noqa: BLE001 - the future must end, even if a status is not final
            return unexpected
