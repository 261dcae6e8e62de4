"""Failures whose results were never read: the end of a workflow names them."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from chiltepin.transfers import interpreter_exit

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["UnreadFailures"]

logger = logging.getLogger(__name__)

#: What workflows have given up at a clean end, and whose results were never read.
_abandoned: dict[object, str] = {}


class UnreadFailures:
    """The failures of one workflow."""

    def __init__(self) -> None:
        self._failures: dict[object, str] = {}
        self._before: set[object] = set()

    def add(self, text: str) -> Callable[[], None]:
        """Note a failure; return what takes it back when it is read."""
        key = object()
        self._failures[key] = text

        def read() -> None:
            self._failures.pop(key, None)
            _abandoned.pop(key, None)

        return read

    def end_begins(self) -> None:
        """Take note that what fails from now on is given up."""
        self._before = set(self._failures)

    def warn(self, *, clean: bool) -> None:
        """Log what has failed; what a clean end has given up counts for the exit code as well."""
        if text := self._listed():
            logger.warning("%s", text)
        if clean:
            _abandoned.update((key, text) for key, text in self._failures.copy().items() if key not in self._before)

    def say(self) -> None:
        """Write what has failed to stderr; the exit code says so as well."""
        if text := self._listed():
            interpreter_exit.say(text)

    def _listed(self) -> str:
        lines = self._failures.copy().values()
        head = "These transfers and deletions did not succeed, and their results were not read:"
        return interpreter_exit.listed(head, lines) if lines else ""


@interpreter_exit.while_threads_work
def _count_abandoned() -> None:
    if _abandoned:
        interpreter_exit.fail()
