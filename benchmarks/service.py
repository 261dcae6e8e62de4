"""A simulated Globus in a process of its own, so that what is measured does not share an interpreter with it."""

from __future__ import annotations

import os
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.managers import BaseManager
from typing import TYPE_CHECKING, Any

from chiltepin.testing.simulator import Simulator

if TYPE_CHECKING:
    from collections.abc import Iterator

    from chiltepin.testing.simulator.faults import Served

__all__ = ["Service", "serving"]


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
