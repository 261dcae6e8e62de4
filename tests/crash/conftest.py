"""Fixtures for the tests that kill workflows."""

from __future__ import annotations

import random
import shutil

import pytest
from killing import Case, ForkServer, kill, lent, processes


def pytest_collection_modifyitems(items):
    """Run all kinds of kills with one seed before the next seed, so that a long run can be stopped at any time."""
    seeded = [item for item in items if "seed" in getattr(getattr(item, "callspec", None), "params", ())]
    if len(seeded) == len(items):
        items.sort(key=lambda item: item.callspec.params["seed"])


@pytest.fixture(scope="session")
def kept():
    """Objects that tests share, by name; see `lent`."""
    made = {}
    yield made
    for one in made.values():
        one.close()


@pytest.fixture
def fork_server(kept):
    """A process that starts workflows."""
    with lent(kept, "fork_server", ForkServer) as fork_server:
        yield fork_server


@pytest.fixture
def chance(seed):
    """A random generator with the seed of the test."""
    return random.Random(seed)  # noqa: S311 - reproducible, not secret


@pytest.fixture
def folder(tmp_path):
    """An empty folder; at the end its processes are killed and it is deleted."""
    yield tmp_path
    for process in processes(tmp_path):
        kill(process.pid)
    shutil.rmtree(tmp_path)


@pytest.fixture
def case(folder, chance):
    """A copy between two folders."""
    return Case(folder, chance)
