"""A running task: its progress, its failures, and when it must stop."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING

from chiltepin.backends.filesystem.errors import FATAL_CODES, Fault, fault_of
from chiltepin.model import SKIPPED_KEPT, TaskHandle, TaskState, TaskStatus
from chiltepin.protocol import ShardOutcome
from chiltepin.protocol.paths import joined

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from chiltepin.backends.filesystem.location import Location
    from chiltepin.backends.filesystem.mover.shard import ShardRun
    from chiltepin.backends.filesystem.mover.thread_count import AdaptivePool
    from chiltepin.model import Request

__all__ = ["Cancelled", "TaskRun"]

#: Failures that are described one by one; further failures are only counted.
TOLD = 3


class _Over(threading.Event):
    """The event of all ended tasks: an event for each takes 1 KB, and the backend remembers ten thousand tasks.

    It does not use its lock, which another thread may hold when this process forks.
    """

    def is_set(self) -> bool:
        return True

    def set(self) -> None:
        pass

    def wait(self, timeout: float | None = None) -> bool:
        del timeout
        return True


_OVER = _Over()


class Cancelled(BaseException):
    """The task must end now, done or not. Not an ``Exception``, so that no handler catches it."""


class TaskRun:
    """The state of one task, written by its threads and read by `poll`.

    ``make_pool`` makes the pool of threads when it is first needed. ``wait`` waits for an event, or some seconds.
    ``shard`` is the part of the request to do; None: all of it.
    """

    def __init__(
        self,
        request: Request,
        handle: TaskHandle,
        make_pool: Callable[[], AdaptivePool],
        wait: Callable[[threading.Event, float], object],
        shard: ShardRun | None = None,
    ) -> None:
        self.shard = shard
        self.request, self.handle, self._make_pool, self._wait = request, handle, make_pool, wait
        self.bytes_done = self.files_done = self.files_skipped = self.faults = self.failures = 0
        self.bytes_moving = 0
        self._state = TaskState.ACTIVE
        self._told: list[Fault] = []
        self._skipped: list[str] = []
        # Reentrant: a signal handler may ask for the status, too.
        self._lock = threading.RLock()
        self._deadline = request.deadline.timestamp() if request.deadline else float("inf")
        self._cancelled = self._fatal = False
        # Set when nothing more may be started; it ends the waits of threads.
        self._stopping = threading.Event()
        #: Set when the outcome is known.
        self.ended = threading.Event()
        #: Called for each file that has arrived, with its endpoints and paths at the source and the destination.
        self.witness: Callable[[tuple[str, str], tuple[str, str]], object] | None = None

    @cached_property
    def pool(self) -> AdaptivePool:
        """The threads that may help; created when the thread of the task first needs them."""
        return self._make_pool()

    def cancel(self) -> None:
        """Ask the threads to stop at their next block or file."""
        # A signal handler may cancel it again, and must not wait for the lock of the event.
        if not self._cancelled:
            self._cancelled = True
            self._stopping.set()

    def check(self) -> None:
        """Raise `Cancelled` if the task must stop; to be called at least once for each block and each entry."""
        if self._stopping.is_set() or time.time() >= self._deadline:
            raise Cancelled

    def pause(self, seconds: float) -> None:
        """Wait; raise `Cancelled` if the task must stop."""
        self._wait(self._stopping, max(0.0, min(seconds, self._deadline - time.time())))
        self.check()

    def count(self, *, files: int = 0, size: int = 0, moving: int = 0, skipped: int = 0, faults: int = 0) -> None:
        """Add to the progress, exactly, from any thread.

        ``moving`` counts bytes of incomplete files; it is negative when they are complete, or were given up.
        """
        with self._lock:
            self.files_done += files
            self.bytes_done += size
            self.bytes_moving += moving
            self.files_skipped += skipped
            self.faults += faults

    def skip(self, path: str) -> None:
        """Record a path of the source that was skipped because it cannot be read."""
        with self._lock:
            self.files_skipped += 1
            if len(self._skipped) < SKIPPED_KEPT:
                self._skipped.append(path)

    def arrived(self, origin: Location, goal: Location, *names: str) -> None:
        """Report a complete file to the witness, if there is one; ``names`` lead to it on both sides."""
        if self.witness is not None:
            self.witness(
                (origin.endpoint, joined((*origin.parts, *names))), (goal.endpoint, joined((*goal.parts, *names)))
            )

    @contextmanager
    def moving(self) -> Iterator[Callable[[int], None]]:
        """Count the bytes of an incomplete file: return a function to call with them, from any thread.

        It raises `Cancelled` if the task must stop. At the end the bytes no longer count as incomplete, arrived or not.
        """
        counts: list[int] = []

        def passed(count: int) -> None:
            self.check()
            counts.append(count)
            self.count(moving=count)

        try:
            yield passed
        finally:
            self.count(moving=-sum(counts))

    def fail(self, error: Exception, what: str) -> None:
        """Record a file or folder that failed; the caller continues with the next.

        If the next would fail as well, for example because the disk is full, raise `Cancelled`.
        """
        fault = fault_of(error, what)
        with self._lock:
            self.faults += 1
            self.failures += 1
            if len(self._told) < TOLD:
                self._told.append(fault)
        if fault.code in FATAL_CODES:
            self._fatal = True
            self._stopping.set()
            raise Cancelled

    def perform(self, operation: Callable[[TaskRun], None]) -> None:
        """Do the work and record its outcome."""
        state = TaskState.FAILED
        try:
            self.check()
            operation(self)
            state = TaskState.FAILED if self.failures else TaskState.SUCCEEDED
        except Cancelled:
            expired = time.time() >= self._deadline
            if self._cancelled or expired:
                state = TaskState.CANCELED if self._cancelled else TaskState.EXPIRED
                self._told = [Fault(state.name, f"The task was {state.value} before it was done.")]
                self.failures = min(self.failures, 1)
        except BaseException as err:  # noqa: BLE001 - every failure after submit is a state (chiltepin.protocol)
            # Including exceptions that end a thread elsewhere, such as SystemExit from a store's code.
            self.faults += 1
            self._told = [fault_of(err, "The task could not continue")]
            self.failures = 1
        finally:
            if "pool" in vars(self):
                self.pool.close()
            self._state = state
            self.ended.set()
            self.ended = self._stopping = _OVER

    @property
    def status(self) -> TaskStatus:
        """The current status."""
        # First: `perform` sets it last.
        state = self._state
        with self._lock:
            told, failures = list(self._told), self.failures
        reasons = [fault.reason for fault in told]
        if failures > len(told):
            reasons.append(f"{failures - len(told)} more failed.")
        return TaskStatus(
            handle=self.handle,
            state=state,
            code=told[0].code if told else "",
            reason=" ".join(reasons),
            bytes_done=self.bytes_done,
            bytes_moving=self.bytes_moving,
            files_done=self.files_done,
            files_skipped=self.files_skipped,
            skipped_paths=tuple(self._skipped),
            faults=self.faults,
        )

    @property
    def shard_outcome(self) -> ShardOutcome:
        """The outcome of a shard."""
        shard = self.shard
        if shard is None:
            return ShardOutcome(status=self.status)
        return ShardOutcome(
            status=self.status,
            failures=tuple((fault.code, fault.reason) for fault in self._told),
            failed=self.failures,
            fatal=self._fatal,
            rest=tuple(shard.rest),
            # The last step was given all of it.
            listed={} if shard.shard.last else shard.listed,
            seconds=time.monotonic() - shard.began,
        )
