"""The Globus backend keeps the laws, against a simulated Globus."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from chiltepin.backends.globus import GlobusBackend
from chiltepin.testing.conformance import BackendLaws, FolderRig
from chiltepin.testing.simulator import ManualClock, Simulator

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime
    from pathlib import Path

HOMES = {"laptop": "/users/me", "scratch": "/"}


class GlobusRig(FolderRig):
    """Two collections of a simulated Globus, whose clock this rig moves."""

    interval = 15.0
    #: Globus stores deadlines in whole seconds.
    soon = 60.0

    def __init__(self, simulator: Simulator, folders: dict[str, Path]) -> None:
        self.simulator = simulator
        # One simulator serves all laws, so that the names of its collections must be unique.
        self.collections = {
            name: simulator.add_collection(str(folder), folder, default_directory=HOMES[name])
            for name, folder in folders.items()
        }
        config = {name: {"collection": collection.id} for name, collection in self.collections.items()}
        backend = GlobusBackend.from_config(config, {}).with_client(simulator.client())
        super().__init__(backend, folders, config=(config, {}))

    def home(self, endpoint: str) -> str:
        """The default directory of the collection."""
        return HOMES[endpoint]

    def now(self) -> datetime:
        """Return the simulator's time."""
        return self.simulator.clock.now()

    def pass_time(self, seconds: float) -> None:
        """Move the simulator's clock."""
        self.simulator.clock.advance(seconds)

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Disconnect the laptop's Globus Connect Personal, so that its tasks wait."""
        self.collections["laptop"].connected = False
        try:
            yield
        finally:
            self.collections["laptop"].connected = True


@pytest.fixture(scope="module")
def simulator():
    """A simulated Globus with a manual clock."""
    with Simulator({}, clock=ManualClock()) as simulator:
        yield simulator


class TestGlobus(BackendLaws):
    """``globus`` over two collections of the simulator."""

    @pytest.fixture
    def rig(self, simulator, tmp_path):
        """Two collections, in a separate minute: the simulator's clock also measures the rate of requests."""
        simulator.clock.advance(60)
        rig = GlobusRig(simulator, {name: tmp_path / name for name in HOMES})
        yield rig
        rig.backend.close()
