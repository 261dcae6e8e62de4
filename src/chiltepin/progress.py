"""What a workflow has in flight, as a live table for people at a terminal: `shown`."""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
import time
from collections import Counter, deque
from datetime import timedelta
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.filesize import decimal
from rich.live import Live
from rich.table import Table
from rich.text import Text

from chiltepin.errors import TaskTimeoutError
from chiltepin.futures import watch
from chiltepin.model import DeleteRequest, TaskState
from chiltepin.outcomes import describe

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator
    from typing import TextIO

    from parsl.dataflow.dflow import DataFlowKernel
    from rich.console import RenderableType

    from chiltepin.futures import TransferFuture
    from chiltepin.model import Request, TaskHandle, TaskStatus

    InFlight = dict[Hashable, list[TransferFuture]]

__all__ = ["View", "shown"]

logger = logging.getLogger(__name__)

#: Most tasks, and most failures, that are shown one by one.
ROWS, FAILURES = 15, 3

#: Least seconds between two refreshes; and a refresh takes at most one such share of the time.
REFRESH, SHARE = 0.25, 20

#: Seconds over which a speed is the mean. A service tells in leaps how far it is.
WINDOW = 10.0

#: Seconds that the end of a workflow waits for the last picture.
LAST_LOOK = 5.0

#: Cells of the columns behind the first one, which gets the rest of a line, and of the longest line.
WIDTHS = {"State": 8, "Files": 7, "Bytes": 8, "Speed": 10}
WIDEST = 120

_LOCK = threading.Lock()
_views: list[View] = []


@contextlib.contextmanager
def shown(dfk: DataFlowKernel) -> Iterator[None]:
    """Show the transfers and deletions of a run on stderr, for the time of a ``with`` block.

    A terminal has room for one view: a run that starts while another is shown is shown with it.
    """
    with _LOCK:
        if not _views:
            _views.append(View(sys.stderr))
        view = _views[0]
        view.users += 1
    watch(dfk, view.add)
    try:
        yield
    finally:
        with _LOCK:
            view.users -= 1
            if not view.users:
                _views.remove(view)
                view.close()


