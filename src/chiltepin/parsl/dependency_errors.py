"""Parsl's errors for tasks that depend on a failed task, with the reason of that failure in their text.

Parsl names only the number of the failed task. The reason is in the error's cause, which ``print(error)`` and the last
line of a traceback do not show.
"""

from __future__ import annotations

from typing import Any

from parsl.dataflow import errors

from chiltepin.errors import ChiltepinError, printable
from chiltepin.parsl.serialization import headline

__all__ = ["DependencyError", "JoinError", "explained"]

#: Longest reason, in characters.
_LONGEST = 600


class _Because(errors.PropagatedException):  # type: ignore[misc] # parsl has no types
    """An error that ends with the reason."""

    def __str__(self) -> str:
        said = str(super().__str__())
        cause = self.__cause__
        if cause is None or isinstance(cause, errors.PropagatedException):
            return said
        reason = printable(str(cause)) if isinstance(cause, ChiltepinError) else headline(cause)
        return f"{said}, because: {reason[:_LONGEST]}"


class DependencyError(_Because, errors.DependencyError):  # type: ignore[misc] # parsl has no types
    """A task did not run because a task that it needs failed."""


class JoinError(_Because, errors.JoinError):  # type: ignore[misc] # parsl has no types
    """A join task failed because a task that it has started failed."""


def explained(error: Any) -> Any:
    """Return a Parsl error with the reason in its text; return any other error unchanged."""
    for plain, own in ((errors.DependencyError, DependencyError), (errors.JoinError, JoinError)):
        if type(error) is plain:
            return own(error.dependent_exceptions_tids, error.task_id)
    return error
