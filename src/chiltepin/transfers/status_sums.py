"""Add the statuses of the parts of a task."""

from __future__ import annotations

from dataclasses import replace

from chiltepin.model import SKIPPED_KEPT, TaskStatus

__all__ = ["added", "at_least"]

#: Fields of a status that only grow.
_COUNTS = ("bytes_done", "files_done", "files_skipped", "faults")


def added(total: TaskStatus, more: TaskStatus) -> TaskStatus:
    """Return the sum of two statuses, with the state of the first one."""
    sums = {name: getattr(total, name) + getattr(more, name) for name in (*_COUNTS, "bytes_moving")}
    return replace(total, **sums, skipped_paths=(total.skipped_paths + more.skipped_paths)[:SKIPPED_KEPT])


def at_least(total: TaskStatus, before: TaskStatus) -> TaskStatus:
    """Return a status whose counts are not lower than before."""
    return replace(total, **{name: max(getattr(total, name), getattr(before, name)) for name in _COUNTS})
