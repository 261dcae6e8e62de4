"""The future of a transfer or a deletion that runs as a Parsl task."""

from __future__ import annotations

import os
import threading
from concurrent.futures import Future
from contextlib import suppress
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

from parsl.data_provider.files import File
from parsl.dataflow.errors import JoinError
from parsl.dataflow.futures import AppFuture

from chiltepin import arguments, kernel, notes
from chiltepin.errors import ChiltepinError, TaskCanceledError
from chiltepin.files import FileFuture, url_of
from chiltepin.model import NO_TASK, TaskHandle, TaskState, TaskStatus, TransferRequest
from chiltepin.outcomes import end_of
from chiltepin.transfers import opened

if TYPE_CHECKING:
    from collections.abc import Callable

    from parsl.dataflow.dflow import DataFlowKernel

    from chiltepin.hub import Hub
    from chiltepin.model import Request
    from chiltepin.worker import Call

__all__ = ["AtService", "AtWorker", "Line", "TransferFuture", "watch"]

_WATCHER = "_chiltepin_watcher"
#: Arguments of a task that do not belong to the request.
_WAITS = ("request", "timeout", "polling_interval", "inputs")
_REQUESTS: dict[str, Callable[..., Request]] = {
    "transfer_task": arguments.transfer_request,
    "delete_task": arguments.delete_request,
}


def watch(dfk: DataFlowKernel, watcher: Callable[[TransferFuture], object] | None) -> None:
    """Have ``watcher``, or nobody, called with each new `TransferFuture` of a run, in the thread that makes it."""
    # Kept on the kernel itself, so that it goes when the kernel goes.
    setattr(dfk, _WATCHER, watcher)


class Line(Protocol):
    """How the workflow's process reaches a task that it has started, or is about to start."""

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

    def __init__(self, call: Call, backend: str) -> None:
        self._call = call
        self.handle = TaskHandle(backend=backend, task_id=call.submission_id, submission_id=call.submission_id)

    def status(self) -> TaskStatus | None:
        """Look, if the task runs in this process; else read what its worker has noted."""
        status = opened(self._call.setup).backend.poll([self.handle])[0]
        return notes.read(self._call.note_file) if status.state is TaskState.LOST else status

    def stop(self) -> None:
        """Make the file that the task looks for."""
        os.makedirs(os.path.dirname(self._call.stop_file), exist_ok=True)
        with open(self._call.stop_file, "wb"):
            pass

    def hang_up(self) -> None:
        """Remove that file, and the worker's note."""
        for file in (self._call.stop_file, self._call.note_file):
            with suppress(FileNotFoundError):
                os.remove(file)


class AtService:
    """A line to a task at a service, by way of the hub."""

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
        refused = errand.batch.refused if errand.batch else ""
        reason = f"It waits to be submitted again. {refused}" if refused else "It waits to be submitted."
        return TaskStatus(handle=NO_TASK, state=TaskState.ACTIVE, reason=reason)

    def stop(self) -> None:
        """Leave it to the hub."""
        self._hub.stop(self._key)

    def hang_up(self) -> None:
        """Let the hub forget it."""
        self._hub.forget(self._key)


class TransferFuture(AppFuture):  # type: ignore[misc] # parsl has no types
    """The future of a transfer or a deletion: an ``AppFuture`` that can be cancelled and asked.

    Its result is ``True``; a task that did not succeed raises its error, or gives ``False`` where ``check`` is off.
    Other Parsl apps may take it as an argument or among their ``inputs``, and do not run if it fails.
    """

    def __init__(self, app_future: AppFuture, line: Line, what: str, *, check: bool) -> None:
        super().__init__(app_future.task_record)
        self._line, self._what, self._check = line, what, check
        self._handle: TaskHandle | None = None
        self._status: TaskStatus | None = None
        self._given_up = ""
        self._ending = threading.Lock()
        self._forget = kernel.on_end(app_future.task_record["dfk"], self._give_up)
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
        if any(isinstance(value, Future) for value in asked.values()):
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

        It is a request: a task that is just ending may still succeed. One that waits for other tasks ends at once, one
        that runs within about a second; then ``result()`` raises `TaskCanceledError`.

        Returns
        -------
        bool
            False if the task has ended already.
        """
        if self.done():
            return False
        self._line.stop()
        if self.task_record["status"].name == "pending":
            error = TaskCanceledError(f"{self._what} was cancelled before it began.")
            # One that has begun does not raise either where that is not wanted.
            self._end(end_of(error, self._what), error if self._check else None)
        return True

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

    def _give_up(self, reason: str) -> None:
        self._given_up = reason
        self._line.stop()

    def _settle(self, app_future: AppFuture) -> None:
        """End as Parsl's own future has ended."""
        self._forget()
        self._handle = self._line.handle
        self._line.hang_up()
        error = app_future.exception()
        if isinstance(error, JoinError):
            # The one future that the task of a service is joined to ended with our own error.
            error = error.dependent_exceptions_tids[0][0]
        if error is None:
            self._end(app_future.result(), None)
            return
        if self._given_up and isinstance(error, TaskCanceledError):
            error = TaskCanceledError(f"{self._what} was given up: {self._given_up}.", status=error.status)
        self._fail(error)

    def _fail(self, error: BaseException) -> None:
        self._end(end_of(error, self._what, self.task_handle or NO_TASK), error)

    def _end(self, status: TaskStatus, error: BaseException | None) -> None:
        with self._ending:
            if self.done():
                return
            self._status = status
            if error is None:
                self.set_result(status.state is TaskState.SUCCEEDED)
            else:
                self.set_exception(error)
