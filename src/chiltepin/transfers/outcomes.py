"""The outcome of a task, as text and as errors."""

from __future__ import annotations

import platform
from dataclasses import replace
from typing import TYPE_CHECKING

from chiltepin.errors import (
    TaskCanceledError,
    TaskError,
    TaskExpiredError,
    TaskFailedError,
    TaskInactiveError,
    TaskLostError,
    TaskPausedError,
    TaskTimeoutError,
)
from chiltepin.model import NO_TASK, DeleteRequest, TaskState, TaskStatus

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chiltepin.model import Request, TaskHandle
    from chiltepin.protocol import ShardOutcome

__all__ = ["describe", "error_from_status", "status_from_error", "untold_error", "with_host"]

#: Maximum number of items that are listed one by one.
_NAMED = 4

_ERRORS: dict[TaskState, tuple[type[TaskError], str]] = {
    TaskState.FAILED: (TaskFailedError, "failed"),
    TaskState.CANCELED: (TaskCanceledError, "was canceled"),
    TaskState.EXPIRED: (TaskExpiredError, "expired"),
    TaskState.LOST: (TaskLostError, "was lost"),
    TaskState.PAUSED: (TaskPausedError, "was paused, and stopped"),
}

#: The state of a request after an error; any other error means FAILED.
_ENDS: dict[type[BaseException], TaskState] = {
    TaskCanceledError: TaskState.CANCELED,
    TaskExpiredError: TaskState.EXPIRED,
    TaskTimeoutError: TaskState.EXPIRED,
    TaskLostError: TaskState.LOST,
}


def describe(request: Request) -> str:
    """Return the request as the beginning of a sentence for messages."""
    if isinstance(request, DeleteRequest):
        return f"Deletion of {_listed(request.paths, len(request.paths))} on {request.endpoint!r}"
    pairs = [f"{item.source} to {item.destination}" for item in request.items[: _NAMED + 1]]
    return f"Transfer from {request.source!r} to {request.destination!r} of {_listed(pairs, len(request.items))}"


def _listed(names: Sequence[str], count: int) -> str:
    if count <= _NAMED:
        return ", ".join(names)
    return f"{', '.join(names[: _NAMED - 1])} and {count - _NAMED + 1:,} more"


def error_from_status(status: TaskStatus, request: Request) -> TaskError | None:
    """Return the error for the status of an ended task; None for success."""
    if status.state is TaskState.SUCCEEDED:
        return None
    kind, became = _ERRORS[status.state]
    if kind is TaskPausedError and status.code == "INACTIVE":
        kind, became = TaskInactiveError, "was suspended, and stopped"
    return kind(f"{describe(request)} {became} ({status.code}): {status.reason}", status=status)


def status_from_error(error: BaseException, what: str, handle: TaskHandle = NO_TASK) -> TaskStatus:
    """Return the final status of a request that has ended with an error.

    The task itself may continue, for other requests or because it has not stopped yet. ``what`` is the name of the
    request in the error; see `describe`. The handle is used if the error has no status.
    """
    state = _ENDS.get(type(error), TaskState.FAILED)
    last: TaskStatus | None = error.status if isinstance(error, TaskError) else None
    # A timeout is the caller's, even if the service has reported first that the deadline has passed.
    if last is not None and last.state is state and not isinstance(error, TaskTimeoutError):
        return last
    last = last or TaskStatus(handle=handle, state=state)
    code = last.code if state is TaskState.FAILED else state.name
    said = str(error)
    reason = f"It{said.removeprefix(what)}" if what and said.startswith(what) else said
    return replace(last, state=state, code=code, reason=reason)


def untold_error(outcome: ShardOutcome, request: Request) -> TaskError | None:
    """Return the error for a shard that did not succeed and does not say why, such as one that was forgotten."""
    told = outcome.failed or outcome.error or outcome.status.state in (TaskState.CANCELED, TaskState.EXPIRED)
    return None if told else error_from_status(outcome.status, request)


def with_host(outcome: ShardOutcome) -> ShardOutcome:
    """Return the outcome of a shard, with the host in every reason if it ran on another host."""
    if outcome.host in ("", platform.node()):
        return outcome
    failures = tuple((code, _at_host(reason, outcome.host)) for code, reason in outcome.failures)
    if outcome.error is not None:
        outcome.error.args = (_at_host(str(outcome.error), outcome.host),)
    return replace(outcome, failures=failures)


def _at_host(said: str, host: str) -> str:
    return f"{said.rstrip('.')} (on host {host})."
