"""A status carries an administrator's message about a task."""

from __future__ import annotations

import pytest

from chiltepin.backends.globus import GlobusBackend
from chiltepin.model import TaskState, TransferItem, TransferRequest
from chiltepin.testing.simulator import ManualClock, Simulator


@pytest.fixture
def world(tmp_path):
    """A simulator with a manual clock and two collections."""
    folders = {name: tmp_path / name for name in ("here", "there")}
    with Simulator(folders, clock=ManualClock(), latency=10.0) as simulator:
        (folders["here"] / "f").write_bytes(b"data")
        yield simulator


@pytest.fixture
def backend(world):
    """The Globus backend, with the simulator's client."""
    places = {name: {"collection": world.collection(name).id} for name in ("here", "there")}
    return GlobusBackend(places, client=world.client())


def submitted(backend):
    """Submit a task that transfers one file; return its handle."""
    request = TransferRequest(
        source="here", destination="there", items=(TransferItem(source="/f", destination="/f"),), label="mine"
    )
    return backend.submit(request, backend.new_submission_id())


def test_a_cancellation_has_the_message_of_the_administrator(world, backend):
    """The reason of a task that an administrator canceled names the side and quotes the message."""
    handle = submitted(backend)
    world.task(handle.task_id).cancel_as_admin("Scratch is being replaced.\nAsk ops@example.org.", "DESTINATION")
    [status] = backend.poll([handle])
    assert status.state is TaskState.CANCELED
    said = "An administrator of the destination canceled it: Scratch is being replaced. Ask ops@example.org"
    assert status.reason.startswith(said)


def test_a_pause_has_the_message_of_the_administrator(world, backend):
    """The reason of a task that an administrator paused quotes the message until the task is resumed."""
    handle = submitted(backend)
    world.task(handle.task_id).pause("Back at noon")
    [status] = backend.poll([handle])
    assert status.state is TaskState.PAUSED
    assert "An administrator has paused it: Back at noon" in status.reason
    world.task(handle.task_id).resume()
    assert backend.poll([handle])[0].reason == ""


def test_a_pause_rule_is_told(world, backend):
    """The reason of a task that a pause rule pauses quotes the rule and its collection, and is requested only once."""
    world.collection("there").pause_message = "Maintenance until Monday"
    world.collection("there").paused = True
    handle = submitted(backend)
    world.clock.advance(1)
    [status] = backend.poll([handle])
    backend.poll([handle])
    assert status.state is TaskState.PAUSED
    assert "Maintenance until Monday (rule of there)" in status.reason
    assert sum(one.path.endswith("/pause_info") for one in world.requests) == 1
