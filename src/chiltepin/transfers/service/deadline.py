"""Compute the deadline of a task from the timeouts and deadlines of its requests, and end requests that are late."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from chiltepin.model import NO_TASK, TaskState, TaskStatus
from chiltepin.transfers import policy

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from chiltepin.transfers.service.pending_request import PendingRequest

__all__ = ["late_outcome", "task_deadline"]


def task_deadline(pending_requests: Sequence[PendingRequest], now: float, today: datetime) -> tuple[datetime, float]:
    """Return the deadline to send to the service, and the time from which it counts as passed.

    The deadline is the end of the longest timeout, or the earliest deadline that a caller gave if that is sooner.
    ``now`` and the returned time are on the task manager's clock; ``today`` and the deadline are dates and times.
    """
    last = max(pending.times_out_at for pending in pending_requests)
    given = [pending.request.deadline for pending in pending_requests if pending.request.deadline]
    return min([today + timedelta(seconds=last - now), *given]), last + policy.wait_times.CLOCK_SKEW


def late_outcome(pending: PendingRequest, today: datetime) -> TaskStatus | BaseException:
    """Return how a request ends if the deadline of its task has passed before the service had the task.

    The requests of one task have the same deadline, or none.
    """
    deadline = pending.request.deadline
    if deadline is None or today < deadline:
        return pending.timed_out()
    reason = f"Its deadline, {deadline:%Y-%m-%d %H:%M:%S} UTC, passed before it was submitted."
    return TaskStatus(handle=NO_TASK, state=TaskState.EXPIRED, code="EXPIRED", reason=reason)
