"""Compare a loop of `transfer_task` at a service with one task made by hand and with apps that wait.

``python benchmarks/transfers.py --help`` lists the options; docs/reference/benchmarks.md explains the figures.
"""

from __future__ import annotations

import argparse
import filecmp
import itertools
import logging
import os
import time
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from functools import partial
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any, TypeVar

import globus_sdk
from measure import Stopwatch, compare, scratch
from parsl import python_app
from service import counting, serving

import chiltepin
from chiltepin import configure
from chiltepin.data import transfer_task

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from concurrent.futures import Future
    from contextlib import AbstractContextManager
    from multiprocessing.connection import Connection

    from service import Service

    from chiltepin.data import TransferFuture

T = TypeVar("T")

SOURCE, TARGET = "laptop", "cluster"
LARGE, WARM_UP = 10_000, 5
RUN = itertools.count()

#: Limits of the simulated service for each user, as Globus documents them.
LIMITS = {"slots": 3, "pending_limit": 100, "request_rate": 20.0}

#: Seconds: far longer than any measurement.
ENDLESS = 1e6


class Bench:
    """The setup that all parts share.

    Parameters
    ----------
    options : argparse.Namespace
        The sizes.
    folder : str
        The parent of the folders of both collections.
    service : Service
        The simulated Globus.
    client : globus_sdk.TransferClient or None
        An SDK client with a separate token, so that tasks by hand have a separate request limit.
    """

    def __init__(
        self, options: argparse.Namespace, folder: str, service: Service, client: globus_sdk.TransferClient | None
    ) -> None:
        self.options, self.service, self.folder, self._client = options, service, folder, client
        self._ids = {name: service.collection(name) for name in (SOURCE, TARGET)}

    @contextmanager
    def workflow(self, *, log: bool = True, batch: bool = True) -> Iterator[chiltepin.Workflow]:
        """Run a workflow with the default executor, whose transfers use the service."""
        endpoints = {name: {"globus": collection} for name, collection in self._ids.items()}
        config = configure.load(
            {"data": {"backend": "globus", "endpoints": endpoints, "batch": batch}},
            run_dir=os.path.join(self.folder, "runinfo"),
        )
        config.initialize_logging = log
        # Parsl's logger keeps its level from the previous log and would create records that nothing reads.
        logging.getLogger("parsl").setLevel(logging.NOTSET)
        with chiltepin.Workflow(config) as workflow:
            yield workflow

    def loop(self, files: int, run: str) -> list[TransferFuture]:
        """Start a transfer for each file, in a loop."""
        return [
            transfer_task(SOURCE, TARGET, f"/{number}.dat", f"/{run}/{number}.dat", executor="local")
            for number in range(files)
        ]

    def by_hand(self, numbers: Iterable[int], run: str) -> None:
        """Transfer files in one task with the plain SDK, and poll until it ends, as the SDK's ``task_wait`` does."""
        data = globus_sdk.TransferData(self._ids[SOURCE], self._ids[TARGET], verify_checksum=True)
        for number in numbers:
            data.add_item(f"/{number}.dat", f"/{run}/{number}.dat")
        task_id = self._client.submit_transfer(data)["task_id"]
        while self._client.get_task(task_id)["status"] == "ACTIVE":
            time.sleep(self.options.look)

    def candidate(self, files: int, move: Callable[[int, str], object]) -> Callable[[], Stopwatch]:
        """Return a candidate that calls ``move``, counts requests and compares files; its first call moves few."""
        sizes = _few_first(files)

        def moved() -> Stopwatch:
            run, size = new_run(), next(sizes)
            watch = Stopwatch()
            with counting(self.service, watch, size), watch:
                move(size, run)
            self._check(run, size)
            return watch

        return moved

    def _check(self, run: str, files: int) -> None:
        names = [f"{number}.dat" for number in range(files)]
        source, target = os.path.join(self.folder, SOURCE), os.path.join(self.folder, TARGET, run)
        _same, different, missing = filecmp.cmpfiles(source, target, names, shallow=False)
        if different or missing:
            raise SystemExit(f"Not moved well: {(different + missing)[:5]} and so on.")


def new_run() -> str:
    """Return the name of a new folder."""
    return f"run-{next(RUN)}"


def _few_first(number: int) -> Iterator[int]:
    """Yield a small number for the round that is not counted, then always the number itself."""
    return itertools.chain([min(number, WARM_UP)], itertools.repeat(number))


