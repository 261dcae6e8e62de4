"""Measure one workflow process over a long day: memory, descriptors, threads, journal, and how late its polls are."""

from __future__ import annotations

import argparse
import gc
import itertools
import logging
import os
import threading
import time
from concurrent.futures import wait
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from measure import scratch, show
from service import serving

import chiltepin
from chiltepin import configure, delete_task, transfer_task
from chiltepin.testing.simulator import RunningClock
from chiltepin.transfers import runner as transfers
from chiltepin.transfers.background_thread import BackgroundThread

if TYPE_CHECKING:
    from datetime import datetime

    from service import Service

    from chiltepin import TransferFuture
    from chiltepin.transfers.service.manager import TaskManager

SOURCE, TARGET = "laptop", "scratch"
HOUR, DAY = 3600.0, 24 * 3600.0

#: Number of source files; each is transferred many times, to a new path each time.
SOURCES = 1000

#: Seconds for which the simulator keeps an ended task; Globus keeps it for 90 days.
REMEMBERED = 600.0


class DayClock:
    """The clock of the service, with the interface that the task manager uses."""

    def __init__(self, clock: RunningClock) -> None:
        self._clock = clock

    def monotonic(self) -> float:
        """Return the time in seconds."""
        return self._clock.time()

    def now(self) -> datetime:
        """Return the current date and time, in UTC."""
        return self._clock.now()


@dataclass
class Looks:
    """How late the task manager polls its tasks, in simulated seconds."""

    late: list[float] = field(default_factory=list)

    def watch(self, manager: TaskManager) -> None:
        """Record the delay of every poll of a task manager."""
        poll = manager._backend.poll  # noqa: SLF001 - wrapped to measure it

        def noted(handles: Any) -> Any:
            now = manager._clock.monotonic()  # noqa: SLF001
            wanted = {handle.task_id for handle in handles}
            with manager._lock:  # noqa: SLF001
                asked = [one for one in manager._batcher.batches if one.handle and one.handle.task_id in wanted]  # noqa: SLF001
                due = min((one.next_poll(manager._poller.last_poll) for one in asked), default=now)  # noqa: SLF001
            # After a failed poll, the task manager waits on purpose.
            self.late.append(now - max(due, manager._poller.backoff.until))  # noqa: SLF001
            return poll(handles)

        manager._backend.poll = noted  # type: ignore[method-assign] # noqa: SLF001

    def take(self) -> tuple[int, float, float]:
        """Return the number of polls since the last call, the 99th percentile of their delays, and the longest."""
        late, self.late = sorted(self.late), []
        return (len(late), late[int(len(late) * 0.99)], late[-1]) if late else (0, 0.0, 0.0)


class Day:
    """A workflow that transfers files all day, a few at a time, and drops the completed futures.

    Parameters
    ----------
    options : argparse.Namespace
        The sizes.
    folder : str
        The temporary folder.
    service : Service
        The simulated Globus.
    clock : RunningClock
        The clock of the service.
    """

    def __init__(self, options: argparse.Namespace, folder: str, service: Service, clock: RunningClock) -> None:
        self.options, self.folder, self.service, self.clock = options, folder, service, clock
        self.looks, self.made, self.ends = Looks(), 0, {True: 0, False: 0}
        self._waiting: set[TransferFuture] = set()
        self._numbers = itertools.count()

    def run(self) -> list[list[str]]:
        """Run the whole day; return a row of cells for every sample."""
        options, rows = self.options, []
        begin, rounds = self.clock.time(), int(options.hours * HOUR / options.every)
        samples = {max(1, round(rounds * number / options.samples)) for number in range(1, options.samples + 1)}
        for number in range(1, rounds + 1):
            self._calls(round(options.transfers * number / rounds) - self.made)
            moment = begin + number * options.every
            while (left := moment - self.clock.time()) > 0:
                time.sleep(left / self.clock.speed)
            self._reap()
            self.service.forget_ended(REMEMBERED)
            if number in samples:
                rows.append(self._sample(self.clock.time() - begin))
        wait(self._waiting, timeout=120)
        self._reap()
        return rows

    def _calls(self, count: int) -> None:
        """Make some calls: of each 1,000, one names a missing file and ten are canceled; add fifty deletions."""
        for _ in range(count):
            number = next(self._numbers)
            goal = f"/{number % 100}/{number}"
            rest = {"executor": "local", "check": False, "timeout": 6 * HOUR}
            source = "/missing" if number % 1000 == 7 else f"/{number % SOURCES}"  # noqa: PLR2004 - any remainder
            future = transfer_task(SOURCE, TARGET, source, goal, **rest)
            if number % 100 == 3:  # noqa: PLR2004 - likewise
                future.cancel()
            self._waiting.add(future)
            if number % 20 == 0:
                self._waiting.add(delete_task(TARGET, f"/old/{number}", ignore_missing=True, **rest))
            self.made += 1

    def _reap(self) -> None:
        done = {future for future in self._waiting if future.done()}
        for future in done:
            self.ends[future.exception() is None and future.result()] += 1
        self._waiting -= done

    def _sample(self, seconds: float) -> list[str]:
        gc.collect()
        looks, most, latest = self.looks.take()
        files = list(os.scandir(os.environ["CHILTEPIN_JOURNAL"]))
        return [
            f"{seconds / HOUR:.1f}",
            f"{self.made:,}",
            f"{len(self._waiting):,}",
            f"{_resident():.1f}",
            str(len(os.listdir("/proc/self/fd"))),
            str(threading.active_count()),
            *(f"{_size(files, suffix) / 1e6:.1f}" for suffix in (".jsonl", ".activity")),
            f"{looks:,}",
            f"{most:.1f}",
            f"{latest:.1f}",
            f"{1000 * latest / self.clock.speed:.0f}",
        ]


