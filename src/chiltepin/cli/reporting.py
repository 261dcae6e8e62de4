"""Print the progress and the outcome of tasks, and exit with the matching code."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from chiltepin.cli.exit_codes import FAILURE, INTERRUPTED, LOGIN_REQUIRED
from chiltepin.cli.output import format_duration, format_size, pluralize, print_error, print_json
from chiltepin.errors import ChiltepinError, LoginRequiredError, TaskError
from chiltepin.model import DeleteRequest, TaskState, items_of
from chiltepin.transfers import policy
from chiltepin.transfers.outcomes import error_from_status

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chiltepin.cli.context import Context
    from chiltepin.model import Request, TaskStatus
    from chiltepin.transfers.running import RunningTask

__all__ = ["Reporter", "Totals", "print_outcome", "sum_statuses", "task_error"]

#: Maximum number of errors to print; JSON has all of them.
MAX_ERRORS_PRINTED = 20


@dataclass(frozen=True, slots=True)
class Totals:
    """The totals of several tasks."""

    files: int = 0
    skipped: int = 0
    bytes: int = 0
    moving: int = 0
    faults: int = 0


class Reporter:
    """Prints each new problem while tasks run; `chiltepin.cli.progress_bar` also draws a bar.

    ``grace`` is the number of seconds to tolerate a permanent fault of a service. At ``until``, a time of
    `time.monotonic`, the tasks are stopped.
    """

    def __init__(self, *, grace: float, until: float) -> None:
        self._printed, self._grace, self._until = set[str](), grace, until

    def update(self, statuses: Sequence[TaskStatus]) -> None:
        """Print each problem once."""
        for status in statuses:
            if status.reason and not status.state.final and status.reason not in self._printed:
                self._printed.add(status.reason)
                self.print_line(f"{self._wait(status.code)}{status.reason}")

    def _wait(self, code: str) -> str:
        """Return how long a fault is tolerated, as the start of a sentence; empty if it is not known or not at all."""
        wait = min(self._grace, max(0, int(self._until - time.monotonic())))
        if not wait or code not in policy.fault_codes.PERMANENT_CODES:
            return ""
        unless = " unless the path is confirmed missing" if code == policy.fault_codes.NOT_FOUND else ""
        return f"Waits up to {wait:g} s for this to recover{unless}: "

    def finish(self) -> None:
        """Show that everything is done."""

    def print_line(self, text: str) -> None:
        """Print one line."""
        print_error(text)


def sum_statuses(statuses: Sequence[TaskStatus]) -> Totals:
    """Return the totals of tasks; a task that several requests share counts once."""
    each = {status.handle: status for status in statuses}.values()
    return Totals(
        files=sum(status.files_done for status in each),
        skipped=sum(status.files_skipped for status in each),
        bytes=sum(status.bytes_done for status in each),
        moving=sum(status.bytes_moving for status in each),
        faults=sum(status.faults for status in each),
    )


def task_error(task: RunningTask) -> BaseException | None:
    """Return why a task that has ended did not succeed, or None."""
    return task.future.exception() or error_from_status(task.future.result(), task.request)


def _last_status(task: RunningTask) -> TaskStatus | None:
    error = task.future.exception()
    if error is None:
        return task.future.result()
    return (error.status if isinstance(error, TaskError) else None) or task.status()


def print_outcome(
    context: Context, requests: Sequence[Request], tasks: Sequence[RunningTask], *, seconds: float, interrupted: bool
) -> None:
    """Print what was done and what failed; exit if anything failed."""
    failed = [(task, error) for task in tasks if (error := task_error(task)) is not None]
    for _, error in failed:
        if not isinstance(error, ChiltepinError):
            raise error
    statuses = [status for task in tasks if (status := _last_status(task)) is not None]
    done = sum_statuses(statuses)
    deletes = isinstance(requests[0], DeleteRequest)
    if context.json:
        print_json(_document(tasks, statuses, done, seconds, interrupted=interrupted))
    elif not failed:
        click.echo(f"{_summary(done, deletes=deletes)} in {format_duration(seconds)}{_speed(done, seconds)}")
        _print_skipped(statuses)
    if not failed:
        return
    if interrupted:
        # Omit bytes: a service also counts those of an unfinished file.
        if deletes:
            outcome = f"{pluralize(done.files, 'deleted file')}; other files were not deleted"
        else:
            outcome = f"{pluralize(done.files, 'complete file')}; to resume, repeat the command with --sync-level size"
        print_error(f"Interrupted after {outcome}.")
        sys.exit(INTERRUPTED)
    _print_errors([error for _, error in failed], done, of=len(tasks), deletes=deletes)
    sys.exit(LOGIN_REQUIRED if any(isinstance(error, LoginRequiredError) for _, error in failed) else FAILURE)


def _skipped_paths(statuses: Sequence[TaskStatus]) -> list[str]:
    return list(dict.fromkeys(path for status in statuses for path in status.skipped_paths))


def _print_skipped(statuses: Sequence[TaskStatus]) -> None:
    paths = _skipped_paths(statuses)
    for path in paths[:MAX_ERRORS_PRINTED]:
        print_error(f"Skipped because it is missing or unreadable: {path}")
    if len(paths) > MAX_ERRORS_PRINTED:
        print_error(f"And {pluralize(len(paths) - MAX_ERRORS_PRINTED, 'more path')} skipped; -F json lists them.")


def _print_errors(errors: Sequence[BaseException], done: Totals, *, of: int, deletes: bool) -> None:
    for error in errors[:MAX_ERRORS_PRINTED]:
        print_error(str(error))
    if len(errors) > MAX_ERRORS_PRINTED:
        print_error(f"And {pluralize(len(errors) - MAX_ERRORS_PRINTED, 'more failure')}; -F json lists all of them.")
    if of > 1:
        print_error(f"{len(errors):,} of {pluralize(of, 'item')} failed; {_summary(done, deletes=deletes)} done.")
    elif done.files:
        print_error(f"{'Deleted' if deletes else 'Transferred'} despite the failure: {pluralize(done.files, 'file')}.")


def _summary(done: Totals, *, deletes: bool) -> str:
    moved = "" if deletes else f", {format_size(done.bytes)}"
    skipped = f", {pluralize(done.skipped, 'file')} skipped" if done.skipped else ""
    return f"{pluralize(done.files, 'file')}{moved}{skipped}"


def _speed(done: Totals, seconds: float) -> str:
    return f" ({format_size(done.bytes / seconds)}/s)" if done.bytes and seconds > 0 else ""


def _document(
    tasks: Sequence[RunningTask], statuses: Sequence[TaskStatus], done: Totals, seconds: float, *, interrupted: bool
) -> dict[str, Any]:
    failures = [_failure(task.request, error) for task in tasks if (error := task_error(task)) is not None]
    return {
        "state": "canceled" if interrupted and failures else "failed" if failures else TaskState.SUCCEEDED.value,
        "task_ids": list(dict.fromkeys(status.handle.task_id for status in statuses if status.handle.task_id)),
        "files_done": done.files,
        "files_skipped": done.skipped,
        "skipped_paths": _skipped_paths(statuses),
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
