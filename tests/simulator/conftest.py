"""A simulated Globus of two collections, whose clock stands still until a test moves it."""

import pytest
from simulated import World

from chiltepin.testing.simulator import ManualClock, Simulator


@pytest.fixture
def clock():
    """The clock of the simulated world."""
    return ManualClock()


@pytest.fixture
def globus(tmp_path, clock):
    """A simulated Globus."""
    folders = {name: tmp_path / name for name in ("my-laptop", "hpc-scratch")}
    with Simulator(folders, clock=clock) as simulator:
        yield simulator


@pytest.fixture
def world(globus):
    """The same, with what tests do to it all the time."""
    return World(globus)
