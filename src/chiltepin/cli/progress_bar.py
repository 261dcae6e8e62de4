"""The bar of a transfer on a terminal: files, bytes, speed and time left."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING

from rich.console import Console
from rich.filesize import decimal
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.text import Text

from chiltepin.backends import threads
from chiltepin.cli.output import pluralize
from chiltepin.cli.reporting import Reporter, Totals, sum_statuses
from chiltepin.errors import BackendError, printable
from chiltepin.model import DeleteRequest
from chiltepin.transfers.walk import Amount, amount_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from chiltepin.model import Request, TaskStatus
    from chiltepin.transfers.runner import Transfers

__all__ = ["progress_bar"]

#: Columns of a terminal that has room for the description and the speed.
WIDE = 64


class _Speed(TransferSpeedColumn):
    def render(self, task: Task) -> Text:
        """Return the cell."""
        known = task.fields["by_bytes"] and (task.finished_speed or task.speed)
        return super().render(task) if known else Text()


class _BarReporter(Reporter):
    """Draws one bar for all tasks."""

    def __init__(self, progress: Progress, requests: Sequence[Request], *, grace: float) -> None:
        super().__init__(grace=grace)
        self._progress = progress
        deletes = isinstance(requests[0], DeleteRequest)
        # A skipped file counts as done, and its bytes are never moved.
        self._by_bytes = not deletes and not any(getattr(request, "sync_level", None) for request in requests)
        self._deletes, self._done = deletes, Totals()
        self._total: Amount | None = None
        self._task = progress.add_task(
            "Deleting" if deletes else "Moving", total=None, files="", bytes="", by_bytes=self._by_bytes
        )
        self._show()

    def set_total(self, total: Amount) -> None:
        """Set the length of the bar; callable from any thread."""
        self._total = total
        self._progress.update(self._task, total=total.bytes if self._by_bytes else total.files)

    def update(self, statuses: Sequence[TaskStatus]) -> None:
        """Print new problems and redraw the bar."""
        super().update(statuses)
        self._done = done = sum_statuses(statuses)
        completed = done.bytes + done.moving if self._by_bytes else done.files + done.skipped
        self._progress.update(self._task, completed=completed)
        self._show()

    def finish(self) -> None:
        """Fill the bar, also where the total was unknown or wrong."""
        [task] = self._progress.tasks
        self._total = None
        self._progress.update(self._task, total=task.completed)
        self._show()

    def _show(self) -> None:
        files, moved, total = self._done.files, decimal(self._done.bytes + self._done.moving), self._total
        self._progress.update(
            self._task,
            files=pluralize(files, "file") if total is None else f"{files:,}/{pluralize(total.files, 'file')}",
            bytes="" if self._deletes else f"{moved}/{decimal(total.bytes)}" if total and self._by_bytes else moved,
        )

    def print_line(self, text: str) -> None:
        """Print one line above the bar."""
        self._progress.console.print(Text(printable(text), style="yellow"))


@contextlib.contextmanager
def progress_bar(transfers: Transfers, requests: Sequence[Request], *, most: int, grace: float) -> Iterator[Reporter]:
    """Draw a bar on stderr inside a ``with`` block.

    A thread counts the files and bytes of the requests; it lists at most ``most`` folders.
    """
    console = Console(stderr=True, highlight=False)
    columns: list[ProgressColumn] = [
        BarColumn(bar_width=None),
        *(TextColumn(f"{{task.fields[{name}]}}", markup=False) for name in ("files", "bytes")),
    ]
    if console.width >= WIDE:
        columns = [TextColumn("{task.description}", markup=False), *columns, _Speed()]
    columns.append(TimeRemainingColumn(compact=True, elapsed_when_finished=True))
    stop = threading.Event()
    with Progress(*columns, console=console, expand=True, redirect_stdout=False, redirect_stderr=False) as progress:
        reporter = _BarReporter(progress, requests, grace=grace)

        def count() -> None:
            amounts = [
                None
                if isinstance(request, DeleteRequest)
                else amount_of(transfers, request, most=most, stopped=stop.is_set)
                for request in requests
            ]
            known = [amount for amount in amounts if amount is not None]
            if len(known) == len(amounts) and not stop.is_set():
                reporter.set_total(Amount(files=sum(one.files for one in known), bytes=sum(one.bytes for one in known)))

        # Without a thread there is no total to draw.
        with contextlib.suppress(BackendError):
            threads.start(count, name="chiltepin-count")
        try:
            yield reporter
        finally:
            stop.set()