class View:
    """A live table, drawn by a thread of its own until it is closed.

    Parameters
    ----------
    terminal : file
        Where it is drawn. Nothing is written as long as nothing was added.
    """

    def __init__(self, terminal: TextIO) -> None:
        self.users = 0
        self._console = Console(file=terminal, highlight=False)
        self._began = time.monotonic()
        # Guards what is added and ended in any thread; all else belongs to the thread that draws.
        self._lock = threading.Lock()
        self._live: dict[TransferFuture, None] = {}
        self._ends: Counter[TaskState] = Counter()
        self._failed: list[TransferFuture] = []
        self._moved: dict[TaskHandle, int] = {}
        self._bytes = 0
        self._total = Meter()
        self._meters: dict[Hashable, Meter] = {}
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="chiltepin-progress", daemon=True)
        self._thread.start()

    def add(self, future: TransferFuture) -> None:
        """Show a transfer or a deletion from now on; from any thread."""
        with self._lock:
            self._live[future] = None
        future.add_done_callback(self._end)

    def close(self) -> None:
        """Draw how it ended, and leave that on the terminal."""
        self._closed.set()
        # No longer: a terminal may be stopped (Ctrl-S), and a workflow ends all the same.
        self._thread.join(timeout=LAST_LOOK)

    def _end(self, future: TransferFuture) -> None:
        end = _end_of(future)
        with self._lock:
            del self._live[future]
            self._ends[end] += 1
            if end not in (TaskState.SUCCEEDED, TaskState.CANCELED) and len(self._failed) < FAILURES:
                self._failed.append(future)
            self._count(future.status())

    def _count(self, status: TaskStatus) -> None:
        """Take note of the bytes of a task, which may be told by many; the lock is held."""
        before = self._moved.get(status.handle, 0)
        if status.bytes_done > before:
            self._moved[status.handle] = status.bytes_done
            self._bytes += status.bytes_done - before

    # The thread that draws.

    def _run(self) -> None:
        try:
            self._draw_until_closed()
        except Exception:
            # The terminal may be gone, say.
            logger.exception("The view of what is in flight has stumbled; the workflow goes on without it.")

    def _draw_until_closed(self) -> None:
        pause = REFRESH
        with contextlib.ExitStack() as drawing:
            live: Live | None = None
            closed = False
            while not closed:
                closed = self._closed.wait(pause)
                if live is None and (self._live or self._ends):
                    live = drawing.enter_context(self._live_table())
                began = time.monotonic()
                if live is not None:
                    live.update(self._picture(), refresh=True)
                pause = max(REFRESH, SHARE * (time.monotonic() - began))

    def _live_table(self) -> Live:
        # While it is drawn, what others print to the same terminal has to go above it; what goes elsewhere stays there.
        out, err = (theirs is own and own.isatty() for theirs, own in _streams())
        return Live(console=self._console, auto_refresh=False, redirect_stdout=out, redirect_stderr=err)

    def _picture(self) -> RenderableType:
        now = time.monotonic()
        with self._lock:
            live, ends, failed = list(self._live), Counter(self._ends), list(self._failed)
        begun, waiting = _grouped(live)
        width = min(self._console.width, WIDEST)
        troubles = [line for future in failed for line in _failure(future, width)]
        rows = self._rows(begun, width, self._console.height - len(troubles) - 4, now)
        head = [_line(width, "In flight", *WIDTHS, style="bold")] if rows else []
        return Group(*head, *rows, *troubles, self._summary(ends, len(live) - waiting, waiting, now))

    def _rows(self, begun: InFlight, width: int, height: int, now: float) -> list[RenderableType]:
        """Return lines for as many tasks as there is room for."""
        lines: list[RenderableType] = []
        drawn = 0
        for key, futures in begun.items():
            row = self._row(key, futures, width, now)
            if drawn == ROWS or (drawn and len(lines) + len(row) > height):
                break
            lines += row
            drawn += 1
        self._meters = {key: meter for key, meter in self._meters.items() if key in begun}
        if left := sum(len(futures) for futures in list(begun.values())[drawn:]):
            lines.append(Text(f"and {left:,} more", style="dim"))
        return lines

    def _row(self, key: Hashable, futures: list[TransferFuture], width: int, now: float) -> list[RenderableType]:
        future = futures[0]
        what = _what(future, len(futures), _room(width))
        status = future.told()
        if status is None:
            # It is in the hands of Parsl, and has not begun, or not in this process.
            return [_line(width, what, "launched", style="dim")]
        with self._lock:
            self._count(status)
        speed = self._meters.setdefault(key, Meter()).speed(status.bytes_done, now)
        state = status.state.value if status.handle.task_id else "waiting"
        troubled = status.state is TaskState.PAUSED or status.faults > 0
        style = "yellow" if troubled else "" if status.handle.task_id else "dim"
        done = f"{status.files_done:,}" if status.files_done else ""
        moved = decimal(status.bytes_done) if status.bytes_done else ""
        row: list[RenderableType] = [_line(width, what, state, done, moved, _speed(speed), style=style)]
        faults = f"{status.faults:,} fault{'s' if status.faults > 1 else ''}. " if status.faults else ""
        reason = _reason(f"{faults}{status.reason}")
        return [*row, reason] if reason else row

    def _summary(self, ends: Counter[TaskState], in_flight: int, waiting: int, now: float) -> Text:
        done, canceled = ends[TaskState.SUCCEEDED], ends[TaskState.CANCELED]
        failed = ends.total() - done - canceled
        counts = {"done": done, "failed": failed, "canceled": canceled, "in flight": in_flight, "waiting": waiting}
        said = [f"{count:,} {what}" for what, count in counts.items() if count or what == "done"]
        speed = _speed(self._total.speed(self._bytes, now))
        if self._bytes:
            said.append(decimal(self._bytes))
        if speed and in_flight:
            said.append(speed)
        said.append(str(timedelta(seconds=int(now - self._began))))
        return Text(", ".join(said), style="bold")


