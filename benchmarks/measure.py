"""Helpers of the benchmarks: alternating rounds, tables, the figures that run.py collects, and a temporary folder."""

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

    #: A function that does its work once and returns the stopwatch that timed it; or the reason why it cannot run.
    Candidate: TypeAlias = Callable[[], "Stopwatch"] | str

__all__ = [
    "RESULTS",
    "Stopwatch",
    "Times",
    "cells",
    "command",
    "compare",
    "drop_caches",
    "fresh",
    "needs",
    "scratch",
    "show",
    "spread",
]

#: Environment variable: the file to which `compare` and `show` append their figures, one JSON document per line.
RESULTS = "CHILTEPIN_BENCHMARK_RESULTS"
FORK = get_context("fork")


class Stopwatch:
    """Times a ``with`` block: ``wall`` seconds, and ``cpu`` seconds of this process and its children.

    Parameters
    ----------
    wall, cpu : float
        Seconds that another process has measured.
    **more
        Further figures of the same run, by column name.
    """

    def __init__(self, wall: float = 0.0, cpu: float = 0.0, **more: float) -> None:
        self.wall, self.cpu, self.more = wall, cpu, more

    def __enter__(self) -> Self:
        # Otherwise, this block would pay for collecting the garbage of earlier ones.
        gc.collect()
        self._cpu, self._wall = _cpu(), time.perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.wall, self.cpu = time.perf_counter() - self._wall, _cpu() - self._cpu

    def without(self, start: Stopwatch) -> Stopwatch:
        """Return these times minus those of a start, at least 0.1 ms: noise can make the rest negative."""
        return Stopwatch(max(self.wall - start.wall, 1e-4), max(self.cpu - start.cpu, 0.0), **self.more)


def _cpu() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


@dataclass(frozen=True)
class Times:
    """The figures of one candidate; each list has one number per round.

    Parameters
    ----------
    walls, cpus : list of float
        Seconds.
    more : dict of str to list of float
        Further figures, by column name.
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
        """Return the ratio of wall times for each round, so that a slow minute affects both sides."""
        return [mine / theirs for mine, theirs in zip(self.walls, other.walls, strict=True)]


def spread(values: Sequence[float]) -> str:
    """Return the median of some values, with the smallest and the largest."""
    return f"{statistics.median(values):.2f} ({min(values):.2f}-{max(values):.2f})"


def _alternate(candidates: Mapping[str, Callable[[], Stopwatch]], rounds: int) -> dict[str, Times]:
    """Run every candidate once per round, in an order that rotates with each round.

    A first round is not counted: it imports modules, opens connections and fills caches.

    Parameters
    ----------
    candidates : mapping of str to callable
        Each does its work once and returns the stopwatch that timed it.
    rounds : int
        Rounds that count; with 0, the first one counts, to try out a benchmark.
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
        The names of the measurement in the declared targets and in tables.
    candidates : mapping of str to callable or str
        See `needs`. The first is the reference for the ratios.
    rounds : int
        Rounds that count; with 0, the first one counts.
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
    """Return the columns and rows of a measurement's table, from the figures that `compare` keeps."""
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
    """Print and keep a table without a comparison."""
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
    """Return a candidate if its program or Python package is installed, else the reason why it cannot run."""
    if shutil.which(program) or (program.isidentifier() and importlib.util.find_spec(program)):
        return candidate
    return f"{program} is not installed"


def command(*words: str, version: Sequence[str] = ()) -> Stopwatch:
    """Run a command; subtract the time of its start, because Python's functions are timed after their import.

    Parameters
    ----------
    *words : str
        The command; its output is discarded.
    version : sequence of str
        A command that only starts and exits; by default, the same program with ``--version``.
    """
    started = start(*(version or [words[0], "--version"]))
    with Stopwatch() as watch:
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
    return watch.without(started)


@cache
def start(*words: str) -> Stopwatch:
    """Return the fastest of three runs of a command that only starts and exits."""
    watches = [Stopwatch() for _ in range(3)]
    for watch in watches:
        with watch:
            subprocess.run(words, check=True, capture_output=True)
    return min(watches, key=lambda watch: watch.wall)


def fresh(work: Callable[[], Stopwatch]) -> Stopwatch:
    """Run a function in a new process, which inherits the imports of this one and has one thread."""
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


def drop_caches() -> None:
    """Flush pending writes, then drop the kernel's caches; this needs root (proc_sys_vm(5), drop_caches)."""
    os.sync()
    with open("/proc/sys/vm/drop_caches", "w", encoding="ascii") as caches:
        caches.write("3")


@contextmanager
def scratch(parent: str | None) -> Iterator[str]:
    """Yield a temporary folder below ``parent``, which is removed even after Ctrl-C or ``kill``."""
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    with tempfile.TemporaryDirectory(prefix="chiltepin-benchmark-", dir=parent, ignore_cleanup_errors=True) as folder:
        # The journal and the activity log of the user stay as they are.
        os.environ["XDG_STATE_HOME"] = os.path.join(folder, "state")
        yield folder
