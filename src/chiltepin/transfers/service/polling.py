"""Poll all tasks of a service with one call, and decide what each status means."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, cast

from chiltepin.errors import BackendError, LoginRequiredError
from chiltepin.model import UNREAD, TaskState, TaskStatus
from chiltepin.transfers import policy
from chiltepin.transfers.background_thread import Backoff
from chiltepin.transfers.service.missing_paths import confirm_missing

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    from chiltepin.model import Request
    from chiltepin.protocol import TransferBackend
    from chiltepin.transfers.recorder import TaskRecorder
    from chiltepin.transfers.service.batch import Batch
    from chiltepin.transfers.service.batching import Batcher
    from chiltepin.transfers.service.completion import Completer

__all__ = ["Poller"]

logger = logging.getLogger(__name__)


class Poller:
    """Polls the tasks of one service; only the manager's thread calls it.

    Parameters
    ----------
    backend, recorder, batcher, completer
        The service, and the parts of its task manager.
    clock : object
        Has ``monotonic()``.
    lock : threading.RLock
        Guards the batcher.
    guard : callable
        Calls a function for one batch, and keeps its errors from the other batches.

    Attributes
    ----------
    last_poll : float
        When a poll last succeeded.
    backoff : Backoff
        When to poll again after an error.
    """

    def __init__(
        self,
        backend: TransferBackend,
        recorder: TaskRecorder,
        batcher: Batcher,
        completer: Completer,
        *,
        clock: Any,
        lock: threading.RLock,
        guard: Callable[..., Any],
    ) -> None:
        self._backend, self._recorder, self._batcher, self._completer = backend, recorder, batcher, completer
        self._clock, self._lock, self._guard = clock, lock, guard
        self.last_poll, self.backoff = clock.monotonic(), Backoff()

    def poll_if_due(self) -> None:
        """Poll every task with one call, if one of them is due."""
        now = self._clock.monotonic()
        with self._lock:
            asked = [
                one
                for one in self._batcher.batches
                if one.handle is not None and not one.has_ended and one.needed and now >= one.backoff.until
            ]
            due = min((batch.next_poll(self.last_poll) for batch in asked), default=float("inf"))
        if now < max(due, self.backoff.until):
            return
        try:
            statuses = self._backend.poll([batch.handle for batch in asked if batch.handle])
            if len(statuses) != len(asked):
                raise BackendError(f"{len(statuses)} statuses came for {len(asked)} tasks.")  # noqa: TRY301
        except LoginRequiredError as err:
            lost = err
        except Exception as err:  # noqa: BLE001 - asked again; each pending request has its timeout
            logger.warning("Could not ask how %d tasks are: %s", len(asked), err)
            self.backoff.failed(self._clock.monotonic())
            return
        else:
            self._apply_statuses(asked, statuses)
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
            self._guard(batch, self._apply_status, batch, status, now)

    def _apply_status(self, batch: Batch, status: TaskStatus, now: float) -> None:
        if not isinstance(status, TaskStatus) or not isinstance(status.state, TaskState) or status.code == UNREAD:
            logger.warning("Nothing could be learnt of %s: %s", batch.handle, getattr(status, "reason", status))
            batch.backoff.failed(now)
            return
        batch.backoff.succeeded()
        with self._lock:
            batch.update(status, now)
        self._recorder.seen(batch.submission_id, status)
        if status.state.final:
            self.complete(batch)
        elif (
            status.code == policy.NOT_FOUND
            and batch.pending_requests
            and not batch.stop_reason
            and not batch.existence_checked
        ):
            batch.existence_checked = True
            if proof := confirm_missing(self._backend, cast("Request", batch.request)):
                batch.stop("fault", now, proof)

    def complete(self, batch: Batch) -> None:
        """End the pending requests of a task that has ended; if that is not possible yet, it is tried again."""
        if not self._completer.complete(batch):
            batch.backoff.failed(self._clock.monotonic())