class Meter:
    """How fast a number grows."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def speed(self, count: int, now: float) -> float:
        """Return by how much it grows in a second, now that it is ``count``: the mean since `WINDOW` seconds ago."""
        if not self._seen or count != self._seen[-1][1]:
            self._seen.append((now, count))
        while len(self._seen) > 1 and self._seen[1][0] <= now - WINDOW:
            self._seen.popleft()
        began, before = self._seen[0]
        return (count - before) / (now - began) if now > began else 0.0


def _streams() -> list[tuple[TextIO, TextIO]]:
    return [(sys.stdout, sys.__stdout__), (sys.stderr, sys.__stderr__)]  # type: ignore[list-item] # or None: not a tty


def _grouped(live: list[TransferFuture]) -> tuple[InFlight, int]:
    """Return by their task those that have begun, the oldest first, and how many wait for other tasks."""
    begun: InFlight = {}
    waiting = 0
    for future in live:
        if future.task_record["status"].name == "pending":
            waiting += 1
        else:
            begun.setdefault(future.task_handle or _ends(future.request), []).append(future)
    return begun, waiting


def _ends(request: Request | None) -> tuple[str, ...]:
    if request is None:
        return ()
    return (request.endpoint,) if isinstance(request, DeleteRequest) else (request.source, request.destination)


def _paths(request: Request) -> tuple[str, ...]:
    if isinstance(request, DeleteRequest):
        return request.paths[:1]
    return request.items[0].source, request.items[0].destination


def _what(future: TransferFuture, count: int, room: int) -> str:
    """Return in so many characters what a future is about, which stands for ``count`` of the same task."""
    request = future.request
    if request is None:
        return str(future.task_record["func_name"])
    verb = "delete " if isinstance(request, DeleteRequest) else ""
    if count > 1:
        return f"{verb}{' -> '.join(_ends(request))}, {count:,} items"
    return verb + " -> ".join(_fitted(list(zip(_ends(request), _paths(request), strict=True)), room - len(verb)))


def _fitted(places: list[tuple[str, str]], room: int) -> list[str]:
    if len(places) == 1:
        return [_place(*places[0], room)]
    first, second = places
    left = room - len(" -> ")
    # What a short one leaves, the other one has.
    origin = _place(*first, max(left // 2, left - len(":".join(second))))
    return [origin, _place(*second, left - len(origin))]


def _place(endpoint: str, path: str, room: int) -> str:
    """Return a place in so many characters; the end of a path tells more than its beginning."""
    whole = f"{endpoint}:{path}"
    if len(whole) <= room:
        return whole
    start = f"{endpoint}:" if len(endpoint) <= room // 2 + 2 else f"{endpoint[: room // 3]}…:"
    return f"{start}…{path[len(start) + 1 - room :]}"


def _room(width: int) -> int:
    """Return the cells of the first column."""
    return width - sum(WIDTHS.values()) - len(WIDTHS)


def _line(width: int, what: str, *cells: str, style: str = "") -> RenderableType:
    """Return one line of the table; its columns keep their places whatever is in them."""
    line = Table.grid(padding=(0, 1, 0, 0), pad_edge=False)
    line.add_column(width=max(_room(width), 3), no_wrap=True, overflow="ellipsis")
    for name, cells_of_it in WIDTHS.items():
        line.add_column(width=cells_of_it, no_wrap=True, justify="left" if name == "State" else "right")
    texts = [Text(_printable(text), style=style) for text in (what, *cells)]
    line.add_row(*texts, *[""] * (len(WIDTHS) - len(cells)))
    return line


def _reason(reason: str, style: str = "dim") -> Text | None:
    said = _printable(" ".join(reason.split()))
    return Text(f"  {said}", style=style, no_wrap=True, overflow="ellipsis") if said else None


def _own_words(future: TransferFuture) -> str:
    """Return what the error of a future tells, where that is not how its task has ended; empty if it is."""
    error = future.exception()
    if error is None or (future.status().state.final and not isinstance(error, TaskTimeoutError)):
        return ""
    request = future.request
    return str(error).removeprefix(describe(request) if request else "").strip()


def _end_of(future: TransferFuture) -> TaskState:
    """Return how a future has ended; its task may go on for others, or was stopped because its time was up."""
    if future.cancelled():
        return TaskState.CANCELED
    state = future.status().state
    return TaskState.FAILED if _own_words(future) or not state.final else state


def _failure(future: TransferFuture, width: int) -> list[RenderableType]:
    what, reason = _what(future, 1, _room(width)), _own_words(future) or future.status().reason
    lines = [_line(width, what, _end_of(future).value, style="red"), _reason(reason)]
    return [line for line in lines if line is not None]


def _printable(text: str) -> str:
    """Return a text without what would move the cursor: names of files may hold anything."""
    return "".join(char if char.isprintable() else "?" for char in text)


def _speed(speed: float) -> str:
    return f"{decimal(int(speed))}/s" if speed >= 1 else ""
