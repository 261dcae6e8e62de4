"""How errands end: what became of each item of a task, and the futures that wait to hear of it."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from chiltepin.errors import BackendError
from chiltepin.model import NO_TASK, TaskState, TaskStatus, items_of
from chiltepin.transfers import policy
from chiltepin.transfers.service.absence import absent

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterable, Sequence

    from chiltepin.model import ItemOutcome, Request
    from chiltepin.protocol import BatchingBackend, TransferBackend
    from chiltepin.transfers.recorder import Record
    from chiltepin.transfers.service.batch import Batch
    from chiltepin.transfers.service.batching import Departures
    from chiltepin.transfers.service.pending_request import Errand

__all__ = ["Arrivals"]

logger = logging.getLogger(__name__)


class Arrivals:
    """Ends the errands of tasks that have ended, or finds another task for them; only the hub's own thread calls.

    Parameters
    ----------
    backend : TransferBackend
        Tells what became of each item.
    record : Record
        Where the ends are written down.
    departures : Departures
        Where an errand that goes again finds its task.
    clock : object
        Has ``monotonic()``.
    lock : threading.RLock
        Guards the departures.
    freed : callable
        Is told when an errand has ended: a place at the service may have become free.
    """

    def __init__(
        self,
        backend: TransferBackend,
        record: Record,
        departures: Departures,
        *,
        clock: Any,
        lock: threading.RLock,
        freed: Callable[[], None],
    ) -> None:
        self._backend, self._record, self._departures = backend, record, departures
        self._clock, self._lock, self._freed = clock, lock, freed
        self._proofs = 0

    # Of a whole task.

    def settle(self, batch: Batch) -> bool:
        """End the errands of a task that has ended, or find another task for them; False if that has to wait."""
        now, end = self._clock.monotonic(), cast("TaskStatus", batch.end)
        whole = not batch.apart or end.state is TaskState.LOST or not any(batch.riders.values())
        if not whole:
            return self._settle_apart(batch, end, now)
        strict: list[Errand] = []
        if end.code == policy.NOT_FOUND:
            with self._lock:
                strict = self._departures.stricter(batch, tuple(batch.riders))
        self._finish_batch(batch, end)
        self.again(strict, share=None)
        if batch.inherited and end.state is not TaskState.SUCCEEDED and not batch.stopping:
            # What came of it elsewhere is no answer to whoever asks for it now.
            self.again(batch.errands, share=None)
        else:
            self.end_all(batch, lambda errand: errand.verdict(now, end))
        return True

    def _settle_apart(self, batch: Batch, end: TaskStatus, now: float) -> bool:
        """Do so where each item has an outcome of its own."""
        backend, request = cast("BatchingBackend", self._backend), cast("Request", batch.request)
        try:
            outcomes = backend.outcomes(cast("Any", batch.handle), request)
            if len(outcomes) != len(items_of(request)):
                raise BackendError(f"{len(outcomes)} outcomes came for {len(items_of(request))} items.")  # noqa: TRY301
        except Exception as err:  # noqa: BLE001 - asked again, some times; each errand has its timeout
            logger.warning("Could not ask what became of the items of %s: %s", batch.handle, err)
            batch.unanswered += 1
            if batch.unanswered < policy.OUTCOME_TRIES:
                return False
            outcomes = [None] * len(items_of(request))
        self._finish_batch(batch, end, [one for one in outcomes if one is not None and not one.done])
        asked_again = batch.inherited or end.state is TaskState.SUCCEEDED or end.code in policy.PER_ITEM_CODES
        unknown: list[Errand] = []
        self._proofs = policy.CONFIRMED_PATHS
        for item, outcome in zip(items_of(request), outcomes, strict=True):
            for errand in [one for one in batch.riders.get(item, ()) if not one.ended]:
                if outcome is not None:
                    # What the whole task has waited for need not be waited for again.
                    errand.troubled = errand.troubled or batch.trouble_since or now
                    self._end_item(errand, end, outcome, now)
                elif not errand.stopping and asked_again:
                    unknown.append(errand)
                else:
                    self.end(errand, errand.verdict(now, end))
        self._find_out(batch, end, unknown, blamed=any(one is not None and not one.done for one in outcomes))
        return True

    def _find_out(self, batch: Batch, end: TaskStatus, unknown: list[Errand], *, blamed: bool) -> None:
        """Ask again for items of which the service does not tell what became of them."""
        given_up = []
        for errand in unknown:
            errand.unproven += 1
            # The task did something, so it is asked for in the form that does nothing where it is done.
            errand.repeats = errand.repeats or end.state is TaskState.SUCCEEDED
            if errand.unproven > policy.UNPROVEN_TASKS:
                given_up.append(errand)
        said = end.reason or f"the task ended as {end.state.name}"
        reason = f"The service did not tell in {policy.UNPROVEN_TASKS} tasks what became of it; of the last one: {said}"
        for errand in given_up:
            self.end(errand, replace(end, state=TaskState.FAILED, code="UNPROVEN", reason=reason))
        # Where no item is named, halves find out which it is.
        together = end.state is not TaskState.SUCCEEDED and (blamed or batch.inherited)
        rest = [errand for errand in unknown if not errand.ended]
        self.again(rest, share=None if together else max(1, len(rest) // 2))

    def _end_item(self, errand: Errand, end: TaskStatus, outcome: ItemOutcome, now: float) -> None:
        """End an errand as its item ended, or try it again where that may heal."""
        if outcome.done:
            self.end(errand, replace(end, state=TaskState.SUCCEEDED, code="", reason=""))
            return
        heals = outcome.code in policy.PERMANENT_CODES and now < (errand.troubled or now) + errand.grace
        if heals and not errand.stopping and not self._is_missing(errand, outcome):
            errand.not_before = now + min(policy.ITEM_RETRY_MAX, errand.grace / 4)
            errand.before = TaskStatus(handle=NO_TASK, state=TaskState.ACTIVE, code=outcome.code, reason=outcome.reason)
            self.again([errand], share=None)
            return
        failed = replace(end, state=TaskState.FAILED, code=outcome.code, reason=outcome.reason)
        self.end(errand, errand.verdict(now, failed))

    def _is_missing(self, errand: Errand, outcome: ItemOutcome) -> bool:
        """Whether it is confirmed that there is nothing to wait for."""
        if outcome.code != policy.NOT_FOUND or not self._proofs:
            return False
        self._proofs -= 1
        return bool(absent(self._backend, errand.request))

    def _finish_batch(self, batch: Batch, end: TaskStatus, failed: Sequence[ItemOutcome] = ()) -> None:
        request = cast("Request", batch.request)
        self._record.ended(batch.submission_id, request, end, failed=failed, asked=batch.asked(request))
        self.drop(batch)

    def abandon(self, batch: Batch, outcome: Callable[[Errand], TaskStatus | BaseException]) -> None:
        """End the errands of a task that may go on, each with its outcome; others may wait for its end."""
        now, errands = self._clock.monotonic(), batch.errands
        with self._lock:
            batch.abandon()
            for one in [one for one in self._departures.batches if not one.wanted and one.expires < now]:
                self._departures.drop(one)
        for errand in errands:
            self.end(errand, outcome(errand))

    def drop(self, batch: Batch) -> None:
        """Take a task off the list; its errands have ended, or find another."""
        with self._lock:
            self._departures.drop(batch)

    # Of an errand.

    def again(self, errands: Iterable[Errand], *, share: int | None) -> None:
        """Find another task for errands, of at most ``share`` items."""
        now = self._clock.monotonic()
        with self._lock:
            for errand in errands:
                errand.share = share
                self._departures.place(errand, now)

    def end_all(self, batch: Batch, outcome: Callable[[Errand], TaskStatus | BaseException]) -> None:
        """End all errands of a task, each with its outcome."""
        for errand in batch.errands:
            self.end(errand, outcome(errand))

    def end(self, errand: Errand, outcome: TaskStatus | BaseException) -> None:
        """End an errand, once."""
        if errand.ended:
            return
        errand.ended = True
        self._freed()
        errand.end(outcome)
