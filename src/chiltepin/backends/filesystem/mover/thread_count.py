"""The threads that work together on one task.

One thread is the fastest on a local disk, where system calls are short and Python's lock changes hands with each of
them. On a disk with latency, on S3 or SFTP, threads wait most of the time, and many of them are faster. Which applies
cannot be known beforehand. So a pool begins with the thread of its task, measures now and then how much of the time its
threads compute, and adds threads as long as they mostly wait.
"""

from __future__ import annotations

import math
import os
import threading
import time
from functools import partial
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Protocol

    from typing_extensions import Self

    class Office(Protocol):
        """A source of threads."""

        def start_thread(self, operation: Callable[[], None]) -> bool:
            """Start a thread for an operation; False if the maximum number of threads is running."""
            ...


__all__ = ["AdaptivePool", "TaskGroup", "processors"]

#: Seconds between two measurements of the threads: long enough that their cost, some 15 microseconds for each thread,
#: does not matter, and short enough that 10,000 small files do not end before the first.
LOOK = 0.02

#: Seconds after which an idle thread ends.
IDLE = 2.0

#: If the threads together compute less than LOW processors, threads are added; above HIGH, one is removed.
LOW, HIGH = 0.6, 1.05

#: Seconds of computing in one operation from which on it is mostly system calls that run beside each other (a part of a
#: large file, a hash), not Python, of which only one thread runs at a time.
LONG = 0.002


class AdaptivePool:
    """As many threads, up to ``width``, as the stores of one task can use; the first one creates the operations.

    Short operations get at least ``least`` threads: if the server is on this machine, its processor time hides how much
    of the time such operations wait for an answer.
    """

    def __init__(self, office: Office, *, width: int = 1, least: int = 1) -> None:
        self._office, self._width, self._least = office, width, min(least, width)
        self._deeds: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._lock = threading.Lock()
        # Idle threads for which no operation is queued: the queue never contains more operations than idle threads.
        self._idle = 0
        self._surplus = 0
        self._threads: set[int] = set()
        self._offered, self._next_look = 0, 0.0
        self._last = (0.0, 0.0, 0.0, 0)

    def offer(self, operation: Callable[[], None]) -> bool:
        """Have an idle thread run an operation, which has to handle its errors (`TaskGroup` does).

        Return False if no thread is idle. The caller then runs it itself: without a queue, memory is bounded.
        """
        if not self._idle and not self.free():
            return False
        with self._lock:
            if not self._idle:
                return False
            self._idle -= 1
            self._deeds.put(operation)
        return True

    def free(self) -> bool:
        """Whether a thread is probably idle, without waiting; adjusts the number of threads now and then."""
        if self._width == 1:
            return False
        self._offered += 1
        if not self._idle and time.monotonic() >= self._next_look:
            self._look()
        return self._idle > 0

    def all(self, operations: Iterable[Callable[[], None]]) -> None:
        """Run all operations, with idle threads; when all have ended, return or raise the first error.

        They start in order. After an error no other operation starts.
        """
        with TaskGroup(self) as group:
            group.each(operations)

    def begins(self) -> bool:
        """Count an operation that a thread takes by itself; False if this thread must end as surplus."""
        self._offered += 1
        return not self._surplus

    def close(self) -> None:
        """End the threads; to be called when no operation is running."""
        with self._lock:
            self._width = 1
            for _ in range(self._idle):
                self._deeds.put(None)
            self._idle = 0

    def _look(self) -> None:
        """Measure how much the threads have computed since the last time, and add or remove threads."""
        with self._lock:
            now = time.monotonic()
            if now < self._next_look:
                return
            if not self._threads:
                self._threads.add(threading.get_native_id())
            before, after = self._last, (now, *_times(self._threads), self._offered)
            self._last, self._next_look = after, now + LOOK
            if before[0]:
                more = self._wanted(*(new - old for new, old in zip(after, before, strict=True))) - len(self._threads)
                self._surplus = max(0, -more)
            else:
                more = 0
        for _ in range(more):
            if not self._office.start_thread(self._serve):
                break
        # A thread that starts or ends changes the sum, so the next measurement only starts a new interval.
        if more:
            self._last = (0.0, 0.0, 0.0, 0)

    def _wanted(self, wall: float, running: float, queued: float, operations: float) -> int:
        """Return how many threads would keep the processor busy, estimated from the present ones."""
        count, load = len(self._threads), max((running + queued) / wall, 0.001)
        room, least = (processors(), 1) if running > operations * LONG else (1, self._least)
        if load > HIGH * room:
            count -= 1
        elif load < LOW * room:
            count = math.ceil(count * room / load)
        return min(self._width, max(least, count))

    def _serve(self) -> None:
        """Run operations until the thread has been idle for some time."""
        me = threading.get_native_id()
        with self._lock:
            if self._width == 1:
                return
            self._threads.add(me)
            self._idle += 1
        try:
            while (operation := self._next()) is not None:
                operation()
                with self._lock:
                    if self._width == 1 or self._surplus:
                        self._surplus = max(0, self._surplus - 1)
                        return
                    self._idle += 1
        finally:
            with self._lock:
                self._threads.discard(me)
                self._last = (0.0, 0.0, 0.0, 0)

    def _next(self) -> Callable[[], None] | None:
        try:
            return self._deeds.get(timeout=IDLE)
        except Empty:
            pass
        with self._lock:
            # Another thread may just have queued an operation for this one.
            if not self._deeds.empty() or not self._idle:
                return self._deeds.get()
            self._idle -= 1
        return None


