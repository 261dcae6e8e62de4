"""Show progress at the end of a terminal: `LiveView`, and `shown` for the table of a workflow.

The command line draws its bar with a `LiveView`, so Parsl, which loads slowly, is imported for type checkers only.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
import time
from collections import Counter
from datetime import timedelta
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.constrain import Constrain
from rich.filesize import decimal
from rich.live import Live
from rich.padding import Padding
from rich.text import Text

from chiltepin.backends import threads
from chiltepin.errors import BackendError, printable
from chiltepin.model import DeleteRequest, TaskState, items_of
from chiltepin.parsl.table_layout import COLUMNS, WIDEST, RateMeter, TableLayout, location, rate

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator, Sequence
    from typing import TextIO

    from rich.console import RenderableType

    from chiltepin.model import Request, TaskHandle, TaskStatus
    from chiltepin.parsl.futures import TransferFuture
    from chiltepin.parsl.shutdown import Shutdown

__all__ = ["LiveTable", "LiveView", "shown"]

logger = logging.getLogger(__name__)

#: Maximum numbers of tasks and of failures that are listed.
MAX_ROWS, MAX_FAILURES = 15, 3

#: Minimum seconds between two refreshes; drawing uses at most one in ``SHARE`` seconds.
REFRESH, SHARE = 0.25, 20

#: Maximum seconds to wait for the last refresh when a view is closed.
CLOSE_TIMEOUT = 5.0

_LOCK = threading.Lock()
_tables: list[LiveTable] = []


@contextlib.contextmanager
def shown(run: Shutdown) -> Iterator[None]:
    """Show the transfers and deletions of a run on stderr for the duration of a ``with`` block.

    A terminal has room for one table: runs that are shown at the same time share it.
    """
    with _LOCK:
        if not _tables:
            _tables.append(LiveTable(sys.stderr))
        table = _tables[0]
        table.users += 1
    run.watcher = table.add
    try:
        yield
    finally:
        run.watcher = None
        with _LOCK:
            table.users -= 1
            if not table.users:
                _tables.remove(table)
                table.view.close()


class LiveView:
    """Lines at the end of a terminal, drawn by a separate thread until the view is closed.

    Parameters
    ----------
    terminal : file
        The terminal to draw on.
    lines : callable
        Returns the current lines, given the console and whether they are the final lines, which stay on the terminal.
        Nothing is written until it returns lines.
    """

    def __init__(self, terminal: TextIO, lines: Callable[[Console, bool], Sequence[RenderableType]]) -> None:
        #: Output to this console appears above the view.
        self.console = Console(file=terminal, highlight=False)
        self._lines = lines
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None
        try:
            self._thread = threads.start(self._run, name="chiltepin-progress")
        except BackendError as err:
            logger.warning("Transfers in progress are not shown: %s", err)

    def close(self) -> None:
        """Draw the final state, and leave it on the terminal."""
        self._closed.set()
        # With a limit: a terminal may be stopped (Ctrl-S), and the process has to end.
        if self._thread is not None:
            self._thread.join(timeout=CLOSE_TIMEOUT)

    def _run(self) -> None:
        try:
            with contextlib.ExitStack() as drawing:
                self._draw(drawing)
        except Exception:
            # For example, the terminal may be gone.
            logger.exception("The view of transfers in progress failed; the transfers continue without it.")

    def _draw(self, drawing: contextlib.ExitStack) -> None:
        live: Live | None = None
        pause, closed = REFRESH, False
        while not closed:
            closed = self._closed.wait(pause)
            began = time.monotonic()
            if lines := self._lines(self.console, closed):
                if live is None:
                    live = drawing.enter_context(self._live())
                    # A killed process must not leave the shell without a cursor.
                    self.console.show_cursor(True)
                # A terminal writes "^C" at the cursor, so the last line needs room for it.
                last = Constrain(lines[-1], self.console.width - len("^C"))
                live.update(Group(*lines[:-1], last), refresh=True)
            pause = max(REFRESH, SHARE * (time.monotonic() - began))

    def _live(self) -> Live:
        # Other output to the same terminal appears above the view; redirected output is not changed.
        streams = (sys.stdout, sys.__stdout__), (sys.stderr, sys.__stderr__)
        out, err = (theirs is own and own is not None and own.isatty() for theirs, own in streams)
        return Live(console=self.console, auto_refresh=False, redirect_stdout=out, redirect_stderr=err)


class LiveTable:
    """The live table of the runs that are shown."""

    def __init__(self, terminal: TextIO) -> None:
        self.users = 0
        self._began = time.monotonic()
        # Guards the attributes that any thread changes; the drawing thread owns the rest.
        # Reentrant, for a signal handler.
        self._lock = threading.RLock()
        self._live: dict[TransferFuture, None] = {}
        self._ended: Counter[TaskState] = Counter()
        self._failed: list[TransferFuture] = []
        self._moved: dict[TaskHandle, int] = {}
        self._bytes = 0
        self._total = RateMeter()
        self._meters: dict[Hashable, RateMeter] = {}
        self.view = LiveView(terminal, self._lines)

    def add(self, future: TransferFuture) -> None:
        """Show a transfer or a deletion from now on; from any thread."""
        with self._lock:
            self._live[future] = None
        future.add_done_callback(lambda _: self._end(future))

    def _end(self, future: TransferFuture) -> None:
        status = future.status()
        with self._lock:
            del self._live[future]
            self._ended[status.state] += 1
            if status.state not in (TaskState.SUCCEEDED, TaskState.CANCELED) and len(self._failed) < MAX_FAILURES:
                self._failed.append(future)
            self._count(status)

    def _count(self, status: TaskStatus) -> None:
        """Count the bytes of a task once, although many futures may report them; the lock is held."""
        before = self._moved.get(status.handle, 0)
        if status.bytes_done > before:
            self._moved[status.handle] = status.bytes_done
            self._bytes += status.bytes_done - before

    # Called only in the drawing thread.

    def _lines(self, console: Console, final: bool) -> list[RenderableType]:  # noqa: FBT001 - called by the view
        now = time.monotonic()
        with self._lock:
            live, ends, failed = list(self._live), Counter(self._ended), list(self._failed)
        if not live and not ends:
            return []
        layout = TableLayout(min(console.width, WIDEST))
        problems: list[RenderableType] = []
        for future in failed:
            status = future.status()
            problems.append(layout.line(_title(future, 1, layout.room), status.state.value, style="red"))
            # The final table is never cut off.
            problems += _note(status.reason, whole=final)
        begun, waiting = _by_task(live)
        rows = self._rows(layout, begun, console.height - len(problems) - 4, now)
        head = [layout.line("In flight", *COLUMNS, style="bold")] if rows else []
        return [*head, *rows, *problems, self._summary(ends, len(live) - waiting, waiting, now)]

    def _rows(
        self, layout: TableLayout, begun: dict[Hashable, list[TransferFuture]], height: int, now: float
    ) -> list[RenderableType]:
        """Return lines for as many tasks as fit."""
        lines: list[RenderableType] = []
        drawn = 0
        for key, futures in begun.items():
            row = self._row(layout, key, futures, now)
            if drawn == MAX_ROWS or (drawn and len(lines) + len(row) > height):
                break
            lines += row
            drawn += 1
        self._meters = {key: meter for key, meter in self._meters.items() if key in begun}
        if left := sum(len(futures) for futures in list(begun.values())[drawn:]):
            lines.append(Text(f"and {left:,} more", style="dim"))
        return lines

    def _row(
        self, layout: TableLayout, key: Hashable, futures: list[TransferFuture], now: float
    ) -> list[RenderableType]:
        what = _title(futures[0], len(futures), layout.room)
        status = futures[0].last_status()
        if status is None:
            # The task waits for a worker, or has just begun in another process.
            return [layout.line(what, "launched", style="dim")]
        with self._lock:
            self._count(status)
        speed = self._meters.setdefault(key, RateMeter()).speed(status.bytes_done, now)
        begun = bool(status.handle.task_id)
        style = "yellow" if status.state is TaskState.PAUSED or status.faults else "" if begun else "dim"
        state = status.state.value if begun else "waiting"
        moved = decimal(status.bytes_done) if status.bytes_done else ""
        files = f"{status.files_done:,}" if status.files_done else ""
        faults = f"{status.faults:,} fault{'s' if status.faults > 1 else ''}. " if status.faults else ""
        line = layout.line(what, state, moved, files, rate(speed), style=style)
        return [line, *_note(f"{faults}{status.reason}")]

    def _summary(self, ends: Counter[TaskState], in_flight: int, waiting: int, now: float) -> Text:
        done, canceled = ends[TaskState.SUCCEEDED], ends[TaskState.CANCELED]
        failed = ends.total() - done - canceled
        counts = {"done": done, "failed": failed, "canceled": canceled, "in flight": in_flight, "waiting": waiting}
        said = [f"{count:,} {what}" for what, count in counts.items() if count or what == "done"]
        speed = rate(self._total.speed(self._bytes, now))
        if self._bytes:
            said.append(decimal(self._bytes))
        if speed and in_flight:
            said.append(speed)
        said.append(str(timedelta(seconds=int(now - self._began))))
        return Text(", ".join(said), style="bold")


def _note(text: str, *, whole: bool = False) -> list[RenderableType]:
    """Return the note below a line: nothing, as much as fits on one line, or the ``whole`` text."""
    said = Text(
        printable(" ".join(text.split())), style="dim", no_wrap=not whole, overflow="fold" if whole else "ellipsis"
    )
    return [Padding(said, (0, 0, 0, 2))] if said else []


def _by_task(live: list[TransferFuture]) -> tuple[dict[Hashable, list[TransferFuture]], int]:
    """Group the futures that have begun by task, oldest first; also return how many wait for other tasks."""
    begun: dict[Hashable, list[TransferFuture]] = {}
    waiting = 0
    for future in live:
        if future.task_record["status"].name == "pending":
            waiting += 1
        else:
            begun.setdefault(future.task_handle or _endpoints(future.request), []).append(future)
    return begun, waiting


def _endpoints(request: Request | None) -> tuple[str, ...]:
    if request is None:
        return ()
    return (request.endpoint,) if isinstance(request, DeleteRequest) else (request.source, request.destination)


def _title(future: TransferFuture, count: int, room: int) -> str:
    request = future.request
    if request is None:
        return future.operation.name
    verb = "delete " if isinstance(request, DeleteRequest) else ""
    endpoints = _endpoints(request)
    if count > 1:
        return f"{verb}{' -> '.join(endpoints)}, {count:,} items"
    item = items_of(request)[0]
    paths = (item,) if isinstance(item, str) else (item.source, item.destination)
    origin, *goal = zip(endpoints, paths, strict=True)
    room -= len(verb)
    if not goal:
        return verb + location(*origin, room)
    room -= len(" -> ")
    # A short location leaves its room to the other.
    first = location(*origin, max(room // 2, room - len(":".join(goal[0]))))
    return f"{first} -> {location(*goal[0], room - len(first))}"
