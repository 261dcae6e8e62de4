"""The threads that run tasks.

Copying small files between local folders consists of short system calls, and with each of them Python passes its lock
to another thread: with a thread for each task, 1,000 transfers of 4 KiB took twice as long as with one thread for all
of them (benchmarks/README.md). So there is one thread as long as tasks are short. A task that has waited for some
milliseconds gets another one, so that it does not wait for a long task, or for a disk that hangs. A task gets more
threads as long as it waits more than it computes (`thread_count`).
"""

from __future__ import annotations

import threading
import time
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING

from chiltepin.backends import threads
from chiltepin.errors import BackendError

if TYPE_CHECKING:
    from collections.abc import Callable

    from chiltepin.backends.filesystem.mover.task import TaskRun

__all__ = ["MoverThreads"]

#: Seconds that a task waits for a thread before a new one is started.
THREAD_WAIT = 0.02

#: Seconds for which an idle thread waits for the next task: starting a thread costs a tenth of a small task.
LINGER = 0.5

#: Maximum additional threads for all tasks of a backend: twice what one task on the widest store uses.
MOST_THREADS = 128

_NAME = "chiltepin-mover"


class MoverThreads:
    """Threads that start and end with the tasks; the last one waits a little for more."""

    def __init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        """Start with no tasks and no threads, as in a process made by ``fork``."""
        #: Tasks without a thread.
        self.waiting: deque[tuple[float, TaskRun, Callable[[TaskRun], None]]] = deque()
        self._threads: set[threading.Thread] = set()
        self._lent = 0
        # Reentrant: a finalizer may submit a task while this thread holds it.
        self._lock = threading.RLock()
        self._taken, self._lingers = threading.Condition(self._lock), False

    def put(self, run: TaskRun, operation: Callable[[TaskRun], None]) -> None:
        """Run a task as soon as a thread is free; a BackendError if no thread is free and none can be started."""
        task = (time.monotonic(), run, operation)
        with self._lock:
            self.waiting.append(task)
            if self._lingers:
                self._taken.notify()
                return
            try:
                if not any(thread.is_alive() for thread in self._threads.copy()):
                    self._start_mover()
            except BaseException:
                self.waiting.remove(task)
                raise

    def add_if_starved(self) -> None:
        """Start a thread if a task has been waiting for too long; called when a task is waited for or polled."""
        # Without the lock: a signal handler that interrupts this may wait for a thread that needs it.
        with suppress(IndexError, BackendError):
            if time.monotonic() - self.waiting[0][0] >= THREAD_WAIT:
                # If no thread can be started, the task waits for an existing one.
                self._start_mover()

    def start_thread(self, operation: Callable[[], None]) -> bool:
        """Start a thread for an operation of a task; False if the limit is reached, or no thread can be started."""
        with self._lock:
            if self._lent >= MOST_THREADS:
                return False
            try:
                threads.start(self._return, operation, name=_NAME)
            except BackendError:
                return False
            self._lent += 1
            return True

    def _return(self, operation: Callable[[], None]) -> None:
        try:
            operation()
        finally:
            with self._lock:
                self._lent -= 1

    def _start_mover(self) -> None:
        thread = threading.Thread(target=self._move, name=_NAME, daemon=True)
        # Before it starts, because it removes itself at its end.
        self._threads.add(thread)
        try:
            threads.begin(thread)
        except BaseException:
            self._threads.discard(thread)
            raise

    def _move(self) -> None:
        while (task := self._next()) is not None:
            _, run, operation = task
            run.perform(operation)
            # Do not keep a task in memory until the next one arrives.
            del task, run, operation

    def _next(self) -> tuple[float, TaskRun, Callable[[TaskRun], None]] | None:
        """Return the task that has waited longest, or None to end."""
        with self._lock:
            if not self.waiting and not self._lingers:
                self._lingers = True
                try:
                    self._taken.wait_for(lambda: self.waiting, LINGER)
                finally:
                    self._lingers = False
            if self.waiting:
                return self.waiting.popleft()
            self._threads.discard(threading.current_thread())
            return None
