"""One thread for all that a service does for us: it submits, looks and cancels, and every pending request ends.

A task at a service needs nobody to wait for it. So the task manager has one thread that speaks with the service,
whatever the number of tasks, and looks at all of them with one question. The callbacks of the futures that it ends run
on other threads (`chiltepin.transfers.callbacks`), so they never delay a look. Pending requests that are alike and wait
at the same moment share a task (`chiltepin.transfers.service.batching`).
"""

from __future__ import annotations

import atexit
import heapq
import itertools
import logging
import threading
import uuid
import weakref
from collections import deque
from concurrent import futures
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar, cast

from chiltepin.backends import forks
from chiltepin.errors import BackendError, EndpointError, EndpointUnavailableError, LoginRequiredError, PathsInUseError
from chiltepin.model import NO_TASK, UNREAD, DeleteRequest, TaskState, TaskStatus
from chiltepin.transfers import interpreter_exit, policy
from chiltepin.transfers.outcomes import describe
from chiltepin.transfers.recorder import TaskRecorder
from chiltepin.transfers.service.batch import Batch, split
from chiltepin.transfers.service.batching import Batcher
from chiltepin.transfers.service.completion import Completer
from chiltepin.transfers.service.missing_paths import confirm_missing, find_missing
from chiltepin.transfers.service.pending_request import PendingRequest
from chiltepin.transfers.timing import BackgroundThread, Backoff, SystemClock

if TYPE_CHECKING:
    from collections.abc import Callable

    from chiltepin.model import Request
    from chiltepin.protocol import TransferBackend
    from chiltepin.transfers.activity import ActivityLog
    from chiltepin.transfers.journal import Journal

__all__ = ["TaskManager", "workflow_ended"]

logger = logging.getLogger(__name__)

T = TypeVar("T")

#: The task managers that this process has used; a child made by ``fork`` begins without any.
_managers: weakref.WeakSet[TaskManager] = weakref.WeakSet()
forks.register(_managers.clear)


@interpreter_exit.while_threads_work
def _wait_at_exit() -> None:
    """Wait, at the end of a script, for what services do for it: the process that asks is not to end before."""
    while not interpreter_exit.cause() and (
        live := [pending.future for manager in list(_managers) for pending in manager.unfinished()]
    ):
        # A Ctrl-C that comes just before this wait begins is noticed only after it.
        futures.wait(live, timeout=1)


@atexit.register
def _cancel_all_at_exit() -> None:
    """Cancel at the services what nobody will wait for any more."""
    managers = list(_managers)
    wanted = [describe(pending.request) for manager in managers for pending in manager.unfinished()]
    for manager in managers:
        manager.close()
    if wanted:
        interpreter_exit.say(interpreter_exit.listed("Cancelled when Python ended:", wanted))


