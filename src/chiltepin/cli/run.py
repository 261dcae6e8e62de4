"""Run requests until they end, or until Ctrl-C stops them cleanly."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
import time
from concurrent import futures
from typing import TYPE_CHECKING, Any

from chiltepin.cli.output import is_terminal
from chiltepin.cli.reporting import Reporter, print_outcome, task_error

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from chiltepin.cli.context import Context
    from chiltepin.model import Request
    from chiltepin.transfers.running import RunningTask

__all__ = ["run_requests"]

#: Longest time between two polls of a service task, and time between two screen updates, in seconds.
POLLING_INTERVAL, REDRAW_INTERVAL = 5.0, 0.1

#: Maximum number of folders to list when counting what to move; a service limits the request rate.
MAX_FOLDERS_COUNTED = {"service": 25, "worker": 100_000}


def run_requests(context: Context, requests: Sequence[Request], *, timeout: float, workers: int | None = None) -> None:
    """Run requests of one kind, show their progress, and exit with the matching code.

    Requests that have not ended after ``timeout`` seconds are stopped. ``workers`` is as for `chiltepin.data.transfer`.
    """
    from chiltepin.transfers.running import start  # noqa: PLC0415 - help needs no threads

    began = time.monotonic()
    interrupted = threading.Event()
    with _interruptible(interrupted):
        options: dict[str, Any] = {
            "timeout": timeout,
            "polling_interval": POLLING_INTERVAL,
            "grace": context.settings.fault_grace,
            "workers": context.settings.workers if workers is None else workers,
        }
        tasks = [task for request in requests for task in start(context.transfers, request, **options)]
        with _reporter(context, requests, began + timeout) as reporter:
            _wait(tasks, interrupted, reporter)
    print_outcome(context, requests, tasks, seconds=time.monotonic() - began, interrupted=interrupted.is_set())


def _wait(tasks: Sequence[RunningTask], interrupted: threading.Event, reporter: Reporter) -> None:
    stopping = False
    # Reading the statuses of ten thousand tasks ten times a second would use all CPU time.
    pause = max(REDRAW_INTERVAL, len(tasks) / 10_000)
    waiting = {task.future for task in tasks}
    while waiting:
        if interrupted.is_set() and not stopping:
            stopping = True
            reporter.print_line("Shutting down cleanly; press Ctrl-C again to quit now.")
            for task in tasks:
                task.stop()
        waiting = futures.wait(waiting, timeout=pause).not_done
        reporter.update([status for task in tasks if (status := task.status()) is not None])
    if not any(task_error(task) for task in tasks):
        reporter.finish()


@contextlib.contextmanager
def _interruptible(interrupted: threading.Event) -> Iterator[None]:
    """Set an event on SIGINT or SIGTERM; a second signal ends the process at once."""

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
def _reporter(context: Context, requests: Sequence[Request], until: float) -> Iterator[Reporter]:
    grace = context.settings.fault_grace if context.transfers.backend.capabilities.runs_on == "service" else 0
    if not is_terminal(sys.stderr):
        yield Reporter(grace=grace, until=until)
        return
    from chiltepin.cli.progress_bar import progress_bar  # noqa: PLC0415 - a pipe needs no bars

    most = MAX_FOLDERS_COUNTED[context.transfers.backend.capabilities.runs_on]
    with progress_bar(context.transfers, requests, most=most, grace=grace, until=until) as reporter:
        yield reporter
