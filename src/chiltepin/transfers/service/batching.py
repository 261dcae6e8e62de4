"""Group requests into batches, and decide when to submit each.

A request may share only a task that reads its source after the call, so only one that is not submitted yet. Where a
task under way, or one that another request is waiting for, has the same paths, the request waits until that has ended.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, cast

from chiltepin.model import DeleteRequest, TransferRequest, items_of
from chiltepin.protocol import PlacingBackend
from chiltepin.transfers import policy
from chiltepin.transfers.service.batch import Batch, kind_of
from chiltepin.transfers.service.overlaps import Claims, plain_place
from chiltepin.transfers.service.restart import Repeats

if TYPE_CHECKING:
    from collections.abc import Iterable

    from chiltepin.model import Item, Request, TaskHandle
    from chiltepin.protocol import TransferBackend
    from chiltepin.transfers.recorder import Record
    from chiltepin.transfers.service.pending_request import Errand

__all__ = ["Departures"]

#: What batches that may be joined have in common: the request without its items, whether its items are tried again, and
#: the batches that have to end before.
Slot = tuple["Request", bool, frozenset[Batch]]


class Departures:
    """The tasks that are under way, or about to be; the hub holds its lock over every call.

    Parameters
    ----------
    backend : TransferBackend
        The service.
    record : Record
        Tells what other processes have begun, and what those had done that were killed.
    batching : bool
        Whether errands that are alike share a task.

    Attributes
    ----------
    batches : list of Batch
        All of them, the oldest first.
    """

    def __init__(self, backend: TransferBackend, record: Record, *, batching: bool) -> None:
        self._capabilities, self._record, self._batching = backend.capabilities, record, batching
        self.batches: list[Batch] = []
        #: What may still be joined.
        self._open: dict[Slot, Batch] = {}
        self._claims = Claims(backend.place if isinstance(backend, PlacingBackend) else plain_place)
        #: The batches of what other processes have begun, by submission id.
        self._told: dict[str, Batch] = {}
        self._repeats = Repeats(record, self._capabilities)

    def place(self, errand: Errand, now: float) -> bool:
        """Find a batch for an errand; return whether it is one that nothing waits for yet."""
        self._remember(now)
        items, said = items_of(errand.request), kind_of(errand.request)
        if errand.request.deadline is not None:
            said = replace(said, deadline=errand.request.deadline)
        before = self._claims.overlapping(said, items)
        kind = self._form(errand, said, before)
        twin = max(before, key=self.batches.index, default=None)
        if twin is not None and twin.kind == kind and twin.joinable and all(item in twin.riders for item in items):
            self._join(twin, errand, now)
            return False
        batch, fresh = self._joinable(errand, kind, before, now)
        self._join(batch, errand, now)
        return fresh or batch.full

    def _join(self, batch: Batch, errand: Errand, now: float) -> None:
        for item in items_of(errand.request):
            if item not in batch.riders:
                self._claims.add(batch, item)
        batch.join(errand, now)

    def _form(self, errand: Errand, kind: Request, before: set[Batch]) -> Request:
        """Return how to ask for an errand's items: as was said, or in the form that does nothing where it is done."""
        items = items_of(errand.request)
        shared = [batch for batch in before if any(item in batch.riders for item in items)]
        if errand.repeats or any(batch.closed or batch.kind != kind for batch in shared):
            return self._repeats.harmless(kind, items)
        return kind if shared else self._repeats.form(kind, items)

    def _joinable(self, errand: Errand, kind: Request, before: set[Batch], now: float) -> tuple[Batch, bool]:
        """Return a batch that is not submitted yet, and whether it is a new one."""
        # What removes whatever is not its own goes alone, so that it is in no other request's way.
        mirrors = isinstance(kind, TransferRequest) and kind.delete_destination_extra
        alone = mirrors or len(items_of(errand.request)) > 1 or errand.share == 1 or not self._batching
        slot = kind, errand.troubled is not None, frozenset(before)
        batch = None if alone else self._open.get(slot)
        if batch is not None and not batch.full:
            return batch, False
        batch = Batch(kind, now, most=self._capabilities.max_items)
        batch.wait_for(before)
        self.batches.append(batch)
        if not alone:
            self._open[slot] = batch
        return batch, True

    # Tasks of other processes.

    def past(self, now: float) -> list[Batch]:
        """Return the tasks that other processes have begun and that nothing here follows."""
        self._remember(now)
        return [batch for batch in self.batches if batch.inherited and not any(batch.riders.values())]

    def follow(self, request: Request, handle: TaskHandle | None, now: float, *, submission_id: str = "") -> Batch:
        """Take note of a task that another process has begun."""
        batch = Batch.of_others(request, handle, now, submission_id=submission_id)
        self.batches.append(batch)
        for item in batch.riders:
            self._claims.add(batch, item)
        return batch

    def overtaken(self, batch: Batch, now: float) -> bool:
        """Have the errands of a batch wait if another process has submitted a task with their paths meanwhile."""
        self._remember(now, always=True)
        found = self._claims.overlapping(batch.kind, tuple(batch.riders))
        others = {one for one in found if one.inherited}
        if not others:
            return False
        for one in batch.ahead_of:
            one.wait_for(others)
        self.drop(batch)
        for errand in batch.errands:
            self.place(errand, now)
        return True

    def _remember(self, now: float, *, always: bool = False) -> None:
        """Take note of what other processes have written."""
        for news in self._record.news(always=always):
            entry = news.entry
            if entry.state is not None:
                self._repeats.take(news)
                batch = self._told.pop(entry.submission_id, None)
                if batch is not None and not batch.wanted:
                    self.drop(batch)
            elif entry.submission_id in self._told:
                batch = self._told[entry.submission_id]
                batch.handle = batch.handle or entry.handle
            else:
                batch = self.follow(entry.request, entry.handle, now, submission_id=entry.submission_id)
                others = self._record.others
                batch.orphan = others is not None and any(others.killed(asker) for asker, _ in news.began)
                self._told[entry.submission_id] = batch

    # The end of a batch.

    def drop(self, batch: Batch) -> None:
        """Take a batch off the list; its errands have ended, or find another."""
        if batch in self.batches:
            self.batches.remove(batch)
            for item in batch.riders:
                self._claims.remove(batch, item)
        self.close(batch)
        batch.vanish()

    def part(self, batch: Batch, errand: Errand) -> None:
        """Let an errand leave its batch."""
        batch.leave(errand)
        for item in items_of(errand.request):
            if item not in batch.riders:
                self._claims.remove(batch, item)

    def close(self, batch: Batch) -> None:
        """Let no errand join any more."""
        batch.closed = True
        for slot in [slot for slot, one in self._open.items() if one is batch]:
            del self._open[slot]

    def stricter(self, batch: Batch, items: Iterable[Item]) -> list[Errand]:
        """Take back the errands that wait for a deletion which found nothing, if they want to be told of that."""
        waiting = [one for one in self.batches if batch in one.behind]
        found = [errand for one in waiting for item in items for errand in one.riders.get(item, ())]
        strict = [one for one in found if isinstance(one.request, DeleteRequest) and not one.request.ignore_missing]
        for errand in strict:
            left = cast("Batch", errand.task)
            self.part(left, errand)
            if not left.riders:
                self.drop(left)
        return strict

    def moment(self, batch: Batch, now: float) -> float:
        """Return when a task is to be submitted, if nothing joins it until then; infinite while others have to end."""
        if batch.behind:
            return float("inf")
        waits = batch.request is None and batch in self._open.values() and not batch.full
        ready = min(batch.joined + policy.BATCH_QUIET, batch.created + policy.BATCH_WINDOW) if waits else now
        return max(batch.not_before, ready, self._free_slot(batch))

    def _free_slot(self, batch: Batch) -> float:
        """Return when there will be room for a task at the service: long ago, or nobody knows."""
        slots = self._capabilities.slots
        if slots is None:
            return float("-inf")
        there = [type(one.kind) for one in self.batches if one.handle is not None and one.wanted]
        if len(there) >= policy.MAX_TASKS:
            return float("inf")
        return batch.created + policy.SLOT_WAIT if there.count(type(batch.kind)) >= slots else float("-inf")
