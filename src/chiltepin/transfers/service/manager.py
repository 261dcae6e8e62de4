"""One thread for all that a service does for us: it submits, looks and cancels, and every errand ends.

A task at a service needs nobody to wait for it. So the hub has one thread that speaks with the service, whatever the
number of tasks, and looks at all of them with one question. The callbacks of the futures that it ends run on other
threads (`chiltepin.transfers.callbacks`), so they never delay a look. Errands that are alike and wait at the same
moment share a task (`chiltepin.transfers.service.batching`).
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
from chiltepin.transfers import interpreter_exit as exits
from chiltepin.transfers import policy
from chiltepin.transfers.outcomes import describe
from chiltepin.transfers.recorder import Record
from chiltepin.transfers.service.absence import absent
from chiltepin.transfers.service.batch import Batch, single
from chiltepin.transfers.service.batching import Departures
from chiltepin.transfers.service.completion import Arrivals
from chiltepin.transfers.service.missing_paths import looked_up
from chiltepin.transfers.service.pending_request import Errand
from chiltepin.transfers.timing import Chore, Patience, SystemClock

if TYPE_CHECKING:
    from collections.abc import Callable

    from chiltepin.model import Request
    from chiltepin.protocol import TransferBackend
    from chiltepin.transfers.activity import Diary
    from chiltepin.transfers.journal import Journal

__all__ = ["Hub", "settle"]

logger = logging.getLogger(__name__)

T = TypeVar("T")

#: The hubs that this process has used; a child made by ``fork`` begins without any.
_hubs: weakref.WeakSet[Hub] = weakref.WeakSet()
forks.register(_hubs.clear)


@exits.while_threads_work
def _await_errands() -> None:
    """Wait, at the end of a script, for what services do for it: the process that asks is not to end before."""
    while not exits.cause() and (live := [errand.future for hub in list(_hubs) for errand in hub.wanted()]):
        # A Ctrl-C that comes just before this wait begins is noticed only after it.
        futures.wait(live, timeout=1)


@atexit.register
def _say_last_words() -> None:
    """Cancel at the services what nobody will wait for any more."""
    hubs = list(_hubs)
    wanted = [describe(errand.request) for hub in hubs for errand in hub.wanted()]
    for hub in hubs:
        hub.close()
    if wanted:
        exits.say(exits.listed("Cancelled when Python ended:", wanted))


def settle(workflow: str, *, in_order: bool) -> None:
    """Tell the hubs of all services that a workflow has ended, and whether in order."""
    for hub in list(_hubs):
        if in_order:
            hub.settle(workflow)
        else:
            hub.abandon(workflow)


class Hub:
    """Runs any number of errands on one service backend, with one thread for all of them.

    Parameters
    ----------
    backend : TransferBackend
        The service.
    clock : object
        Has ``monotonic()`` and ``now()``; tests give one that is moved by hand.
    threaded : bool
        Whether threads do the work as it is due; False leaves that to calls of `step`.
    batching : bool
        Whether errands that are alike share a task, if the backend can tell what became of each.
    journal : Journal or None
        Where it is written down what is submitted; what another process has begun, and not ended, is joined.
    diary : Diary or None
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
        diary: Diary | None = None,
    ) -> None:
        self._backend, self._clock, self._threaded = backend, clock or SystemClock(), threaded
        self._batching = batching and backend.capabilities.batches
        self._journal, self._diary = journal, diary
        self._renew()
        forks.register(self._renew)

    def _renew(self) -> None:
        """Begin with nothing under way, as in a process made by ``fork``: the requests of the parent are not ours."""
        self._record = Record(self._backend, self._journal, self._diary)
        self._departures = Departures(self._backend, self._record, batching=self._batching)
        self._known: dict[str, Errand] = {}
        #: Keys that were stopped before they started.
        self._unwanted: set[str] = set()
        self._wishes: deque[Errand] = deque()
        self._limits: list[tuple[float, int, weakref.ref[Errand]]] = []
        self._most_limits = policy.DEADLINES_KEPT
        self._count = itertools.count()
        # Guards all of the above; never held while the service is asked.
        self._lock = threading.RLock()
        self._looked = self._clock.monotonic()
        self._submitting, self._looking = Patience(), Patience()
        self._speaker = Chore("chiltepin-hub", self.step)
        self._arrivals = Arrivals(
            *(self._backend, self._record, self._departures),
            clock=self._clock,
            lock=self._lock,
            freed=self._submitting.succeeded,
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
    ) -> Errand:
        """Take a request on.

        If that raises, nothing of the request is left.

        Parameters
        ----------
        key : str
            The caller's name for the errand; one that is known is joined, not made twice.
        request, timeout, polling_interval, grace, workflow
            See `Errand`. A request that equals one which is not submitted yet joins that.
        """
        now = self._clock.monotonic()
        with self._lock:
            if key in self._known:
                return self._known[key]
            errand = Errand(
                request,
                timeout=timeout,
                polling_interval=polling_interval,
                grace=grace,
                begun=now,
                workflow=workflow,
            )
            self._know(key, errand)
            fresh = self._departures.place(errand, now)
            if key in self._unwanted:
                self._unwanted.discard(key)
                self._wish(errand)
        try:
            self._wake() if fresh else self._attend()
        except BaseException:
            self._take_back(key, errand)
            raise
        return errand

    def _take_back(self, key: str, errand: Errand) -> None:
        """Undo the start of a request that no thread can be started for."""
        with self._lock:
            self._known.pop(key, None)
            errand.ended = True
            if isinstance(batch := errand.task, Batch):
                self._departures.part(batch, errand)
                if batch.request is None and not batch.wanted:
                    self._departures.drop(batch)

    def resume(self, *, timeout: float, polling_interval: float, grace: float) -> list[Errand]:
        """Take on, as errands, all that other processes have begun and not ended; each item has one of its own.

        Parameters
        ----------
        timeout, polling_interval, grace
            See `Errand`.
        """
        rest: dict[str, Any] = {"timeout": timeout, "polling_interval": polling_interval, "grace": grace}
        now = self._clock.monotonic()
        with self._lock:
            found = {
                str(uuid.uuid4()): (Errand(one, begun=now, **rest), batch)
                for batch in self._departures.past(now)
                for one in single(cast("Request", batch.request))
            }
            for key, (errand, batch) in found.items():
                self._know(key, errand)
                batch.join(errand, now)
        try:
            if found:
                self._wake()
        except BaseException:
            for key, (errand, _) in found.items():
                self._take_back(key, errand)
            raise
        return [errand for errand, _ in found.values()]

    def _know(self, key: str, errand: Errand) -> None:
        _hubs.add(self)
        self._known[key] = errand
        # Weakly: what has ended is not to stay in memory until its time would have been up.
        heapq.heappush(self._limits, (errand.limit, next(self._count), weakref.ref(errand)))
        if len(self._limits) > self._most_limits:
            self._tidy_limits()

    def stop(self, key: str) -> None:
        """Have an errand stopped, now or as soon as it starts."""
        with self._lock:
            if key not in self._known:
                self._unwanted.add(key)
                return
            self._wish(self._known[key])
        self._wake()

    def find(self, key: str) -> Errand | None:
        """Return the errand of a key, if it has started and is not forgotten."""
        return self._known.get(key)

    def forget(self, key: str) -> None:
        """Drop what is known of a key; what is under way goes on."""
        with self._lock:
            self._unwanted.discard(key)
            self._known.pop(key, None)

    def wanted(self) -> list[Errand]:
        """Return what is under way and was not stopped; nothing if the clock is moved by hand."""
        if not self._threaded or not isinstance(self._clock, SystemClock):
            return []
        with self._lock:
            live = [errand for batch in self._departures.batches for errand in batch.errands]
        return [errand for errand in live if not errand.stopping]

    def close(self, seconds: float = policy.EXIT_GRACE) -> None:
        """Stop every errand, and wait so many seconds at most until all have ended."""
        with self._lock:
            live = [errand for batch in self._departures.batches for errand in batch.errands]
            for errand in live:
                self._wish(errand)
        if live:
            self._wake()
            futures.wait([errand.future for errand in live], timeout=seconds)
        self.settle()

    def settle(self, workflow: str | None = None) -> None:
        """Write down that a workflow has ended in order; None stands for all that were not abandoned.

        The same request, made again after it, is a new one (`chiltepin.transfers.service.restart`).
        """
        self._record.settle(workflow)

    def abandon(self, workflow: str) -> None:
        """Take note that a workflow has not ended in order, so that the end of the process does not settle it."""
        self._record.abandon(workflow)

    def _wish(self, errand: Errand) -> None:
        if not errand.stopping:
            errand.stopping = "cancel"
            self._wishes.append(errand)

    def _tidy_limits(self) -> None:
        """Drop the limits of what has ended; with a timeout of days there would be many."""
        live = [one for one in self._limits if (errand := one[2]()) is not None and not errand.ended]
        heapq.heapify(live)
        self._limits, self._most_limits = live, max(policy.DEADLINES_KEPT, 2 * len(live))

    def _wake(self) -> None:
        if self._threaded:
            self._speaker.wake()

    def _attend(self) -> None:
        """See to it that the thread is there, which another caller may have failed to start."""
        if self._threaded:
            self._speaker.attend()

    # The thread that speaks with the service.

    def step(self) -> float | None:
        """Do all that is due.

        Returns
        -------
        float or None
            Seconds until something will be due; None if nothing is under way.
        """
        self._part(self._clock.monotonic())
        for batch in list(self._departures.batches):
            if batch.wanted and self._guarded(batch, self._tend, batch):
                # In between too, for a hundred submissions take longer than the time between two looks.
                self._look_if_due()
        self._look_if_due()
        with self._lock:
            moments = [self._next(batch) for batch in self._departures.batches if batch.wanted]
            if moments and self._limits:
                moments.append(self._limits[0][0])
            if self._wishes:
                moments.append(float("-inf"))
        soonest = min(moments, default=float("inf"))
        return max(0.0, soonest - self._clock.monotonic()) if soonest < float("inf") else None

    def _guarded(self, batch: Batch, deed: Callable[..., T], *given: Any) -> T | None:
        """Do something about one batch; what is raised ends this batch, and nothing else."""
        try:
            return deed(*given)
        except Exception as err:
            logger.exception("A batch of %d items ends, and the others go on.", len(batch.riders))
            # Nothing that belongs to a service: it would be kept with the error.
            kind = type(err).__name__
        failure = BackendError(f"The request could not be followed any more, because of {kind}; see the log.")
        if batch.handle is None or _is_over(batch):
            self._arrivals.drop(batch)
            self._arrivals.end_all(batch, lambda _: failure)
        else:
            batch.stop("trouble", self._clock.monotonic())
            self._arrivals.abandon(batch, lambda _: failure)
            self._cancel(batch, self._clock.monotonic())
        return None

    def _part(self, now: float) -> None:
        """See to the errands that nobody wants any more, or whose time is up."""
        with self._lock:
            while self._limits and self._limits[0][0] <= now:
                errand = heapq.heappop(self._limits)[2]()
                if errand is not None and not errand.ended and not errand.stopping:
                    errand.stopping = "timeout"
                    self._wishes.append(errand)
            wishes = [self._wishes.popleft() for _ in range(len(self._wishes))]
        for errand in wishes:
            if not errand.ended and isinstance(batch := errand.task, Batch):
                self._guarded(batch, self._part_from, batch, errand, now)

    def _part_from(self, batch: Batch, errand: Errand, now: float) -> None:
        with self._lock:
            others = [one for one in batch.errands if not one.stopping]
            if not others:
                batch.stop(errand.stopping, now)
                return
            submitted = batch.request is not None
            self._departures.part(batch, errand)
        # Not under the lock: what follows a future may take a lock whose holder waits for this one.
        self._arrivals.end(errand, errand.parted(len(others)) if submitted else errand.verdict(now, None))

    def _next(self, batch: Batch) -> float:
        """Return the moment when a task next needs us; the lock is held."""
        now = self._clock.monotonic()
        if batch.handle is None:
            return float("-inf") if batch.stopping else self._departure(batch, now)
        if _is_over(batch):
            look = max(self._looking.until, batch.asking.until)
        elif batch.wants_cancel(now):
            return now
        else:
            look = max(batch.next_look(self._looked), self._looking.until, batch.asking.until)
        return max(now, min(look, batch.patience))

    def _departure(self, batch: Batch, now: float) -> float:
        """Return the moment when a batch is to be submitted."""
        return max(self._departures.moment(batch, now), self._submitting.until, batch.asking.until)

    def _tend(self, batch: Batch) -> bool:
        """Submit a task, or cancel it, or give it up, whichever is due; return whether the service was asked."""
        now = self._clock.monotonic()
        if batch.handle is None:
            return self._depart(batch, now)
        over = _is_over(batch)
        if now >= batch.patience:
            # Before it is told once more: a service that cannot be asked would be told for ever. Of a task that is over
            # nobody can say of any item that it is done.
            self._give_up(batch, now, None if over else batch.end)
            return False
        if over:
            # All that is left is to ask what became of its items.
            if now >= max(self._looking.until, batch.asking.until):
                self._settle(batch)
            return True
        if batch.wants_cancel(now):
            self._cancel(batch, now)
            return True
        return False

    def _depart(self, batch: Batch, now: float) -> bool:
        """Submit a task if that is due, or give it up; return whether the service was asked."""
        if not batch.stopping and self._sorts_out(batch, now):
            return True
        with self._lock:
            # If the reply to the last try was lost, its task is not to be left behind.
            due = bool(batch.refused if batch.stopping else now >= self._departure(batch, now))
            if due and not batch.submission_id and self._departures.overtaken(batch, now):
                return False
            if due:
                self._departures.close(batch)
                request = batch.seal(now, self._clock.now(), apart=self._batching)
        if due:
            self._submit(batch, request)
        if batch.stopping and batch.handle is None:
            self._give_up(batch, now, None)
        return due

    def _give_up(self, batch: Batch, now: float, last: TaskStatus | None) -> None:
        """End the errands of a task as far as is known; while others wait for its end, it is followed on."""
        why = next((errand.verdict(now, last) for errand in batch.errands), None)
        self._record.dropped(batch.submission_id, why)
        if batch.handle is None or _is_over(batch):
            self._arrivals.drop(batch)
            self._arrivals.end_all(batch, lambda errand: errand.verdict(now, last))
        else:
            self._arrivals.abandon(batch, lambda errand: errand.verdict(now, last))

    def _sorts_out(self, batch: Batch, now: float) -> bool:
        """Look, for a deletion that many share and that is due, for what is not there; whether that was done now."""
        kind = batch.kind
        if not isinstance(kind, DeleteRequest) or kind.ignore_missing or batch.sorted_out or batch.request is not None:
            return False
        alone = len(batch.riders) == 1
        if alone or now < self._departure(batch, now):
            return False
        with self._lock:
            self._departures.close(batch)
            paths = [str(path) for path in batch.riders]
        failed, unknown = looked_up(self._backend, kind, paths)
        batch.sorted_out = True
        with self._lock:
            gone = [(errand, failed.get(path)) for path in (*failed, *unknown) for errand in list(batch.riders[path])]
            missing = [path for path, outcome in failed.items() if outcome.code == policy.NOT_FOUND]
            late = self._departures.stricter(batch, missing)
            for errand, _ in gone:
                self._departures.part(batch, errand)
            if not batch.riders:
                self._arrivals.drop(batch)
        self._arrivals.again([errand for errand, outcome in gone if outcome is None], share=1)
        self._arrivals.again(late, share=None)
        nobody = TaskStatus(handle=NO_TASK, state=TaskState.FAILED)
        for errand, outcome in gone:
            if outcome is not None:
                self._arrivals.end(errand, replace(nobody, code=outcome.code, reason=outcome.reason))
        return True

    def _submit(self, batch: Batch, request: Request) -> None:
        try:
            # Kept over every try: that is what makes a repetition harmless.
            if not batch.submission_id:
                batch.submission_id = self._backend.new_submission_id()
                waited = batch.waited(self._clock.monotonic())
                self._record.intend(batch.submission_id, request, waited=waited, asked=batch.asked(request))
            handle = self._backend.submit(request, batch.submission_id)
        except Exception as err:  # noqa: BLE001 - whatever it is, the futures have to end
            refusal = err
        else:
            # Its first look comes in its own time, not at once because others were looked at long ago.
            batch.submitted, batch.handle = self._clock.monotonic(), handle
            self._submitting.succeeded()
            self._record.submitted(handle)
            return
        if isinstance(refusal, EndpointUnavailableError) and batch.bears(self._clock.monotonic()):
            batch.refused = str(refusal)
            batch.asking.failed(self._clock.monotonic())
            return
        if isinstance(refusal, BackendError) and refusal.transient:
            batch.refused = str(refusal)
            self._submitting.failed(self._clock.monotonic())
            return
        self._record.refused(batch.submission_id, refusal)
        if isinstance(refusal, PathsInUseError) and refusal.status is not None and not batch.stopping:
            self._wait_for(refusal.status, batch, request)
            return
        self._arrivals.drop(batch)
        if batch.stopping:
            # There is no task, and `_depart` ends what wanted one.
            return
        if batch.apart and not isinstance(refusal, EndpointError | EndpointUnavailableError | LoginRequiredError):
            # One of its items may be to blame.
            self._arrivals.again(batch.errands, share=max(1, len(batch.riders) // 2))
        else:
            self._arrivals.end_all(batch, lambda _: refusal)

    def _wait_for(self, other: TaskStatus, batch: Batch, request: Request) -> None:
        """Have a batch, and those that wait for it, wait for a task that the service holds against it."""
        now, errands = self._clock.monotonic(), batch.errands
        with self._lock:
            followed = self._departures.follow(request, other.handle, now)
            for one in batch.ahead_of:
                one.wait_for([followed])
            self._departures.drop(batch)
        for errand in errands:
            errand.before = other
            # A service that refuses again and again is asked less and less often.
            errand.not_before = now + min(policy.RETRY_MAX, (now - errand.begun) * policy.POLL_FRACTION)
        self._arrivals.again(errands, share=None)

    def _cancel(self, batch: Batch, now: float) -> None:
        batch.cancel_tried(now)
        try:
            self._backend.cancel(batch.handle)  # type: ignore[arg-type] # it has one
        except Exception as err:  # noqa: BLE001 - tried again, until its time is up
            logger.warning("Could not cancel task %s: %s", batch.handle and batch.handle.task_id, err)
        else:
            batch.cancel_heard = True

    def _look_if_due(self) -> None:
        """Look at every task with one question, if one of them is due."""
        now = self._clock.monotonic()
        with self._lock:
            asked = [
                one
                for one in self._departures.batches
                if one.handle is not None and not _is_over(one) and one.wanted and now >= one.asking.until
            ]
            due = min((batch.next_look(self._looked) for batch in asked), default=float("inf"))
        if now < max(due, self._looking.until):
            return
        try:
            statuses = self._backend.poll([batch.handle for batch in asked if batch.handle])
            if len(statuses) != len(asked):
                raise BackendError(f"{len(statuses)} statuses came for {len(asked)} tasks.")  # noqa: TRY301
        except LoginRequiredError as err:
            lost = err
        except Exception as err:  # noqa: BLE001 - asked again; each errand has its timeout
            logger.warning("Could not ask how %d tasks are: %s", len(asked), err)
            self._looking.failed(self._clock.monotonic())
            return
        else:
            self._heard(asked, statuses)
            return
        for batch in [one for one in self._departures.batches if not one.behind.isdisjoint(asked)]:
            self._arrivals.drop(batch)
            self._arrivals.end_all(batch, lambda _: lost)
        for batch in asked:
            self._record.dropped(batch.submission_id, lost)
            self._arrivals.abandon(batch, lambda _: lost)

    def _heard(self, asked: list[Batch], statuses: list[TaskStatus]) -> None:
        self._looked = now = self._clock.monotonic()
        self._looking.succeeded()
        for batch, status in zip(asked, statuses, strict=True):
            self._guarded(batch, self._hear, batch, status, now)

    def _hear(self, batch: Batch, status: TaskStatus, now: float) -> None:
        if not isinstance(status, TaskStatus) or not isinstance(status.state, TaskState) or status.code == UNREAD:
            logger.warning("Nothing could be learnt of %s: %s", batch.handle, getattr(status, "reason", status))
            batch.asking.failed(now)
            return
        batch.asking.succeeded()
        with self._lock:
            batch.hear(status, now)
        self._record.seen(batch.submission_id, status)
        if status.state.final:
            self._settle(batch)
        elif status.code == policy.NOT_FOUND and batch.errands and not batch.stopping and not batch.looked_for:
            batch.looked_for = True
            if proof := absent(self._backend, cast("Request", batch.request)):
                batch.stop("trouble", now, proof)

    def _settle(self, batch: Batch) -> None:
        if not self._arrivals.settle(batch):
            batch.asking.failed(self._clock.monotonic())


def _is_over(batch: Batch) -> bool:
    return batch.status is not None and batch.status.state.final
