"""What is printed while tasks run and once they have ended, and the exit code that follows from it."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from chiltepin.cli.exit_codes import FAILURE, INTERRUPTED, LOGIN_REQUIRED
from chiltepin.cli.output import amount, complain, counted, print_json, took
from chiltepin.errors import ChiltepinError, LoginRequiredError, TaskError
from chiltepin.model import DeleteRequest, TaskState, items_of
from chiltepin.transfers import policy
from chiltepin.transfers.outcomes import error_from_status

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chiltepin.cli.context import Desk
    from chiltepin.model import Request, TaskStatus
    from chiltepin.transfers.running import RunningTask

__all__ = ["Picture", "report", "summed", "task_error"]

#: Most failures that are told one by one; JSON has all of them.
TOLD = 20


@dataclass(frozen=True, slots=True)
class _Sum:
    """What all tasks together have done."""

    files: int = 0
    skipped: int = 0
    bytes: int = 0
    moving: int = 0
    faults: int = 0


class Picture:
    """What is seen while tasks run: nothing but troubles here; `_Bars` draws.

    Parameters
    ----------
    grace : float
        Seconds for which a trouble that does not heal by itself is borne.
    """

    def __init__(self, *, grace: float) -> None:
        self._troubles, self._grace = set[str](), grace

    def update(self, statuses: Sequence[TaskStatus]) -> None:
        """Tell a trouble when it is new."""
        for status in statuses:
            if status.reason and not status.state.final and status.reason not in self._troubles:
                self._troubles.add(status.reason)
                waits = (
                    f"Waits up to {self._grace:g} s for this to heal: " if status.code in policy.PERMANENT_CODES else ""
                )
                self.tell(f"{waits}{status.reason}")

    def finish(self) -> None:
        """Take note that all was done."""

    def tell(self, trouble: str) -> None:
        """Print one line."""
        complain(trouble)


def summed(statuses: Sequence[TaskStatus]) -> _Sum:
    """Return what tasks have done; each counts once, however many were told of it."""
    each = {status.handle: status for status in statuses}.values()
    return _Sum(
        files=sum(status.files_done for status in each),
        skipped=sum(status.files_skipped for status in each),
        bytes=sum(status.bytes_done for status in each),
        moving=sum(status.bytes_moving for status in each),
        faults=sum(status.faults for status in each),
    )


def task_error(task: RunningTask) -> BaseException | None:
    """Return why a task that has ended did not succeed; None if it did."""
    return task.future.exception() or error_from_status(task.future.result(), task.request)


def _last(task: RunningTask) -> TaskStatus | None:
    """Return the last that is known of a task that has ended."""
    error = task.future.exception()
    if error is None:
        return task.future.result()
    return (error.status if isinstance(error, TaskError) else None) or task.status()


def report(
    desk: Desk, requests: Sequence[Request], tasks: Sequence[RunningTask], *, seconds: float, interrupted: bool
) -> None:
    """Print what was done and what was not; leave, if that is not all."""
    failed = [(task, error) for task in tasks if (error := task_error(task)) is not None]
    for _, error in failed:
        if not isinstance(error, ChiltepinError):
            raise error
    statuses = [status for task in tasks if (status := _last(task)) is not None]
    done = summed(statuses)
    deletes = isinstance(requests[0], DeleteRequest)
    if desk.json:
        print_json(_document(tasks, statuses, done, seconds, interrupted=interrupted))
    elif not failed:
        click.echo(f"{_said(done, deletes=deletes)} in {took(seconds)}{_speed(done, seconds)}")
    if not failed:
        return
    if interrupted:
        # Without bytes: a service counts also those of a file that it has begun, and that is not there.
        whole = "the rest was not deleted" if deletes else "each whole; go on with --sync-level size"
        complain(f"Interrupted. {'Deleted' if deletes else 'Moved'} before: {counted(done.files, 'file')}, {whole}.")
        sys.exit(INTERRUPTED)
    _complain([error for _, error in failed], done, of=len(tasks), deletes=deletes)
    sys.exit(LOGIN_REQUIRED if any(isinstance(error, LoginRequiredError) for _, error in failed) else FAILURE)


def _complain(errors: Sequence[BaseException], done: _Sum, *, of: int, deletes: bool) -> None:
    """Print what was not done and why, and how much was done nevertheless."""
    for error in errors[:TOLD]:
        complain(str(error))
    if len(errors) > TOLD:
        complain(f"And {counted(len(errors) - TOLD, 'more failure')}; -F json has all of them.")
    if of > 1:
        complain(f"{len(errors):,} of {counted(of, 'item')} failed; {_said(done, deletes=deletes)} done.")
    elif done.files:
        complain(f"{'Deleted' if deletes else 'Moved'} nevertheless: {counted(done.files, 'file')}.")


def _said(done: _Sum, *, deletes: bool) -> str:
    moved = "" if deletes else f", {amount(done.bytes)}"
    skipped = f", {counted(done.skipped, 'file')} left alone" if done.skipped else ""
    return f"{counted(done.files, 'file')}{moved}{skipped}"


def _speed(done: _Sum, seconds: float) -> str:
    return f" ({amount(done.bytes / seconds)}/s)" if done.bytes and seconds > 0 else ""


def _document(
    tasks: Sequence[RunningTask], statuses: Sequence[TaskStatus], done: _Sum, seconds: float, *, interrupted: bool
) -> dict[str, Any]:
    """Return what programs are told."""
    failures = [_failure(task.request, error) for task in tasks if (error := task_error(task)) is not None]
    return {
        "state": "canceled" if interrupted and failures else "failed" if failures else TaskState.SUCCEEDED.value,
        "task_ids": list(dict.fromkeys(status.handle.task_id for status in statuses if status.handle.task_id)),
        "files_done": done.files,
        "files_skipped": done.skipped,
        "bytes_done": done.bytes,
        "faults": done.faults,
        "seconds": round(seconds, 3),
        "failures": failures,
    }


def _failure(request: Request, error: BaseException) -> dict[str, Any]:
    status = error.status if isinstance(error, TaskError) else None
    items = [
        item if isinstance(item, str) else {"source": item.source, "destination": item.destination}
        for item in items_of(request)
    ]
    return {
        "items": items,
        "error": type(error).__name__,
        "code": status.code if status else getattr(error, "code", ""),
        "message": str(error),
    }
