"""What runs in the workflow's process when a service moves the bytes.

The twin of `chiltepin.transfers.worker`: the same calls, but nothing waits here and no worker is held. Each returns a
future at once, and the one thread of the task manager does the rest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from chiltepin.transfers import arguments

if TYPE_CHECKING:
    from concurrent.futures import Future

    from chiltepin.model import Request, TaskStatus
    from chiltepin.transfers.runner import Transfers
    from chiltepin.transfers.worker import AppPayload

__all__ = ["delete_task", "transfer_task"]


def transfer_task(payload: AppPayload, transfers: Transfers, **asked: Any) -> Future[TaskStatus]:
    """Start one transfer; the future ends as `chiltepin.transfers.worker.transfer_task` would.

    Parameters
    ----------
    payload : AppPayload
        What was decided before; its setup is that of ``transfers``.
    transfers : Transfers
        Where it goes. It may hold a login, and cannot be sent to another process.
    asked
        As for the worker.
    """
    return _start(payload.completed(arguments.transfer_request, asked), transfers)


def delete_task(payload: AppPayload, transfers: Transfers, **asked: Any) -> Future[TaskStatus]:
    """Start one deletion; as `transfer_task`."""
    return _start(payload.completed(arguments.delete_request, asked), transfers)


def _start(payload: AppPayload, transfers: Transfers) -> Future[TaskStatus]:
    return transfers.manager.start(
        payload.submission_id,
        cast("Request", payload.request),
        timeout=payload.timeout,
        polling_interval=payload.polling_interval,
        grace=payload.fault_grace,
        workflow=payload.workflow,
        raises=True,
    ).future
