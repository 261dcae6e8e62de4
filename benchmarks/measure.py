"""What the benchmarks share: alternating rounds, tables, the figures that run.py collects, and a temporary folder."""

from __future__ import annotations

import gc
import importlib.util
import json
import os
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cache
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from types import TracebackType
    from typing import TypeAlias

    from typing_extensions import Self

    #: Does its work once and returns the watch that took its time; or a sentence that says why it cannot.
    Candidate: TypeAlias = Callable[[], "Stopwatch"] | str

__all__ = [
    "RESULTS",
    "Stopwatch",
    "Times",
    "cells",
    "command",
    "compare",
    "fresh",
    "needs",
    "scratch",
    "show",
    "spread",
]

#: The environment variable that names the file to which `compare` and `show` append their figures, a JSON text a line.
RESULTS = "CHILTEPIN_BENCHMARK_RESULTS"
FORK = get_context("fork")


class Stopwatch:
    """Takes the time of a ``with`` block: ``wall`` seconds, and ``cpu`` seconds of this process and its children.

    Parameters
    ----------
    wall, cpu : float
        Seconds that another process has measured.
    **more
        Further figures of the same work, by the names of their columns.
    """

    def __init__(self, wall: float = 0.0, cpu: float = 0.0, **more: float) -> None:
        self.wall, self.cpu, self.more = wall, cpu, more

    def __enter__(self) -> Self:
        # What an earlier run has left behind is not collected at the expense of this one.
        gc.collect()
        self._cpu, self._wall = _cpu(), time.perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.wall, self.cpu = time.perf_counter() - self._wall, _cpu() - self._cpu

    def without(self, start: Stopwatch) -> Stopwatch:
        """Return what is left without a start; on a busy machine, that of a tiny work can be less than nothing."""
        return Stopwatch(max(self.wall - start.wall, 1e-4), max(self.cpu - start.cpu, 0.0), **self.more)


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
    more : dict of str to list of float
        Further figures, by the names of their columns.
    """

    walls: list[float]
    cpus: list[float]
    more: dict[str, list[float]] = field(default_factory=dict)

    @property
    def wall(self) -> float:
        """Median wall time, in seconds."""
        return statistics.median(self.walls)

    @property
    def cpu(self) -> float:
        """Median processor time, in seconds."""
        return statistics.median(self.cpus)

    def ratios(self, other: Times) -> list[float]:
        """Return the wall time over that of another in the same round, so that a slow minute counts in both."""
        return [mine / theirs for mine, theirs in zip(self.walls, other.walls, strict=True)]


def spread(values: Sequence[float]) -> str:
    """Return the median of some values, with the smallest and the largest."""
    return f"{statistics.median(values):.2f} ({min(values):.2f}-{max(values):.2f})"


def _alternate(candidates: Mapping[str, Callable[[], Stopwatch]], rounds: int) -> dict[str, Times]:
    """Run every candidate once per round, in an order that turns from round to round.

    A first round is run and not counted: it imports, opens and fills caches.

    Parameters
    ----------
    candidates : mapping of str to callable
        Each does its work once and returns the watch that took its time.
    rounds : int
        Rounds that count, from 1; with 0, the first one counts, for a trial of the benchmark.
    """
    names = list(candidates)
    watches: dict[str, list[Stopwatch]] = {name: [] for name in names}
    for number in range(rounds + 1):
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            watch = candidates[name]()
            if number or not rounds:
                watches[name].append(watch)
    return {
        name: Times(
            walls=[watch.wall for watch in taken],
            cpus=[watch.cpu for watch in taken],
            more={column: [watch.more[column] for watch in taken] for column in taken[0].more},
        )
        for name, taken in watches.items()
    }


def compare(key: str, title: str, candidates: Mapping[str, Candidate], rounds: int) -> dict[str, Times]:
    """Measure candidates in alternating rounds, print their table and keep the figures.

    Parameters
    ----------
    key, title : str
        What the work is called in the declarations of the targets, and in tables.
    candidates : mapping of str to callable or str
        See `needs`. The first is what the others are compared with.
    rounds : int
        Rounds that count, from 1.
    """
    missing = {name: candidate for name, candidate in candidates.items() if isinstance(candidate, str)}
    load = [os.getloadavg()[0]]
    measured = _alternate({name: candidates[name] for name in candidates if name not in missing}, rounds)
    load.append(os.getloadavg()[0])
    sides = {name: asdict(times) for name, times in measured.items()}
    work = {"key": key, "title": title, "load": load, "sides": sides, "missing": missing}
    caption = (
        f"ratio: to the first line in the same round, median (smallest-largest); load {load[0]:.1f}, {load[1]:.1f}"
    )
    _print(title, *cells(work), caption)
    _keep(work)
    return measured


def cells(work: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Return the columns and the rows of the table of a work, from what `compare` keeps of it."""
    sides = {name: Times(**times) for name, times in work["sides"].items()}
    first = next(iter(sides.values()))
    more = list(dict.fromkeys(column for times in sides.values() for column in times.more))
    rows = [
        [
            *(name, f"{times.wall:.3f}", f"{times.cpu:.3f}"),
            *(f"{statistics.median(times.more[column]):.5g}" if column in times.more else "" for column in more),
            "1" if times is first else spread(times.ratios(first)),
        ]
        for name, times in sides.items()
    ]
    rows += [[name, *[""] * (len(more) + 2), f"not measured: {reason}"] for name, reason in work["missing"].items()]
    return ["by", "s", "cpu s", *more, "ratio"], rows