def main() -> None:
    """Measure, and print one table for each part."""
    options = _options()
    parts = {"a": _batches, "b": _blocking, "c": _alone, "d": _beside}
    files = max(LARGE if options.large else 0, options.files, *options.blocking)
    with scratch(options.folder) as folder:
        folders = {name: os.path.join(folder, name) for name in (SOURCE, TARGET)}
        _make_sources(folders[SOURCE], files, options.size)
        os.environ["CHILTEPIN_TOKENS"] = os.path.join(folder, "tokens.json")
        for name in ("CHILTEPIN_CONFIG", "CHILTEPIN_BACKEND"):
            os.environ.pop(name, None)
        times = {"task_latency": options.task_latency, "latency": options.latency}
        with serving(folders, **LIMITS, **times) as service:
            authorizer = globus_sdk.AccessTokenAuthorizer(service.token())
            with globus_sdk.TransferClient(base_url=service.address(), authorizer=authorizer) as client:
                for part in options.parts:
                    bench = Bench(options, folder, service, client)
                    parts[part](bench)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--parts", default="abcd", help="which tables (abcd)")
    parser.add_argument("--files", type=int, default=1000, help="transfers in the loop (1000)")
    parser.add_argument("--large", action="store_true", help="a loop of 10000 as well, once")
    parser.add_argument("--blocking", type=int, nargs="+", default=[20, 60], help="transfers for b (20 60)")
    parser.add_argument("--singles", type=int, default=10, help="single transfers of each kind for c (10)")
    parser.add_argument("--long", type=float, default=5.0, help="seconds of the long task of c (5)")
    parser.add_argument("--no-ops", type=int, default=200, help="apps in a row for d (200)")
    parser.add_argument("--slices", type=int, default=40, help="times that both sides of d run them, alternating (40)")
    parser.add_argument(
        "--log", choices=["off", "on"], nargs="+", default=["off", "on"], help="Parsl's log file, for d"
    )
    parser.add_argument("--size", type=int, default=1024, help="bytes per file (1024)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds that count (3)")
    parser.add_argument("--task-latency", type=float, default=1.0, help="seconds that a task of the service takes (1)")
    parser.add_argument("--latency", type=float, default=0.010, help="seconds that each of its files adds (0.01)")
    parser.add_argument("--look", type=float, default=1.0, help="seconds between two polls by hand (1)")
    parser.add_argument("--folder", help="where to make the temporary folder")
    return parser.parse_args()


def _make_sources(folder: str, files: int, size: int) -> None:
    os.makedirs(folder)
    for number in range(files):
        with open(os.path.join(folder, f"{number}.dat"), "wb") as file:
            file.write(os.urandom(size))


def _batches(bench: Bench) -> None:
    """Measure a loop of calls against one task made by hand."""
    options = bench.options
    for files, rounds in [(options.files, options.rounds)] + [(LARGE, 1)] * options.large:
        with bench.workflow():
            compare(
                f"loop-{files}",
                f"A loop of {files} calls against one task of as many items by hand",
                {
                    "one task by hand": bench.candidate(files, lambda size, run: bench.by_hand(range(size), run)),
                    "transfer_task": bench.candidate(files, lambda size, run: _results(bench.loop(size, run))),
                },
                rounds,
            )


def _blocking(bench: Bench) -> None:
    """Measure apps that wait for their transfers."""
    with bench.workflow() as workflow:

        @python_app(data_flow_kernel=workflow.dfk, executors=["local"])  # type: ignore[untyped-decorator]
        def waiting(number: int, run: str) -> None:
            bench.by_hand([number], run)

        for files in bench.options.blocking:
            compare(
                f"waiting-{files}",
                f"{files} calls against {files} apps that each submit one transfer and wait",
                {
                    "transfer_task": bench.candidate(files, lambda size, run: _results(bench.loop(size, run))),
                    "waiting app": bench.candidate(
                        files, lambda size, run: _results([waiting(number, run) for number in range(size)])
                    ),
                },
                bench.options.rounds,
            )


