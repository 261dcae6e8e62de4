"""A simulated Globus with a manual clock, the Globus backend, and a task manager that tests run step by step."""

from __future__ import annotations

import pytest
from guided import Guided

from chiltepin.backends.globus import GlobusBackend
from chiltepin.testing.simulator import ManualClock, Simulator


@pytest.fixture(autouse=True)
def without_pauses(quick_retries):
    """Send retries of the tests' requests without a delay."""


@pytest.fixture
def globus(tmp_path, monkeypatch):
    """A simulated Globus with two collections, set in the environment."""
    folders = {name: tmp_path / name for name in ("my-laptop", "hpc-scratch")}
    with Simulator(folders, clock=ManualClock()) as simulator:
        for name, value in simulator.environment().items():
            monkeypatch.setenv(name, value)
        yield simulator


@pytest.fixture
def backend(globus):
    """The Globus backend, with both collections declared under short names."""
    named = {"a": "my-laptop", "b": "hpc-scratch"}
    places = {short: {"collection": globus.collection(name).id} for short, name in named.items()}
    backend = GlobusBackend.from_config(places, {})
    yield backend
    backend.close()


@pytest.fixture
def guided(backend, globus):
    """A task manager that a test runs step by step."""
    return Guided(backend, globus)


@pytest.fixture
def laptop(tmp_path):
    """The folder behind endpoint a, with a file and a tree in it."""
    folder = tmp_path / "my-laptop"
    (folder / "tree" / "deep").mkdir(parents=True)
    (folder / "file").write_bytes(b"content")
    (folder / "tree" / "x.nc").write_bytes(b"x")
    (folder / "tree" / "deep" / "y.txt").write_bytes(b"y")
    return folder


@pytest.fixture
def scratch(tmp_path):
    """The folder behind endpoint b."""
    return tmp_path / "hpc-scratch"
