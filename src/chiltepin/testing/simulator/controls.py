"""Inspect and change a task of the simulator from a test."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from chiltepin.testing.simulator.engine import Engine
    from chiltepin.testing.simulator.tasks import Task

__all__ = ["TaskControl"]


class TaskControl:
    """A task of the simulator, accessed without the API of the service."""

    def __init__(self, engine: Engine, task: Task) -> None:
        self._engine, self._task = engine, task

    @property
    def id(self) -> str:
        """Its id."""
        return self._task.id

    @property
    def status(self) -> str:
        """ACTIVE, INACTIVE, SUCCEEDED or FAILED."""
        return self._task.status

    @property
    def period(self) -> tuple[float, float]:
        """Times of its submission and end, in seconds since 1970 UTC; the end is infinity while it runs."""
        with self._engine.lock:
            end = self._task.completion_time
            return self._task.request_time, float("inf") if end is None else end

    @property
    def destinations(self) -> list[str]:
        """The paths that it writes to; empty for a deletion."""
        return [item.destination_path for item in self._task.submission.items if item.destination_path]

    @property
    def submitted(self) -> dict[str, Any]:
        """The document that was submitted."""
        return dict(self._task.submission.body)

    def document(self) -> dict[str, Any]:
        """Return the task document."""
        return self._engine.document(self._task)

    def events(self) -> list[dict[str, Any]]:
        """Return the event documents, newest first."""
        with self._engine.lock:
            return [event.document() for event in reversed(self._task.events)]

    def set_inactive(self) -> None:
        """Suspend it, as if its credentials had expired."""
        self._engine.hold(self._task, paused=False)

    def pause(self, message: str = "") -> None:
        """Pause it, as an administrator would, with a message for the user."""
        self._task.admin_message = message
        self._engine.hold(self._task, paused=True)

    def cancel_as_admin(self, message: str, side: str = "SOURCE") -> None:
        """Cancel it as the administrator of its ``SOURCE`` or ``DESTINATION`` would, with a message for the user."""
        self._task.admin_message, self._task.canceled_by = message, side
        self._engine.cancel(self._task)

    def resume(self) -> None:
        """Resume it after `pause` or `set_inactive`."""
        self._engine.release(self._task)

    def fail(self, code: str = "INTERNAL_ERROR", description: str = "internal error") -> None:
        """End it with an error."""
        self._engine.fail(self._task, code, description)