def _alone(bench: Bench) -> None:
    """Measure how long batching delays a single transfer, and how soon the end of a long task is noticed."""
    options, service = bench.options, bench.service

    def delay() -> Stopwatch:
        called, submitted, _ended = _single(bench)
        return Stopwatch(submitted - called)

    # The tasks end at different moments between two polls.
    lengths = (options.long * (1 + 0.07 * number) for number in itertools.count())

    def late() -> Stopwatch:
        long = next(lengths)
        service.set(task_latency=long)
        _called, submitted, ended = _single(bench)
        service.set(task_latency=options.task_latency)
        return Stopwatch(ended - submitted - long - options.latency)

    with bench.workflow(), _elsewhere(bench.workflow(batch=False)) as not_batched:
        delays = {"not batched": lambda: not_batched(delay), "batched": delay}
        compare("alone", "From one call to its request", delays, options.singles)
        title = f"From the end of a task of {options.long:g} s to that of its future"
        compare("end", title, {"end of the future": late}, options.rounds)


@contextmanager
def _elsewhere(workflow: AbstractContextManager[object]) -> Iterator[Callable[[Callable[[], T]], T]]:
    """Run a second workflow, entered in a separate thread; yield a function that runs a call in that thread."""
    with ThreadPoolExecutor(1) as thread:
        thread.submit(workflow.__enter__).result()
        try:
            yield lambda call: thread.submit(call).result()
        finally:
            thread.submit(workflow.__exit__, None, None, None).result()


def _single(bench: Bench) -> tuple[float, float, float]:
    """Run one transfer; return the times of its call, of its submission, and of the end of its future."""
    bench.service.take_requests()
    called = time.time()
    _results(bench.loop(1, new_run()))
    ended = time.time()
    [submission] = [one for one in bench.service.take_requests() if one.path.endswith("/transfer")]
    return called, submission.time, ended


def _beside(bench: Bench) -> None:
    """Measure how much transfers in flight slow down apps: two processes take turns, one with and one without them."""
    options = bench.options
    for log in options.log:
        with _side(bench, log, 0) as idle, _side(bench, log, options.files) as beside:
            sides = {"nothing in flight": idle, f"{options.files} transfers": beside}
            apps = {name: partial(_asked, side, options.no_ops) for name, side in sides.items()}
            compare(f"beside-{log}", f"{options.no_ops} no-ops beside transfers, log {log}", apps, options.slices)
            pauses = {name: partial(_asked, side, 0) for name, side in sides.items()}
            compare(f"pause-{log}", f"A pause of {options.look:g} s beside transfers, log {log}", pauses, 1)


def nothing(number: int) -> int:
    """Return the argument: the smallest app."""
    return number


@contextmanager
def _side(bench: Bench, log: str, files: int) -> Iterator[Connection]:
    """Run a process that has transfers in flight and runs no-ops on request."""
    spawn = get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=_no_ops, args=(theirs, bench.options, bench.folder, bench.service, log, files))
    process.start()
    theirs.close()
    try:
        # Wait until it is ready, and warm it up.
        _asked(ours, WARM_UP)
        yield ours
    finally:
        ours.close()
        process.join()


def _asked(side: Connection, number: int) -> Stopwatch:
    side.send(number)
    watch: Stopwatch = side.recv()
    return watch


def _no_ops(pipe: Connection, options: argparse.Namespace, folder: str, service: Service, log: str, files: int) -> None:
    """For each number that the pipe receives, run that many empty apps; for 0, sleep instead."""
    bench = Bench(options, folder, service, None)
    with bench.workflow(log=log == "on") as workflow, _in_flight(bench, files), suppress(EOFError):
        app = python_app(nothing, data_flow_kernel=workflow.dfk, executors=["local"])
        while True:
            number = pipe.recv()
            with Stopwatch() as watch:
                if number:
                    _results([app(each) for each in range(number)])
                else:
                    time.sleep(options.look)
            pipe.send(watch)


@contextmanager
def _in_flight(bench: Bench, files: int) -> Iterator[None]:
    """Keep transfers active at the service during a ``with`` block."""
    if not files:
        yield
        return
    bench.service.set(task_latency=ENDLESS)
    futures = bench.loop(files, new_run())
    while any(future.task_handle is None for future in futures):
        time.sleep(0.05)
    yield
    bench.service.set(task_latency=bench.options.task_latency)
    bench.service.fail_tasks()
    wait(futures)


def _results(futures: Sequence[Future[Any]]) -> None:
    """Wait for all futures, and raise the first failure."""
    wait(futures)
    for future in futures:
        future.result()


if __name__ == "__main__":
    main()
