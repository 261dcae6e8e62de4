"""How a task ended, in words and as errors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chiltepin.errors import (
    TaskCanceledError,
    TaskError,
    TaskExpiredError,
    TaskFailedError,
    TaskInactiveError,
    TaskLostError,
    TaskPausedError,
)
from chiltepin.model import DeleteRequest, TaskState

if TYPE_CHECKING:
    from chiltepin.model import Request, TaskStatus

__all__ = ["describe", "error_of"]

_ERRORS: dict[TaskState, tuple[type[TaskError], str]] = {
    TaskState.FAILED: (TaskFailedError, "failed"),
    TaskState.CANCELED: (TaskCanceledError, "was canceled"),
    TaskState.EXPIRED: (TaskExpiredError, "expired"),
    TaskState.LOST: (TaskLostError, "was lost"),
    TaskState.PAUSED: (TaskPausedError, "was paused, and stopped"),
}


def describe(request: Request) -> str:
    """Return the request as the start of a sentence for people."""
    if isinstance(request, DeleteRequest):
        return f"Deletion of {', '.join(request.paths)} on {request.endpoint!r}"
    pairs = ", ".join(f"{item.source} to {item.destination}" for item in request.items)
    return f"Transfer from {request.source!r} to {request.destination!r} of {pairs}"


def error_of(status: TaskStatus, request: Request) -> TaskError | None:
    """Return the error that the status of an ended task stands for, None for success."""
    if status.state is TaskState.SUCCEEDED:
        return None
    kind, became = _ERRORS[status.state]
    if kind is TaskPausedError and status.code == "INACTIVE":
        kind, became = TaskInactiveError, "was suspended, and stopped"
    return kind(f"{describe(request)} {became} ({status.code}): {status.reason}", status=status)