def _resident() -> float:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def _size(files: list[os.DirEntry[str]], suffix: str) -> int:
    return sum(file.stat().st_size for file in files if file.name.endswith(suffix))


def _hasten(manager: TaskManager, clock: RunningClock) -> None:
    """Make a task manager use a clock that runs faster than real time."""

    def step() -> float | None:
        pause = manager.step()
        return None if pause is None else pause / clock.speed

    manager._clock = DayClock(clock)  # noqa: SLF001 - a workflow has no argument for a clock
    for part in (manager._completer, manager._poller._submitter, manager._poller):  # noqa: SLF001
        part._clock = manager._clock  # noqa: SLF001
    manager._thread = BackgroundThread("chiltepin-task-manager", step)  # noqa: SLF001


def main() -> None:
    """Measure, and print one table."""
    options = _options()
    clock = RunningClock(options.speed)
    with scratch(options.folder) as folder:
        folders = {name: os.path.join(folder, name) for name in (SOURCE, TARGET)}
        os.makedirs(folders[SOURCE])
        for number in range(SOURCES):
            with open(os.path.join(folders[SOURCE], str(number)), "wb") as file:
                file.write(os.urandom(64))
        os.environ["CHILTEPIN_TOKENS"] = os.path.join(folder, "tokens.json")
        os.environ["CHILTEPIN_JOURNAL"] = os.path.join(folder, "journal")
        for name in ("CHILTEPIN_CONFIG", "CHILTEPIN_BACKEND"):
            os.environ.pop(name, None)
        times = {"task_latency": 20.0, "latency": 0.2, "request_rate": None}
        with serving(folders, clock=clock, **times) as service:
            rows, day = _day(options, folder, service, clock)
    columns = ["hour", "calls", "waiting", "MB", "fds", "threads", "journal MB", "activity MB", "polls"]
    columns += ["99 % late s", "latest s", "latest, our ms"]
    show("day", f"{options.hours:g} hours, {options.transfers:,} transfers", columns, rows, _ends(options, day))


def _day(
    options: argparse.Namespace, folder: str, service: Service, clock: RunningClock
) -> tuple[list[list[str]], Day]:
    endpoints = {name: {"globus": service.collection(name)} for name in (SOURCE, TARGET)}
    config = configure.load(
        {"data": {"backend": "globus", "endpoints": endpoints}}, run_dir=os.path.join(folder, "run")
    )
    config.initialize_logging = False
    logging.getLogger("parsl").setLevel(logging.ERROR)
    # The failures and cancellations are intended and would fill the log.
    logging.getLogger("chiltepin").setLevel(logging.ERROR)
    with chiltepin.Workflow(config) as workflow:
        day = Day(options, folder, service, clock)
        manager = transfers.open_transfers(workflow.config.data.setup).manager
        _hasten(manager, clock)
        day.looks.watch(manager)
        rows = day.run()
    # Otherwise, it would write its journal at exit, after the folder was removed.
    manager.close()
    return rows, day


def _ends(options: argparse.Namespace, day: Day) -> str:
    return f"{day.ends[True]:,} calls succeeded, {day.ends[False]:,} did not; a second is {options.speed:g} of that day"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--transfers", type=int, default=100_000, help="transfers in all (100000)")
    parser.add_argument("--hours", type=float, default=24.0, help="hours to simulate (24)")
    parser.add_argument("--every", type=float, default=60.0, help="seconds between two loops of calls (60)")
    parser.add_argument("--samples", type=int, default=12, help="lines of the table (12)")
    parser.add_argument("--speed", type=float, default=400.0, help="simulated seconds per real second (400)")
    parser.add_argument("--folder", help="where to make the temporary folder")
    return parser.parse_args()


if __name__ == "__main__":
    main()
