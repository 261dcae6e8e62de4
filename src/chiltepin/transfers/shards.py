"""Distribute the parts of a recursive request to workers, and combine their outcomes into one task.

The first shard is the whole tree. After some time, a worker returns the folders that it has not begun, which
become shards for the other workers. The caller sends each shard to a worker, through Parsl (`chiltepin.parsl.shards`)
or in a process of this machine (`chiltepin.transfers.worker_processes`).
"""

from __future__ import annotations

import threading
from collections import deque
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeGuard

from chiltepin.errors import BackendError, TaskCanceledError, TaskError, TaskLostError, TaskTimeoutError
from chiltepin.model import DeleteRequest, TaskHandle, TaskState, TaskStatus, items_of
from chiltepin.protocol import Shard, ShardingBackend, ShardOutcome
from chiltepin.transfers import policy
from chiltepin.transfers.attempts import Attempts
from chiltepin.transfers.background_thread import SystemClock
from chiltepin.transfers.callbacks import CallbackFuture
from chiltepin.transfers.outcomes import describe, error_from_status, status_from_error, untold_error, with_host
from chiltepin.transfers.shard_queue import ShardQueue
from chiltepin.transfers.status_sums import added, at_least
from chiltepin.transfers.timeouts import timeout_error

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from chiltepin.model import Request
    from chiltepin.protocol import TransferBackend
    from chiltepin.transfers.journal.unfinished import UnfinishedRecord
    from chiltepin.transfers.recorder import TaskLog

__all__ = ["RunningShard", "ShardedTask", "can_share"]

#: Failures that are described one by one; the rest are counted.
TOLD = 3


def can_share(backend: TransferBackend, request: Request) -> TypeGuard[ShardingBackend]:
    """Whether several workers can share a request: a folder, or a large file."""
    if isinstance(request, DeleteRequest) and (request.globs or not request.recursive):
        return False
    return isinstance(backend, ShardingBackend) and len(items_of(request)) == 1


class RunningShard(Protocol):
    """A shard that waits for a worker, or runs on one."""

    @property
    def future(self) -> Future[ShardOutcome]:
        """Ends with the outcome, or with `TaskLostError` if the worker is lost and the shard may be repeated."""
        ...

    def status(self) -> TaskStatus | None:
        """Return its last known status; None if there is none."""
        ...

    def stop(self) -> None:
        """Request that it stop, even if it has not begun; return at once."""
        ...

    def give_up(self) -> None:
        """Stop it without waiting for its worker; a worker that begins it later does nothing."""
        ...


