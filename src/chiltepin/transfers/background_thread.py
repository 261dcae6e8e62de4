"""Threads that exist only while they have work, and their clock."""

from __future__ import annotations

import logging
import threading
import time
from datetime import datetime, timezone
from functools import partial
from typing import TYPE_CHECKING

from chiltepin.backends import threads
from chiltepin.transfers import policy

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["BackgroundThread", "SystemClock"]

logger = logging.getLogger(__name__)


class SystemClock:
    """The clock of this machine."""

    #: Return seconds of a monotonic clock.
    monotonic = staticmethod(time.monotonic)

    #: Return the time of day, in UTC.
    now = staticmethod(partial(datetime.now, timezone.utc))

    @staticmethod
    def later(seconds: float, operation: Callable[[], None]) -> Callable[[], None]:
        """Call a function after some time, on a new thread; return a function that prevents it.

        If no thread can be started, raise a BackendError.
        """
        timer = threading.Timer(seconds, operation)
        timer.daemon = True
        threads.begin(timer)
        return timer.cancel


class BackgroundThread:
    """A thread that runs while there is work.

    ``work`` does the work that is due, and returns the seconds until more is due, or None.
    """

    def __init__(self, name: str, work: Callable[[], float | None]) -> None:
        self._name, self._work = name, work
        self.reset()

    def reset(self) -> None:
        """Start without a thread, as in a child process made by ``fork``."""
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._again = False

    def wake(self) -> None:
        """Do the work now, or right after the current work; raise a BackendError if no thread can be started."""
        with self._changed:
            self._again = True
            self._changed.notify()
            self.ensure_running()

    def ensure_running(self) -> None:
        """Start the thread if it is not running; raise the errors of `wake`."""
        with self._changed:
            if self._thread is None or not self._thread.is_alive():
                self._thread = threads.start(self._run, name=self._name)

    def _run(self) -> None:
        me = threading.current_thread()
        pause: float | None = 0.0
        while self._is_due(me, pause):
            try:
                pause = self._work()
            except BaseException:  # noqa: PERF203
                # Continue after any error: futures wait for the remaining work.
                logger.exception("%s failed and continues.", self._name)
                pause = policy.wait_times.RETRY_MIN

    def _is_due(self, me: threading.Thread, pause: float | None) -> bool:
        """Wait until there is more work; return False if there is none, or if another thread does it."""
        with self._changed:
            if self._thread is me and (self._again or pause is not None):
                self._changed.wait_for(lambda: self._again, pause)
            # In a child process, the thread that forked must not continue this work.
            if self._thread is not me:
                return False
            if not self._again and pause is None:
                self._thread = None
                return False
            self._again = False
            return True