def workflow_ended(workflow: str, *, in_order: bool) -> None:
    """Tell the task managers of all services that a workflow has ended, and whether in order."""
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
        Has ``monotonic()`` and ``now()``; tests give one that is moved by hand.
    threaded : bool
        Whether threads do the work as it is due; False leaves that to calls of `step`.
    batching : bool
        Whether pending requests that are alike share a task, if the backend can tell what became of each.
    journal : Journal or None
        Where it is written down what is submitted; what another process has begun, and not ended, is joined.
    activity_log : ActivityLog or None
        The same for people.
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
        self._journal, self._activity_log = journal, activity_log
        self._reset()
        forks.register(self._reset)

    def _reset(self) -> None:
        """Begin with nothing under way, as in a process made by ``fork``: the requests of the parent are not ours."""
        self.recorder = TaskRecorder(self._backend, self._journal, self._activity_log)
        self._batcher = Batcher(self._backend, self.recorder, batching=self._batching)
        self._by_key: dict[str, PendingRequest] = {}
        #: Keys that were stopped before they started.
        self._stopped_early: set[str] = set()
        self._stop_requests: deque[PendingRequest] = deque()
        self._timeouts: list[tuple[float, int, weakref.ref[PendingRequest]]] = []
        self._max_timeouts = policy.DEADLINES_KEPT
        self._count = itertools.count()
        # Guards all of the above; never held while the service is asked.
        self._lock = threading.RLock()
        self._last_poll = self._clock.monotonic()
        self._submit_backoff, self._poll_backoff = Backoff(), Backoff()
        self._thread = BackgroundThread("chiltepin-task-manager", self.step)
        self._completer = Completer(
            *(self._backend, self.recorder, self._batcher),
            clock=self._clock,
            lock=self._lock,
            freed=self._submit_backoff.succeeded,
        )

    # What callers do; all of it returns at once.

    def start(
        self,
        key: str,
        request: Request,
        *,
        timeout: float,
        polling_interval: float,
        grace: float,
        workflow: str = "",
    ) -> PendingRequest:
        """Take a request on.

        If that raises, nothing of the request is left.

        Parameters
        ----------
        key : str
            The caller's name for the pending request; one that is known is joined, not made twice.
        request, timeout, polling_interval, grace, workflow
            See `PendingRequest`. A request that equals one which is not submitted yet joins that.
        """
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
            )
            self._register(key, pending)
            fresh = self._batcher.assign(pending, now)
            if key in self._stopped_early:
                self._stopped_early.discard(key)
                self._request_stop(pending)
        try:
            self._wake() if fresh else self._ensure_thread()
        except BaseException:
            self._undo_start(key, pending)
            raise
        return pending

    def _undo_start(self, key: str, pending: PendingRequest) -> None:
        """Undo the start of a request that no thread can be started for."""
        with self._lock:
            self._by_key.pop(key, None)
            pending.ended = True
            if isinstance(batch := pending.task, Batch):
                self._batcher.remove(batch, pending)
                if batch.request is None and not batch.needed:
                    self._batcher.drop(batch)

    def resume(self, *, timeout: float, polling_interval: float, grace: float) -> list[PendingRequest]:
        """Take on what other processes have begun and not ended, as a pending request for each item.

        Parameters
        ----------
        timeout, polling_interval, grace
            See `PendingRequest`.
        """
        rest: dict[str, Any] = {"timeout": timeout, "polling_interval": polling_interval, "grace": grace}
        now = self._clock.monotonic()
        with self._lock:
            found = {
                str(uuid.uuid4()): (PendingRequest(one, started=now, **rest), batch)
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

    def _register(self, key: str, pending: PendingRequest) -> None:
        _managers.add(self)
        self._by_key[key] = pending
        # Weakly: what has ended is not to stay in memory until its time would have been up.
        heapq.heappush(self._timeouts, (pending.times_out_at, next(self._count), weakref.ref(pending)))
        if len(self._timeouts) > self._max_timeouts:
            self._remove_ended_timeouts()

    def stop(self, key: str) -> None:
        """Have a pending request stopped, now or as soon as it starts."""
        with self._lock:
            if key not in self._by_key:
                self._stopped_early.add(key)
                return
            self._request_stop(self._by_key[key])
        self._wake()

    def find(self, key: str) -> PendingRequest | None:
        """Return the pending request of a key, if it has started and is not forgotten."""
        return self._by_key.get(key)

    def forget(self, key: str) -> None:
        """Drop what is known of a key; what is under way goes on."""
        with self._lock:
            self._stopped_early.discard(key)
            self._by_key.pop(key, None)

    def unfinished(self) -> list[PendingRequest]:
        """Return what is under way and was not stopped; nothing if the clock is moved by hand."""
        if not self._threaded or not isinstance(self._clock, SystemClock):
            return []
        with self._lock:
            live = [pending for batch in self._batcher.batches for pending in batch.pending_requests]
        return [pending for pending in live if not pending.stop_reason]

    def close(self, seconds: float = policy.EXIT_GRACE) -> None:
        """Stop every pending request, and wait so many seconds at most until all have ended."""
        with self._lock:
            live = [pending for batch in self._batcher.batches for pending in batch.pending_requests]
            for pending in live:
                self._request_stop(pending)
        if live:
            self._wake()
            futures.wait([pending.future for pending in live], timeout=seconds)
        self.record_clean_end()

    def record_clean_end(self, workflow: str | None = None) -> None:
        """Write down that a workflow has ended in order; None stands for all that were not abandoned.

        The same request, made again after it, is a new one (`chiltepin.transfers.service.restart`).
        """
        self.recorder.record_clean_end(workflow)

    def abandon(self, workflow: str) -> None:
        """Take note that a workflow has not ended in order, so that the end of the process does not settle it."""
        self.recorder.abandon(workflow)

    def _request_stop(self, pending: PendingRequest) -> None:
        if not pending.stop_reason:
            pending.stop_reason = "cancel"
            self._stop_requests.append(pending)

    def _remove_ended_timeouts(self) -> None:
        """Drop the limits of what has ended; with a timeout of days there would be many."""
        live = [one for one in self._timeouts if (pending := one[2]()) is not None and not pending.ended]
        heapq.heapify(live)
        self._timeouts, self._max_timeouts = live, max(policy.DEADLINES_KEPT, 2 * len(live))

    def _wake(self) -> None:
        if self._threaded:
            self._thread.wake()

    def _ensure_thread(self) -> None:
        """See to it that the thread is there, which another caller may have failed to start."""
        if self._threaded:
            self._thread.ensure_running()

    # The thread that speaks with the service.

    def step(self) -> float | None:
        """Do all that is due.

        Returns
        -------
        float or None
            Seconds until something will be due; None if nothing is under way.
        """
        self._process_stops(self._clock.monotonic())
        for batch in list(self._batcher.batches):
            if batch.needed and self._guarded(batch, self._advance, batch):
                # In between too, for a hundred submissions take longer than the time between two looks.
                self._poll_if_due()
        self._poll_if_due()
        with self._lock:
            moments = [self._next(batch) for batch in self._batcher.batches if batch.needed]
            if moments and self._timeouts:
                moments.append(self._timeouts[0][0])
            if self._stop_requests:
                moments.append(float("-inf"))
        soonest = min(moments, default=float("inf"))
        return max(0.0, soonest - self._clock.monotonic()) if soonest < float("inf") else None

    def _guarded(self, batch: Batch, deed: Callable[..., T], *given: Any) -> T | None:
        """Do something about one batch; what is raised ends this batch, and nothing else."""
        try:
            return deed(*given)
        except Exception as err:
            logger.exception("A batch of %d items ends, and the others go on.", len(batch.requests_by_item))
            # Nothing that belongs to a service: it would be kept with the error.
            kind = type(err).__name__
        failure = BackendError(f"The request could not be followed any more, because of {kind}; see the log.")
        if batch.handle is None or _has_ended(batch):
            self._completer.drop(batch)
            self._completer.end_all(batch, lambda _: failure)
        else:
            batch.stop("fault", self._clock.monotonic())
            self._completer.abandon(batch, lambda _: failure)
            self._cancel(batch, self._clock.monotonic())
        return None

    def _process_stops(self, now: float) -> None:
        """See to the pending requests that nobody wants any more, or whose time is up."""
        with self._lock:
            while self._timeouts and self._timeouts[0][0] <= now:
                pending = heapq.heappop(self._timeouts)[2]()
                if pending is not None and not pending.ended and not pending.stop_reason:
                    pending.stop_reason = "timeout"
                    self._stop_requests.append(pending)
            wishes = [self._stop_requests.popleft() for _ in range(len(self._stop_requests))]
        for pending in wishes:
            if not pending.ended and isinstance(batch := pending.task, Batch):
                self._guarded(batch, self._stop_one, batch, pending, now)

    def _stop_one(self, batch: Batch, pending: PendingRequest, now: float) -> None:
        with self._lock:
            others = [one for one in batch.pending_requests if not one.stop_reason]
            if not others:
                batch.stop(pending.stop_reason, now)
                return
            submitted = batch.request is not None
            self._batcher.remove(batch, pending)
        # Not under the lock: what follows a future may take a lock whose holder waits for this one.
        self._completer.end(pending, pending.detached_error(len(others)) if submitted else pending.outcome(now, None))

    def _next(self, batch: Batch) -> float:
        """Return the moment when a task next needs us; the lock is held."""
        now = self._clock.monotonic()
        if batch.handle is None:
            return float("-inf") if batch.stop_reason else self._submit_time(batch, now)
        if _has_ended(batch):
            look = max(self._poll_backoff.until, batch.backoff.until)
        elif batch.wants_cancel(now):
            return now
        else:
            look = max(batch.next_poll(self._last_poll), self._poll_backoff.until, batch.backoff.until)
        return max(now, min(look, batch.stop_deadline))

    def _submit_time(self, batch: Batch, now: float) -> float:
        """Return the moment when a batch is to be submitted."""
        return max(self._batcher.submit_time(batch, now), self._submit_backoff.until, batch.backoff.until)

    def _advance(self, batch: Batch) -> bool:
        """Submit a task, or cancel it, or give it up, whichever is due; return whether the service was asked."""
        now = self._clock.monotonic()
        if batch.handle is None:
            return self._submit_if_due(batch, now)
        over = _has_ended(batch)
        if now >= batch.stop_deadline:
            # Before it is told once more: a service that cannot be asked would be told for ever. Of a task that is over
            # nobody can say of any item that it is done.
            self._give_up(batch, now, None if over else batch.final_status)
            return False
        if over:
            # All that is left is to ask what became of its items.
            if now >= max(self._poll_backoff.until, batch.backoff.until):
                self._complete(batch)
            return True
        if batch.wants_cancel(now):
            self._cancel(batch, now)
            return True
        return False

    def _submit_if_due(self, batch: Batch, now: float) -> bool:
        """Submit a task if that is due, or give it up; return whether the service was asked."""
        if not batch.stop_reason and self._drop_missing(batch, now):
            return True
        with self._lock:
            # If the reply to the last try was lost, its task is not to be left behind.
            due = bool(batch.refused if batch.stop_reason else now >= self._submit_time(batch, now))
            if due and not batch.submission_id and self._batcher.defer_to_others(batch, now):
                return False
            if due:
                self._batcher.close(batch)
                request = batch.build_request(now, self._clock.now(), per_item=self._batching)
        if due:
            self._submit(batch, request)
        if batch.stop_reason and batch.handle is None:
            self._give_up(batch, now, None)
        return due

    def _give_up(self, batch: Batch, now: float, last: TaskStatus | None) -> None:
        """End the pending requests of a task as far as is known; while others wait for its end, it is followed on."""
        why = next((pending.outcome(now, last) for pending in batch.pending_requests), None)
        self.recorder.dropped(batch.submission_id, why)
        if batch.handle is None or _has_ended(batch):
            self._completer.drop(batch)
            self._completer.end_all(batch, lambda pending: pending.outcome(now, last))
        else:
            self._completer.abandon(batch, lambda pending: pending.outcome(now, last))

    def _drop_missing(self, batch: Batch, now: float) -> bool:
        """Look, for a deletion that many share and that is due, for what is not there; whether that was done now."""
        kind = batch.kind
        if (
            not isinstance(kind, DeleteRequest)
            or kind.ignore_missing
            or batch.missing_removed
            or batch.request is not None
        ):
            return False
        alone = len(batch.requests_by_item) == 1
        if alone or now < self._submit_time(batch, now):
            return False
        with self._lock:
            self._batcher.close(batch)
            paths = [str(path) for path in batch.requests_by_item]
        failed, unknown = find_missing(self._backend, kind, paths)
        batch.missing_removed = True
        with self._lock:
            gone = [
                (pending, failed.get(path))
                for path in (*failed, *unknown)
                for pending in list(batch.requests_by_item[path])
            ]
            missing = [path for path, outcome in failed.items() if outcome.code == policy.NOT_FOUND]
            late = self._batcher.take_back_strict(batch, missing)
            for pending, _ in gone:
                self._batcher.remove(batch, pending)
            if not batch.requests_by_item:
                self._completer.drop(batch)
        self._completer.resubmit([pending for pending, outcome in gone if outcome is None], max_items=1)
        self._completer.resubmit(late, max_items=None)
        nobody = TaskStatus(handle=NO_TASK, state=TaskState.FAILED)
        for pending, outcome in gone:
            if outcome is not None:
                self._completer.end(pending, replace(nobody, code=outcome.code, reason=outcome.reason))
        return True

    def _submit(self, batch: Batch, request: Request) -> None:
        try:
            # Kept over every try: that is what makes a repetition harmless.
            if not batch.submission_id:
                batch.submission_id = self._backend.new_submission_id()
                waited = batch.waited(self._clock.monotonic())
                self.recorder.record_intent(batch.submission_id, request, waited=waited, asked=batch.asked(request))
            handle = self._backend.submit(request, batch.submission_id)
        except Exception as err:  # noqa: BLE001 - whatever it is, the futures have to end
            refusal = err
        else:
            # Its first look comes in its own time, not at once because others were looked at long ago.
            batch.submitted, batch.handle = self._clock.monotonic(), handle
            self._submit_backoff.succeeded()
            self.recorder.submitted(handle)
            return
        if isinstance(refusal, EndpointUnavailableError) and batch.tolerates_refusal(self._clock.monotonic()):
            batch.refused = str(refusal)
            batch.backoff.failed(self._clock.monotonic())
            return
        if isinstance(refusal, BackendError) and refusal.transient:
            batch.refused = str(refusal)
            self._submit_backoff.failed(self._clock.monotonic())
            return
        self.recorder.refused(batch.submission_id, refusal)
        if isinstance(refusal, PathsInUseError) and refusal.status is not None and not batch.stop_reason:
            self._wait_for(refusal.status, batch, request)
            return
        self._completer.drop(batch)
        if batch.stop_reason:
            # There is no task, and `_submit_if_due` ends what wanted one.
            return
        if batch.per_item and not isinstance(refusal, EndpointError | EndpointUnavailableError | LoginRequiredError):
            # One of its items may be to blame.
            self._completer.resubmit(batch.pending_requests, max_items=max(1, len(batch.requests_by_item) // 2))
        else:
            self._completer.end_all(batch, lambda _: refusal)

    def _wait_for(self, other: TaskStatus, batch: Batch, request: Request) -> None:
        """Have a batch, and those that wait for it, wait for a task that the service holds against it."""
        now, pending_requests = self._clock.monotonic(), batch.pending_requests
        with self._lock:
            followed = self._batcher.adopt(request, other.handle, now)
            for one in batch.successors:
                one.wait_for([followed])
            self._batcher.drop(batch)
        for pending in pending_requests:
            pending.last_status = other
            # A service that refuses again and again is asked less and less often.
            pending.not_before = now + min(policy.RETRY_MAX, (now - pending.started) * policy.POLL_FRACTION)
        self._completer.resubmit(pending_requests, max_items=None)

    def _cancel(self, batch: Batch, now: float) -> None:
        batch.note_cancel_tried(now)
        try:
            self._backend.cancel(batch.handle)  # type: ignore[arg-type] # it has one
        except Exception as err:  # noqa: BLE001 - tried again, until its time is up
            logger.warning("Could not cancel task %s: %s", batch.handle and batch.handle.task_id, err)
        else:
            batch.cancel_accepted = True

    def _poll_if_due(self) -> None:
        """Look at every task with one question, if one of them is due."""
        now = self._clock.monotonic()
        with self._lock:
            asked = [
                one
                for one in self._batcher.batches
                if one.handle is not None and not _has_ended(one) and one.needed and now >= one.backoff.until
            ]
            due = min((batch.next_poll(self._last_poll) for batch in asked), default=float("inf"))
        if now < max(due, self._poll_backoff.until):
            return
        try:
            statuses = self._backend.poll([batch.handle for batch in asked if batch.handle])
            if len(statuses) != len(asked):
                raise BackendError(f"{len(statuses)} statuses came for {len(asked)} tasks.")  # noqa: TRY301
        except LoginRequiredError as err:
            lost = err
        except Exception as err:  # noqa: BLE001 - asked again; each pending request has its timeout
            logger.warning("Could not ask how %d tasks are: %s", len(asked), err)
            self._poll_backoff.failed(self._clock.monotonic())
            return
        else:
            self._apply_statuses(asked, statuses)
            return
        for batch in [one for one in self._batcher.batches if not one.predecessors.isdisjoint(asked)]:
            self._completer.drop(batch)
            self._completer.end_all(batch, lambda _: lost)
        for batch in asked:
            self.recorder.dropped(batch.submission_id, lost)
            self._completer.abandon(batch, lambda _: lost)

    def _apply_statuses(self, asked: list[Batch], statuses: list[TaskStatus]) -> None:
        self._last_poll = now = self._clock.monotonic()
        self._poll_backoff.succeeded()
        for batch, status in zip(asked, statuses, strict=True):
            self._guarded(batch, self._apply_status, batch, status, now)

    def _apply_status(self, batch: Batch, status: TaskStatus, now: float) -> None:
        if not isinstance(status, TaskStatus) or not isinstance(status.state, TaskState) or status.code == UNREAD:
            logger.warning("Nothing could be learnt of %s: %s", batch.handle, getattr(status, "reason", status))
            batch.backoff.failed(now)
            return
        batch.backoff.succeeded()
        with self._lock:
            batch.update(status, now)
        self.recorder.seen(batch.submission_id, status)
        if status.state.final:
            self._complete(batch)
        elif (
            status.code == policy.NOT_FOUND
            and batch.pending_requests
            and not batch.stop_reason
            and not batch.existence_checked
        ):
            batch.existence_checked = True
            if proof := confirm_missing(self._backend, cast("Request", batch.request)):
                batch.stop("fault", now, proof)

    def _complete(self, batch: Batch) -> None:
        if not self._completer.complete(batch):
            batch.backoff.failed(self._clock.monotonic())


def _has_ended(batch: Batch) -> bool:
    return batch.status is not None and batch.status.state.final
