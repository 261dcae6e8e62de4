"""Threads that are there only while they have something to do, and the time that they go by."""

from __future__ import annotations

import logging
import threading
import time
from datetime import datetime, timezone
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Chore", "Patience", "SystemClock"]

logger = logging.getLogger(__name__)

#: First and longest wait, in seconds, before a question that could not be asked is asked again; it doubles.
FIRST_RETRY, LAST_RETRY = 1.0, 30.0


class SystemClock:
    """The time of this machine."""

    def monotonic(self) -> float:
        """Return seconds that only go forward."""
        return time.monotonic()

    def now(self) -> datetime:
        """Return the time of day, in UTC."""
        return datetime.now(timezone.utc)


class Patience:
    """When to ask again what could not be asked."""

    def __init__(self) -> None:
        self._wait, self.until = FIRST_RETRY, float("-inf")

    def failed(self, now: float) -> None:
        """Wait from now on, twice as long as the last time."""
        self.until, self._wait = now + self._wait, min(2 * self._wait, LAST_RETRY)

    def succeeded(self) -> None:
        """Wait no more."""
        self._wait, self.until = FIRST_RETRY, float("-inf")


class Chore:
    """A thread that is there as long as it has something to do.

    Parameters
    ----------
    name : str
        Its name.
    work : callable
        Does what there is, and returns the seconds until there will be more; None if there is nothing to wait for.
    """

    def __init__(self, name: str, work: Callable[[], float | None]) -> None:
        self._name, self._work = name, work
        self._changed = threading.Condition()
        self._running = self._again = False

    def wake(self) -> None:
        """Have the work done, now or right after what is being done."""
        with self._changed:
            self._again = True
            self._changed.notify()
            if not self._running:
                self._running = True
                threading.Thread(target=self._run, name=self._name, daemon=True).start()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._again = False
            try:
                pause = self._work()
            except Exception:
                # Whatever it was, futures wait for what comes after it.
                logger.exception("%s stumbled and goes on.", self._name)
                pause = FIRST_RETRY
            with self._changed:
                if not self._again and pause is None:
                    self._running = False
                    return
                self._changed.wait_for(lambda: self._again, pause)
