"""A simulated Globus with two collections and a manual clock."""

import pytest
from simulated import World

from chiltepin.testing.simulator import ManualClock, Simulator


@pytest.fixture
def clock():
    """The manual clock of the simulator."""
    return ManualClock()


@pytest.fixture
def globus(tmp_path, clock):
    """A simulated Globus."""
    folders = {name: tmp_path / name for name in ("my-laptop", "hpc-scratch")}
    with Simulator(folders, clock=clock) as simulator:
        yield simulator


@pytest.fixture
def world(globus):
    """The simulated Globus with helpers for the tests."""
    return World(globus)
