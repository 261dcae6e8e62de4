"""Advance each task of a service, and poll all of them with one call."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, TypeVar, cast

from chiltepin.errors import BackendError, LoginRequiredError
from chiltepin.model import CLIENT_FAILED, UNREAD, TaskState, TaskStatus
from chiltepin.transfers import policy
from chiltepin.transfers.service.batch import Backoff
from chiltepin.transfers.service.missing_paths import confirm_missing
from chiltepin.transfers.service.submission import Submitter

if TYPE_CHECKING:
    from collections.abc import Callable

    from chiltepin.model import Request
    from chiltepin.transfers.service.batch import Batch
    from chiltepin.transfers.service.batching import Batcher
    from chiltepin.transfers.service.completion import Completer

__all__ = ["Poller"]

logger = logging.getLogger(__name__)

T = TypeVar("T")


class Poller:
    """Submits, polls, cancels and completes the tasks of one service; only the manager's thread calls it."""

    def __init__(self, batcher: Batcher, completer: Completer) -> None:
        self._batcher, self._completer, self._submitter = batcher, completer, Submitter(batcher, completer)
        self._backend, self._recorder = batcher.backend, batcher.recorder
        self._clock, self._lock = batcher.clock, batcher.lock
        self.last_poll, self.backoff = batcher.clock.monotonic(), Backoff()

    def step(self) -> list[float]:
        """Do all work that is due; return `next_steps`."""
        asked = False
        for batch in list(self._batcher.batches):
            if asked:
                # A hundred submissions take longer than the time between two polls.
                self._poll_if_due()
            asked = batch.needed and bool(self.guarded(batch, self._advance, batch))
        self._poll_if_due()
        return self.next_steps()

    def next_steps(self) -> list[float]:
        """Return when the next step of each needed batch is due."""
        with self._lock:
            now = self._clock.monotonic()
            steps = [self._next_step(batch, now) for batch in self._batcher.batches]
        return [step for step in steps if step is not None]

    def _next_step(self, batch: Batch, now: float) -> float | None:
        if batch.handle is not None:
            return batch.next_step(now, self.last_poll, self.backoff.until)
        if not batch.needed:
            return None
        if batch.stop_reason and not batch.abandoned:
            return float("-inf")
        return min(batch.expires, self._batcher.submit_time(batch, now))

    def _advance(self, batch: Batch) -> bool:
        """Submit, cancel, complete or give up a task, whichever is due; return whether that called the service."""
        now = self._clock.monotonic()
        if batch.handle is None:
            return self._submitter.submit_if_due(batch, now)
        if now >= batch.stop_deadline:
            # Checked before the next cancellation: otherwise a service that is down would get one after another. If the
            # task has ended, the outcomes of its items are unknown.
            self._completer.give_up(batch, now, None if batch.has_ended else batch.final_status)
            return False
        if batch.has_ended:
            if now >= max(self.backoff.until, batch.backoff.until):
                self._complete(batch)
            return True
        if batch.stop_reason and batch.wants_cancel(now):
            self._cancel(batch, now)
            return True
        return False

    def _cancel(self, batch: Batch, now: float) -> None:
        batch.note_cancel_tried(now)
        try:
            self._backend.cancel(batch.handle)  # type: ignore[arg-type] # it is not None here
        except Exception as err:  # noqa: BLE001 - retried until the stop deadline
            logger.warning("Could not cancel task %s: %s", batch.handle and batch.handle.task_id, err)
        else:
            batch.cancel_accepted = True

    def guarded(self, batch: Batch, function: Callable[..., T], *given: Any) -> T | None:
        """Call a function for one batch; an error ends only this batch."""
        try:
            return function(*given)
        except Exception as err:
            logger.exception("A batch of %d items ends; other batches continue.", len(batch.requests_by_item))
            # Only the name: the error may hold objects of the SDK.
            kind = type(err).__name__
        failure = BackendError(f"Polling of the request failed with {kind}; see the log.")
        if batch.handle is None or batch.has_ended:
            self._completer.drop(batch)
            self._completer.end_all(batch, lambda _: failure)
        else:
            batch.stop("fault", self._clock.monotonic())
            self._completer.abandon(batch, lambda _: failure)
            self._cancel(batch, self._clock.monotonic())
        return None

    def _poll_if_due(self) -> None:
        now = self._clock.monotonic()
        with self._lock:
            ready = [batch for batch in self._batcher.batches if batch.handle and now >= batch.backoff.until]
            polls = {batch: poll for batch in ready if (poll := batch.next_poll(self.last_poll)) is not None}
        if not polls or now < max(min(polls.values()), self.backoff.until):
            return
        asked = list(polls)
        try:
            statuses = self._backend.poll([batch.handle for batch in asked if batch.handle])
            if len(statuses) != len(asked):
                raise BackendError(f"{len(statuses)} statuses were returned for {len(asked)} tasks.")  # noqa: TRY301
        except Exception as err:  # noqa: BLE001 - retried; each pending request has its timeout
            lost = err
        else:
            self._apply_statuses(asked, statuses)
            return
        if not (isinstance(lost, LoginRequiredError) or getattr(lost, "code", "") == CLIENT_FAILED):
            logger.warning("Could not poll %d tasks: %s", len(asked), lost)
            self.backoff.failed(self._clock.monotonic())
            return
        for batch in [one for one in self._batcher.batches if not one.predecessors.isdisjoint(asked)]:
            self._completer.drop(batch)
            self._completer.end_all(batch, lambda _: lost)
        for batch in asked:
            self._recorder.dropped(batch.submission_id, lost)
            self._completer.abandon(batch, lambda _: lost)

    def _apply_statuses(self, asked: list[Batch], statuses: list[TaskStatus]) -> None:
        self.last_poll = now = self._clock.monotonic()
        self.backoff.succeeded()
        for batch, status in zip(asked, statuses, strict=True):
            self.guarded(batch, self._apply_status, batch, status, now)

    def _apply_status(self, batch: Batch, status: TaskStatus, now: float) -> None:
        if not isinstance(status, TaskStatus) or not isinstance(status.state, TaskState) or status.code == UNREAD:
            logger.warning("Could not read the status of %s: %s", batch.handle, getattr(status, "reason", status))
            batch.backoff.failed(now)
            return
        with self._lock:
            batch.update(status, now)
        self._recorder.seen(batch.submission_id, status)
        if status.state.final:
            self._complete(batch)
        elif (
            status.code == policy.fault_codes.NOT_FOUND
            and batch.has_requests
            and not batch.stop_reason
            and not batch.existence_checked
        ):
            batch.existence_checked = True
            if proof := confirm_missing(self._backend, cast("Request", batch.request)):
                batch.stop("fault", now, proof)

    def _complete(self, batch: Batch) -> None:
        """Complete a task that has ended, or retry later."""
        if not self._completer.complete(batch):
            batch.backoff.failed(self._clock.monotonic())
