"""Fit the live table to a terminal: columns, shortened locations, and speeds."""

from __future__ import annotations

from collections import deque

from rich.cells import set_cell_size
from rich.filesize import decimal
from rich.text import Text

from chiltepin.errors import printable

__all__ = ["COLUMNS", "WIDEST", "RateMeter", "TableLayout", "location", "rate"]

#: Seconds over which a speed is averaged, because a service reports its progress in steps.
WINDOW = 10.0

#: Widths in cells of the columns after the first, which gets the rest of the line: at least `LEAST` cells, for which
#: columns are dropped from the right. `WIDEST` is the longest line.
COLUMNS = {"State": 9, "Bytes": 8, "Files": 7, "Speed": 10}
LEAST, WIDEST = 40, 120


class RateMeter:
    """The speed at which a number grows."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def speed(self, count: int, now: float) -> float:
        """Record ``count``, and return the growth per second, averaged over the last `WINDOW` seconds."""
        if not self._seen or count != self._seen[-1][1]:
            self._seen.append((now, count))
        while len(self._seen) > 1 and self._seen[1][0] <= now - WINDOW:
            self._seen.popleft()
        began, before = self._seen[0]
        ended = self._seen[-1][0]
        if len(self._seen) == 1 or now - ended > ended - self._seen[-2][0]:
            # The next step is late: the task has become slower, or has stopped.
            ended = now
        return (count - before) / (ended - began) if ended > began else 0.0


class TableLayout:
    """The lines of a table that is ``width`` cells wide, with columns of fixed widths."""

    def __init__(self, width: int) -> None:
        self._widths = list(COLUMNS.values())
        while len(self._widths) > 1 and self._left(width) < LEAST:
            self._widths.pop()
        #: Width of the first column, in cells.
        self.room = max(self._left(width), 1)

    def _left(self, width: int) -> int:
        return width - sum(self._widths) - len(self._widths)

    def line(self, what: str, state: str, *numbers: str, style: str = "") -> Text:
        """Return a line; numbers are right-aligned, and those without a column are omitted."""
        cells = [set_cell_size(printable(what), self.room), state.ljust(self._widths[0])]
        cells += [number.rjust(width) for number, width in zip(numbers, self._widths[1:], strict=False)]
        return Text(" ".join(cells), style=style, no_wrap=True, overflow="crop")


def location(endpoint: str, path: str, room: int) -> str:
    """Return a location in at most ``room`` characters; the end of a long path is kept."""
    whole = f"{endpoint}:{path}"
    if len(whole) <= room:
        return whole
    start = f"{endpoint}:" if len(endpoint) <= room // 2 + 2 else f"{endpoint[: room // 3]}…:"
    return f"{start}…{path[len(start) + 1 - room :]}"


def rate(speed: float) -> str:
    """Return a speed, in bytes a second, as text; empty below 1."""
    return f"{decimal(int(speed))}/s" if speed >= 1 else ""
