"""The progress bar of a transfer on a terminal: files, bytes, speed and time left."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from typing import TYPE_CHECKING

from rich.filesize import decimal
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from chiltepin.backends import threads
from chiltepin.cli.output import pluralize
from chiltepin.cli.reporting import Reporter, Totals, sum_statuses
from chiltepin.errors import BackendError, printable
from chiltepin.model import DeleteRequest, TransferRequest
from chiltepin.parsl.progress import LiveView
from chiltepin.parsl.table_layout import RateMeter, rate
from chiltepin.transfers.walk import Amount, amount_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import Console, RenderableType

    from chiltepin.model import Request, TaskStatus
    from chiltepin.transfers.runner import Transfers

__all__ = ["progress_bar"]

#: Minimum width of a terminal, in columns, to show the description and the speed.
WIDE = 64


class _BarReporter(Reporter):
    """Draws one bar for all tasks."""

    def __init__(self, requests: Sequence[Request], *, grace: float, until: float) -> None:
        super().__init__(grace=grace, until=until)
        self._deletes = isinstance(requests[0], DeleteRequest)
        # A skipped file counts as done, and its bytes are never moved.
        self._by_bytes = not self._deletes and not any(getattr(request, "sync_level", None) for request in requests)
        self._done, self._finished = Totals(), False
        self._began, self._meter = time.monotonic(), RateMeter()
        #: The amount to move, once it is known.
        self.total: Amount | None = None
        self.view = LiveView(sys.stderr, self._lines)

    def update(self, statuses: Sequence[TaskStatus]) -> None:
        """Print new problems, and record the totals for the bar."""
        super().update(statuses)
        self._done = sum_statuses(statuses)

    def finish(self) -> None:
        """Fill the bar, even if the total was unknown or wrong."""
        self._finished = True

    def print_line(self, text: str) -> None:
        """Print one line above the bar; a closed terminal does not stop a transfer."""
        with contextlib.suppress(OSError):
            self.view.console.print(Text(printable(text), style="yellow"))

    def _lines(self, console: Console, _: bool) -> list[RenderableType]:  # noqa: FBT001 - called by the view
        done, total = self._done, None if self._finished else self.total
        moved, elapsed = done.bytes + done.moving, time.monotonic() - self._began
        completed = moved if self._by_bytes else done.files + done.skipped
        goal = None if total is None else total.bytes if self._by_bytes else total.files
        speed, clock = self._meter.speed(completed, elapsed), ""
        if self._finished:
            goal, speed, clock = completed, completed / elapsed, _clock(elapsed)
        elif goal is not None:
            clock = _clock(max(0, goal - completed) / speed) if speed else "--:--"
        size = f"{decimal(moved)}/{decimal(total.bytes)}" if total and self._by_bytes else decimal(moved)
        wide = console.width >= WIDE
        cells: list[RenderableType] = [
            ("Deleting" if self._deletes else "Moving") if wide else "",
            ProgressBar(goal, completed),
            pluralize(done.files, "file") if total is None else f"{done.files:,}/{pluralize(total.files, 'file')}",
            "" if self._deletes else size,
            Text(rate(speed) if wide and self._by_bytes else "", "red"),
            Text(clock, "cyan"),
        ]
        cells = [cell for cell in cells if cell]
        line = Table.grid(padding=(0, 1), expand=True)
        for cell in cells:
            line.add_column(no_wrap=True, ratio=1 if isinstance(cell, ProgressBar) else None)
        line.add_row(*cells)
        return [line]


def _clock(seconds: float) -> str:
    """Return a duration as ``04:05`` or ``1:04:05``."""
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes:02}:{seconds:02}"


@contextlib.contextmanager
def progress_bar(
    transfers: Transfers, requests: Sequence[Request], *, most: int, grace: float, until: float
) -> Iterator[Reporter]:
    """Draw a bar on stderr inside a ``with`` block; see `Reporter` for ``grace`` and ``until``.

    A thread counts the files and bytes of the requests; it lists at most ``most`` folders.
    """
    reporter, stop = _BarReporter(requests, grace=grace, until=until), threading.Event()
    transfer_requests = [request for request in requests if isinstance(request, TransferRequest)]

    def count() -> None:
        amounts = [amount_of(transfers, one, most=most, stopped=stop.is_set) for one in transfer_requests]
        known = [amount for amount in amounts if amount is not None]
        if len(known) == len(requests):
            reporter.total = Amount(files=sum(one.files for one in known), bytes=sum(one.bytes for one in known))

    # Without a thread, the bar shows no total.
    with contextlib.suppress(BackendError):
        threads.start(count, name="chiltepin-count")
    try:
        yield reporter
    finally:
        stop.set()
        reporter.view.close()
