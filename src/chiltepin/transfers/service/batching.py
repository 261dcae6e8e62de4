"""Group requests into batches, and decide when to submit each.

A request joins only a task that is not submitted yet, because the task must read the source after the call. If another
task has overlapping paths and cannot be joined, the request waits until that task has ended.
"""

from __future__ import annotations

import threading
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from chiltepin.errors import ChiltepinError
from chiltepin.model import NO_TASK, DeleteRequest, TaskStatus, TransferRequest, items_of
from chiltepin.protocol import PlacingBackend
from chiltepin.transfers import policy
from chiltepin.transfers.service.batch import Backoff, Batch, kind_of
from chiltepin.transfers.service.overlaps import PathClaims, Placed, plain_place
from chiltepin.transfers.service.restart import RestartPlan

if TYPE_CHECKING:
    from collections.abc import Iterable

    from chiltepin.model import Item, Request, TaskHandle, TaskState
    from chiltepin.protocol import TransferBackend
    from chiltepin.transfers.journal import JournalEntry, KnownSubmission
    from chiltepin.transfers.recorder import TaskRecorder
    from chiltepin.transfers.service.pending_request import PendingRequest

__all__ = ["Batcher"]

#: The key of a batch that may be joined: the request without its items, whether the items are retries, and the batches
#: that must end first.
Slot = tuple["Request", bool, frozenset[Batch]]

_SEEN_ELSEWHERE = "The process that submitted it has recorded this end."


