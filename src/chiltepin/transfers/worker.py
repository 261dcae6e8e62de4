"""The Parsl apps for transfers and deletions, which run on a worker or hand the request to a service.

A worker moves the bytes itself. Its functions are called by reference and get only plain data: the setup of the
backend as a string, and the user's arguments, in which Parsl has replaced futures with results. For a service they run
in the workflow's process and return a future at once, so no worker waits. They import neither Parsl nor an SDK.
"""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

from chiltepin.errors import TaskCanceledError
from chiltepin.model import FAULT_GRACE, TaskState
from chiltepin.transfers import arguments
from chiltepin.transfers.outcomes import describe, error_from_status
from chiltepin.transfers.own_files import exists_own
from chiltepin.transfers.runner import open_transfers
from chiltepin.transfers.status_file import StatusFile
from chiltepin.transfers.timeouts import POLLING_INTERVAL, TIMEOUT

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from chiltepin.model import Request, TaskHandle, TaskStatus
    from chiltepin.protocol import Shard, ShardOutcome
    from chiltepin.transfers.runner import Transfers

    Start = Callable[["AppPayload"], Future[TaskStatus]]

__all__ = ["AppPayload", "WithOutputDir", "delete_task", "run", "run_shard", "transfer_task"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AppPayload:
    """The data about one call that the workflow's process sends to the worker.

    Parameters
    ----------
    setup : str
        The backend and its endpoints; see `chiltepin.transfers.runner.open_transfers`.
    submission_id : str
        The same for every retry of this call.
    stop_file : str
        The task stops as soon as this file exists; empty for none. Parsl has no message for a worker in another
        process or on another node, but all of them see the run folder.
    fault_grace : float
        Seconds for which a permanent fault is tolerated.
    workflow : str
        The name of the run that the call belongs to; empty outside any run.
    handle : TaskHandle or None
        The task; None at a service.
    request : TransferRequest or DeleteRequest or None
        The request; None while it depends on a future.
    timeout, polling_interval : float
        As for `Transfers.run`.
    """

    setup: str
    submission_id: str
    stop_file: str
    fault_grace: float = FAULT_GRACE
    workflow: str = ""
    handle: TaskHandle | None = None
    request: Request | None = None
    timeout: float = TIMEOUT
    polling_interval: float = POLLING_INTERVAL

    @property
    def status_file(self) -> str:
        """The path of the status file that the worker writes, beside the stop file; empty if it is not needed."""
        return f"{self.stop_file.removesuffix('.stop')}.json" if self.stop_file else ""

    def completed(self, make_request: Callable[..., Request], asked: dict[str, Any]) -> AppPayload:
        """Return this payload with the arguments that were futures; ``make_request`` takes those of the request.

        ``inputs`` are left out: a task only waits for them.
        """
        asked.pop("inputs", None)
        if not asked:
            return self
        times = arguments.checked({name: asked.pop(name) for name in arguments.TIMES if name in asked})
        return replace(self, request=self.request or make_request(**asked), **times)


def transfer_task(payload: AppPayload, *start: Start, **asked: Any) -> Any:
    """Run the transfer of the payload, with the arguments ``asked`` that were futures; return its final status.

    ``start``, if given, starts it elsewhere, at a service or with several workers, and returns a future of the status;
    otherwise this process moves the bytes. It may hold a login and cannot be sent to another process. It has no
    default, which Parsl would search for futures. A task that did not succeed raises a `TaskError`.
    """
    return _start(payload.completed(arguments.transfer_request, asked), *start)


def delete_task(payload: AppPayload, *start: Start, **asked: Any) -> Any:
    """Run the deletion of the payload; see `transfer_task`."""
    return _start(payload.completed(arguments.delete_request, asked), *start)


def _start(payload: AppPayload, start: Start | None = None) -> TaskStatus | Future[TaskStatus]:
    return run(payload) if start is None else start(payload)


def run_shard(payload: AppPayload, shard: Shard) -> ShardOutcome:
    """Run one shard of the request of a payload in this process."""
    outcome = open_transfers(payload.setup).run_shard(
        cast("Request", payload.request),
        shard,
        timeout=payload.timeout,
        polling_interval=payload.polling_interval,
        submission_id=payload.submission_id,
        stopped=lambda: exists_own(payload.stop_file),
        told=StatusFile(payload.status_file).update,
    )
    return replace(outcome, host=platform.node())


def run(payload: AppPayload, client: Any = None, *, interrupted: Callable[[], bool] = lambda: False) -> TaskStatus:
    """Run the request of a payload in this process; the result is that of `transfer_task`.

    The request is stopped when ``interrupted`` returns True.
    """
    transfers = open_transfers(payload.setup, client)
    request = cast("Request", payload.request)

    def stopped() -> bool:
        return interrupted() or exists_own(payload.stop_file)

    if stopped():
        raise TaskCanceledError(f"{describe(request)} was canceled before it began.")
    status = transfers.run(
        request,
        timeout=payload.timeout,
        polling_interval=payload.polling_interval,
        submission_id=_submission_id(transfers, payload),
        fault_grace=payload.fault_grace,
        workflow=payload.workflow,
        stopped=stopped,
        told=StatusFile(payload.status_file).update,
    )
    if status.state is not TaskState.SUCCEEDED and (error := error_from_status(status, request)):
        raise error
    return status


def _submission_id(transfers: Transfers, payload: AppPayload) -> str | None:
    """Return the id of this attempt: a new one if Parsl retries a task that did not succeed in this process."""
    if payload.handle is None:
        return None
    [before] = transfers.backend.poll([payload.handle])
    if before.state in (TaskState.FAILED, TaskState.CANCELED, TaskState.EXPIRED):
        return transfers.backend.new_submission_id()
    return payload.submission_id


class WithOutputDir:
    """A function for which a folder is created first; a class, so that it is sent to a worker by reference."""

    def __init__(self, function: Callable[..., Any], folder: str) -> None:
        self._function, self._folder = function, folder
        self.__name__ = getattr(function, "__name__", "app")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Create the folder, and run the function."""
        os.makedirs(self._folder, exist_ok=True)
        return self._function(*args, **kwargs)
