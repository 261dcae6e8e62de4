"""Following what has been started, to its end: bars on a terminal, troubles as they come, and an orderly Ctrl-C."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
import time
from concurrent import futures
from typing import TYPE_CHECKING, Any

from chiltepin.cli.reporting import Picture, report, task_error

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from chiltepin.cli.context import Desk
    from chiltepin.model import Request
    from chiltepin.transfers.running import RunningTask

__all__ = ["carry_out"]

#: Longest time between two looks at a task of a service, in seconds, and time between two pictures.
LOOK, PICTURE = 5.0, 0.1

#: Most folders that are listed to know how much there is to move: a service meters questions.
FOLDERS = {"service": 25, "worker": 100_000}


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
    report(desk, requests, tasks, seconds=time.monotonic() - began, interrupted=interrupted.is_set())


def _wait(tasks: Sequence[RunningTask], interrupted: threading.Event, picture: Picture) -> None:
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
    if not any(task_error(task) for task in tasks):
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


@contextlib.contextmanager
def _picture(desk: Desk, requests: Sequence[Request]) -> Iterator[Picture]:
    if not sys.stderr.isatty():
        yield Picture(grace=desk.settings.fault_grace)
        return
    from chiltepin.cli.progress_bar import bars  # noqa: PLC0415 - a pipe needs no bars

    most = FOLDERS[desk.transfers.backend.capabilities.runs_on]
    with bars(desk.transfers, requests, most=most, grace=desk.settings.fault_grace) as picture:
        yield picture
