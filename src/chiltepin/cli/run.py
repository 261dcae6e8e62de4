"""Following what has been started, to its end: bars on a terminal, troubles as they come, and an orderly Ctrl-C."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
import time
from concurrent import futures
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from chiltepin.cli.main import INTERRUPTED
from chiltepin.cli.output import amount, complain, counted, print_json, took
from chiltepin.errors import ChiltepinError, LoginRequiredError, TaskError
from chiltepin.model import DeleteRequest, TaskState, items_of
from chiltepin.transfers.outcomes import error_of
from chiltepin.transfers.service.batch import UNHEALING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from chiltepin.cli.context import Desk
    from chiltepin.model import Request, TaskStatus
    from chiltepin.transfers.running import Underway

__all__ = ["Picture", "carry_out", "summed"]

#: Longest time between two looks at a task of a service, in seconds, and time between two pictures.
LOOK, PICTURE = 5.0, 0.1

#: Most failures that are told one by one; JSON has all of them.
TOLD = 20

#: Most folders that are listed to know how much there is to move: a service meters questions.
FOLDERS = {"service": 25, "worker": 100_000}


@dataclass(frozen=True, slots=True)
class _Sum:
    """What all tasks together have done."""

    files: int = 0
    skipped: int = 0
    bytes: int = 0
    moving: int = 0
    faults: int = 0


def carry_out(desk: Desk, requests: Sequence[Request], *, timeout: float) -> None:
    """Run requests to their end, show them meanwhile, and leave with the exit code that they deserve.

    Parameters
    ----------
    desk : Desk
        Who does them, and what is printed.
    requests : sequence of TransferRequest or DeleteRequest
        What is wanted, all of one kind.
    timeout : float
        Seconds that they have.
    """
    from chiltepin.transfers.running import start  # noqa: PLC0415 - help needs no threads

    began = time.monotonic()
    interrupted = threading.Event()
    with _interruptible(interrupted):
        grace = desk.settings.fault_grace
        tasks = [
            task
            for request in requests
            for task in start(desk.transfers, request, timeout=timeout, polling_interval=LOOK, grace=grace)
        ]
        with _picture(desk, requests) as picture:
            _wait(tasks, interrupted, picture)
    _report(desk, requests, tasks, seconds=time.monotonic() - began, interrupted=interrupted.is_set())


def _wait(tasks: Sequence[Underway], interrupted: threading.Event, picture: Picture) -> None:
    """Look at the tasks until all have ended; tell each to stop when somebody interrupts."""
    told = False
    # Ten thousand lines of a batch are not looked at ten times a second.
    pause = max(PICTURE, len(tasks) / 10_000)
    waiting = {task.future for task in tasks}
    while waiting:
        if interrupted.is_set() and not told:
            told = True
            picture.tell("Stopping in an orderly way; Ctrl-C again leaves at once.")
            for task in tasks:
                task.stop()
        waiting = futures.wait(waiting, timeout=pause).not_done
        picture.update([status for task in tasks if (status := task.status()) is not None])
    if not any(_error(task) for task in tasks):
        picture.finish()


@contextlib.contextmanager
def _interruptible(interrupted: threading.Event) -> Iterator[None]:
    """Have Ctrl-C, and the end that a batch system sends, set an event; a second one ends the process at once."""

    def stop(number: int, _: Any) -> None:
        signal.signal(number, before[number])
        interrupted.set()

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before: dict[int, Any] = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


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
                waits = f"Waits up to {self._grace:g} s for this to heal: " if status.code in UNHEALING else ""
                self.tell(f"{waits}{status.reason}")

    def finish(self) -> None:
        """Take note that all was done."""

    def tell(self, trouble: str) -> None:
        """Print one line."""
        complain(trouble)


@contextlib.contextmanager
def _picture(desk: Desk, requests: Sequence[Request]) -> Iterator[Picture]:
    if not sys.stderr.isatty():
        yield Picture(grace=desk.settings.fault_grace)
        return
    from chiltepin.cli.progress_bar import bars  # noqa: PLC0415 - a pipe needs no bars

    most = FOLDERS[desk.transfers.backend.capabilities.runs_on]
    with bars(desk.transfers, requests, most=most, grace=desk.settings.fault_grace) as picture:
        yield picture


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


def _error(task: Underway) -> BaseException | None:
    return task.future.exception() or error_of(task.future.result(), task.request)


def _last(task: Underway) -> TaskStatus | None:
    """Return the last that is known of a task that has ended."""
    error = task.future.exception()
    if error is None:
        return task.future.result()
    return (error.status if isinstance(error, TaskError) else None) or task.status()


def _report(
    desk: Desk, requests: Sequence[Request], tasks: Sequence[Underway], *, seconds: float, interrupted: bool
) -> None:
    """Print what was done and what was not; leave, if that is not all."""
    failed = [(task, error) for task in tasks if (error := _error(task)) is not None]
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
    sys.exit(4 if any(isinstance(error, LoginRequiredError) for _, error in failed) else 1)


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
    tasks: Sequence[Underway], statuses: Sequence[TaskStatus], done: _Sum, seconds: float, *, interrupted: bool
) -> dict[str, Any]:
    """Return what programs are told."""
    failures = [_failure(task.request, error) for task in tasks if (error := _error(task)) is not None]
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
