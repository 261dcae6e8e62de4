"""The threads that work together on one task."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["Crew"]


class Crew:
    """As many threads as the stores of one task can use."""

    def offer(self, deed: Callable[[], None]) -> bool:
        """Have somebody idle do it.

        Returns
        -------
        bool
            False if nobody is idle; then the caller does it, so that nothing ever queues up and memory is bounded.
        """
        del deed
        return False

    def all(self, deeds: Iterable[Callable[[], None]]) -> None:
        """Do all of them, with whoever is idle; return when all have ended, or raise the first error then."""
        for deed in deeds:
            deed()
