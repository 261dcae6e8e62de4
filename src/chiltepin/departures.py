"""Who travels with whom, and when a task is submitted."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, cast

from chiltepin.batch import Batch, kind_of
from chiltepin.model import DeleteRequest, TransferRequest, items_of
from chiltepin.repeats import Repeats

if TYPE_CHECKING:
    from chiltepin.errand import Errand
    from chiltepin.model import Capabilities, Item, Request
    from chiltepin.record import Record

__all__ = ["Departures"]

#: Seconds for which nobody has joined a task before it is submitted, and the longest that it waits for more: a loop of
#: calls makes one every millisecond or two, and a single transfer is not to be delayed noticeably.
QUIET, WINDOW = 0.05, 0.5

#: Longest that a task waits for a free slot at the service, in seconds. Until then more may join it, and it would only
#: wait there as well; but what is not submitted does not outlive this process.
HOLD = 10.0

#: Most tasks of ours at the service at a time; a user may have 100 pending there, and not all of them from here.
MOST_TASKS = 50


class Departures:
    """The tasks that are under way, or about to be; the hub holds its lock over every call.

    Parameters
    ----------
    capabilities : Capabilities
        What the service can do.
    record : Record
        Tells what other processes have begun, and what those had done that were killed.
    batching : bool
        Whether errands that are alike share a task.

    Attributes
    ----------
    batches : list of Batch
        All of them, the oldest first.
    """

    def __init__(self, capabilities: Capabilities, record: Record, *, batching: bool) -> None:
        self._capabilities, self._record, self._batching = capabilities, record, batching
        self.batches: list[Batch] = []
        #: What may still be joined: by what its items have in common, and whether they are tried again.
        self._open: dict[tuple[Request, bool], Batch] = {}
        #: The tasks that are under way, by item.
        self._flying: dict[tuple[Request, Item], Batch] = {}
        #: What other processes have begun, by item; None as long as nobody has looked.
        self._past: dict[tuple[Request, Item], Batch] | None = None
        self._repeats = Repeats(record, capabilities)

    def place(self, errand: Errand, now: float) -> bool:
        """Find a task for an errand; return whether it is one that nobody waits for yet."""
        items = items_of(errand.request)
        kind = self._form(kind_of(errand.request), items, now)
        flying = self._flying.get((kind, items[0])) if len(items) == 1 else None
        if flying is not None and not flying.stopping and items[0] in flying.riders and flying in self.batches:
            flying.join(errand, now)
            return False
        batch = self._inherited(kind, items, now)
        fresh = batch is not None
        if batch is None:
            # What removes whatever is not its own has no company, so that nobody's files are in its way.
            alone = len(items) > 1 or (isinstance(kind, TransferRequest) and kind.delete_destination_extra)
            batch, fresh = self._joinable(errand, kind, now, alone=alone)
        batch.join(errand, now)
        if batch not in self.batches:
            self.batches.append(batch)
        for item in items:
            self._flying[kind, item] = batch
        return fresh or batch.full

    def _form(self, kind: Request, items: tuple[Item, ...], now: float) -> Request:
        """Return the kind of task for items: another than was said, if a killed process had done them."""
        past = self._remember(now)
        if any((kind, item) in self._flying or (kind, item) in past for item in items):
            # The service takes no second task with the same paths.
            return kind
        return self._repeats.form(kind, items)

    def _joinable(self, errand: Errand, kind: Request, now: float, *, alone: bool) -> tuple[Batch, bool]:
        """Return a task that is not submitted yet, and whether it is a new one."""
        alone = alone or errand.share == 1 or not self._batching
        slot = kind, errand.troubled is not None
        batch = None if alone else self._open.get(slot)
        if batch is not None and not batch.full and not batch.clashes(errand.request):
            return batch, False
        batch = Batch(kind, now, most=self._capabilities.max_items)
        if not alone:
            self._open[slot] = batch
        return batch, True

    def _inherited(self, kind: Request, items: tuple[Item, ...], now: float) -> Batch | None:
        """Return the task that another process has begun for the same items, if there is one."""
        past = self._remember(now)
        keys = [(one, item) for one in _twins(kind) for item in items]
        known = [past.pop(key) for key in keys if key in past] if any((kind, item) in past for item in items) else []
        if len({id(batch) for batch in known}) != 1:
            return None
        batch = known[0]
        whole = items == items_of(cast("Request", batch.request))
        # Of a task of one request with many items there is one outcome, for whoever asks for all of them.
        if len(items) > 1 and not whole:
            return None
        batch.apart = batch.apart and not whole
        return batch

    def past(self, now: float) -> list[Batch]:
        """Return the tasks that other processes have begun and that nobody here has asked for."""
        return list({id(batch): batch for batch in self._remember(now).values()}.values())

    def _remember(self, now: float) -> dict[tuple[Request, Item], Batch]:
        if self._past is None:
            self._past = {}
            for entry in self._record.unfinished():
                batch = Batch.inherited_from(entry, now)
                items = items_of(entry.request)
                # A deletion that many share is always lenient, for what was missing had failed before (`deletions`).
                kinds = _twins(batch.kind) if len(items) > 1 else (batch.kind,)
                self._past.update(((kind, item), batch) for kind in kinds for item in items)
        return self._past

    def drop(self, batch: Batch) -> None:
        """Take a task off the list; its errands have ended, or find another."""
        if batch in self.batches:
            self.batches.remove(batch)
        self.close(batch)
        for item in batch.riders:
            self._land(batch, item)

    def _land(self, batch: Batch, item: Item) -> None:
        """Forget that an item is under way in a task."""
        for kind in _twins(batch.kind):
            if self._flying.get((kind, item)) is batch:
                del self._flying[kind, item]

    def part(self, batch: Batch, errand: Errand) -> None:
        """Let an errand leave its task."""
        batch.leave(errand)
        for item in items_of(errand.request):
            if item not in batch.riders:
                self._land(batch, item)

    def close(self, batch: Batch) -> None:
        """Let nobody join any more, but those who want the same items."""
        for slot in [slot for slot, one in self._open.items() if one is batch]:
            del self._open[slot]

    def moment(self, batch: Batch, now: float) -> float:
        """Return when a task is to be submitted, if nobody joins it until then."""
        waits = batch.request is None and batch in self._open.values() and not batch.full
        ready = min(batch.joined + QUIET, batch.created + WINDOW) if waits else now
        return max(batch.not_before, ready, self._free_slot(batch))

    def _free_slot(self, batch: Batch) -> float:
        """Return when there will be room for a task at the service: long ago, or nobody knows."""
        slots = self._capabilities.slots
        if slots is None:
            return float("-inf")
        there = [type(one.kind) for one in self.batches if one.handle is not None]
        if len(there) >= MOST_TASKS:
            return float("inf")
        return batch.created + HOLD if there.count(type(batch.kind)) >= slots else float("-inf")


def _twins(kind: Request) -> tuple[Request, ...]:
    """Return the kinds of requests that may be one and the same task."""
    if isinstance(kind, DeleteRequest):
        return tuple(replace(kind, ignore_missing=lenient) for lenient in (False, True))
    return (kind,)
