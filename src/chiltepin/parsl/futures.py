"""The future of a transfer or a deletion that runs as a Parsl task."""

from __future__ import annotations

import logging
import os
import threading
from concurrent.futures import Future
from contextlib import suppress
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

from parsl.data_provider.files import File
from parsl.dataflow.errors import DependencyError, JoinError
from parsl.dataflow.futures import AppFuture
from parsl.executors.errors import BadStateException
from parsl.executors.high_throughput.errors import ManagerLost, WorkerLost

from chiltepin.backends import threads
from chiltepin.errors import AppFailedError, BackendError, ChiltepinError, TaskCanceledError, TaskError, TaskLostError
from chiltepin.model import NO_TASK, TaskHandle, TaskState, TaskStatus, TransferRequest
from chiltepin.parsl.files import FileFuture, url_of
from chiltepin.parsl.nested_futures import Nested
from chiltepin.parsl.serialization import described
from chiltepin.parsl.shutdown import shutdown_of
from chiltepin.transfers import arguments, policy, status_file
from chiltepin.transfers.callbacks import CallbackFuture
from chiltepin.transfers.outcomes import end_of
from chiltepin.transfers.own_files import create_own
from chiltepin.transfers.runner import opened

if TYPE_CHECKING:
    from collections.abc import Callable

    from parsl.dataflow.dflow import DataFlowKernel

    from chiltepin.model import Request
    from chiltepin.transfers.service.manager import Hub
    from chiltepin.transfers.worker import Call

__all__ = ["AtService", "AtWorker", "Line", "TransferFuture", "watch"]

logger = logging.getLogger(__name__)

_WATCHER = "_chiltepin_watcher"
#: What Parsl says of a task whose process was killed.
_GONE = (WorkerLost, ManagerLost, BadStateException)
#: Arguments of a task that do not belong to the request.
_WAITS = ("request", "timeout", "polling_interval", "inputs")
#: What a task that is started again may be told, so that it finds no fault in what was done before.
_AGAIN = {
    "transfer_task": ": what has arrived is whole, and sync_level='size' leaves it alone",
    "delete_task": ", with ignore_missing=True",
}
_REQUESTS: dict[str, Callable[..., Request]] = {
    "transfer_task": arguments.transfer_request,
    "delete_task": arguments.delete_request,
}


def watch(dfk: DataFlowKernel, watcher: Callable[[TransferFuture], object] | None) -> None:
    """Have ``watcher``, or nobody, called with each new `TransferFuture` of a run, in the thread that makes it."""
    # Kept on the kernel itself, so that it goes when the kernel goes.
    setattr(dfk, _WATCHER, watcher)


class Line(Protocol):
    """How the workflow's process reaches a task that it has started, or is about to start.

    Attributes
    ----------
    queues : bool
        Whether the task waits for a worker before it begins.
    """

    queues: bool

    @property
    def handle(self) -> TaskHandle | None:
        """The name of the task; None as long as it has none."""
        ...

    def status(self) -> TaskStatus | None:
        """Return what is known of the task here and now; None if that is nothing."""
        ...

    def stop(self) -> None:
        """Have it stopped, also if it has not begun; this does not wait."""
        ...

    def hang_up(self) -> None:
        """Remove what was needed for the task, which has ended."""
        ...


class AtWorker:
    """A line to a task whose bytes flow through a worker of Parsl, in this process or in another one."""

    queues = True

    def __init__(self, call: Call, backend: str) -> None:
        self._call = call
        self.handle = TaskHandle(backend=backend, task_id=call.submission_id, submission_id=call.submission_id)

    def status(self) -> TaskStatus | None:
        """Look, if the task runs in this process; else read what its worker has noted."""
        status = opened(self._call.setup).backend.poll([self.handle])[0]
        return status_file.read(self._call.note_file) if status.state is TaskState.LOST else status

    def stop(self) -> None:
        """Make the file that the task looks for; where the disk refuses it, only a task of this process is reached."""
        try:
            os.makedirs(os.path.dirname(self._call.stop_file), exist_ok=True)
            os.close(create_own(self._call.stop_file))
        except OSError as error:
            logger.warning("A task in another process cannot be told to stop: %s.", error)
            opened(self._call.setup).backend.cancel(self.handle)

    def hang_up(self) -> None:
        """Remove that file, and the worker's note."""
        for file in (self._call.stop_file, self._call.note_file):
            with suppress(FileNotFoundError):
                os.remove(file)


class AtService:
    """A line to a task at a service, by way of the hub."""

    queues = False

    def __init__(self, call: Call, hub: Hub) -> None:
        self._key, self._hub = call.submission_id, hub

    @property
    def handle(self) -> TaskHandle | None:
        """What the service calls it."""
        errand = self._hub.find(self._key)
        return errand.handle if errand else None

    def status(self) -> TaskStatus | None:
        """Return what the last look of the hub said."""
        errand = self._hub.find(self._key)
        if errand is None or errand.status is not None:
            return errand.status if errand else None
        if errand.handle is not None:
            return TaskStatus(handle=errand.handle, state=TaskState.ACTIVE)
        refused = errand.task.refused if errand.task else ""
        reason = f"It waits to be submitted again. {refused}" if refused else "It waits to be submitted."
        return TaskStatus(handle=NO_TASK, state=TaskState.ACTIVE, reason=reason)

    def stop(self) -> None:
        """Leave it to the hub."""
        self._hub.stop(self._key)

    def hang_up(self) -> None:
        """Let the hub forget it."""
        self._hub.forget(self._key)