class Batcher:
    """The tasks that are running or about to be submitted; the caller holds ``lock`` during every call.

    ``lock`` guards the batches and their requests, and is never held during a call to the service, or while a future
    ends. ``backoff`` delays submissions after a transient error of the service. ``batches`` are in order of creation.
    """

    def __init__(self, backend: TransferBackend, recorder: TaskRecorder, *, clock: Any, batching: bool) -> None:
        self.backend, self.recorder, self.clock, self.batching = backend, recorder, clock, batching
        self._capabilities = backend.capabilities
        self.lock, self.backoff = threading.RLock(), Backoff()
        self.batches: list[Batch] = []
        #: The batches that may still be joined.
        self._open: dict[Slot, Batch] = {}
        self._claims = PathClaims(backend.place if isinstance(backend, PlacingBackend) else plain_place)
        #: The batches of tasks of other processes, by submission id.
        self._adopted: dict[str, Batch] = {}
        self._restart_plan = RestartPlan(recorder, self._capabilities)

    def assign(self, pending: PendingRequest, now: float) -> bool:
        """Find a batch for a pending request; return whether to wake the thread now."""
        self.read_news(now)
        items, said = pending.items, kind_of(pending.request)
        if pending.request.deadline is not None:
            said = replace(said, deadline=pending.request.deadline)
        before = self._claims.overlapping(said, items)
        kind = self._choose_form(pending, said, before)
        twin = max(before, key=self.batches.index, default=None)
        if (
            twin is not None
            and twin.kind == kind
            and twin.joinable
            # A request for several items shares a task only with equal ones, so that a task can always be bisected.
            and any(one.items == items for one in twin.requests_by_item.get(items[0], ())[:1])
        ):
            self._join(twin, pending, now)
            return False
        batch, fresh = self._open_batch(pending, kind, before, now)
        return self._join(batch, pending, now) or fresh

    def overlapping(self, request: Request) -> set[Batch]:
        """Return the tasks that write to or delete a path of a request."""
        return self._claims.overlapping(kind_of(request), items_of(request))

    def _join(self, batch: Batch, pending: PendingRequest, now: float) -> bool:
        """Add a pending request to a batch; return whether the batch is full."""
        for item in pending.items:
            if item not in batch.requests_by_item:
                self._claims.add(batch, item)
        if full := batch.join(pending, now):
            self._unlist(batch)
        return full

    def _choose_form(self, pending: PendingRequest, kind: Request, before: set[Batch]) -> Request:
        """Return the form in which to submit the items: as requested, or one that leaves completed items alone."""
        items = pending.items
        shared = [batch for batch in before if any(item in batch.requests_by_item for item in items)]
        if pending.may_be_done or any(batch.closed or batch.kind != kind for batch in shared):
            return self._restart_plan.repeatable_form(kind, items)
        return kind if shared else self._restart_plan.choose_form(kind, items)

    def _open_batch(self, pending: PendingRequest, kind: Request, before: set[Batch], now: float) -> tuple[Batch, bool]:
        """Return a batch that is not submitted yet, and whether it is new."""
        # A mirror would delete the files of other requests, so it never shares a task.
        mirrors = isinstance(kind, TransferRequest) and kind.delete_destination_extra
        # Only the service knows which paths a pattern matches.
        globs = isinstance(kind, DeleteRequest) and kind.globs
        lonely = mirrors or globs or bool(kind.submission_id)
        alone = lonely or len(pending.items) > 1 or pending.max_items == 1 or not self.batching
        slot = kind, pending.fault_since is not None, frozenset(before)
        batch = None if alone else self._open.get(slot)
        if batch is not None and batch.joinable:
            return batch, False
        batch = Batch(kind, now, max_items=self._capabilities.max_items)
        if before:
            batch.wait_for(before)
        self.batches.append(batch)
        if not alone:
            self._open[slot] = batch
        return batch, True

    # Tasks of other processes.

    def adopted_tasks(self, now: float) -> list[Batch]:
        """Return the tasks of other processes that no request here waits for."""
        self.read_news(now)
        adopted = [one for one in self.batches if one.adopted and not one.foreign]
        return [batch for batch in adopted if not batch.has_requests]

    def adopt(
        self, request: Request, handle: TaskHandle | None, now: float, *, news: KnownSubmission | None = None
    ) -> Batch:
        """Add a task that another process has submitted, with what the journal says about it."""
        batch = Batch.adopt(request, handle, now, submission_id=news.entry.submission_id if news else "")
        if news is not None:
            batch.origin, batch.orphaned = news, partial(self._was_killed, news)
            batch.foreign = news.entry.settings != self.recorder.settings_of(request)
            batch.place = self._placed_by(news.entry.settings) if batch.foreign else None
        self.batches.append(batch)
        for item in batch.requests_by_item:
            self._claims.add(batch, item)
        return batch

    def defer_to_others(self, batch: Batch, now: float) -> bool:
        """Delay a batch if another process has submitted a task with overlapping paths; return whether it has."""
        self.read_news(now, always=True)
        found = self._claims.overlapping(batch.kind, tuple(batch.requests_by_item))
        others = {one for one in found if one.adopted}
        if not others:
            return False
        for one in batch.successors:
            one.wait_for(others)
        self.drop(batch)
        for pending in batch.pending_requests:
            self.assign(pending, now)
        return True

    def read_news(self, now: float, *, always: bool = False) -> None:
        """Learn what other processes have recorded; see `OtherProcesses.read_news`."""
        others = self.recorder.others
        for news in others.read_news(always=always) if others is not None else ():
            entry = news.entry
            if entry.state is not None:
                self._restart_plan.add(news)
                if (batch := self._adopted.pop(entry.submission_id, None)) is not None:
                    self._end_adopted(batch, entry)
            elif entry.submission_id in self._adopted:
                self._adopted[entry.submission_id].found(entry.handle)
            else:
                self._adopted[entry.submission_id] = self.adopt(entry.request, entry.handle, now, news=news)

    def _end_adopted(self, batch: Batch, entry: JournalEntry) -> None:
        """Record that another process has seen the end of its task, or that it never became a task."""
        batch.found(entry.handle)
        if not batch.needed or (batch.handle is None and not batch.has_requests):
            self.drop(batch)
        elif batch.handle is None:
            state = cast("TaskState", entry.state)
            batch.status, batch.has_ended = TaskStatus(handle=NO_TASK, state=state, reason=_SEEN_ELSEWHERE), True

    def _placed_by(self, settings: dict[str, Any] | None) -> Placed | None:
        """Return the `PlacingBackend.place` of other settings; None if they are unknown: ours are the best guess."""
        if settings is None:
            return None
        try:
            other = type(self.backend).from_config(settings["endpoints"], settings["options"])
            return other.place if isinstance(other, PlacingBackend) else None
        except (ChiltepinError, LookupError, TypeError, ValueError, AttributeError):
            # Another version, or another program, has written the settings.
            return None

    def _was_killed(self, news: KnownSubmission) -> bool:
        others = self.recorder.others
        return others is not None and any(others.killed(asker) for asker, _ in news.began)

    # The end of a batch.

    def drop(self, batch: Batch) -> None:
        """Remove a batch; its pending requests have ended, or join another batch."""
        if batch in self.batches:
            self.batches.remove(batch)
            for item in batch.requests_by_item:
                self._claims.remove(batch, item)
        self.close(batch)
        batch.dropped = True
        if batch.successors or batch.predecessors:
            batch.unlink()

    def remove(self, batch: Batch, pending: PendingRequest) -> None:
        """Remove a pending request from its batch."""
        batch.remove(pending)
        for item in pending.items:
            if item not in batch.requests_by_item:
                self._claims.remove(batch, item)

    def close(self, batch: Batch) -> None:
        """Let no further pending request join."""
        batch.closed = True
        self._unlist(batch)

    def seal(self, batch: Batch, now: float) -> Batch:
        """Close and return a batch that is due, or a part of a large batch; the rest waits for the next slot."""
        items = list(batch.requests_by_item)
        share = self._share(batch)
        whole = batch.request is not None or len(items) <= share
        if whole or any(len(one.items) > 1 for one in batch.pending_requests):
            self.close(batch)
            return batch
        part = Batch(batch.kind, batch.created, max_items=batch.max_items)
        self.batches.append(part)
        for pending in [one for item in items[:share] for one in batch.requests_by_item[item]]:
            self.remove(batch, pending)
            self._join(part, pending, now)
        part.poll_max = batch.poll_max
        for one in batch.successors:
            one.wait_for({part})
        self.close(part)
        return part

    def _share(self, batch: Batch) -> int:
        """Return how many items of a batch to put into one task: an equal share for each slot of the service.

        The next task gets the same share of the rest, and so on, so that the last tasks are small and end at about the
        same time, whenever the slots become free.
        """
        count, slots = len(batch.requests_by_item), self._capabilities.slots
        if slots is None or isinstance(batch.kind, DeleteRequest):
            return count
        return max(-(-count // slots), policy.limits.SLOT_ITEMS)

    def _unlist(self, batch: Batch) -> None:
        for slot in [slot for slot, one in self._open.items() if one is batch]:
            del self._open[slot]

    def take_back_strict(self, batch: Batch, items: Iterable[Item]) -> list[PendingRequest]:
        """Remove and return the pending deletions that must fail because ``batch`` found nothing at their paths."""
        waiting = [one for one in self.batches if batch in one.predecessors]
        found = [pending for one in waiting for item in items for pending in one.requests_by_item.get(item, ())]
        # A stopped one ends in its batch: a stop is processed only once.
        strict = [
            one
            for one in found
            if isinstance(one.request, DeleteRequest) and not (one.request.ignore_missing or one.stop_reason)
        ]
        for pending in strict:
            left = cast("Batch", pending.task)
            self.remove(left, pending)
            if not left.requests_by_item:
                self.drop(left)
        return strict

    def submit_time(self, batch: Batch, now: float) -> float:
        """Return when to submit a batch if nothing joins it until then; infinite while other batches must end first."""
        if batch.predecessors:
            return float("inf")
        waits = batch in self._open.values()
        ready = (
            min(batch.last_joined + policy.wait_times.BATCH_QUIET, batch.created + policy.wait_times.BATCH_WINDOW)
            if waits
            else now
        )
        return max(batch.not_before, ready, self._free_slot(batch), self.backoff.until, batch.backoff.until)

    def _free_slot(self, batch: Batch) -> float:
        """Return when the service has room for a task: minus infinity for now, infinity for an unknown time."""
        slots = self._capabilities.slots
        if slots is None:
            return float("-inf")
        there = [type(one.kind) for one in self.batches if one.handle is not None and one.needed]
        if len(there) >= policy.limits.MAX_TASKS:
            return float("inf")
        return batch.created + policy.wait_times.SLOT_WAIT if there.count(type(batch.kind)) >= slots else float("-inf")
