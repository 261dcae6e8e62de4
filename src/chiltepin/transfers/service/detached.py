"""Submit a task for whose end this process does not wait."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chiltepin.errors import ChiltepinError, PathsInUseError
from chiltepin.model import TaskState, TaskStatus, items_of
from chiltepin.transfers.outcomes import describe
from chiltepin.transfers.service.batch import kind_of

if TYPE_CHECKING:
    from chiltepin.model import Request, TaskHandle
    from chiltepin.transfers.service.batch import Batch
    from chiltepin.transfers.service.batching import Batcher

__all__ = ["submit_detached"]


def submit_detached(batcher: Batcher, request: Request) -> TaskHandle:
    """Submit a request, or return the task that has the same paths; see `Transfers.submit_detached`."""
    backend, recorder = batcher.backend, batcher.recorder
    submission_id = request.submission_id or backend.new_submission_id()
    _forget_ended(batcher, request)
    with recorder.new_turn():
        if (known := _in_flight(batcher, request)) is not None:
            return known
        recorder.record_intent(submission_id, request)
    try:
        handle = backend.submit(request, submission_id)
    except PathsInUseError as err:
        recorder.refused(submission_id, err)
        if err.status is None:
            raise
        return err.status.handle
    except ChiltepinError as err:
        # After a lost response, the task may exist.
        if not getattr(err, "transient", False):
            recorder.refused(submission_id, err)
        raise
    recorder.submitted(handle)
    return handle


def _overlapping(batcher: Batcher, request: Request) -> list[Batch]:
    now = batcher.clock.monotonic()
    with batcher.lock:
        batcher.read_news(now, always=True)
        return sorted(batcher.overlapping(request), key=batcher.batches.index)


def _forget_ended(batcher: Batcher, request: Request) -> None:
    """Drop the tasks of other processes that have ended, although no process has recorded that."""
    old = [batch for batch in _overlapping(batcher, request) if batch.adopted and not batch.needed]
    handles = {batch: batch.handle for batch in old if batch.handle is not None}
    statuses = batcher.backend.poll(list(handles.values())) if handles else []
    with batcher.lock:
        for batch, status in zip(handles, statuses, strict=True):
            if status.state.final:
                batcher.drop(batch)


def _in_flight(batcher: Batcher, request: Request) -> TaskHandle | None:
    """Return the task in flight that has the same items; raise a PathsInUseError for another one that overlaps."""
    for batch in _overlapping(batcher, request):
        if batch.handle is None:
            if not _was_given_up(batcher, batch):
                raise PathsInUseError(
                    f"{describe(request)} was not submitted, because another task with some of the same paths is being "
                    "submitted; try again when it has ended.",
                    backend=batcher.backend.name,
                )
        elif (
            not batch.foreign
            and batch.kind == kind_of(request)
            and all(item in batch.requests_by_item for item in items_of(request))
        ):
            return batch.handle
        else:
            raise PathsInUseError(
                f"{describe(request)} was not submitted, because task {batch.handle.task_id} has some of the same "
                "paths; wait for its end, or cancel it.",
                status=TaskStatus(handle=batch.handle, state=TaskState.ACTIVE),
                backend=batcher.backend.name,
            )
    return None


def _was_given_up(batcher: Batcher, batch: Batch) -> bool:
    """Whether the process that recorded a submission has ended; the service may never have received it."""
    others, origin = batcher.recorder.others, batch.origin
    if others is None or origin is None:
        return False
    return others.has_stopped(origin, (batcher.clock.now() - origin.entry.begun).total_seconds())
