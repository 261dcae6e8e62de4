"""End pending requests with the outcomes of their items, or resubmit them."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from chiltepin.errors import BackendError
from chiltepin.model import NO_TASK, SKIPPED_KEPT, DeleteRequest, ItemOutcome, TaskState, TaskStatus, TransferRequest
from chiltepin.protocol import BatchingBackend
from chiltepin.transfers import policy
from chiltepin.transfers.outcomes import describe, status_from_error
from chiltepin.transfers.service.missing_paths import confirm_missing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from chiltepin.model import Request
    from chiltepin.transfers.service.batch import Batch
    from chiltepin.transfers.service.batching import Batcher
    from chiltepin.transfers.service.pending_request import PendingRequest

__all__ = ["Completer"]

logger = logging.getLogger(__name__)


class Completer:
    """Ends the pending requests of tasks that have ended, or resubmits them; only the manager's thread calls it."""

    def __init__(self, batcher: Batcher) -> None:
        self._batcher, self._backend, self._recorder = batcher, batcher.backend, batcher.recorder
        self._clock, self._lock = batcher.clock, batcher.lock
        self._confirmations = 0

    # A whole task.

    def complete(self, batch: Batch) -> bool:
        """End or resubmit the pending requests of a task that has ended; return False if that must wait."""
        now, end = self._clock.monotonic(), cast("TaskStatus", batch.final_status)
        apart = batch.per_item or (end.state is TaskState.SUCCEEDED and self._may_have_skipped(batch))
        if apart and end.state is not TaskState.LOST and batch.has_requests:
            return self._complete_per_item(batch, end, now)
        strict: list[PendingRequest] = []
        if end.code == policy.fault_codes.NOT_FOUND:
            with self._lock:
                strict = self._batcher.take_back_strict(batch, tuple(batch.requests_by_item))
        self._finish_batch(batch, end)
        self.resubmit(strict, max_items=None)
        if batch.adopted and end.state is not TaskState.SUCCEEDED and not batch.stop_reason:
            # The failure of a task of another process does not end a request made now.
            self.resubmit(batch.pending_requests, max_items=None)
        else:
            self.end_all(batch, lambda pending: pending.outcome(now, end))
        return True

    def _may_have_skipped(self, batch: Batch) -> bool:
        """Whether the service may have skipped paths that the callers want to know."""
        accepts = isinstance(batch.kind, TransferRequest) and batch.kind.accept_skipped
        return accepts and isinstance(self._backend, BatchingBackend)

    def _complete_per_item(self, batch: Batch, end: TaskStatus, now: float) -> bool:
        """Like `complete`, for a task that reports an outcome for each item."""
        backend, request = cast("BatchingBackend", self._backend), cast("Request", batch.request)
        try:
            outcomes = backend.outcomes(cast("Any", batch.handle), request)
            if len(outcomes) != len(batch.items):
                raise BackendError(f"{len(outcomes)} outcomes, but {len(batch.items)} items.")  # noqa: TRY301
        except Exception as err:  # noqa: BLE001 - retried; each pending request has its timeout
            logger.warning("Could not read the outcomes of the items of %s: %s", batch.handle, err)
            batch.outcome_failures += 1
            if batch.outcome_failures < policy.limits.OUTCOME_TRIES:
                return False
            # The task has succeeded, and skipped paths count as done; only their names are unknown.
            accepted = end.state is TaskState.SUCCEEDED and self._may_have_skipped(batch)
            outcomes = [ItemOutcome(done=True) if accepted else None] * len(batch.items)
        end = _with_skipped(end, outcomes)
        self._finish_batch(batch, end, [one for one in outcomes if one is not None and not one.done])
        asked_again = batch.adopted or end.state is TaskState.SUCCEEDED or end.code in policy.fault_codes.PER_ITEM_CODES
        unknown: list[PendingRequest] = []
        self._confirmations = policy.limits.CONFIRMED_PATHS
        by_item = dict(zip(batch.items, outcomes, strict=True))
        for pending in [one for one in batch.pending_requests if not one.ended]:
            outcome = _joint([by_item[item] for item in pending.items])
            if outcome is not None:
                # The time for which the task has had the fault counts.
                pending.fault_since = pending.fault_since or batch.fault_since or now
                self._end_item(pending, end, outcome, now)
            elif not pending.stop_reason and asked_again:
                unknown.append(pending)
            else:
                self.end(pending, pending.outcome(now, end))
        self._resubmit_unknown(batch, end, unknown, blamed=any(one is not None and not one.done for one in outcomes))
        return True

    def _resubmit_unknown(self, batch: Batch, end: TaskStatus, unknown: list[PendingRequest], *, blamed: bool) -> None:
        """Resubmit items whose outcome the service does not report."""
        given_up = []
        for pending in unknown:
            pending.unproven += 1
            # The task may have completed the item, so the next task leaves it alone if it is done. A transfer of a task
            # that failed is repeated as it is; a deletion would find nothing.
            may_be_done = end.state is TaskState.SUCCEEDED or isinstance(pending.request, DeleteRequest)
            pending.may_be_done = pending.may_be_done or may_be_done
            if pending.unproven > policy.limits.UNPROVEN_TASKS:
                given_up.append(pending)
        said = end.reason or f"the task ended as {end.state.name}"
        tries = policy.limits.UNPROVEN_TASKS
        reason = f"The service did not report its outcome in {tries} tasks; the last one: {said}"
        for pending in given_up:
            self.end(pending, replace(end, state=TaskState.FAILED, code="UNPROVEN", reason=reason))
        # If no item is named, bisect the batch.
        together = end.state is not TaskState.SUCCEEDED and (blamed or batch.adopted)
        rest = [pending for pending in unknown if not pending.ended]
        self.resubmit(rest, max_items=None if together else max(1, len(rest) // 2))

    def _end_item(self, pending: PendingRequest, end: TaskStatus, outcome: ItemOutcome, now: float) -> None:
        if outcome.done:
            own = outcome.skipped_paths[:SKIPPED_KEPT]
            self.end(pending, replace(end, state=TaskState.SUCCEEDED, code="", reason="", skipped_paths=own))
            return
        heals = (
            outcome.code in policy.fault_codes.PERMANENT_CODES and now < (pending.fault_since or now) + pending.grace
        )
        if heals and not pending.stop_reason and not self._is_missing(pending, outcome):
            pending.not_before = now + min(policy.wait_times.ITEM_RETRY_MAX, pending.grace / 4)
            pending.last_status = TaskStatus(
                handle=NO_TASK, state=TaskState.ACTIVE, code=outcome.code, reason=outcome.reason
            )
            self.resubmit([pending], max_items=None)
            return
        failed = replace(end, state=TaskState.FAILED, code=outcome.code, reason=outcome.reason)
        self.end(pending, pending.outcome(now, failed))

    def _is_missing(self, pending: PendingRequest, outcome: ItemOutcome) -> bool:
        """Whether the backend confirms that the path does not exist."""
        if outcome.code != policy.fault_codes.NOT_FOUND or not self._confirmations:
            return False
        self._confirmations -= 1
        return bool(confirm_missing(self._backend, pending.request))

    def _finish_batch(self, batch: Batch, end: TaskStatus, failed: Sequence[ItemOutcome] = ()) -> None:
        request, shown = cast("Request", batch.request), end
        if end.state in (TaskState.CANCELED, TaskState.EXPIRED) and batch.has_requests:
            # The record shows the TaskTimeoutError that the caller gets, not the end of the task.
            pending = batch.pending_requests[0]
            outcome = pending.outcome(self._clock.monotonic(), end)
            if isinstance(outcome, BaseException):
                shown = status_from_error(outcome, describe(pending.request))
        self._recorder.ended(batch.submission_id, request, end, failed=failed, asked=batch.asked(), shown=shown)
        self.drop(batch)

    def give_up(self, batch: Batch, now: float, last: TaskStatus | None) -> None:
        """End the pending requests of a task with its last status; keep it while it may run and other batches wait."""
        why = next((pending.outcome(now, last) for pending in batch.pending_requests), None)
        self._recorder.dropped(batch.submission_id, why)
        if batch.handle is None and not (batch.adopted or batch.dropped or batch.abandoned):
            self._recorder.withdrawn(batch.submission_id)
        if batch.has_ended or not batch.may_exist(now):
            self.drop(batch)
            self.end_all(batch, lambda pending: pending.outcome(now, last))
        else:
            self.abandon(batch, lambda pending: pending.outcome(now, last))

    def abandon(self, batch: Batch, outcome: Callable[[PendingRequest], TaskStatus | BaseException]) -> None:
        """End the pending requests of a task that may continue, each with its outcome."""
        now, pending_requests = self._clock.monotonic(), batch.pending_requests
        with self._lock:
            batch.abandon()
            for one in [one for one in self._batcher.batches if not one.needed and one.expires < now]:
                self._batcher.drop(one)
        for pending in pending_requests:
            self.end(pending, outcome(pending))

    def drop(self, batch: Batch) -> None:
        """Remove a batch; its pending requests have ended, or join another batch."""
        with self._lock:
            self._batcher.drop(batch)

    # One pending request.

    def resubmit(self, pending_requests: Iterable[PendingRequest], *, max_items: int | None) -> None:
        """Assign pending requests to other tasks, of at most ``max_items`` items."""
        now = self._clock.monotonic()
        with self._lock:
            for pending in pending_requests:
                pending.max_items = max_items
                self._batcher.assign(pending, now)

    def end_all(self, batch: Batch, outcome: Callable[[PendingRequest], TaskStatus | BaseException]) -> None:
        """End all pending requests of a task, each with its outcome."""
        for pending in batch.pending_requests:
            self.end(pending, outcome(pending))

    def end(self, pending: PendingRequest, outcome: TaskStatus | BaseException) -> None:
        """End a pending request, unless it has ended."""
        if pending.ended:
            return
        pending.ended = True
        # A slot at the service may be free now.
        self._batcher.backoff.succeeded()
        pending.finish(outcome)


def _joint(outcomes: Sequence[ItemOutcome | None]) -> ItemOutcome | None:
    """Return the outcome of a request for these items: done if all are, else the first failure; None if unknown."""
    if len(outcomes) == 1:
        return outcomes[0]
    if failed := [one for one in outcomes if one is not None and not one.done]:
        return failed[0]
    paths = (path for one in outcomes if one is not None for path in one.skipped_paths)
    return None if None in outcomes else ItemOutcome(done=True, skipped_paths=tuple(dict.fromkeys(paths)))


def _with_skipped(end: TaskStatus, outcomes: Iterable[ItemOutcome | None]) -> TaskStatus:
    """Return the status of a task with the skipped paths of all its items; its other counts also cover all items."""
    paths = tuple(dict.fromkeys(path for one in outcomes if one is not None for path in one.skipped_paths))
    return replace(end, files_skipped=end.files_skipped + len(paths), skipped_paths=paths[:SKIPPED_KEPT])
