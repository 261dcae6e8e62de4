"""Submit a batch when it is due, and decide what an error means for its requests."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from chiltepin.errors import (
    BackendError,
    EndpointError,
    EndpointUnavailableError,
    LoginRequiredError,
    PathsInUseError,
    ServiceBusyError,
)
from chiltepin.model import NO_TASK, DeleteRequest, TaskState, TaskStatus
from chiltepin.transfers import policy
from chiltepin.transfers.service.deadline import late_outcome
from chiltepin.transfers.service.missing_paths import find_missing

if TYPE_CHECKING:
    from chiltepin.model import Request
    from chiltepin.transfers.journal import KnownSubmission
    from chiltepin.transfers.service.batch import Batch
    from chiltepin.transfers.service.batching import Batcher
    from chiltepin.transfers.service.completion import Completer

__all__ = ["Submitter"]


class Submitter:
    """Submits batches to one service; only the manager's thread calls it."""

    def __init__(self, batcher: Batcher, completer: Completer) -> None:
        self._batcher, self._completer = batcher, completer
        self._backend, self._recorder = batcher.backend, batcher.recorder
        self._clock, self._lock = batcher.clock, batcher.lock

    def submit_if_due(self, batch: Batch, now: float) -> bool:
        """Submit a task if it is due, or give it up; return whether that called the service."""
        if not batch.stop_reason and self._drop_missing(batch, now):
            return True
        if batch.origin is not None and not batch.stop_reason and not self._takes_over(batch, batch.origin, now):
            return False
        with self._lock:
            # If the response to the last attempt was lost, only another attempt finds the task to cancel.
            stops = bool(batch.stop_reason) and not batch.abandoned
            due = batch.unconfirmed if stops else now >= self._batcher.submit_time(batch, now)
            if due:
                batch = self._batcher.seal(batch, now)
                request = batch.build_request(now, self._clock.now(), per_item=self._batcher.batching)
        if due:
            self._submit(batch, request)
        if batch.stop_reason and batch.handle is None and (stops or not batch.may_exist(now)):
            self._completer.give_up(batch, now, None)
        return due

    def _takes_over(self, batch: Batch, origin: KnownSubmission, now: float) -> bool:
        """Whether to submit what another process has recorded: that process has ended without recording a task.

        With other settings, the same request may have another meaning here. It is never submitted.
        """
        if now < self._batcher.submit_time(batch, now):
            return False
        # Checked before its last lines are read.
        stopped = self._recorder.others is not None and self._recorder.others.has_stopped(origin, now - batch.created)
        with self._lock:
            self._batcher.read_news(now, always=True)
            if batch.handle is not None or batch not in self._batcher.batches:
                return False
            if waits := batch.foreign or not stopped:
                batch.backoff.failed(now)
        if batch.has_ended:
            self._completer.drop(batch)
            self._completer.end_all(batch, lambda pending: pending.outcome(now, batch.status))
            return False
        if waits:
            self._wait_for_deadline(batch, origin, stopped=stopped)
        return not waits

    def _wait_for_deadline(self, batch: Batch, origin: KnownSubmission, *, stopped: bool) -> None:
        """Drop a submission whose task, if there is one, has ended by now."""
        deadline = origin.entry.deadline + timedelta(seconds=policy.wait_times.CLOCK_SKEW)
        # Requests that were resumed have their own timeouts.
        over = self._clock.now() >= deadline and not batch.has_requests
        why = f"A killed process with other settings may have a task for its path until {deadline:%Y-%m-%d %H:%M} UTC."
        for one in batch.successors:
            one.refused = why if stopped and not over else ""
        if over:
            self._completer.drop(batch)

    def _drop_missing(self, batch: Batch, now: float) -> bool:
        """Remove missing paths from a shared deletion that is due; return whether that called the service."""
        kind = batch.kind
        if (
            not isinstance(kind, DeleteRequest)
            or kind.ignore_missing
            or kind.globs
            or batch.missing_removed
            or batch.request is not None
        ):
            return False
        if not batch.shared or now < self._batcher.submit_time(batch, now):
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
            missing = [path for path, outcome in failed.items() if outcome.code == policy.fault_codes.NOT_FOUND]
            late = self._batcher.take_back_strict(batch, missing)
            for pending, _ in gone:
                self._batcher.remove(batch, pending)
            if not batch.requests_by_item:
                self._completer.drop(batch)
        self._completer.resubmit([pending for pending, outcome in gone if outcome is None], max_items=1)
        self._completer.resubmit(late, max_items=None)
        failed_status = TaskStatus(handle=NO_TASK, state=TaskState.FAILED)
        for pending, outcome in gone:
            if outcome is not None:
                self._completer.end(pending, replace(failed_status, code=outcome.code, reason=outcome.reason))
        return True

    def _submit(self, batch: Batch, request: Request) -> None:
        try:
            # The same id for every attempt, which makes a retry harmless.
            if not batch.submission_id and not self._record_intent(batch, request):
                return
            handle = self._backend.submit(request, batch.submission_id)
        except Exception as err:  # noqa: BLE001 - the futures must end
            refusal = err
        else:
            # The first poll is timed from now, not from the last poll of other tasks.
            batch.submitted, batch.handle = self._clock.monotonic(), handle
            self._batcher.backoff.succeeded()
            self._recorder.submitted(handle)
            return
        self._handle_refusal(batch, request, refusal)

    def _handle_refusal(self, batch: Batch, request: Request, refusal: Exception) -> None:
        """Repeat a submission that failed, or end or divide its batch."""
        unavailable = isinstance(refusal, EndpointUnavailableError) and batch.tolerates_refusal(self._clock.monotonic())
        if unavailable or (isinstance(refusal, BackendError) and refusal.transient):
            batch.refused = str(refusal)
            # The response may have been lost after the service had received the submission.
            if batch.submission_id and not unavailable and not isinstance(refusal, ServiceBusyError):
                batch.unconfirmed = True
            (batch if unavailable else self._batcher).backoff.failed(self._clock.monotonic())
            return
        # A more specific error would occur before the deadline too.
        if type(refusal) is BackendError and not batch.stop_reason and self._end_if_late(batch, request):
            return
        if not batch.adopted:
            # Another process may have submitted its own task since.
            self._recorder.refused(batch.submission_id, refusal)
        if isinstance(refusal, PathsInUseError) and refusal.status is not None and not batch.stop_reason:
            self._wait_for(refusal.status, batch, request)
            return
        self._completer.drop(batch)
        if batch.stop_reason:
            # No task was created, and `submit_if_due` ends its requests.
            return
        if batch.per_item and not isinstance(refusal, EndpointError | EndpointUnavailableError | LoginRequiredError):
            # Bisect the batch: one of its items may be invalid.
            self._completer.resubmit(batch.pending_requests, max_items=max(1, len(batch.requests_by_item) // 2))
        else:
            self._completer.end_all(batch, lambda _: refusal)

    def _end_if_late(self, batch: Batch, request: Request) -> bool:
        """End the requests of a batch if its deadline has passed before it became a task; return whether it has."""
        today = self._clock.now()
        if request.deadline is None or today < request.deadline:
            return False
        if batch.adopted:
            self._completer.drop(batch)
            self._completer.resubmit(batch.pending_requests, max_items=None)
            return True
        late = {pending: late_outcome(pending, today) for pending in batch.pending_requests}
        for outcome in list(late.values())[:1]:
            self._recorder.refused(batch.submission_id, outcome)
        self._completer.drop(batch)
        self._completer.end_all(batch, late.__getitem__)
        return True

    def _record_intent(self, batch: Batch, request: Request) -> bool:
        """Record a task before its submission; return False if it is late, or must wait for one of another process."""
        # Requested before the turn, which other processes wait for.
        submission_id = request.submission_id or self._backend.new_submission_id()
        # The caller's id may be that of a task that has ended.
        if not request.submission_id and self._end_if_late(batch, request):
            return False
        now = self._clock.monotonic()
        with self._recorder.turn:
            with self._lock:
                if self._batcher.defer_to_others(batch, now):
                    return False
            batch.submission_id = submission_id
            self._recorder.record_intent(submission_id, request, waited=now - batch.oldest, asked=batch.asked())
        return True

    def _wait_for(self, other: TaskStatus, batch: Batch, request: Request) -> None:
        """Make a batch and its successors wait for the task that the service reports for the same paths."""
        now, pending_requests = self._clock.monotonic(), batch.pending_requests
        with self._lock:
            followed = self._batcher.adopt(request, other.handle, now)
            for one in batch.successors:
                one.wait_for([followed])
            self._batcher.drop(batch)
        for pending in pending_requests:
            pending.last_status = other
            # Each refusal makes the next pause longer.
            pending.not_before = now + min(
                policy.wait_times.RETRY_MAX, (now - pending.started) * policy.wait_times.POLL_FRACTION
            )
        self._completer.resubmit(pending_requests, max_items=None)