class ShardedTask:
    """One request that several workers share.

    Parameters
    ----------
    request : TransferRequest or DeleteRequest
        The request.
    handle : TaskHandle
        The handle of the task as a whole.
    workers : int
        Maximum number of shards at a time.
    timeout : float
        Seconds that it may take once the first worker has begun.
    start : callable
        Starts a shard of a request, with the seconds that it may take.
    task_log : TaskLog
        The record for users.
    unfinished : UnfinishedRecord
        The record for the next process, if this one is killed.
    raises : bool
        Whether the future ends with the error of a task that did not succeed, and not with its status.
    retries : int
        How often a shard is given to another worker after its own was lost.
    clock : object
        Has ``monotonic()`` and ``later()``.

    Attributes
    ----------
    future : Future of TaskStatus
        Ends with the final status, or with an error.
    """

    def __init__(
        self,
        request: Request,
        handle: TaskHandle,
        *,
        workers: int,
        timeout: float,
        start: Callable[[Request, Shard, float], RunningShard],
        task_log: TaskLog,
        unfinished: UnfinishedRecord,
        raises: bool = True,
        retries: int = policy.limits.SHARD_RETRIES,
        clock: SystemClock | None = None,
    ) -> None:
        self._request, self._workers, self._timeout = request, workers, timeout
        self._start, self._task_log, self._raises, self._retries = start, task_log, raises, retries
        self._unfinished, self._resumed = unfinished, False
        self._clock = clock or SystemClock()
        self._attempts = Attempts()
        self.future: CallbackFuture[TaskStatus] = CallbackFuture()
        # Parsl assumes that a future that can be canceled may never end.
        self.future.set_running_or_notify_cancel()
        # Guards the attributes below; reentrant, for a signal handler.
        # Shards are stored with the number of workers that they have lost.
        self._lock = threading.RLock()
        self._queue = ShardQueue(workers)
        self._running: set[RunningShard] = set()
        self._ended: deque[tuple[Shard, int, Future[ShardOutcome]]] = deque()
        self._live, self._advancing, self._concluded = 0, False, False
        self._began: float | None = None
        self._last_is_begun = self._timed = False
        #: The outcome, if it is decided before all shards have ended: a state, or an error.
        self._end: TaskState | BaseException | None = None
        # The sum of the shards that have ended, and the last reported status.
        self._sum = self._last = TaskStatus(handle=handle, state=TaskState.ACTIVE)
        self._listed: dict[int, int] = {}
        self._told: list[tuple[str, str]] = []
        self._failed = 0

    def begin(self) -> ShardedTask:
        """Start the first shard."""
        self._resumed = self._unfinished.begin()
        self._advance()
        return self

    def status(self) -> TaskStatus:
        """Return the progress of the shards; it only grows, even if a worker and its results are lost."""
        total = self._total()
        with self._lock:
            if not self._concluded:
                self._last = at_least(total, self._last)
            return self._last

    def _total(self) -> TaskStatus:
        with self._lock:
            total, running = replace(self._sum, bytes_moving=self._queue.moving), list(self._running)
        for status in filter(None, (shard.status() for shard in running)):
            total = added(total, status)
        return total

    def stop(self) -> None:
        """Ask all workers to stop; the future ends when they have, or after some seconds."""
        self._stop(TaskState.CANCELED)

    def _stop(self, end: TaskState | BaseException) -> None:
        with self._lock:
            if self._end is not None:
                return
            self._end = end
            running, live = list(self._running), self._live
        # A shard that is just being started is stopped in `_launch`.
        if live:
            self._later(policy.wait_times.STOP_GRACE, self._give_up)
        for shard in running:
            shard.stop()
        self._advance()

    def _later(self, seconds: float, operation: Callable[[], None]) -> None:
        """Run a function after some time, unless the task has ended."""
        # If no thread can be started, the task waits for its workers.
        with suppress(BackendError):
            prevent = self._clock.later(seconds, operation)
            self.future.add_done_callback(lambda _: prevent())

    def _give_up(self) -> None:
        """End although a worker has not responded."""
        if self._end in (TaskState.CANCELED, TaskState.EXPIRED):
            what = describe(self._request)
            self._conclude(TaskCanceledError(f"{what} was asked to stop and has not stopped yet."))
        else:
            self._finish()

    def _advance(self) -> None:
        """Process ended shards and start new ones; one thread at a time."""
        with self._lock:
            if self._advancing:
                return
            self._advancing = True
        try:
            while self._step():
                pass
        except BaseException as err:  # noqa: BLE001 - the future must end
            self._conclude(err)

    def _step(self) -> bool:
        """Do one step; return False if there is nothing to do now."""
        with self._lock:
            if self._ended:
                ended = self._ended.popleft()
                self._live -= 1
            else:
                ended = None
                taken = self._take()
                finished = taken is None and not self._live
                self._advancing = taken is not None
        if ended is not None:
            self._count(*ended)
        elif taken is not None:
            self._launch(*taken)
        elif finished:
            self._finish()
        return ended is not None or taken is not None

    def _take(self) -> tuple[Shard, int] | None:
        """Return the next shard, if there is one and a worker for it; the caller holds the lock."""
        if self._live >= self._workers:
            return None
        if self._end is not None:
            # Only when no worker writes to the file anymore.
            removal = self._queue.removal() if not self._live else None
            taken = None if removal is None else (removal, self._retries)
        else:
            taken = self._queue.next() or self._last_step()
        if taken is not None:
            self._live += 1
        return taken

    def _last_step(self) -> tuple[Shard, int] | None:
        if self._live or self._last_is_begun or not self._needs_last():
            return None
        self._last_is_begun = True
        return Shard(last=True, listed=self._listed), 0

    def _needs_last(self) -> bool:
        if isinstance(self._request, DeleteRequest):
            return self._queue.given_back
        return self._request.delete_destination_extra and not self._failed

    def _launch(self, shard: Shard, losses: int) -> None:
        request, left = self._request, self._timeout
        if isinstance(request, DeleteRequest) and (losses or self._queue.given_back):
            # Other workers, or one that was lost, may have removed entries in the meantime.
            request = replace(request, ignore_missing=True)
        if self._began is not None:
            left -= self._clock.monotonic() - self._began
        removal = shard.range is not None and shard.range.step == "remove"
        if removal:
            left = policy.wait_times.STOP_GRACE
        if left <= 0:
            self._refuse(shard, timeout_error(self._request, self._timeout))
            return
        if self._began is not None and not self._timed:
            # A timer, because a shard may wait for a worker that has other tasks.
            self._timed = True
            self._later(left, partial(self._stop, timeout_error(self._request, self._timeout)))
        try:
            facts = replace(shard, resumed=self._resumed, range_size=policy.limits.SHARD_RANGE)
            shard = self._attempts.begin(facts)
            running = self._start(request, shard, left)
        except Exception as err:  # noqa: BLE001 - the other workers must stop
            self._refuse(shard, err)
            return
        with self._lock:
            self._running.add(running)
            stopped = self._end is not None
        if stopped and removal:
            # Its worker may never be free.
            self._later(policy.wait_times.STOP_GRACE, self._give_up)
        elif stopped:
            running.stop()
        running.future.add_done_callback(partial(self._has_ended, running, shard, losses))

    def _refuse(self, shard: Shard, error: Exception) -> None:
        """End because a shard cannot be started."""
        with self._lock:
            self._live -= 1
            self._queue.ended(shard.range, done=False)
        self._stop(error)

    def _has_ended(self, running: RunningShard, shard: Shard, losses: int, future: Future[ShardOutcome]) -> None:
        with self._lock:
            self._running.discard(running)
            if self._concluded:
                return
            self._ended.append((shard, losses, future))
        self._advance()

    def _count(self, shard: Shard, losses: int, future: Future[ShardOutcome]) -> None:
        """Record the outcome of a shard."""
        error = future.exception() or untold_error(future.result(), self._request)
        if isinstance(error, TaskLostError) and losses < self._retries:
            self._attempts.abandon(shard)
            with self._lock:
                self._queue.again(shard, losses + 1)
                self._sum = replace(self._sum, faults=self._sum.faults + 1)
            return
        if error is not None:
            with self._lock:
                self._queue.ended(shard.range, done=False)
            self._stop(error)
            return
        outcome = with_host(future.result())
        if outcome.rest:
            self._unfinished.write()
        with self._lock:
            self._add(outcome, losses if shard.range is not None else 0)
            self._queue.ended(shard.range, done=outcome.status.state is TaskState.SUCCEEDED)
        status = outcome.status
        if isinstance(outcome.error, TaskTimeoutError):
            self._stop(timeout_error(self._request, self._timeout))
        elif outcome.error is not None:
            self._stop(outcome.error)
        elif outcome.fatal:
            self._stop(TaskState.FAILED)
        elif status.state in (TaskState.CANCELED, TaskState.EXPIRED):
            self._stop(status.state)
        self._task_log.seen(self.status())
        if self._task_log.stop_requested():
            self.stop()

    def _add(self, outcome: ShardOutcome, losses: int) -> None:
        if self._began is None:
            self._began = self._clock.monotonic() - outcome.seconds
        self._sum = added(self._sum, outcome.status)
        if self._end is None or outcome.status.state is TaskState.FAILED:
            # A shard that was stopped did not fail by itself. If a large file changes, all its shards fail alike.
            new = [failure for failure in outcome.failures if failure not in self._told]
            self._failed += outcome.failed - len(outcome.failures) + len(new)
            self._told += new[: TOLD - len(self._told)]
        if not self._last_is_begun:
            for key, count in outcome.listed.items():
                self._listed[key] = self._listed.get(key, 0) + count
        for rest in outcome.rest:
            self._queue.add(rest, losses)

    def _finish(self) -> None:
        """End with the combined outcome of all shards."""
        if isinstance(self._end, BaseException):
            self._conclude(self._end)
            return
        state = self._end or (TaskState.FAILED if self._failed else TaskState.SUCCEEDED)
        if state in (TaskState.CANCELED, TaskState.EXPIRED):
            self._told, self._failed = [(state.name, f"The task was {state.value} before it was done.")], 1
        reasons = [reason for _, reason in self._told]
        if self._failed > len(reasons):
            reasons.append(f"{self._failed - len(reasons)} more failed.")
        code = self._told[0][0] if self._told else ""
        self._conclude(replace(self._total(), state=state, code=code, reason=" ".join(reasons)))

    def _conclude(self, end: TaskStatus | BaseException) -> None:
        error = end if isinstance(end, BaseException) else None
        if isinstance(end, TaskStatus) and self._raises:
            error = error_from_status(end, self._request)
        elif isinstance(end, TaskError):
            # The status of one shard says nothing about the whole task.
            end.status = self._total()
        with self._lock:
            if self._concluded:
                return
            self._concluded = True
            running = list(self._running)
            if isinstance(end, TaskStatus):
                self._last = end
            else:
                self._last = status_from_error(end, describe(self._request), self._last.handle)
        if self._last.state is not TaskState.SUCCEEDED:
            self._attempts.abandon_all()
        self._unfinished.end()
        for shard in running:
            shard.give_up()
        if isinstance(end, TaskStatus):
            self._task_log.ended(end)
        else:
            self._task_log.failed(end)
        if error is None:
            self.future.set_result(self._last)
        else:
            self.future.set_exception(error)
