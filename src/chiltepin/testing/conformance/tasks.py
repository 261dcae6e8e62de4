"""Laws about looking up tasks by their ids, for a `TasksBackend`."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from chiltepin.errors import PathNotFoundError
from chiltepin.protocol import TasksBackend
from chiltepin.testing.conformance.helpers import deletion, must_raise, require, transfer

if TYPE_CHECKING:
    from chiltepin.model import Request, TaskHandle
    from chiltepin.testing.conformance.rig import Rig

__all__ = ["TaskLaws"]

UNKNOWN = "12345678-1234-1234-1234-123456789abc"


def tasks_backend(rig: Rig) -> TasksBackend:
    """Return the backend; skip the law if it is not a `TasksBackend`."""
    if not isinstance(rig.backend, TasksBackend):
        pytest.skip("This backend cannot look up tasks by id: it does not implement chiltepin.protocol.TasksBackend.")
    return rig.backend


def ended(rig: Rig, request: Request) -> TaskHandle:
    """Submit a request, and return its handle when it has ended."""
    handle = rig.backend.submit(request, rig.backend.new_submission_id())
    rig.settle(handle)
    return handle


class TaskLaws:
    """What ``tasks``, ``task`` and ``events`` must return."""

    def test_a_task_is_known_by_its_id(self, rig: Rig) -> None:
        """``task`` must return the status that poll returns, and when the task was submitted and ended, in UTC."""
        backend = tasks_backend(rig)
        rig.put(rig.source, "/f", b"data")
        handle = ended(rig, transfer(rig, ("/f", "/g")))
        info, (status,) = backend.task(handle.task_id), backend.poll([handle])
        require(
            info.status.state is status.state,
            f"task must return the state that poll returns, {status.state}; got {info}",
        )
        require(info.status.files_done == 1, f"task must count files; got {info.status.files_done}")
        require(info.kind == "transfer", f"the kind of a transfer must be 'transfer'; got {info.kind}")
        times = [moment for moment in (info.asked, info.ended) if moment is not None]
        require(len(times) == 2, "a task that has ended must have both times")  # noqa: PLR2004
        require(all(moment.utcoffset() == timedelta(0) for moment in times), f"times must be in UTC; got {times}")

    def test_all_tasks_are_listed(self, rig: Rig) -> None:
        """``tasks`` must yield each task once, the newest first."""
        backend = tasks_backend(rig)
        rig.put(rig.source, "/f", b"data")
        first = ended(rig, transfer(rig, ("/f", "/g")))
        second = ended(rig, deletion(rig, "/g"))
        ids = (first.task_id, second.task_id)
        listed = [(info.status.handle.task_id, info.kind) for info in backend.tasks()]
        # The user may have other tasks.
        found = [(task_id, kind) for task_id, kind in listed if task_id in ids]
        expected = [(second.task_id, "delete"), (first.task_id, "transfer")]
        require(found == expected, f"tasks must list the newest first, {expected}; got {found}")

    def test_an_unknown_id_is_not_found(self, rig: Rig) -> None:
        """``task`` and ``events`` must raise PathNotFoundError for an id that the service does not know."""
        backend = tasks_backend(rig)
        must_raise(
            PathNotFoundError, lambda: backend.task(UNKNOWN), "task of an unknown id must raise PathNotFoundError"
        )
        must_raise(
            PathNotFoundError,
            lambda: backend.events(UNKNOWN, limit=10),
            "events of an unknown id must raise PathNotFoundError",
        )

    def test_events_tell_what_happened(self, rig: Rig) -> None:
        """``events`` must return the newest events first, at most the limit, with an error if a file is missing."""
        backend = tasks_backend(rig)
        handle = ended(rig, transfer(rig, ("/missing", "/g")))
        found = backend.events(handle.task_id, limit=100)
        require(
            found == sorted(found, key=lambda event: event.time, reverse=True),
            "events must return the newest event first",
        )
        require(any(event.is_error for event in found), f"events must contain an error event for a fault; got {found}")
        require(len(backend.events(handle.task_id, limit=1)) == 1, "events must not return more events than the limit")
