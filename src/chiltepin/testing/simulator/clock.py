"""The clocks of the simulator."""

from __future__ import annotations

import threading
import time
from datetime import datetime, timezone
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Clock", "ManualClock", "RunningClock", "utc"]

#: The default start of a `ManualClock`.
START = datetime(2026, 1, 1, 12, tzinfo=timezone.utc)


def utc(seconds: float) -> datetime:
    """Return an instant, given in seconds since 1970, in UTC."""
    return datetime.fromtimestamp(seconds, tz=timezone.utc)


class ManualClock:
    """A clock that stands still until a test advances it; ``start`` must be an aware datetime."""

    def __init__(self, start: datetime = START) -> None:
        self._time = start.timestamp()
        self._workers: list[Callable[[], None]] = []
        self._moving = threading.Lock()

    def time(self) -> float:
        """Return the seconds since 1970 UTC."""
        return self._time

    def now(self) -> datetime:
        """Return the time in UTC."""
        return utc(self._time)

    def advance(self, seconds: float = 0) -> None:
        """Advance the time, and do all work that is due by then; 0 seconds does the work that is due now.

        Raises
        ------
        ValueError
            If ``seconds`` is negative.
        """
        if seconds < 0:
            raise ValueError(f"A clock cannot go back by {-seconds} seconds; give a number from 0.")
        with self._moving:
            self._time += seconds
            for worker in list(self._workers):
                worker()

    def linger(self, seconds: float) -> None:
        """Advance the time instead of waiting; see `advance`."""
        self.advance(seconds)

    def attach(self, worker: Callable[[], None]) -> None:
        """Call ``worker`` each time the clock has moved."""
        self._workers.append(worker)

    def detach(self, worker: Callable[[], None]) -> None:
        """Undo `attach`."""
        self._workers.remove(worker)


class RunningClock:
    """A clock that runs ``speed`` times as fast as real time."""

    def __init__(self, speed: float = 1.0) -> None:
        if speed <= 0:
            raise ValueError(f"A clock cannot run at speed {speed}; give a positive number.")
        self.speed = speed
        self._start, self._ticks = time.time(), time.monotonic()

    def time(self) -> float:
        """Return the seconds since 1970 UTC."""
        return self._start + (time.monotonic() - self._ticks) * self.speed

    def now(self) -> datetime:
        """Return the time in UTC."""
        return utc(self.time())

    def linger(self, seconds: float) -> None:
        """Wait for this many seconds of the clock."""
        time.sleep(seconds / self.speed)


#: A clock of the simulator.
Clock = ManualClock | RunningClock
