"""Run requests on a backend: submit, wait, stop in time, and return the outcome.

This layer imports neither Parsl nor any SDK. Scripts, the command line and Parsl workers all use it.
"""

from __future__ import annotations

import atexit
import json
import os
import time
import uuid
from collections import OrderedDict
from concurrent import futures
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from functools import partial
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar, cast

from chiltepin.backends import forks, registry
from chiltepin.backends.fake_files import fake_os
from chiltepin.errors import (
    ChiltepinError,
    TaskCanceledError,
    UnsupportedOptionError,
)
from chiltepin.model import FAULT_GRACE, TaskHandle, TaskState, TaskStatus
from chiltepin.protocol import ClientBackend, ShardOutcome
from chiltepin.transfers import interpreter_exit, policy
from chiltepin.transfers.activity import ActivityLog
from chiltepin.transfers.background_thread import SystemClock
from chiltepin.transfers.journal import Journal
from chiltepin.transfers.outcomes import describe, status_from_error
from chiltepin.transfers.recorder import TaskRecorder
from chiltepin.transfers.shards import can_share
from chiltepin.transfers.timeouts import POLLING_INTERVAL, TIMEOUT, timeout_error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Future

    from chiltepin.model import DirEntry, Request
    from chiltepin.protocol import Shard, TransferBackend, WorkerBackend
    from chiltepin.transfers.recorder import TaskLog

__all__ = ["Transfers", "moved_here", "open_transfers", "result_unless", "runs_at_service"]

T = TypeVar("T")

#: The `Transfers` that are open, the one used last at the end, and how many of them are kept.
_opened: OrderedDict[tuple[str, Any, object | None], Transfers] = OrderedDict()
MOST_OPEN = 64

#: The requests that this process moves, each with a function that tells whether it was stopped.
_here: dict[object, tuple[Request, Callable[[], bool]]] = {}
forks.register(_here.clear)


def _wanted() -> list[Request]:
    return [request for request, stopped in _here.copy().values() if not stopped()]


@contextmanager
def moved_here(request: Request, stopped: Callable[[], bool]) -> Iterator[None]:
    """Make the end of a script wait for a request, or report it, during a ``with`` block."""
    key = object()
    try:
        _here[key] = request, stopped
        yield
    finally:
        _here.pop(key, None)


@interpreter_exit.while_threads_work
def _await_transfers() -> None:
    """Wait at the end of a script for the transfers of its threads: a daemon thread would end with the process."""
    while _wanted() and not interpreter_exit.cause():
        time.sleep(policy.wait_times.WORKER_POLL)


@atexit.register
def _name_lost() -> None:
    if lost := _wanted():
        interpreter_exit.say(interpreter_exit.listed("Not done when Python ended:", map(describe, lost)))


def result_unless(stopped: Callable[[], bool], future: Future[T], request: Request) -> T:
    """Return the result of a future, or raise a TaskCanceledError as soon as ``stopped`` returns True."""
    while not stopped():
        if futures.wait([future], timeout=policy.wait_times.WORKER_POLL).done:
            return future.result()
    raise TaskCanceledError(f"{describe(request)} was asked to stop.")


def runs_at_service(backend: TransferBackend | type[TransferBackend]) -> bool:
    """Whether a remote service moves the bytes, and not the process that runs the request."""
    return backend.capabilities.runs_on == "service"