class TransferFuture(CallbackFuture[bool], AppFuture):  # type: ignore[misc] # parsl has no types
    """The future of a transfer or a deletion: an ``AppFuture`` that can be cancelled and asked.

    Its result is ``True``; a task that did not succeed raises its error, or gives ``False`` where ``check`` is off.
    Other Parsl apps may take it as an argument or among their ``inputs``, and do not run if it fails. Its callbacks run
    on threads of their own.
    """

    def __init__(self, app_future: AppFuture, line: Line, what: str, *, check: bool) -> None:
        super().__init__(app_future.task_record)
        self._line, self._what, self._check = line, what, check
        self._handle: TaskHandle | None = None
        self._status: TaskStatus | None = None
        self._given_up = ""
        self._unwanted = False
        self._patience: threading.Timer | None = None
        self._left: TaskCanceledError | None = None
        self._ending = threading.Lock()
        self._read: Callable[[], object] = int
        self._forget = shutdown_of(app_future.task_record["dfk"]).on_end(self._give_up)
        app_future.add_done_callback(self._settle)
        if watcher := vars(app_future.task_record["dfk"]).get(_WATCHER):
            watcher(self)

    @property
    def request(self) -> Request | None:
        """What is asked for; None as long as that depends on a future, and if it makes no sense."""
        given = self.task_record["kwargs"]
        request: Request | None = given.get("request")
        if request is not None:
            return request
        asked = {name: value for name, value in given.items() if name not in _WAITS}
        if any(isinstance(value, (Future, Nested)) for value in asked.values()):
            return None
        try:
            return _REQUESTS[self.task_record["func_name"]](**asked)
        except (ChiltepinError, TypeError, ValueError):
            return None

    @cached_property
    def file(self) -> FileFuture:
        """A future of the file at its destination, as Parsl's ``File``.

        Given in ``inputs=[...]``, or as any other argument, it makes the app wait for this transfer, and get the file
        where it can open it. It fails if this transfer does not succeed.

        Raises
        ------
        ValueError
            If this is a deletion or the transfer of a folder, or the destination itself is a future.
        """
        given = self.task_record["kwargs"]
        request = given.get("request")
        if isinstance(request, TransferRequest):
            given = {
                "dst_ep": request.destination,
                "dst_path": request.items[0].destination,
                "recursive": request.recursive,
            }
        endpoint, path, folder = (given.get(name) for name in ("dst_ep", "dst_path", "recursive"))
        if endpoint is None or folder is not False:
            raise ValueError(f"{self._what} leads to no single file; name the files in it yourself, as File(...).")
        if isinstance(endpoint, Future) or isinstance(path, Future):
            # Not a TypeError: a future is a fine argument, but what it stands for is not known yet.
            raise ValueError(  # noqa: TRY004
                f"{self._what} leads to a place that is still a future; give dst_ep and dst_path as text."
            )
        return FileFuture(self, File(url_of(str(endpoint), os.fspath(path))), tid=self.tid)

    @property
    def task_handle(self) -> TaskHandle | None:
        """The name of the task at its backend; None as long as a service has not been given it."""
        return self._handle or self._line.handle

    def cancel(self) -> bool:
        """Ask that the task stop.

        It is a request: a task that is just ending may still succeed. One that waits for other tasks, or for a thread,
        ends at once, one that runs within about a second; then ``result()`` raises `TaskCanceledError`. Whether a task
        of another process runs, nobody here knows: if it has not stopped after 10 seconds, it waits for a worker, and
        ends. A worker that takes it up later does nothing.

        Returns
        -------
        bool
            False if the task has ended already.
        """
        if self.done():
            return False
        self._unwanted = True
        self._line.stop()
        if self.task_record["status"].name == "pending":
            self._end_unsuccessful(TaskCanceledError(f"{self._what} was cancelled before it began."))
        elif self._line.queues and self._patience is None:
            self._recall()
        return True

    def _recall(self) -> None:
        """Take the task back from the queue of its executor, at once or when it is seen to be there."""
        record = self.task_record
        error = TaskCanceledError(f"{self._what} was cancelled before it began.")
        shutdown_of(record["dfk"]).tasks.abandon(record, error)
        self._patience = threading.Timer(policy.STOP_GRACE, self._leave)
        self._patience.daemon = True
        if not self.done():
            try:
                threads.begin(self._patience)
            except BackendError:
                # The next call tries again.
                self._patience = None
                raise

    def _leave(self) -> None:
        """End a task for which no worker has answered; it stays told to stop, for one that takes it up after all."""
        self._left = TaskCanceledError(
            f"{self._what} was cancelled, and no worker has answered within {policy.STOP_GRACE:g} seconds; "
            "one that takes it up moves nothing."
        )
        shutdown_of(self.task_record["dfk"]).tasks.abandon(self.task_record, self._left, far=True)

    def result(self, timeout: float | None = None) -> Any:
        """Return ``True``, or raise the error; as ``concurrent.futures.Future.result``."""
        try:
            return super().result(timeout)
        finally:
            self._read()

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Return the error, if there is one; as ``concurrent.futures.Future.exception``."""
        try:
            return super().exception(timeout)
        finally:
            self._read()

    def cancelled(self) -> bool:
        """Whether the task has ended because it was cancelled."""
        return self.done() and self._status is not None and self._status.state is TaskState.CANCELED

    def status(self) -> TaskStatus:
        """Return what is known of the task now.

        That of a task in another process is what its worker has noted in the run folder: about once a second, and
        nothing before the first second. Of a task of a service it is what the last look found; this asks nobody.

        Returns
        -------
        TaskStatus
            A final one once this future has ended. It then says the same as the error, also where the task goes on:
            because others share it, or because it has not stopped yet.
        """
        if (status := self.told()) is not None:
            return status
        reason = f"Parsl says {self.task_status()!r}; it runs on executor {self.task_record['executor']!r}."
        return TaskStatus(handle=self.task_handle or NO_TASK, state=TaskState.ACTIVE, reason=reason)

    def told(self) -> TaskStatus | None:
        """Return what the backend has told of the task; None if that is nothing here and now."""
        return self._status or self._line.status()

    def abandon(self, error: TaskLostError) -> None:
        """End in a child made by ``fork``, with a status that says so."""
        self._ending = threading.Lock()
        if not self.done():
            self._status = end_of(error, self._what)
        super().abandon(error)

    def _give_up(self, reason: str) -> None:
        self._given_up = reason
        self._line.stop()

    def _settle(self, app_future: AppFuture) -> None:
        """End as Parsl's own future has ended, and then tidy up."""
        error = app_future.exception()
        try:
            # While the line still knows it.
            self._handle = self._line.handle
            self._end_as(app_future, error)
        except BaseException as unexpected:  # noqa: BLE001 - the future has to end
            self._fail(AppFailedError(described(self._what, unexpected, "")))
        finally:
            self._tidy(stopped=error is not None and error is self._left)

    def _end_as(self, app_future: AppFuture, error: BaseException | None) -> None:
        if isinstance(error, JoinError):
            # The one future that the task of a service is joined to ended with our own error.
            error = error.dependent_exceptions_tids[0][0]
        if error is None:
            self._end(app_future.result(), None)
        elif self._given_up and isinstance(error, TaskCanceledError):
            self._fail(TaskCanceledError(f"{self._what} was given up: {self._given_up}.", status=error.status))
        elif isinstance(error, _GONE):
            self._end_unsuccessful(self._lost(error))
        elif isinstance(error, TaskCanceledError):
            self._end_unsuccessful(error)
        else:
            self._fail(error)

    def _tidy(self, *, stopped: bool) -> None:
        """Remove what was needed while the task ran; a task that is told to stop, and may run, keeps that."""
        self._forget()
        if self._patience is not None:
            self._patience.cancel()
        if stopped:
            return
        try:
            self._line.hang_up()
        except Exception as error:  # noqa: BLE001 - the task has ended; this changes nothing of that
            logger.warning("%s has ended, and could not be tidied up: %s.", self._what, error)

    def _lost(self, error: Exception) -> TaskLostError:
        """Return what a task has come to whose process is gone, or the one that handed it tasks."""
        gone = "executor" if isinstance(error, BadStateException) else "worker"
        return TaskLostError(
            f"{self._what} was lost with its {gone} ({str(error).rstrip('.')}); start it again"
            f"{_AGAIN[self.task_record['func_name']]}."
        )

    def _end_unsuccessful(self, error: TaskError) -> None:
        """End as a task that did not succeed: with the error or, where none is wanted, with False."""
        self._end(end_of(error, self._what, self.task_handle or NO_TASK), error if self._check else None)

    def _fail(self, error: BaseException) -> None:
        self._end(end_of(error, self._what, self.task_handle or NO_TASK), error)

    def _failure(self, why: BaseException | str) -> str:
        """Return a line about how it failed, and what it needed failed."""
        while isinstance(why, DependencyError) and why.__cause__ is not None:
            why = why.__cause__
        said = " ".join(str(why).split())
        return said if said.startswith(self._what) else f"{self._what}: {said}"

    def _end(self, status: TaskStatus, error: BaseException | None) -> None:
        with self._ending:
            if self.done():
                return
            self._status = status
            if status.state is not TaskState.SUCCEEDED and not self._unwanted:
                self._read = shutdown_of(self.task_record["dfk"]).unread.add(self._failure(error or status.reason))
            if error is None:
                self.set_result(status.state is TaskState.SUCCEEDED)
            else:
                self.set_exception(error)