class _Shared:
    """An iterator that several threads may use."""

    def __init__(self, operations: Iterable[Callable[[], None]]) -> None:
        self._operations, self._lock = iter(operations), threading.Lock()
        #: Whether a thread found that all have started.
        self.ended = False

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Callable[[], None]:
        with self._lock:
            for operation in self._operations:
                return operation
            self.ended = True
        raise StopIteration


class TaskGroup:
    """Operations that are awaited together at the end of the ``with``, which raises their first error."""

    def __init__(self, pool: AdaptivePool) -> None:
        self._pool = pool
        self._under_way = 0
        self._changed = threading.Condition(threading.Lock())
        self._error: BaseException | None = None

    @property
    def failed(self) -> bool:
        """Whether an operation of another thread has ended with an error."""
        return self._error is not None

    def free(self) -> bool:
        """Whether a thread is idle; see `AdaptivePool.free`."""
        return self._pool.free()

    def offer(self, operation: Callable[[], None]) -> bool:
        """Have an idle thread run an operation; see `AdaptivePool.offer`."""
        with self._changed:
            self._under_way += 1
        handed = False
        try:
            handed = self._pool.offer(partial(self._do, operation))
        finally:
            if not handed:
                self._end()
        return handed

    def each(self, operations: Iterable[Callable[[], None]]) -> None:
        """Run all operations with the idle threads; return when all have started.

        A helping thread takes one after the other by itself: handing each one to an idle thread costs more than copying
        a small object.
        """
        shared = _Shared(operations)
        while (operation := self._next(shared)) is not None:
            # A thread that found nothing more is idle again at once, and would be offered the same operation endlessly.
            while not shared.ended and self.offer(partial(self._help, shared)):
                pass
            operation()

    def _help(self, operations: _Shared) -> None:
        while self._pool.begins() and (operation := self._next(operations)) is not None:
            operation()

    def _next(self, operations: _Shared) -> Callable[[], None] | None:
        """Return the next operation, which then must be run; None after the last one, or after an error."""
        return None if self.failed else next(operations, None)

    def _do(self, operation: Callable[[], None]) -> None:
        try:
            operation()
        except BaseException as err:  # noqa: BLE001 - it is raised where the operations are waited for
            self._error = self._error or err
        finally:
            self._end()

    def _end(self) -> None:
        with self._changed:
            self._under_way -= 1
            if not self._under_way:
                self._changed.notify_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        with self._changed:
            while self._under_way:
                self._changed.wait()
        if error is None and self._error is not None:
            raise self._error


def processors() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _times(threads: Iterable[int]) -> tuple[float, float]:
    """Return the seconds for which our threads computed, and those for which they waited for a processor.

    More threads cannot use the time in which threads wait for a processor. The kernel reports both (Linux,
    Documentation/scheduler/sched-stats.rst, "/proc/<pid>/schedstat"). On other systems the time of the whole process is
    used, which gives fewer threads rather than more.
    """
    totals = [0, 0]
    for thread in threads:
        try:
            with open(f"/proc/self/task/{thread}/schedstat", "rb") as file:
                running, queued, _ = file.read().split()
        except OSError:  # noqa: PERF203 - a thread may have ended, or this process may not see its own (setuid)
            if not os.access("/proc/self/schedstat", os.R_OK):
                return time.process_time(), 0.0
        else:
            totals[0] += int(running)
            totals[1] += int(queued)
    return totals[0] / 1e9, totals[1] / 1e9
