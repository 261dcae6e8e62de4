"""Fixtures for three kinds of endpoints and for failing disks."""

from __future__ import annotations

import pytest
from elsewhere import Elsewhere, NoDiskError, compiled
from worlds import file_world, local_world, memory_world


@pytest.fixture(params=["local", "file", "memory"])
def world(request, tmp_path):
    """Two endpoints of each kind in turn."""
    if request.param == "memory":
        world = memory_world()
        yield world
        world.filesystem.rm(world.roots["laptop"].rsplit("/", 1)[0], recursive=True)
    else:
        yield {"local": local_world, "file": file_world}[request.param](tmp_path)


@pytest.fixture
def disk(tmp_path):
    """Two endpoints on the disk, which supports links and permissions."""
    return file_world(tmp_path)


@pytest.fixture(scope="session")
def machine():
    """A process with separate disks."""
    try:
        made = Elsewhere()
    except NoDiskError as err:
        pytest.skip(str(err))
    yield made
    made.close()


@pytest.fixture(scope="session")
def faulty(tmp_path_factory):
    """The program of the failing disk."""
    try:
        return compiled(tmp_path_factory.mktemp("faulty"))
    except NoDiskError as err:
        pytest.skip(str(err))
