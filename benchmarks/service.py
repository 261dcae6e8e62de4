"""A simulated Globus in its own process, so that it does not share an interpreter with the measured code."""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from multiprocessing import get_context
from multiprocessing.managers import BaseManager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from measure import Stopwatch

    from chiltepin.testing.simulator.faults import Served

__all__ = ["Service", "counting", "serving"]


class Service:
    """The simulator, reduced to the calls that benchmarks need; each call runs in its process.

    Parameters
    ----------
    folders : dict of str to str
        Names of collections, and the folder that each one serves.
    **settings
        As in `chiltepin.testing.simulator.settings.Settings`.
    """

    def __init__(self, folders: dict[str, str], **settings: Any) -> None:
        # Only the process that runs the simulator loads it.
        from chiltepin.testing.simulator import Simulator  # noqa: PLC0415

        self._simulator = Simulator(folders, **settings)

    def environment(self) -> dict[str, str]:
        """Return the environment variables that make Chiltepin use this simulator."""
        return self._simulator.environment()

    def address(self) -> str:
        """Return the URL."""
        return self._simulator.url

    def token(self) -> str:
        """Return an access token; the request limit is per token."""
        return self._simulator.token

    def collection(self, name: str) -> str:
        """Return the UUID of a collection."""
        return self._simulator.collection(name).id

    def set(self, **settings: Any) -> None:
        """Change settings of the running simulator."""
        for name, value in settings.items():
            setattr(self._simulator.settings, name, value)

    def take_requests(self) -> list[Served]:
        """Return the requests since the last call."""
        requests = self._simulator.requests
        self._simulator.clear_requests()
        return requests

    def forget_ended(self, seconds: float) -> None:
        """Forget the requests, and tasks that ended more than ``seconds`` ago; Globus keeps them for 90 days."""
        self._simulator.clear_requests()
        before = self._simulator.clock.time() - seconds
        engine = self._simulator._engine  # noqa: SLF001 - `tasks` would wrap each one
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
    """Run a `Service` in a separate process, and make the environment of this process use it.

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


@contextmanager
def counting(service: Service, watch: Stopwatch, files: int) -> Iterator[None]:
    """Add to a stopwatch the service's requests during a ``with`` block, and the peak memory of this process.

    Parameters
    ----------
    service : Service
        The simulated Globus.
    watch : Stopwatch
        The stopwatch that times the block.
    files : int
        The number of transfers in the block.
    """
    service.take_requests()
    _forget_peak()
    yield
    served = [one for one in service.take_requests() if one.path.startswith("/v0.10/")]
    watch.more |= {
        "requests each": len(served) / files,
        "429": sum(one.status == 429 for one in served),  # noqa: PLR2004 - too many requests
        "tasks": sum(one.method == "POST" and one.path.endswith("/transfer") for one in served),
        "peak MB": _peak(),
    }


def _forget_peak() -> None:
    # proc(5), /proc/pid/clear_refs: 5 resets the peak of the resident set.
    with suppress(OSError), open("/proc/self/clear_refs", "w", encoding="ascii") as file:
        file.write("5")


def _peak() -> float:
    """Return the peak resident set in MB, or 0 if the system does not report it."""
    with suppress(OSError), open("/proc/self/status", encoding="ascii") as file:
        return next(int(line.split()[1]) / 1000 for line in file if line.startswith("VmHWM:"))
    return 0.0