class Transfers:
    """Runs requests on one backend; any number of threads may call at once.

    ``manager`` follows the tasks of a service backend; a worker backend has none. ``setup`` lets another
    process open the same backend. See `TaskManager` for the other parameters.
    """

    def __init__(
        self,
        backend: TransferBackend,
        *,
        clock: Any = None,
        batching: bool = True,
        journal: Journal | None = None,
        activity_log: ActivityLog | None = None,
        setup: str = "",
    ) -> None:
        self.backend, self.setup = backend, setup
        self._clock = clock or SystemClock()
        if runs_at_service(backend):
            from chiltepin.transfers.service.manager import TaskManager  # noqa: PLC0415 - a worker backend has none

            self.manager = TaskManager(
                backend, clock=self._clock, batching=batching, journal=journal, activity_log=activity_log
            )
        else:
            self._own_recorder = TaskRecorder(backend, journal, activity_log)

    @property
    def _recorder(self) -> TaskRecorder:
        return self.manager.recorder if runs_at_service(self.backend) else self._own_recorder

    def __reduce__(self) -> Any:
        raise TypeError("Transfers stay in their process: they may hold a login. Send the setup, and open it there.")

    def run(
        self,
        request: Request,
        *,
        timeout: float,
        polling_interval: float,
        submission_id: str | None = None,
        fault_grace: float = FAULT_GRACE,
        workflow: str = "",
        stopped: Callable[[], bool] = lambda: False,
        told: Callable[[TaskStatus], object] = lambda _: None,
    ) -> TaskStatus:
        """Submit a request and wait for its end.

        Parameters
        ----------
        request : TransferRequest or DeleteRequest
            The request.
        timeout : float
            Seconds from now after which the task is canceled.
        polling_interval : float
            Longest time between two polls of the task, in seconds; the first polls come sooner.
        submission_id : str or None
            Repeating this call with the same id finds the same task; None creates a new id. Not used for services,
            for which the task manager chooses the ids.
        fault_grace : float
            Seconds for which a permanent fault is tolerated.
        workflow : str
            The name of the workflow; empty outside any workflow.
        stopped : callable
            Called at every poll of a task of this process, and as often for a task of a service; True cancels it.
        told : callable
            Called with the status of each of these polls until the task has ended.

        Returns
        -------
        TaskStatus
            The final status; see `error_from_status`.

        Raises
        ------
        TaskTimeoutError
            If the task had not ended in time, and was canceled.
        TaskCanceledError
            If ``stopped`` has canceled it and it has not stopped within ten seconds.
        EndpointError, BackendError
            If no task could be created.
        """
        if runs_at_service(self.backend):
            rest = {"timeout": timeout, "polling_interval": polling_interval, "grace": fault_grace}
            return self._run_at_service(request, stopped, workflow=workflow, **rest)
        name = submission_id or self.backend.new_submission_id()
        task_log = self._recorder.task_log(name, request)

        def tell(status: TaskStatus) -> None:
            task_log.seen(status)
            told(status)

        try:
            submit = partial(self.backend.submit, request, name)
            stops = partial(task_log.stop_requested, stopped)
            status = self._run_here(name, request, submit, timeout, polling_interval, stops, tell)
        except BaseException as err:
            task_log.failed(err)
            raise
        task_log.ended(status)
        return status

    def run_shard(
        self,
        request: Request,
        shard: Shard,
        *,
        timeout: float,
        polling_interval: float,
        submission_id: str,
        stopped: Callable[[], bool],
        told: Callable[[TaskStatus], object] = lambda _: None,
    ) -> ShardOutcome:
        """Run one shard of a request, and wait for its end; the parameters are those of `run`.

        A request that workers cannot share runs completely. The outcome also contains the failures, because Parsl
        retries nothing.
        """
        backend, name = self.backend, submission_id
        handle = TaskHandle.at_worker(backend.name, name)
        if stopped():
            return ShardOutcome(status=TaskStatus(handle=handle, state=TaskState.CANCELED, code="CANCELED"))
        if can_share(backend, request):
            submit = partial(backend.submit_shard, request, shard, name)
        else:
            submit = partial(backend.submit, request, name)
        error: ChiltepinError | None = None
        try:
            status = self._run_here(name, request, submit, timeout, polling_interval, stopped, told)
        except ChiltepinError as err:
            status, error = status_from_error(err, describe(request), handle), err
        if can_share(backend, request):
            # A shard that was stopped has also returned what it had begun.
            outcome = backend.shard_outcome(handle)
            return outcome if error is None else replace(outcome, status=status, error=error)
        failures = () if status.state is TaskState.SUCCEEDED else ((status.code, status.reason),)
        return ShardOutcome(status=status, failures=failures, failed=len(failures), error=error)

    def task_log(self, name: str, request: Request) -> TaskLog:
        """Return the log of the task with this submission id; raise an error for an unsupported option."""
        self._recorder.refuse_unsupported(request)
        return self._recorder.task_log(name, request)

    def _run_here(
        self,
        name: str,
        request: Request,
        submit: Callable[[], TaskHandle],
        timeout: float,
        longest: float,
        stopped: Callable[[], bool],
        told: Callable[[TaskStatus], object],
    ) -> TaskStatus:
        start = self._clock.monotonic()
        handle: TaskHandle | None = None
        try:
            with moved_here(request, stopped):
                handle = submit()
                status = self._follow(handle, start, timeout, longest, stopped, told)
        except BaseException:
            # An interrupted submission or wait (Ctrl-C, say) leaves no task behind.
            self.backend.cancel(handle or TaskHandle.at_worker(self.backend.name, name))
            raise
        if status.state.final:
            return status
        return self._stop(handle, request, None if stopped() else timeout)

    def resume(
        self, *, timeout: float = TIMEOUT, polling_interval: float = POLLING_INTERVAL, fault_grace: float = FAULT_GRACE
    ) -> list[Future[TaskStatus]]:
        """Follow tasks that other processes, killed or running, have submitted to a service.

        Success means that a task has moved its item since it was submitted, maybe before this call. To get the current
        content of the source, repeat the request. The parameters are those of `run`.

        Returns
        -------
        list of Future of TaskStatus
            One for each item; empty for a backend that is not durable, or without a journal.
        """
        if not runs_at_service(self.backend):
            return []
        pending_requests = self.manager.resume(timeout=timeout, polling_interval=polling_interval, grace=fault_grace)
        return [pending.future for pending in pending_requests]

    def _run_at_service(self, request: Request, stopped: Callable[[], bool], **options: Any) -> TaskStatus:
        key = str(uuid.uuid4())
        pending = self.manager.start(key, request, **options)
        try:
            return result_unless(stopped, pending.future, request)
        except BaseException:
            self.manager.stop(key)
            raise
        finally:
            self.manager.forget(key)

    def _follow(
        self,
        handle: TaskHandle,
        start: float,
        timeout: float,
        longest: float,
        stopped: Callable[[], bool] = lambda: False,
        told: Callable[[TaskStatus], object] = lambda _: None,
    ) -> TaskStatus:
        """Poll the task until it has ended, has timed out or was stopped."""
        while True:
            elapsed = self._clock.monotonic() - start
            pause = min(policy.wait_times.WORKER_POLL, longest, timeout - elapsed)
            cast("WorkerBackend", self.backend).wait(handle, max(0.0, pause))
            status = self.backend.poll([handle])[0]
            if status.state.final:
                return status
            told(status)
            if stopped() or self._clock.monotonic() - start >= timeout:
                return status

    def _stop(self, handle: TaskHandle, request: Request, timeout: float | None) -> TaskStatus:
        """Cancel the task and wait for its end; ``timeout`` is None if a stop was requested."""
        self.backend.cancel(handle)
        status = self._follow(handle, self._clock.monotonic(), policy.wait_times.STOP_GRACE, 1.0)
        if timeout is None:
            if status.state.final:
                return status
            raise TaskCanceledError(f"{describe(request)} was asked to stop and has not stopped yet.", status=status)
        if status.state is TaskState.SUCCEEDED:
            return status
        raise timeout_error(request, timeout, status=status)

    def submit_detached(self, request: Request, *, timeout: float) -> TaskHandle:
        """Submit a request without waiting for its end; ``timeout`` becomes the deadline of the task.

        With a journal, `resume` in a later process finds the task. If a task with the same paths has not ended, that
        task is returned, which may have read its source before this call. A task with only some of the paths raises a
        PathsInUseError, and a backend whose tasks end with the process an UnsupportedOptionError.
        """
        if not (self.backend.capabilities.durable and runs_at_service(self.backend)):
            raise UnsupportedOptionError(
                f"A task of backend {self.backend.name!r} ends with the process that submitted it; wait for its end.",
                backend=self.backend.name,
            )
        self._recorder.refuse_unsupported(request)
        limit = self._clock.now() + timedelta(seconds=timeout)
        return self.manager.submit_detached(replace(request, deadline=min(limit, request.deadline or limit)))

    def ls(self, endpoint: str, path: str) -> list[DirEntry]:
        """List a folder of an endpoint; see `TransferBackend.ls`."""
        return self.backend.ls(endpoint, path)

    def close(self) -> None:
        """Close the backend."""
        self.backend.close()


