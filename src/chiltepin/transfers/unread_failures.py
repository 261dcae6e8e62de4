"""Failures whose results were never read; they are reported when the workflow ends."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from chiltepin.transfers import interpreter_exit

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["UnreadFailures"]

logger = logging.getLogger(__name__)

#: Tasks that workflows gave up at a clean end, and whose results were never read.
_abandoned: dict[object, str] = {}


class UnreadFailures:
    """The failures of one workflow."""

    def __init__(self) -> None:
        self._failures: dict[object, str] = {}
        self._before: set[object] = set()

    def add(self, text: str) -> Callable[[], None]:
        """Record a failure; return a function that removes it when the result is read."""
        key = object()
        self._failures[key] = text

        def read() -> None:
            self._failures.pop(key, None)
            _abandoned.pop(key, None)

        return read

    def end_begins(self) -> None:
        """Record that tasks that fail from now on were given up."""
        self._before = set(self._failures)

    def warn(self, *, clean: bool) -> None:
        """Log the failures; tasks that a clean end gave up also change the exit code."""
        if text := self._listed():
            logger.warning("%s", text)
        if clean:
            _abandoned.update((key, text) for key, text in self._failures.copy().items() if key not in self._before)

    def say(self) -> None:
        """Write the failures to stderr, and change the exit code."""
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
