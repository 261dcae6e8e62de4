"""What the killed workflows of all tests here need."""

from __future__ import annotations

import random
import shutil

import pytest
from killing import Case, ForkServer, kill, lent, processes


def pytest_collection_modifyitems(items):
    """Run all kinds of kills with one seed before those with the next, so that a long run may end at any time."""
    seeded = [item for item in items if "seed" in getattr(getattr(item, "callspec", None), "params", ())]
    if len(seeded) == len(items):
        items.sort(key=lambda item: item.callspec.params["seed"])


@pytest.fixture(scope="session")
def kept():
    """What tests lend each other, by name; see `lent`."""
    made = {}
    yield made
    for one in made.values():
        one.close()


@pytest.fixture
def fork_server(kept):
    """A process that begins workflows."""
    with lent(kept, "fork_server", ForkServer) as fork_server:
        yield fork_server


@pytest.fixture
def chance(seed):
    """What is left to chance, and can be repeated."""
    return random.Random(seed)  # noqa: S311 - to be repeated, not to be secret


@pytest.fixture
def folder(tmp_path):
    """An empty folder; at the end no process and no data is left there, however the test ended."""
    yield tmp_path
    for process in processes(tmp_path):
        kill(process.pid)
    shutil.rmtree(tmp_path)


@pytest.fixture
def case(folder, chance):
    """Two places on the disk."""
    return Case(folder, chance)
