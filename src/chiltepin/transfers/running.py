"""One started request: its future, its status, and how to stop it."""

from __future__ import annotations

import threading
import uuid
from dataclasses import replace
from typing import TYPE_CHECKING

from chiltepin.backends import threads
from chiltepin.model import DeleteRequest, TaskHandle, TaskState, TaskStatus
from chiltepin.transfers import worker_processes
from chiltepin.transfers.callbacks import CallbackFuture
from chiltepin.transfers.runner import runs_at_service
from chiltepin.transfers.shards import can_share

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from chiltepin.model import Request
    from chiltepin.transfers.runner import Transfers

__all__ = ["RunningTask", "start"]


class RunningTask:
    """A request that has been started.

    Attributes
    ----------
    request : TransferRequest or DeleteRequest
        The request.
    future : Future of TaskStatus
        Ends with the final status, or with an error if there is none.
    stop : callable
        Requests that the task stop; returns at once.
    """

    def __init__(
        self,
        request: Request,
        future: Future[TaskStatus],
        *,
        stop: Callable[[], object],
        get_status: Callable[[], TaskStatus | None],
    ) -> None:
        self.request, self.future, self.stop, self._get_status = request, future, stop, get_status

    def status(self) -> TaskStatus | None:
        """Return the last known status without contacting a service; None if there is none yet."""
        return self._get_status()


def start(
    transfers: Transfers, request: Request, *, timeout: float, polling_interval: float, grace: float, workers: int = 1
) -> list[RunningTask]:
    """Start a request, and return at once; the parameters are those of `Transfers.run`.

    A service gets one request for each item, so that one bad item does not stop the rest. Several ``workers``, which
    are processes of this machine, may share a folder or a large file.
    """
    if workers > 1 and can_share(transfers.backend, request):
        task = worker_processes.start_task(
            transfers.setup,
            request,
            workers=workers,
            timeout=timeout,
            polling_interval=polling_interval,
            raises=False,
        )
        return [RunningTask(request, task.future, stop=task.stop, get_status=task.status)]
    if not runs_at_service(transfers.backend):
        return [_at_worker(transfers, request, timeout, polling_interval)]
    apart = _apart(request) if transfers.backend.capabilities.batches else [request]
    return [_at_service(transfers, one, timeout, polling_interval, grace) for one in apart]


def _apart(request: Request) -> list[Request]:
    if request.submission_id:
        return [request]
    if isinstance(request, DeleteRequest):
        return [replace(request, paths=(path,)) for path in request.paths]
    return [replace(request, items=(item,)) for item in request.items]


def _at_service(transfers: Transfers, request: Request, timeout: float, longest: float, grace: float) -> RunningTask:
    key = str(uuid.uuid4())
    pending = transfers.manager.start(key, request, timeout=timeout, polling_interval=longest, grace=grace)
    return RunningTask(
        request, pending.future, stop=lambda: transfers.manager.stop(key), get_status=lambda: pending.status
    )


def _at_worker(transfers: Transfers, request: Request, timeout: float, longest: float) -> RunningTask:
    backend = transfers.backend
    name = backend.new_submission_id()
    handle = TaskHandle.at_worker(backend.name, name)
    future: CallbackFuture[TaskStatus] = CallbackFuture()
    # A running future cannot be canceled; `stop` stops the task.
    future.set_running_or_notify_cancel()
    stopped = threading.Event()

    def run() -> None:
        try:
            status = transfers.run(
                request,
                timeout=timeout,
                polling_interval=longest,
                submission_id=name,
                stopped=stopped.is_set,
            )
        except BaseException as err:  # noqa: BLE001 - whatever it is, the future must end
            future.set_exception(err)
        else:
            future.set_result(status)

    def get_status() -> TaskStatus | None:
        [status] = backend.poll([handle])
        return None if status.state is TaskState.LOST else status

    # A daemon: the caller of `stop` may end before the task has stopped.
    threads.start(run, name="chiltepin-running")
    return RunningTask(request, future, stop=stopped.set, get_status=get_status)
