"""A simulated Globus in a process of its own, so that what is measured does not share an interpreter with it."""

from __future__ import annotations

import os
import statistics
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.managers import BaseManager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from chiltepin.testing.simulator.faults import Served

__all__ = ["Counts", "Service", "serving"]


class Service:
    """The simulator, reduced to what a benchmark asks of it; every call crosses to its process.

    Parameters
    ----------
    folders : dict of str to str
        Names of collections and the folders that they show.
    **settings
        As in `chiltepin.testing.simulator.settings.Settings`.
    """

    def __init__(self, folders: dict[str, str], **settings: Any) -> None:
        # Not loaded where it is not run.
        from chiltepin.testing.simulator import Simulator  # noqa: PLC0415

        self._simulator = Simulator(folders, **settings)

    def environment(self) -> dict[str, str]:
        """Return the variables that point Chiltepin here."""
        return self._simulator.environment()

    def address(self) -> str:
        """Return the URL."""
        return self._simulator.url

    def token(self) -> str:
        """Return an access token; requests are metered by token."""
        return self._simulator.token

    def collection(self, name: str) -> str:
        """Return the UUID of a collection."""
        return self._simulator.collection(name).id

    def set(self, **settings: Any) -> None:
        """Change settings for what comes."""
        for name, value in settings.items():
            setattr(self._simulator.settings, name, value)

    def take_requests(self) -> list[Served]:
        """Return the requests since the last call."""
        requests = self._simulator.requests
        self._simulator.clear_requests()
        return requests

    def forget_ended(self, seconds: float) -> None:
        """Forget the requests, and the tasks that ended so many seconds ago, as the service does after 90 days."""
        self._simulator.clear_requests()
        before = self._simulator.clock.time() - seconds
        engine = self._simulator._engine  # noqa: SLF001 - it has all of them at hand
        with engine.lock:
            over = [task.id for task in engine.tasks.values() if task.over and (task.completion_time or 0) < before]
        for task_id in over:
            self._simulator.forget_task(task_id)

    def fail_tasks(self) -> None:
        """End every task that has not ended."""
        for task in self._simulator.tasks.values():
            if task.status == "ACTIVE":
                task.fail()


class _Manager(BaseManager):
    pass


_Manager.register("Service", Service)


@contextmanager
def serving(folders: dict[str, str], **settings: Any) -> Iterator[Service]:
    """Run a `Service` in a process of its own, with the environment of this one pointing there.

    Parameters
    ----------
    folders, **settings
        As for `Service`.
    """
    before = dict(os.environ)
    # Not forked: the threads of this process would be missing there, and its memory would be counted twice.
    with _Manager(ctx=get_context("spawn")) as manager:
        service: Service = manager.Service(folders, **settings)  # type: ignore[attr-defined]
        os.environ.update(service.environment())
        try:
            yield service
        finally:
            os.environ.clear()
            os.environ.update(before)


@dataclass
class Counts:
    """What one candidate did at the service, round by round.

    Parameters
    ----------
    requests, submissions, refusals : list of int
        All requests to the Transfer API, those that made a task, and those that were answered with 429.
    peaks : list of float
        The most memory that this process held, in MB; empty where the system does not tell.
    """

    requests: list[int] = field(default_factory=list)
    submissions: list[int] = field(default_factory=list)
    refusals: list[int] = field(default_factory=list)
    peaks: list[float] = field(default_factory=list)

    @contextmanager
    def counting(self, service: Service) -> Iterator[None]:
        """Count what happens in a ``with`` block."""
        service.take_requests()
        _forget_peak()
        yield
        served = [one for one in service.take_requests() if one.path.startswith("/v0.10/")]
        self.requests.append(len(served))
        self.submissions.append(sum(one.method == "POST" and one.path.endswith("/transfer") for one in served))
        self.refusals.append(sum(one.status == 429 for one in served))  # noqa: PLR2004 - too many requests
        self.peaks += _peak()

    def cells(self, files: int) -> list[str]:
        """Return the cells of a table, for rounds of so many files; the first round does not count."""
        requests, refusals, submissions = (
            statistics.median(numbers[1:]) for numbers in (self.requests, self.refusals, self.submissions)
        )
        peak = f"{max(self.peaks[1:]):.0f}" if self.peaks else "?"
        return [f"{requests / files:.3f}", f"{refusals:g}", f"{submissions:g}", peak]


def _forget_peak() -> None:
    # proc(5), /proc/pid/clear_refs: 5 resets the peak of the resident set.
    with suppress(OSError), open("/proc/self/clear_refs", "w", encoding="ascii") as file:
        file.write("5")


def _peak() -> list[float]:
    """Return the peak of the resident set in MB, where the system tells it."""
    with suppress(OSError), open("/proc/self/status", encoding="ascii") as file:
        return [int(line.split()[1]) / 1000 for line in file if line.startswith("VmHWM:")]
    return []
