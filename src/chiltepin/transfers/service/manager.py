"""Run the requests of one service with one thread, which submits, polls and cancels until every request has ended.

The steps of the thread are in `chiltepin.transfers.service.polling`. Callbacks of the futures that it ends run on other
threads (`chiltepin.transfers.callbacks`), so that they never delay a poll. Similar requests that wait at the same time
share a task (`chiltepin.transfers.service.batching`).
"""

from __future__ import annotations

import atexit
import heapq
import itertools
import uuid
import weakref
from collections import deque
from concurrent import futures
from typing import TYPE_CHECKING, Any, cast

from chiltepin.backends import forks
from chiltepin.model import BACKEND_OPTIONS
from chiltepin.transfers import interpreter_exit, policy
from chiltepin.transfers.background_thread import BackgroundThread, SystemClock
from chiltepin.transfers.outcomes import describe
from chiltepin.transfers.recorder import TaskRecorder
from chiltepin.transfers.service.batch import Batch, split
from chiltepin.transfers.service.batching import Batcher
from chiltepin.transfers.service.completion import Completer
from chiltepin.transfers.service.detached import submit_detached
from chiltepin.transfers.service.pending_request import PendingRequest
from chiltepin.transfers.service.polling import Poller

if TYPE_CHECKING:
    from chiltepin.model import Request, TaskHandle
    from chiltepin.protocol import TransferBackend
    from chiltepin.transfers.activity import ActivityLog
    from chiltepin.transfers.journal import Journal

__all__ = ["TaskManager", "workflow_ended"]

#: The task managers that this process has used; a child process made by ``fork`` starts with none.
_managers: weakref.WeakSet[TaskManager] = weakref.WeakSet()
forks.register(_managers.clear)


@interpreter_exit.while_threads_work
def _wait_at_exit() -> None:
    """Wait at the end of a script for its tasks at services."""
    while not interpreter_exit.cause() and (live := [one.future for one in _unfinished()]):
        # Short, because a Ctrl-C just before this wait begins is handled only after it.
        futures.wait(live, timeout=1)


@atexit.register
def _cancel_all_at_exit() -> None:
    cancelled = [describe(pending.request) for pending in _unfinished()]
    for manager in list(_managers):
        manager.close()
    if cancelled:
        interpreter_exit.say(interpreter_exit.listed("Canceled when Python ended:", cancelled))


def _unfinished() -> list[PendingRequest]:
    return [pending for manager in list(_managers) for pending in manager.unfinished()]


def workflow_ended(workflow: str, *, in_order: bool) -> None:
    """Tell the task managers of all services that a workflow has ended, and whether cleanly."""
    for manager in list(_managers):
        if in_order:
            manager.record_clean_end(workflow)
        else:
            manager.abandon(workflow)


