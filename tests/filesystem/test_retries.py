"""Which errors are retried, how often, and what ends the wait."""

from __future__ import annotations

import threading
import uuid

import fsspec
import pytest
from slow import Flaky
from worlds import World

from chiltepin.backends.filesystem import FilesystemBackend
from chiltepin.backends.filesystem.locations import place_of
from chiltepin.backends.filesystem.mover.retry import TRIES
from chiltepin.model import TaskState
from chiltepin.transfers.arguments import transfer_request
from chiltepin.transfers.runner import Transfers

fsspec.register_implementation("flaky", Flaky)


def flaky_world(pause) -> World:
    """Return two endpoints on a filesystem that fails on demand, with ``pause`` for its waits."""
    top = f"/{uuid.uuid4().hex}"
    roots = {name: f"{top}/{name}" for name in ("laptop", "scratch")}
    for root in roots.values():
        Flaky().makedirs(root)
    backend = FilesystemBackend(
        {name: place_of(name, {"url": f"flaky:/{root}"}) for name, root in roots.items()}, pause=pause
    )
    Flaky.trouble.clear()
    Flaky.asked.clear()
    return World(Transfers(backend), Flaky(), roots)


@pytest.fixture
def waits():
    """The seconds waited before each retry."""
    return []


@pytest.fixture
def world(waits):
    """A world in which waiting takes no time."""
    return flaky_world(lambda _, seconds: waits.append(seconds))


@pytest.mark.parametrize("recursive", [False, True])
def test_what_may_pass_is_tried_again_after_longer_and_longer_waits(world, waits, recursive):
    """Lost connections are retried, each counts as a fault, and the task succeeds."""
    world.put("laptop", "/d/f", b"data")
    Flaky.trouble.extend([ConnectionResetError(), TimeoutError(), ConnectionResetError()])
    path = "/d" if recursive else "/d/f"
    status = world.move(path, path, recursive=recursive)
    assert (status.state, status.files_done, status.faults) == (TaskState.SUCCEEDED, 1, 3)
    assert world.get("scratch", "/d/f") == b"data"
    assert [0.25 <= waits[0] <= 0.5, 0.5 <= waits[1] <= 0.75, 1 <= waits[2] <= 1.25] == [True] * 3


def test_what_will_not_pass_is_not_tried_again(world, waits):
    """A permanent error fails only its file, and at once."""
    for name in "abc":
        world.put("laptop", f"/d/{name}", b"data")
    Flaky.trouble.append(PermissionError())
    status = world.move("/d", "/d", recursive=True)
    assert (status.state, status.code, status.files_done) == (TaskState.FAILED, "PERMISSION_DENIED", 2)
    assert (status.faults, waits) == (1, [])


def test_it_is_given_up_after_some_tries(world, waits):
    """A persistent error fails the file with the last error, and each try is a fault."""
    world.put("laptop", "/d/f", b"data")
    Flaky.trouble.extend([ConnectionResetError(104, "reset") for _ in range(TRIES + 5)])
    status = world.move("/d", "/d", recursive=True)
    assert (status.state, status.code, status.faults) == (TaskState.FAILED, "CONNECTION_RESET", TRIES)
    assert len(waits) == TRIES - 1


def test_cancelling_ends_the_waiting(waits):
    """Canceling a task that waits for its next try ends the wait."""
    waiting, stopped = threading.Event(), []

    def pause(stopping: threading.Event, seconds: float) -> None:
        waiting.set()
        stopped.append(stopping.wait(60))

    world = flaky_world(pause)
    world.put("laptop", "/f", b"data")
    Flaky.trouble.extend([ConnectionResetError()] * 50)
    backend = world.transfers.backend
    handle = backend.submit(
        transfer_request(src_ep="laptop", dst_ep="scratch", src_path="/f", dst_path="/f"), backend.new_submission_id()
    )
    assert waiting.wait(60)
    backend.cancel(handle)
    backend.wait(handle, 60)
    (status,) = backend.poll([handle])
    assert (status.state, stopped) == (TaskState.CANCELED, [True])


def test_a_remote_destination_is_listed_once_and_not_asked_for_each_file(world):
    """Syncing a tree again makes no request for single files and copies nothing."""
    for number in range(50):
        world.put("laptop", f"/d/{number}", b"data")
    assert world.move("/d", "/d", recursive=True, sync_level="size").files_done == 50
    Flaky.asked.clear()
    status = world.move("/d", "/d", recursive=True, sync_level="size")
    assert (status.files_done, status.files_skipped) == (0, 50)
    assert not {name for name in Flaky.asked if name.isdigit()}