def open_transfers(setup: str, client: Any = None) -> Transfers:
    """Return the `Transfers` of a setup; equal setups share one, so that a process opens a store once.

    ``setup`` is `DataSettings.setup`. ``client`` is for a `ClientBackend`; other backends ignore it.
    """
    # A fast check before each task: the filesystem is real if `os` is a module.
    key = setup, client, None if isinstance(os, ModuleType) else fake_os()
    transfers = _opened.get(key)
    if transfers is None:
        # No lock, for which a signal handler would wait forever. Of two threads that open it at once, the first one to
        # end wins, because each object would know half of the tasks; the other object has done nothing yet.
        transfers = _opened.setdefault(key, _open(*key))
        if len(_opened) > MOST_OPEN:
            with suppress(KeyError):
                _opened.popitem(last=False)
    with suppress(KeyError):
        _opened.move_to_end(key)
    return transfers


def _open(setup: str, client: Any, fake: object | None) -> Transfers:
    plain = json.loads(setup)
    backend = registry.load(plain["backend"]).from_config(plain["endpoints"], plain["options"])
    if client is not None and isinstance(backend, ClientBackend):
        backend = backend.with_client(client)
    # An open file would outlive the fake filesystem, and its descriptor would then refer to another file.
    folder = plain.get("journal") if fake is None else None
    journal = Journal(folder) if folder and backend.capabilities.durable else None
    # The log exists on every backend; the journal is for tasks that outlive this process.
    activity_log = ActivityLog(folder, SystemClock().now) if folder else None
    return Transfers(
        backend, batching=plain.get("batch", True), journal=journal, activity_log=activity_log, setup=setup
    )


def _renew() -> None:
    """Start with nothing open, as in a child process made by ``fork``."""
    forks.leave(_opened.copy())
    _opened.clear()


forks.register(_renew)