class TaskManager:
    """Runs any number of pending requests on one service backend, with one thread for all of them.

    Parameters
    ----------
    backend : TransferBackend
        The service.
    clock : object
        Has ``monotonic()`` and ``now()``.
    threaded : bool
        Whether a thread does the work; if not, the caller runs `step`.
    batching : bool
        Whether similar requests share a task, if the backend reports the outcome of each item.
    journal : Journal or None
        The record of submissions; unfinished tasks of other processes in it are joined.
    activity_log : ActivityLog or None
        The record for users.
    """

    def __init__(
        self,
        backend: TransferBackend,
        *,
        clock: Any = None,
        threaded: bool = True,
        batching: bool = True,
        journal: Journal | None = None,
        activity_log: ActivityLog | None = None,
    ) -> None:
        self._backend, self._clock, self._threaded = backend, clock or SystemClock(), threaded
        self._batching = batching and backend.capabilities.batches
        self._lacks_options = not {*BACKEND_OPTIONS}.issubset(backend.capabilities.options)
        self._journal, self._activity_log = journal, activity_log
        self._reset()
        forks.register(self._reset)

    def _reset(self) -> None:
        """Start over, also in a child process made by ``fork``: the requests belong to the parent."""
        self.recorder = TaskRecorder(self._backend, self._journal, self._activity_log)
        self._batcher = Batcher(self._backend, self.recorder, clock=self._clock, batching=self._batching)
        # Guards these attributes; never held during a call to the service.
        self._lock = self._batcher.lock
        self._by_key: dict[str, PendingRequest] = {}
        #: Keys of requests that were stopped before they started.
        self._stopped_early: set[str] = set()
        self._stop_requests: deque[PendingRequest] = deque()
        self._timeouts: list[tuple[float, int, weakref.ref[PendingRequest]]] = []
        self._max_timeouts = policy.limits.DEADLINES_KEPT
        self._count = itertools.count()
        self._thread = BackgroundThread("chiltepin-task-manager", self.step)
        self._completer = Completer(self._batcher)
        self._poller = Poller(self._batcher, self._completer)

    # For callers; each method except `close` returns at once.

    def start(
        self,
        key: str,
        request: Request,
        *,
        timeout: float,
        polling_interval: float,
        grace: float,
        workflow: str = "",
        raises: bool = False,
    ) -> PendingRequest:
        """Add a request; after an error, nothing of it remains.

        ``key`` is the caller's name for it; for a known key, return its pending request. See `PendingRequest` for the
        other parameters. If an equal request is not submitted yet, they share a task.
        """
        if self._lacks_options:
            self.recorder.refuse_unsupported(request)
        now = self._clock.monotonic()
        with self._lock:
            if key in self._by_key:
                return self._by_key[key]
            pending = PendingRequest(
                request,
                timeout=timeout,
                polling_interval=polling_interval,
                grace=grace,
                started=now,
                workflow=workflow,
                raises=raises,
            )
            self._register(key, pending)
            fresh = self._batcher.assign(pending, now)
            # The thread may be waiting for a later time.
            first = self._timeouts[0][2]() is pending
            if stopped := key in self._stopped_early:
                self._stopped_early.discard(key)
                self._request_stop(pending)
        try:
            self._wake() if fresh or first or stopped else self._ensure_thread()
        except BaseException:
            self._undo_start(key, pending)
            raise
        return pending

    def _undo_start(self, key: str, pending: PendingRequest) -> None:
        with self._lock:
            self._by_key.pop(key, None)
            pending.ended = True
            if isinstance(batch := pending.task, Batch):
                self._batcher.remove(batch, pending)
                if batch.request is None and not batch.needed:
                    self._batcher.drop(batch)

    def resume(self, **options: Any) -> list[PendingRequest]:
        """Resume the unfinished tasks of other processes; return a `PendingRequest` with these options for each."""
        now = self._clock.monotonic()
        with self._lock:
            found = {
                str(uuid.uuid4()): (PendingRequest(one, started=now, **options), batch)
                for batch in self._batcher.adopted_tasks(now)
                for one in split(cast("Request", batch.request))
            }
            for key, (pending, batch) in found.items():
                self._register(key, pending)
                batch.join(pending, now)
        try:
            if found:
                self._wake()
        except BaseException:
            for key, (pending, _) in found.items():
                self._undo_start(key, pending)
            raise
        return [pending for pending, _ in found.values()]

    def submit_detached(self, request: Request) -> TaskHandle:
        """Submit a request that has a deadline, and do not wait for its end; see `Transfers.submit_detached`."""
        return submit_detached(self._batcher, request)

    def _register(self, key: str, pending: PendingRequest) -> None:
        _managers.add(self)
        self._by_key[key] = pending
        # A weak reference, so that a request that has ended does not stay in memory until its timeout.
        heapq.heappush(self._timeouts, (pending.times_out_at, next(self._count), weakref.ref(pending)))
        if len(self._timeouts) > self._max_timeouts:
            self._remove_ended_timeouts()

    def stop(self, key: str) -> None:
        """Stop a pending request, now or as soon as it starts."""
        with self._lock:
            if key not in self._by_key:
                self._stopped_early.add(key)
                return
            self._request_stop(self._by_key[key])
        self._wake()

    def find(self, key: str) -> PendingRequest | None:
        """Return the pending request of a key; None before its start and after `forget`."""
        return self._by_key.get(key)

    def forget(self, key: str) -> None:
        """Forget a key; its request continues."""
        # Without the lock: a signal handler that interrupts this may wait for a thread that needs it.
        self._stopped_early.discard(key)
        self._by_key.pop(key, None)

    def unfinished(self) -> list[PendingRequest]:
        """Return the pending requests that were not stopped; none if a test moves the clock."""
        if not self._threaded or not isinstance(self._clock, SystemClock):
            return []
        return [pending for pending in self._live() if not pending.stop_reason]

    def _live(self) -> list[PendingRequest]:
        with self._lock:
            return [pending for batch in self._batcher.batches for pending in batch.pending_requests]

    def close(self, seconds: float = policy.wait_times.EXIT_GRACE) -> None:
        """Stop all pending requests, and wait at most ``seconds`` for them to end."""
        with self._lock:
            live = self._live()
            for pending in live:
                self._request_stop(pending)
        if live:
            self._wake()
            futures.wait([pending.future for pending in live], timeout=seconds)
        self.record_clean_end()

    def record_clean_end(self, workflow: str | None = None) -> None:
        """Record that a workflow has ended cleanly; None means all that were not abandoned (see `RestartPlan`)."""
        self.recorder.record_clean_end(workflow)

    def abandon(self, workflow: str) -> None:
        """Mark a workflow as not ended cleanly, so that the end of the process does not record it as clean."""
        self.recorder.abandon(workflow)

    def _request_stop(self, pending: PendingRequest) -> None:
        if not pending.stop_reason:
            pending.stop_reason = "cancel"
            self._stop_requests.append(pending)

    def _remove_ended_timeouts(self) -> None:
        live = [one for one in self._timeouts if (pending := one[2]()) is not None and not pending.ended]
        heapq.heapify(live)
        self._timeouts, self._max_timeouts = live, max(policy.limits.DEADLINES_KEPT, 2 * len(live))

    def _wake(self) -> None:
        if self._threaded:
            self._thread.wake()

    def _ensure_thread(self) -> None:
        if self._threaded:
            self._thread.ensure_running()

    # The thread.

    def step(self) -> float | None:
        """Do all work that is due; return the seconds until more is due, or None if nothing is pending."""
        self._process_stops(self._clock.monotonic())
        soonest = self._soonest(self._poller.step())
        return max(0.0, soonest - self._clock.monotonic()) if soonest < float("inf") else None

    def _soonest(self, moments: list[float]) -> float:
        """Return when the next batch or timeout is due; infinite if nothing is pending."""
        with self._lock:
            if moments and self._timeouts:
                moments.append(self._timeouts[0][0])
            if self._stop_requests:
                moments.append(float("-inf"))
        return min(moments, default=float("inf"))

    def _process_stops(self, now: float) -> None:
        with self._lock:
            while self._timeouts and self._timeouts[0][0] <= now:
                pending = heapq.heappop(self._timeouts)[2]()
                if pending is not None and not pending.ended and not pending.stop_reason:
                    pending.stop_reason = "timeout"
                    self._stop_requests.append(pending)
            stops = [self._stop_requests.popleft() for _ in range(len(self._stop_requests))]
        by_task: dict[Batch, list[PendingRequest]] = {}
        for pending in stops:
            if isinstance(pending.task, Batch):
                by_task.setdefault(pending.task, []).append(pending)
        for batch, stopped in by_task.items():
            self._poller.guarded(batch, self._stop_some, batch, stopped, now)

    def _stop_some(self, batch: Batch, stops: list[PendingRequest], now: float) -> None:
        """End requests of a batch; if it has no others, its task must stop first."""
        with self._lock:
            # The end of a request of another batch may have moved some to a new task.
            self._stop_requests.extend(pending for pending in stops if pending.task is not batch)
            stopped = [pending for pending in stops if pending.task is batch and not pending.ended]
            if stopped and all(pending.stop_reason for pending in batch.pending_requests):
                batch.stop(stopped[0].stop_reason, now)
                return
            for pending in stopped:
                self._batcher.remove(batch, pending)
            submitted, others = batch.request is not None, len(batch.pending_requests)
        # Not under the lock: a callback may take a lock whose holder waits for this one.
        for pending in stopped:
            self._completer.end(pending, pending.detached_error(others) if submitted else pending.outcome(now, None))
