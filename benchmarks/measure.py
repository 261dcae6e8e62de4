"""What the benchmarks share: alternating rounds, medians, and a temporary folder that goes whatever happens."""

from __future__ import annotations

import gc
import resource
import signal
import statistics
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from types import TracebackType

    from typing_extensions import Self

__all__ = ["Stopwatch", "Times", "alternate", "scratch"]


class Stopwatch:
    """Takes the time of a ``with`` block: ``wall`` seconds, and ``cpu`` seconds of this process and its children."""

    wall = cpu = 0.0

    def __enter__(self) -> Self:
        # What an earlier run has left behind is not collected at the expense of this one.
        gc.collect()
        self._cpu, self._wall = _cpu(), time.perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.wall, self.cpu = time.perf_counter() - self._wall, _cpu() - self._cpu


def _cpu() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


@dataclass(frozen=True)
class Times:
    """What was measured of one candidate; lists hold one number per round.

    Parameters
    ----------
    walls, cpus : list of float
        Seconds.
    ratios : list of float
        Wall time over that of the first candidate in the same round, so that a slow minute of the machine counts in
        both.
    """

    walls: list[float]
    cpus: list[float]
    ratios: list[float]

    @property
    def wall(self) -> float:
        """Median wall time, in seconds."""
        return statistics.median(self.walls)

    @property
    def cpu(self) -> float:
        """Median processor time, in seconds."""
        return statistics.median(self.cpus)

    @property
    def ratio(self) -> str:
        """Median ratio to the first candidate, with the smallest and the largest."""
        if all(ratio == 1 for ratio in self.ratios):
            return "1"
        return f"{statistics.median(self.ratios):.2f} ({min(self.ratios):.2f}-{max(self.ratios):.2f})"


def alternate(candidates: Mapping[str, Callable[[], Stopwatch]], rounds: int) -> dict[str, Times]:
    """Run every candidate once per round, in an order that turns from round to round.

    A first round is run and not counted: it imports, opens and fills caches.

    Parameters
    ----------
    candidates : mapping of str to callable
        Each does its work once and returns the watch that took its time. The first is what the others are compared to.
    rounds : int
        Rounds that count, from 1.
    """
    names = list(candidates)
    watches: dict[str, list[Stopwatch]] = {name: [] for name in names}
    for number in range(rounds + 1):
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            watch = candidates[name]()
            if number:
                watches[name].append(watch)
    first = watches[names[0]]
    return {
        name: Times(
            walls=[watch.wall for watch in taken],
            cpus=[watch.cpu for watch in taken],
            ratios=[watch.wall / base.wall for watch, base in zip(taken, first, strict=True)],
        )
        for name, taken in watches.items()
    }


@contextmanager
def scratch(parent: str | None) -> Iterator[str]:
    """Give a temporary folder below ``parent``; it is removed also after Ctrl-C and after ``kill``."""
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    with tempfile.TemporaryDirectory(prefix="chiltepin-benchmark-", dir=parent, ignore_cleanup_errors=True) as folder:
        yield folder
