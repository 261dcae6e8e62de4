"""What runs in the workflow's process when a service moves the bytes.

The twin of `chiltepin.transfers.worker`: the same calls, but nothing waits here and no worker is held. Each returns a
future at once, and the one thread of the task manager does the rest.
"""

from __future__ import annotations

from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, cast

from chiltepin.transfers import arguments
from chiltepin.transfers.outcomes import error_from_status

if TYPE_CHECKING:
    from chiltepin.model import Request, TaskStatus
    from chiltepin.transfers.runner import Transfers
    from chiltepin.transfers.worker import AppPayload

__all__ = ["delete_task", "transfer_task"]


def transfer_task(payload: AppPayload, transfers: Transfers, *, inputs: Any = (), **asked: Any) -> Future[TaskStatus]:
    """Start one transfer; the future ends as `chiltepin.transfers.worker.transfer_task` would.

    Parameters
    ----------
    payload : AppPayload
        What was decided before; its setup is that of ``transfers``.
    transfers : Transfers
        Where it goes. It may hold a login, and cannot be sent to another process.
    inputs, asked
        As for the worker.
    """
    del inputs  # Only waited for.
    return _start(payload.completed(arguments.transfer_request, asked), transfers)


def delete_task(payload: AppPayload, transfers: Transfers, *, inputs: Any = (), **asked: Any) -> Future[TaskStatus]:
    """Start one deletion; as `transfer_task`."""
    del inputs
    return _start(payload.completed(arguments.delete_request, asked), transfers)


def _start(payload: AppPayload, transfers: Transfers) -> Future[TaskStatus]:
    request = cast("Request", payload.request)
    pending = transfers.manager.start(
        payload.submission_id,
        request,
        timeout=payload.timeout,
        polling_interval=payload.polling_interval,
        grace=payload.fault_grace,
        workflow=payload.workflow,
    )
    judged: Future[TaskStatus] = Future()
    # Parsl never ends a task whose future is cancelled; a running future cannot be cancelled.
    judged.set_running_or_notify_cancel()

    def end(ended: Future[TaskStatus]) -> None:
        try:
            error = ended.exception() or error_from_status(ended.result(), request)
        except BaseException as unexpected:  # noqa: BLE001 - the future has to end, also where a status is odd
            error = unexpected
        if error is None:
            judged.set_result(ended.result())
        else:
            judged.set_exception(error)

    pending.future.add_done_callback(end)
    return judged
