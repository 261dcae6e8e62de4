"""One task at a service: the items of one pending request, or of several similar ones."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from chiltepin.model import DeleteRequest, TaskState, TaskStatus, items_of
from chiltepin.transfers import policy
from chiltepin.transfers.service.deadline import task_deadline
from chiltepin.transfers.service.pending_request import TaskProgress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import datetime

    from chiltepin.model import Item, Request, TaskHandle
    from chiltepin.transfers.journal import KnownSubmission
    from chiltepin.transfers.service.pending_request import PendingRequest

__all__ = ["Backoff", "Batch", "kind_of", "split"]


def kind_of(request: Request) -> Request:
    """Return the fields that the requests of one task share: all but items, label and deadline.

    `Batch.build_request` decides later whether the task skips items because several requests share it.
    """
    if isinstance(request, DeleteRequest):
        return replace(request, paths=(), label="", deadline=None)
    return replace(request, items=(), skip_source_errors=request.accept_skipped, label="", deadline=None)


def split(request: Request) -> list[Request]:
    """Split a deletion or a shared transfer into one request for each item; return any other transfer whole."""
    kind = kind_of(request)
    if isinstance(request, DeleteRequest):
        return [replace(kind, paths=(path,)) for path in request.paths]  # type: ignore[arg-type]
    if request.accept_skipped or not request.skip_source_errors:
        return [replace(request, deadline=None)]
    return [replace(kind, items=(item,)) for item in request.items]  # type: ignore[arg-type]


#: Maximum length of the label of a shared task; leaves room for the mark of the backend.
_LABELS = 80


def _joined(labels: set[str]) -> str:
    """Join the labels of the requests into the label of their task, truncated to fit."""
    text = ", ".join(sorted(labels - {""}))
    return text if len(labels) == 1 or len(text) <= _LABELS else f"{text[:_LABELS].rstrip(' ,')}..."


class Backoff:
    """When to retry a failed call to the service."""

    def __init__(self) -> None:
        self._wait, self.until = policy.wait_times.RETRY_MIN, float("-inf")

    def failed(self, now: float) -> None:
        """Delay the next call, twice as long as the last time."""
        self.until, self._wait = now + self._wait, min(2 * self._wait, policy.wait_times.RETRY_MAX)

    def succeeded(self) -> None:
        """Allow requests at once."""
        self._wait, self.until = policy.wait_times.RETRY_MIN, float("-inf")


class Batch(TaskProgress):
    """One task, from before its submission until the outcomes of its items are known.

    A task without pending requests was submitted by another process, or was canceled and has not stopped yet. It is
    polled only while other batches wait for its end.

    Attributes
    ----------
    requests_by_item : dict of item to list of PendingRequest
        The pending requests for each item; before the submission, an item without any is removed.
    predecessors, successors : set of Batch
        Batches with overlapping paths: those that must end before this one is submitted, and those that wait for it.
    oldest : float
        When the oldest request of the task was made, on the task manager's clock.
    request, items
        The request to submit, and its items; None and empty while items may join.
    submission_id : str
        Set before the first attempt to submit, and the same for every attempt.
    stop_reason : str
        Why the task must stop: "cancel", "timeout" or "fault"; empty otherwise.
    """

    def __init__(self, kind: Request, now: float, *, max_items: int | None = None) -> None:
        self.kind, self.max_items = kind, max_items
        self.requests_by_item: dict[Item, list[PendingRequest]] = {}
        self._pending_requests: dict[PendingRequest, None] = {}
        #: The items that each workflow has requested, including those that it no longer waits for.
        self._asked: dict[str, set[Item]] = {}
        self.predecessors: set[Batch] = set()
        self.successors: set[Batch] = set()
        self.created = self.last_joined = self.submitted = self.oldest = now
        #: Whether no pending request may join, because the task may have read the source before the request was made.
        self.closed = False
        #: Whether its requests have ended before the task.
        self.abandoned = False
        #: Whether the manager has removed it: its requests have ended or moved, and nothing is left to do.
        self.dropped = False
        #: When the deadline has passed at the service, so that the task has ended even if a cancellation failed.
        self.expires = float("inf")
        #: Longest time between two polls, in seconds.
        self.poll_max = float("inf")
        self.not_before = float("-inf")
        self.request: Request | None = None
        self.items: tuple[Item, ...] = ()
        #: Whether the service reports an outcome for each item, because several pending requests share the task.
        self.per_item = False
        self.submission_id, self.stop_reason = "", ""
        #: Whether paths that do not exist were removed from a deletion.
        self.missing_removed = False
        #: Failed attempts to read the outcomes of its items.
        self.outcome_failures = 0
        #: Whether another process has submitted it; the service may never have received that submission.
        self.adopted = False
        #: Whether the backend was asked about a path that the task cannot find.
        self.existence_checked = False
        #: When to repeat a submission or poll of this task that failed.
        self.backoff = Backoff()
        #: What another process has recorded about it, and whether it had other settings, so that its request means
        #: something else here; then ``place`` is its `PlacingBackend.place`, if that is known.
        self.origin: KnownSubmission | None = None
        self.foreign = False
        self.place: Callable[[str, str], tuple[str, ...]] | None = None
        #: Whether the process that submitted it was killed; then only this process can stop it because of a fault.
        self.orphaned: Callable[[], bool] = lambda: False
        self.cancel_accepted, self._cancel_tried = False, float("-inf")
        #: When the grace period for stopping ends; infinite unless the task was told to stop.
        self.stop_deadline = float("inf")
        #: Whether the task has ended at the service; the outcomes of its items may still be unknown.
        self.has_ended = False
        self._stop_detail = ""
        self._refused_since: float | None = None
        #: The last status with a permanent fault, and when that fault began.
        self._fault: tuple[TaskStatus, float] | None = None

    @classmethod
    def adopt(cls, request: Request, handle: TaskHandle | None, now: float, *, submission_id: str = "") -> Batch:
        """Return a task that another process has submitted.

        The handle is None if only the submission id is known, and the id is empty if the journal does not have it.
        """
        batch = cls(kind_of(request), now)
        batch.request, batch.submission_id, batch.handle = request, submission_id, handle
        batch.items = items_of(request)
        batch.requests_by_item = {item: [] for item in batch.items}
        batch.closed = batch.adopted = True
        batch.per_item = len(batch.requests_by_item) > 1
        return batch

    def found(self, handle: TaskHandle | None) -> None:
        """Record the task of a submission of another process, if it is known by now."""
        if self.handle is None and handle is not None:
            self.handle = handle
            self.backoff.succeeded()

    # Its requests.

    def join(self, pending: PendingRequest, now: float) -> bool:
        """Add a pending request, whose items the batch may already have; return whether the batch is full."""
        for item in pending.items:
            self.requests_by_item.setdefault(item, []).append(pending)
            self._asked.setdefault(pending.workflow, set()).add(item)
        self._pending_requests[pending] = None
        pending.task, self.last_joined = self, now
        # A request that waits before its retry does not delay other requests of the batch.
        self.not_before = (
            min(self.not_before, pending.not_before) if self.poll_max < float("inf") else pending.not_before
        )
        for batch in (self, *self.predecessors):
            batch.poll_max = min(batch.poll_max, pending.polling_interval)
        limits = [limit for limit in (self.max_items, pending.max_items) if limit is not None]
        self.max_items = min(limits, default=None)
        return self.max_items is not None and len(self.requests_by_item) >= self.max_items

    def asked(self) -> dict[str, frozenset[int] | None]:
        """Return which items of the task each workflow has requested, by number; None stands for all items."""
        found = {
            workflow: frozenset(number for number, item in enumerate(self.items) if item in theirs)
            for workflow, theirs in self._asked.items()
        }
        count = len(self.items)
        return {workflow: numbers if len(numbers) < count else None for workflow, numbers in found.items() if numbers}

    def remove(self, pending: PendingRequest) -> None:
        """Remove a pending request and, before the submission, the items that only it requested."""
        del self._pending_requests[pending]
        for item in pending.items:
            self.requests_by_item[item].remove(pending)
            if self.request is None and not self.requests_by_item[item]:
                del self.requests_by_item[item]

    def wait_for(self, others: Iterable[Batch]) -> None:
        """Delay the submission until other batches have ended."""
        for other in others:
            self.predecessors.add(other)
            other.successors.add(self)

    def unlink(self) -> None:
        """Remove the batch from the predecessors and successors of other batches."""
        for other in self.successors:
            other.predecessors.discard(self)
        for other in self.predecessors:
            other.successors.discard(self)
        self.successors.clear()
        self.predecessors.clear()

    def abandon(self) -> None:
        """Release all pending requests; the task may continue, and is polled while other batches wait for its end."""
        self.requests_by_item = {item: [] for item in self.requests_by_item}
        self._pending_requests = {}
        self.abandoned, self.stop_deadline = True, float("inf")

    def may_exist(self, now: float) -> bool:
        """Whether the service has its task, or may have received the submission that it did not confirm."""
        return self.handle is not None or (self.unconfirmed and now < self.expires)

    @property
    def needed(self) -> bool:
        """Whether a pending request waits for the end of the task, here or in a successor."""
        return not self.dropped and (bool(self.successors) or self.has_requests)

    @property
    def joinable(self) -> bool:
        """Whether a pending request for an item of this batch may still join it."""
        return not (self.closed or self.stop_reason)

    @property
    def shared(self) -> bool:
        """Whether the task, which is not submitted yet, has requests for different items."""
        first = next(iter(self.requests_by_item.values()))[0]
        return len(self.requests_by_item) > len(first.items)

    @property
    def pending_requests(self) -> list[PendingRequest]:
        """The pending requests that have not ended, each once."""
        return list(self._pending_requests)

    @property
    def has_requests(self) -> bool:
        """Whether it has a pending request that has not ended."""
        return bool(self._pending_requests)

    def build_request(self, now: float, today: datetime, *, per_item: bool) -> Request:
        """Return the request to submit; after that no item may join.

        ``now`` is on the task manager's clock, ``today`` is a date and time. ``per_item`` tells whether the service
        handles each item separately.
        """
        if self.request is None:
            pending_requests = self.pending_requests
            self.oldest = min((pending.started for pending in pending_requests), default=self.created)
            deadline, self.expires = task_deadline(pending_requests, now, today)
            labels = {pending.request.label for pending in pending_requests}
            common = {"label": _joined(labels), "deadline": deadline}
            self.items = items = tuple(self.requests_by_item)
            self.per_item = per_item and self.shared
            if isinstance(self.kind, DeleteRequest):
                # The missing paths of a shared task have already been removed (`missing_paths.find_missing`).
                lenient = self.kind.ignore_missing or self.per_item
                self.request = replace(self.kind, paths=items, ignore_missing=lenient, **common)  # type: ignore[arg-type]
            else:
                skip = self.per_item or self.kind.accept_skipped
                self.request = replace(self.kind, items=items, skip_source_errors=skip, **common)  # type: ignore[arg-type]
        return self.request

    # When to poll, cancel and give up.

    def stop(self, why: str, now: float, said: str = "") -> None:
        """Mark the task for stopping; ``said`` is a sentence that explains a fault."""
        if not self.stop_reason:
            self.stop_reason, self._stop_detail = why, said
        if self.stop_deadline == float("inf"):
            self.stop_deadline, self.status_before_stop = now + policy.wait_times.STOP_GRACE, self.status

    def wants_cancel(self, now: float) -> bool:
        """Whether to send a cancellation to the service now."""
        pause = policy.wait_times.POLL_MIN if self.stop_deadline < float("inf") else policy.wait_times.CANCEL_RETRY
        return not self.cancel_accepted and now >= self._cancel_tried + pause

    def note_cancel_tried(self, now: float) -> None:
        """Record that a cancellation is sent now."""
        self._cancel_tried = now

    def next_step(self, now: float, last_poll: float, service_ready: float) -> float | None:
        """Return when to poll, cancel or give up its task; None if nothing waits for its end.

        ``service_ready`` is when the next request may be sent to the service.
        """
        if not self.needed:
            return None
        if self.has_ended:
            poll = service_ready
        elif self.stop_reason and self.wants_cancel(now):
            return now
        else:
            poll = max(self._poll_time(last_poll), service_ready)
        return max(now, min(max(poll, self.backoff.until), self.stop_deadline))

    def next_poll(self, last_poll: float) -> float | None:
        """Return when to poll its task if the last poll was at ``last_poll``; None if nothing waits for a status."""
        return self._poll_time(last_poll) if self.needed and not self.has_ended else None

    def _poll_time(self, last_poll: float) -> float:
        last_poll = max(last_poll, self.submitted)
        longest = self.poll_max
        if self.stop_deadline < float("inf"):
            return last_poll + min(policy.wait_times.POLL_MIN, longest)
        pause = min(
            max(policy.wait_times.POLL_MIN, (last_poll - self.submitted) * policy.wait_times.POLL_FRACTION), longest
        )
        fault_ends = self._fault[1] + self._grace() if self._fault and not self.stop_reason else last_poll + pause
        return min(last_poll + pause, max(last_poll, fault_ends))

    def tolerates_refusal(self, now: float) -> bool:
        """Whether to keep retrying a submission that failed because an endpoint was unavailable."""
        if self._refused_since is None:
            self._refused_since = now
        return now < self._refused_since + self._grace()

    def update(self, status: TaskStatus, now: float) -> None:
        """Record the status of a poll, and stop the task if a permanent fault has lasted too long."""
        self.status, self.has_ended = status, status.state.final
        self.backoff.succeeded()
        if self.stop_reason or self.has_ended:
            return
        # A task without pending requests belongs to another process, which handles its faults if it is running.
        ours = self.has_requests or self.orphaned()
        faulty = status.state is TaskState.PAUSED or status.code in policy.fault_codes.PERMANENT_CODES
        if not (ours and faulty):
            self._fault = None
            return
        before, since = self._fault or (status, now)
        moved = (status.bytes_done, status.files_done) != (before.bytes_done, before.files_done)
        self._fault = status, now if moved else since
        if now >= self._fault[1] + self._grace():
            self.stop("fault", now)

    @property
    def fault_since(self) -> float | None:
        """When its permanent fault began; None without one."""
        return self._fault[1] if self._fault else None

    def _grace(self) -> float:
        waiting = [pending for batch in self.successors for pending in batch.pending_requests]
        return max((pending.grace for pending in self.pending_requests or waiting), default=0.0)

    @property
    def final_status(self) -> TaskStatus | None:
        """The status of the whole task; a task that was stopped because of a fault keeps the code of the fault."""
        if self.stop_reason != "fault" or self._fault is None or self.status is None:
            return self.status
        if self.status.state is TaskState.SUCCEEDED:
            return self.status
        fault = self._fault[0]
        state = TaskState.PAUSED if fault.state is TaskState.PAUSED else TaskState.FAILED
        said = self._stop_detail or f"No progress for {self._grace():g} seconds."
        return replace(fault, state=state, reason=f"{said} {fault.reason}")
