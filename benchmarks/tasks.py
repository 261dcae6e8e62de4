"""Measure the overhead of `transfer_task` over Parsl: many small transfers against as many empty apps.

``python benchmarks/tasks.py --help`` lists the options; docs/reference/benchmarks.md explains the figures.
"""

from __future__ import annotations

import argparse
import filecmp
import os
import pty
import shutil
import sys
import threading
from concurrent.futures import wait
from contextlib import contextmanager
from itertools import count
from typing import TYPE_CHECKING

from measure import Stopwatch, compare, scratch
from parsl import python_app

import chiltepin
from chiltepin import configure
from chiltepin.data import transfer_task
from chiltepin.parsl.progress import shown
from chiltepin.tasks import python_task

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Future

    from parsl.dataflow.dflow import DataFlowKernel

SOURCE, TARGET = "laptop", "cluster"
RUN = count()


def nothing(number: int) -> int:
    """Return the argument: the smallest app."""
    return number


def main() -> None:
    """Measure, and print one table."""
    options = _options()
    with scratch(options.folder) as folder:
        _make_sources(folder, options.files, options.size)
        # Off first: after a run with the log, Parsl's logger stays at level DEBUG and still creates records.
        for logging in sorted(set(options.log)):
            for threads in options.threads:
                _measure(folder, options, threads, logging)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--files", type=int, default=1000, help="calls of each kind per round (1000)")
    parser.add_argument("--size", type=int, default=4096, help="bytes per file (4096)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds that count (5)")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2, 4, 8], help="sizes of the pool (1 2 4 8)")
    parser.add_argument("--log", choices=["off", "on"], nargs="+", default=["off", "on"], help="Parsl's own log file")
    parser.add_argument("--folder", help="where to make the temporary folder")
    return parser.parse_args()


def _make_sources(folder: str, files: int, size: int) -> None:
    os.makedirs(os.path.join(folder, SOURCE))
    for number in range(files):
        with open(os.path.join(folder, SOURCE, f"{number}.dat"), "wb") as file:
            file.write(os.urandom(size))


def _measure(folder: str, options: argparse.Namespace, threads: int, logging: str) -> None:
    """Measure all kinds of calls in one workflow."""
    config = configure.load(
        {
            "local": {"provider": "threads", "max_threads": threads},
            "data": {"backend": "local", "root": folder, "endpoints": {SOURCE: {}, TARGET: {}}},
        },
        run_dir=os.path.join(folder, "runinfo"),
    )
    config.initialize_logging = logging == "on"
    with chiltepin.Workflow(config) as workflow:
        title = f"{options.files} calls, {threads} thread{'s' * (threads > 1)}, log {logging}"
        compare(f"{logging}-{threads}", title, _candidates(workflow.dfk, folder, options.files), options.rounds)


def _candidates(dfk: DataFlowKernel, folder: str, calls: int) -> dict[str, Callable[[], Stopwatch]]:
    app = python_app(nothing, data_flow_kernel=dfk, executors=["local"])
    task = python_task(nothing)

    def timed(call: Callable[[int], Future[object]]) -> Stopwatch:
        with Stopwatch() as watch:
            futures = [call(number) for number in range(calls)]
            wait(futures)
        for future in futures:
            future.result()
        return watch

    def copies() -> Stopwatch:
        source, target = os.path.join(folder, SOURCE), _new_target(folder)
        with Stopwatch() as watch:
            for number in range(calls):
                shutil.copyfile(f"{source}/{number}.dat", f"{target}/{number}.dat")
        return watch

    def transfers() -> Stopwatch:
        target = _new_target(folder)
        run = os.path.basename(target)
        watch = timed(
            lambda number: transfer_task(SOURCE, TARGET, f"/{number}.dat", f"/{run}/{number}.dat", executor="local")
        )
        _compare(os.path.join(folder, SOURCE), target, calls)
        return watch

    def watched() -> Stopwatch:
        with _terminal(), shown(dfk):
            return transfers()

    return {
        "Parsl no-op": lambda: timed(app),
        "python_task no-op": lambda: timed(lambda number: task(number, executor="local")),
        "transfer_task": transfers,
        "transfer_task, watched": watched,
        "copyfile in a loop": copies,
    }


@contextmanager
def _terminal() -> Iterator[None]:
    """Replace stderr, where the progress view is drawn, with a terminal, and discard its output."""
    inside, outside = pty.openpty()

    def read() -> None:
        try:
            while os.read(inside, 4096):
                pass
        except OSError:
            # The other end is closed.
            os.close(inside)

    reader = threading.Thread(target=read)
    before = sys.stderr
    reader.start()
    sys.stderr = open(outside, "w", encoding="utf-8")  # noqa: SIM115 - closed below
    try:
        yield
    finally:
        sys.stderr.close()
        sys.stderr = before
        reader.join()


def _new_target(folder: str) -> str:
    # A new folder each time, none removed before the end: ext4 creates files slowly for half a minute after many
    # deletions.
    target = os.path.join(folder, TARGET, f"run-{next(RUN)}")
    os.makedirs(target)
    return target


def _compare(source: str, target: str, files: int) -> None:
    names = [f"{number}.dat" for number in range(files)]
    _same, different, missing = filecmp.cmpfiles(source, target, names, shallow=False)
    if different or missing:
        raise SystemExit(f"Not copied well: {(different + missing)[:5]} and so on.")


if __name__ == "__main__":
    main()
