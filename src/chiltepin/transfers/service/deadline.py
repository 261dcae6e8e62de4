"""Compute the deadline of a task at a service from the timeouts and deadlines of its requests."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from chiltepin.transfers import policy

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from chiltepin.transfers.service.pending_request import PendingRequest

__all__ = ["task_deadline"]


def task_deadline(pending_requests: Sequence[PendingRequest], now: float, today: datetime) -> tuple[datetime, float]:
    """Return the deadline to send to the service, and the time from which it counts as passed.

    The deadline is the end of the longest timeout, or the earliest deadline that a caller gave if that is sooner.
    ``now`` and the returned time are on the task manager's clock; ``today`` and the deadline are dates and times.
    """
    last = max(pending.times_out_at for pending in pending_requests)
    given = [pending.request.deadline for pending in pending_requests if pending.request.deadline]
    return min([today + timedelta(seconds=last - now), *given]), last + policy.wait_times.CLOCK_SKEW
