"""The future of a transfer or a deletion that runs as a Parsl task."""

from __future__ import annotations

import logging
import os
import threading
from concurrent.futures import Future
from functools import cached_property
from typing import TYPE_CHECKING

from parsl.data_provider.files import File
from parsl.dataflow.errors import DependencyError, JoinError
from parsl.dataflow.futures import AppFuture
from parsl.executors.errors import BadStateException
from parsl.executors.high_throughput.errors import ManagerLost, WorkerLost

from chiltepin.backends import threads
from chiltepin.errors import AppFailedError, BackendError, ChiltepinError, TaskCanceledError, TaskError, TaskLostError
from chiltepin.model import NO_TASK, TaskHandle, TaskState, TaskStatus, TransferRequest
from chiltepin.parsl import kernel
from chiltepin.parsl.files import FileFuture, url_of
from chiltepin.parsl.nested_futures import Nested
from chiltepin.parsl.reading import ReadFuture
from chiltepin.parsl.serialization import describe_failure
from chiltepin.parsl.shutdown import shutdown_of
from chiltepin.transfers import arguments, policy
from chiltepin.transfers.outcomes import describe, status_from_error

if TYPE_CHECKING:
    from chiltepin.model import Request
    from chiltepin.parsl.operation import Operation
    from chiltepin.parsl.task_channels import TaskChannel

__all__ = ["WORKER_GONE", "TransferFuture", "lost_error"]

logger = logging.getLogger(__name__)

#: Parsl's errors for a task whose process was killed.
WORKER_GONE = (WorkerLost, ManagerLost, BadStateException)
#: Arguments of a task that do not belong to the request.
_NOT_OF_REQUEST = (*arguments.TIMES, "inputs")


def lost_error(what: str, error: BaseException, operation: Operation) -> TaskLostError:
    """Return the error for a task whose worker or interchange has ended."""
    gone = "executor" if isinstance(error, BadStateException) else "worker"
    return TaskLostError(
        f"{what} was lost with its {gone} ({str(error).rstrip('.')}); start it again{operation.retry_hint}."
    )