def show(key: str, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], caption: str = "") -> None:
    """Print a table that compares nothing, and keep it."""
    _print(title, columns, rows, caption)
    _keep({"key": key, "title": title, "load": [os.getloadavg()[0]], "columns": columns, "rows": rows})


def _print(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], caption: str) -> None:
    table = Table(title=title, title_justify="left", caption=caption)
    for column in columns:
        table.add_column(column, justify="left" if column in ("by", "ratio") else "right")
    for row in rows:
        table.add_row(*row)
    Console(width=120).print(table)
    sys.stdout.flush()


def _keep(work: dict[str, Any]) -> None:
    if name := os.environ.get(RESULTS):
        with open(name, "a", encoding="utf-8") as lines:
            lines.write(json.dumps(work) + "\n")


def needs(program: str, candidate: Callable[[], Stopwatch]) -> Candidate:
    """Return a candidate if a program or Python package is installed, or the sentence that says that it is not."""
    if shutil.which(program) or (program.isidentifier() and importlib.util.find_spec(program)):
        return candidate
    return f"{program} is not installed"


def command(*words: str, version: Sequence[str] = ()) -> Stopwatch:
    """Run a command; its time is less that of its start, as Python's functions are timed after their import.

    Parameters
    ----------
    *words : str
        The command; its output is dropped.
    version : sequence of str
        The command that only starts and ends; by default the same program with ``--version``.
    """
    started = start(*(version or [words[0], "--version"]))
    with Stopwatch() as watch:
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
    return watch.without(started)


@cache
def start(*words: str) -> Stopwatch:
    """Return the fastest of three starts of a command that does nothing else."""
    watches = [Stopwatch() for _ in range(3)]
    for watch in watches:
        with watch:
            subprocess.run(words, check=True, capture_output=True)
    return min(watches, key=lambda watch: watch.wall)


def fresh(work: Callable[[], Stopwatch]) -> Stopwatch:
    """Do a work in a new process, which begins with what is imported here and with one thread."""
    ours, theirs = FORK.Pipe(duplex=False)
    process = FORK.Process(target=lambda: theirs.send(work()))
    process.start()
    theirs.close()
    try:
        watch: Stopwatch = ours.recv()
    except EOFError:
        sys.exit("A process that was to be measured failed; its error is above.")
    finally:
        process.join()
    return watch


@contextmanager
def scratch(parent: str | None) -> Iterator[str]:
    """Give a temporary folder below ``parent``; it is removed also after Ctrl-C and after ``kill``."""
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    with tempfile.TemporaryDirectory(prefix="chiltepin-benchmark-", dir=parent, ignore_cleanup_errors=True) as folder:
        yield folder
