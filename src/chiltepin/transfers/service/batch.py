"""One task at a service: the items of one errand, or of many that are alike."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from chiltepin.model import DeleteRequest, TaskState, TaskStatus, items_of
from chiltepin.transfers import policy
from chiltepin.transfers.service.pending_request import TaskProgress
from chiltepin.transfers.timing import Patience

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from chiltepin.model import Item, Request, TaskHandle
    from chiltepin.transfers.service.pending_request import Errand

__all__ = [
    "Batch",
    "kind_of",
    "single",
]


def kind_of(request: Request) -> Request:
    """Return what a request has in common with those that may share a task with it: all but items and label."""
    if isinstance(request, DeleteRequest):
        return replace(request, paths=(), label="", deadline=None)
    return replace(request, items=(), skip_source_errors=False, label="", deadline=None)


def single(request: Request) -> list[Request]:
    """Return requests for each item of one that was made of those of many callers; else the request itself."""
    kind = kind_of(request)
    if isinstance(request, DeleteRequest):
        return [replace(kind, paths=(path,)) for path in request.paths]  # type: ignore[arg-type]
    if not request.skip_source_errors:
        return [replace(request, deadline=None)]
    return [replace(kind, items=(item,)) for item in request.items]  # type: ignore[arg-type]


class Batch(TaskProgress):
    """One task, from before it is submitted until what became of its items is known.

    A task without errands is followed only while other batches wait for its end: one that another process has
    submitted, or one that was told to stop and has not stopped.

    Attributes
    ----------
    riders : dict of item to list of Errand
        For each item the errands that want it; an item without any is left out, if the task is not submitted yet.
    behind, ahead_of : set of Batch
        Those with the same paths that have to end before this one is submitted, and those that wait for this one.
    request : Request or None
        What is submitted; None as long as items may join.
    submission_id : str
        Set before the first try to submit, and the same for all of them.
    stopping : str
        Why it has to stop: "cancel", "timeout" or "trouble"; empty if it has not.
    """

    def __init__(self, kind: Request, now: float, *, most: int | None = None) -> None:
        self.kind, self.most = kind, most
        self.riders: dict[Item, list[Errand]] = {}
        #: The items that each workflow has asked for, also where it does not wait any more.
        self._asked: dict[str, set[Item]] = {}
        self.behind: set[Batch] = set()
        self.ahead_of: set[Batch] = set()
        self.created = self.joined = self.submitted = now
        #: Whether no more errands may join, because their request would be later than what is read for it.
        self.closed = False
        #: When the service has given it up by itself, whatever it has heard.
        self.expires = float("inf")
        #: Longest time between two looks, in seconds.
        self.longest = float("inf")
        self.not_before = float("-inf")
        self.request: Request | None = None
        #: Whether each item has an outcome of its own: it is for more than one errand.
        self.apart = False
        self.submission_id, self.stopping = "", ""
        #: Whether it was looked for what is not there to be deleted.
        self.sorted_out = False
        #: How often the service could not be asked what became of its items.
        self.unanswered = 0
        #: Whether another process has begun it, so that it may be unknown to the service.
        self.inherited = False
        #: Whether it was asked if what the task does not find is there.
        self.looked_for = False
        #: When to ask again what was refused, or could not be read, of this one task.
        self.asking = Patience()
        #: Whether that process was killed, so that only we can see to a trouble of the task.
        self.orphan = False
        self.cancel_heard = False
        self._cancel_tried = float("-inf")
        self._stopped_at: float | None = None
        self._said = ""
        self._refused_since: float | None = None
        #: The status of a trouble, and since when the task has stood there.
        self._trouble: tuple[TaskStatus, float] | None = None

    @classmethod
    def of_others(cls, request: Request, handle: TaskHandle | None, now: float, *, submission_id: str = "") -> Batch:
        """Return a task that another process has begun.

        Parameters
        ----------
        request : TransferRequest or DeleteRequest
            What it does.
        handle : TaskHandle or None
            The task; None if the service has to be asked for it, with the submission id.
        now : float
            The moment.
        submission_id : str
            What the journal calls it; empty if it is in no journal that Chiltepin reads.
        """
        batch = cls(kind_of(request), now)
        batch.request, batch.submission_id, batch.handle = request, submission_id, handle
        batch.riders = {item: [] for item in items_of(request)}
        batch.closed = batch.inherited = True
        batch.apart = len(batch.riders) > 1
        return batch

    # Who travels in it.

    def join(self, errand: Errand, now: float) -> None:
        """Take an errand in; an item that is there already is shared."""
        for item in items_of(errand.request):
            self.riders.setdefault(item, []).append(errand)
            self._asked.setdefault(errand.workflow, set()).add(item)
        errand.task, self.joined = self, now
        # One that waits before it tries again does not hold up the others.
        self.not_before = min(self.not_before, errand.not_before) if self.longest < float("inf") else errand.not_before
        for batch in (self, *self.behind):
            batch.longest = min(batch.longest, errand.polling_interval)
        shares = [share for share in (self.most, errand.share) if share is not None]
        self.most = min(shares, default=None)

    def asked(self, request: Request) -> dict[str, frozenset[int] | None]:
        """Return which workflows have asked for which items of the request of this task; None stands for all items."""
        items = items_of(request)
        found = {
            workflow: frozenset(number for number, item in enumerate(items) if item in theirs)
            for workflow, theirs in self._asked.items()
        }
        return {
            workflow: numbers if len(numbers) < len(items) else None for workflow, numbers in found.items() if numbers
        }

    def leave(self, errand: Errand) -> None:
        """Let an errand go; before the submission, its item goes with it if nobody else wants it."""
        for item in items_of(errand.request):
            self.riders[item].remove(errand)
            if self.request is None and not self.riders[item]:
                del self.riders[item]

    def wait_for(self, others: Iterable[Batch]) -> None:
        """Be submitted only after others have ended."""
        for other in others:
            self.behind.add(other)
            other.ahead_of.add(self)

    def vanish(self) -> None:
        """Stand in the way of no other batch any more, and wait for none."""
        for other in self.ahead_of:
            other.behind.discard(self)
        for other in self.behind:
            other.ahead_of.discard(self)
        self.ahead_of.clear()
        self.behind.clear()

    def abandon(self) -> None:
        """Let all errands go; the task may live on, and is followed while others wait for its end."""
        self.riders = {item: [] for item in self.riders}
        self._stopped_at = None

    @property
    def wanted(self) -> bool:
        """Whether the end of the task matters to an errand, of this batch or of one that waits for it."""
        return bool(self.ahead_of) or any(self.riders.values())

    @property
    def joinable(self) -> bool:
        """Whether an errand that wants an item of this batch may still join it."""
        return not (self.closed or self.stopping)

    @property
    def full(self) -> bool:
        """Whether no more items may join."""
        return self.request is not None or (self.most is not None and len(self.riders) >= self.most)

    @property
    def errands(self) -> list[Errand]:
        """Those that have not ended, each once."""
        return list({id(errand): errand for riders in self.riders.values() for errand in riders}.values())

    def waited(self, now: float) -> float:
        """Return for how many seconds somebody has waited for it."""
        return now - min((errand.begun for errand in self.errands), default=self.created)

    def seal(self, now: float, today: datetime, *, apart: bool) -> Request:
        """Return what to submit; from now on no item joins.

        Parameters
        ----------
        now, today : float, datetime
            The moment, by the hub's clock and by the calendar.
        apart : bool
            Whether the service can do each item for itself.
        """
        if self.request is None:
            errands = self.errands
            last = max(errand.limit for errand in errands)
            limit, self.expires = today + timedelta(seconds=last - now), last + policy.CLOCK_SKEW
            own = [errand.request.deadline for errand in errands if errand.request.deadline]
            labels = {errand.request.label for errand in errands}
            common = {"label": labels.pop() if len(labels) == 1 else "", "deadline": min([limit, *own])}
            items = tuple(self.riders)
            self.apart = apart and len(items) > 1 and len(errands) > 1
            if isinstance(self.kind, DeleteRequest):
                # What is missing was sorted out before (`deletions.looked_up`), where many share the task.
                lenient = self.kind.ignore_missing or self.apart
                self.request = replace(self.kind, paths=items, ignore_missing=lenient, **common)  # type: ignore[arg-type]
            else:
                skip = self.apart
                self.request = replace(self.kind, items=items, skip_source_errors=skip, **common)  # type: ignore[arg-type]
        return self.request

    # Its time.

    def stop(self, why: str, now: float, said: str = "") -> None:
        """Have it stopped; ``said`` is a sentence that says more about a trouble."""
        if not self.stopping:
            self.stopping, self._said = why, said
        if self._stopped_at is None:
            self._stopped_at, self.status_before_stop = now, self.status

    def wants_cancel(self, now: float) -> bool:
        """Whether the service has to be told to stop the task, now."""
        pause = policy.POLL_MIN if self._stopped_at is not None else policy.CANCEL_RETRY
        return bool(self.stopping) and not self.cancel_heard and now >= self._cancel_tried + pause

    def cancel_tried(self, now: float) -> None:
        """Take note that the service is being told."""
        self._cancel_tried = now

    @property
    def patience(self) -> float:
        """When its time to stop is over; infinite if nobody has told it to."""
        return float("inf") if self._stopped_at is None else self._stopped_at + policy.STOP_GRACE

    def next_look(self, looked: float) -> float:
        """Return when to look at the task again, if the last look was at ``looked``."""
        looked = max(looked, self.submitted)
        longest = self.longest
        if self._stopped_at is not None:
            return looked + min(policy.POLL_MIN, longest)
        pause = min(max(policy.POLL_MIN, (looked - self.submitted) * policy.POLL_FRACTION), longest)
        patience = self._trouble[1] + self._grace() if self._trouble else looked + pause
        return min(looked + pause, max(looked, patience))

    def bears(self, now: float) -> bool:
        """Whether to wait longer for an endpoint that the service could not use at the submission."""
        if self._refused_since is None:
            self._refused_since = now
        return now < self._refused_since + self._grace()

    def hear(self, status: TaskStatus, now: float) -> None:
        """Take note of what a look said, and wish the task stopped if it stands in a trouble for too long."""
        self.status = status
        # A task without errands is another process's, and that one sees to its troubles if it lives.
        if self.stopping or status.state.final or not (self.orphan or any(self.riders.values())):
            return
        if status.state is not TaskState.PAUSED and status.code not in policy.PERMANENT_CODES:
            self._trouble = None
            return
        before, since = self._trouble or (status, now)
        moved = (status.bytes_done, status.files_done) != (before.bytes_done, before.files_done)
        self._trouble = status, now if moved else since
        if now >= self._trouble[1] + self._grace():
            self.stop("trouble", now)

    @property
    def trouble_since(self) -> float | None:
        """Since when it has stood in a trouble; None if it does not."""
        return self._trouble[1] if self._trouble else None

    def _grace(self) -> float:
        waiting = [errand for batch in self.ahead_of for errand in batch.errands]
        return max((errand.grace for errand in self.errands or waiting), default=0.0)

    @property
    def end(self) -> TaskStatus | None:
        """How the task as a whole stands; one that was stopped in a trouble keeps the trouble's code."""
        if self.stopping != "trouble" or self._trouble is None or self.status is None:
            return self.status
        if self.status.state is TaskState.SUCCEEDED:
            return self.status
        trouble = self._trouble[0]
        state = TaskState.PAUSED if trouble.state is TaskState.PAUSED else TaskState.FAILED
        said = self._said or f"It did not get on for {self._grace():g} seconds."
        return replace(trouble, state=state, reason=f"{said} {trouble.reason}")