class TransferFuture(ReadFuture[bool], AppFuture):  # type: ignore[misc] # parsl has no types
    """The future of a transfer or a deletion: an ``AppFuture`` that can be canceled and has a status.

    Its result is ``True``. If the task did not succeed, ``result()`` raises an error, or returns ``False`` with
    ``check=False``. Other Parsl apps may take the future as an argument or in their ``inputs``, and do not run if it
    fails. Its callbacks run on separate threads.
    """

    def __init__(
        self, app_future: AppFuture, operation: Operation, channel: TaskChannel, request: Request | None, *, check: bool
    ) -> None:
        super().__init__(app_future.task_record)
        self.operation = operation
        self._channel, self._request, self._check = channel, request, check
        self._status: TaskStatus | None = None
        self._end_reason = ""
        self._cancel_requested = False
        self._grace_timer: threading.Timer | None = None
        self._unanswered: TaskCanceledError | None = None
        self._ending = threading.Lock()
        run = shutdown_of(app_future.task_record["dfk"])
        self._remove_callback = run.on_end(self._stop_with_workflow)
        app_future.add_done_callback(self._follow)
        if run.watcher is not None:
            run.watcher(self)

    @cached_property
    def _what(self) -> str:
        return describe(self._request) if self._request else f"The {self.operation.name}"

    @property
    def request(self) -> Request | None:
        """The request; None while it depends on a future, or if its arguments are invalid."""
        if self._request is not None:
            return self._request
        given = self.task_record["kwargs"]
        asked = {name: value for name, value in given.items() if name not in _NOT_OF_REQUEST}
        if any(isinstance(value, (Future, Nested)) for value in asked.values()):
            return None
        try:
            return self.operation.make_request(**asked)
        except (ChiltepinError, TypeError, ValueError):
            return None

    @cached_property
    def file(self) -> FileFuture:
        """A future of the file at its destination, as Parsl's ``File``.

        An app that receives it in ``inputs=[...]``, or as any other argument, waits for this transfer and can open the
        file. The future fails if this transfer does not succeed.

        Raises
        ------
        ValueError
            If this is a deletion or the transfer of a folder, or the destination itself is a future.
        """
        given, request = self.task_record["kwargs"], self._request
        if isinstance(request, TransferRequest):
            given = {
                "dst_ep": request.destination,
                "dst_path": request.items[0].destination,
                "recursive": request.recursive,
            }
        endpoint, path, folder = (given.get(name) for name in ("dst_ep", "dst_path", "recursive"))
        if endpoint is None or folder is not False:
            raise ValueError(f"{self._what} does not create a single file; name its files yourself, as File(...).")
        if isinstance(endpoint, Future) or isinstance(path, Future):
            # Not a TypeError: a future is a valid argument, but its result is not known yet.
            raise ValueError(  # noqa: TRY004
                f"{self._what} has a destination that is still a future; give dst_ep and dst_path as strings."
            )
        return FileFuture(self, File(url_of(str(endpoint), os.fspath(path))), tid=self.tid)

    @property
    def task_handle(self) -> TaskHandle | None:
        """The handle of the task at its backend; None until a service has accepted the task."""
        return self._channel.handle

    def cancel(self) -> bool:
        """Request that the task stop.

        A task that is about to end may still succeed. A task that waits for other tasks, for a thread, or for a worker
        of a resource in the settings ends at once; a running task ends within about a second. Then ``result()`` raises
        `TaskCanceledError`. On your own executor, a task in another process that has not stopped after 10 seconds also
        ends, and a worker that receives it later does nothing.

        Returns
        -------
        bool
            False if the task has ended already.
        """
        if self.done():
            return False
        self._cancel_requested = True
        self._channel.stop()
        if self.task_record["status"].name == "pending":
            self._end_unsuccessful(TaskCanceledError(f"{self._what} was canceled before it began."))
        elif self._channel.queues and self._grace_timer is None:
            self._withdraw()
        return True

    def _withdraw(self) -> None:
        """Remove the task from its executor's queue, now or as soon as it is queued."""
        record = self.task_record
        error = TaskCanceledError(f"{self._what} was canceled before it began.")
        shutdown_of(record["dfk"]).tasks.abandon(record, error)
        self._grace_timer = threading.Timer(policy.wait_times.STOP_GRACE, self._stop_waiting)
        self._grace_timer.daemon = True
        if not self.done():
            try:
                threads.begin(self._grace_timer)
            except BackendError:
                # The next call of cancel() retries.
                self._grace_timer = None
                raise

    def _stop_waiting(self) -> None:
        """End a task that no worker has acknowledged; a worker that receives it later does nothing."""
        self._unanswered = TaskCanceledError(
            f"{self._what} was canceled, and no worker has answered within {policy.wait_times.STOP_GRACE:g} seconds; "
            "a worker that starts it now will move nothing."
        )
        shutdown_of(self.task_record["dfk"]).tasks.abandon(self.task_record, self._unanswered, far=True)

    def cancelled(self) -> bool:
        """Whether the task has ended because it was canceled."""
        return self.done() and self._status is not None and self._status.state is TaskState.CANCELED

    def status(self) -> TaskStatus:
        """Return the last known status of the task, without sending a request.

        A worker in another process writes the status to the run folder about once a second; it is unknown during the
        first second. For a task of a service, the status is that of the last poll.

        Returns
        -------
        TaskStatus
            A final status once this future has ended. It then agrees with the error, even if the task continues because
            other callers share it or because it has not stopped yet.
        """
        if (status := self.last_status()) is not None:
            return status
        executor = self._channel.executor or self.task_record["executor"]
        where = "" if executor == kernel.INTERNAL else f"; it runs on executor {executor!r}"
        reason = f"Parsl says {self.task_status()!r}{where}."
        return TaskStatus(handle=self.task_handle or NO_TASK, state=TaskState.ACTIVE, reason=reason)

    def last_status(self) -> TaskStatus | None:
        """Return the last known status; None if there is none yet."""
        return self._status or self._channel.status()

    def abandon(self, error: TaskLostError) -> None:
        """End in a forked child, with a status that explains it."""
        self._ending = threading.Lock()
        if not self.done():
            self._status = status_from_error(error, self._what)
        super().abandon(error)

    def _stop_with_workflow(self, reason: str) -> None:
        self._end_reason = reason
        self._channel.stop()

    def _follow(self, app_future: AppFuture) -> None:
        """End as Parsl's own future has ended, then clean up."""
        # The methods of Future, because this does not count as the user reading the result.
        error = Future.exception(app_future)
        try:
            self._end_as(app_future, error)
        except BaseException as unexpected:  # noqa: BLE001 - the future has to end
            self._fail(AppFailedError(describe_failure(self._what, unexpected, "")))
        finally:
            self._clean_up(stopped=error is not None and error is self._unanswered)

    def _end_as(self, app_future: AppFuture, error: BaseException | None) -> None:
        if isinstance(error, JoinError):
            # The task of a service joins a single future, which ended with one of our errors.
            error = error.dependent_exceptions_tids[0][0]
        if error is None:
            self._end(Future.result(app_future), None)
        elif self._end_reason and isinstance(error, TaskCanceledError):
            reason = f"{self._what} was canceled: {self._end_reason}."
            self._end_unsuccessful(TaskCanceledError(reason, status=error.status))
        elif isinstance(error, WORKER_GONE):
            self._end_unsuccessful(lost_error(self._what, error, self.operation))
        elif isinstance(error, TaskError):
            self._end_unsuccessful(error)
        else:
            self._fail(error)

    def _clean_up(self, *, stopped: bool) -> None:
        """Remove files and references of the task; a task that may still run keeps its stop file."""
        self._remove_callback()
        del self._remove_callback
        if self._grace_timer is not None:
            self._grace_timer.cancel()
        if stopped:
            return
        # An ended task does not need these, which are half of the memory of a future that the user keeps.
        self.task_record.update(app_fu=self, exec_fu=None, joins=None, args=())
        try:
            self._channel.cleanup()
        except Exception as error:  # noqa: BLE001 - the task has ended anyway
            logger.warning("%s has ended, but its files could not be removed: %s.", self._what, error)

    def _end_unsuccessful(self, error: TaskError) -> None:
        """End as a task that did not succeed: with the error or, with ``check=False``, with False."""
        self._end(status_from_error(error, self._what, self.task_handle or NO_TASK), error if self._check else None)

    def _fail(self, error: BaseException) -> None:
        self._end(status_from_error(error, self._what, self.task_handle or NO_TASK), error)

    def _failure(self, why: BaseException | str) -> str:
        """Return one line about the failure of the task, or of a task that it depends on."""
        while isinstance(why, DependencyError) and why.__cause__ is not None:
            why = why.__cause__
        said = " ".join(str(why).split())
        return said if said.startswith(self._what) else f"{self._what}: {said}"

    def _end(self, status: TaskStatus, error: BaseException | None) -> None:
        # A signal handler that interrupts this must not wait.
        if not self._ending.acquire(blocking=False):
            return
        try:
            if self.done():
                return
            self._status = status
            if status.state is not TaskState.SUCCEEDED and not self._cancel_requested:
                self.on_read = shutdown_of(self.task_record["dfk"]).unread.add(self._failure(error or status.reason))
            if isinstance(error, TaskError):
                # The message is complete; the traceback shows only Chiltepin and Parsl.
                error.with_traceback(None)
            if error is None:
                self.set_result(status.state is TaskState.SUCCEEDED)
            else:
                self.set_exception(error)
        finally:
            self._ending.release()
