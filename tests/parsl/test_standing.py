"""The status in the future of a transfer, while its task runs in any place and after it has ended."""

from __future__ import annotations

import os
import socket
import time

import blocking_store
import pytest
from parsl_configs import make_config, make_htex
from waiting import until

import chiltepin
from chiltepin import configure, transfer_task
from chiltepin.errors import (
    TaskCanceledError,
    TaskFailedError,
    TaskLostError,
    TaskPausedError,
    TaskTimeoutError,
)
from chiltepin.model import TaskState
from chiltepin.testing.simulator import ManualClock, Simulator
from chiltepin.testing.simulator.clock import utc

LIMIT = 60


@pytest.fixture
def globus(tmp_path, monkeypatch):
    """A simulated Globus with a manual clock, so that no task ends by itself."""
    folders = {name: tmp_path / name for name in ("my-laptop", "hpc-scratch")}
    clock = ManualClock(utc(time.time()))
    with Simulator(folders, clock=clock, task_latency=100.0, request_rate=None) as simulator:
        for name, value in simulator.environment().items():
            monkeypatch.setenv(name, value)
        for number in range(5):
            (tmp_path / "my-laptop" / str(number)).write_bytes(b"content")
        yield simulator


@pytest.fixture
def running(globus, tmp_path):
    """A workflow on Globus; tasks that a test leaves active fail."""
    with chiltepin.Workflow({"data": {"journal": False, "fault_grace": 0.2}}, run_dir=tmp_path / "runinfo") as workflow:
        yield workflow
        for task in globus.tasks.values():
            if task.status == "ACTIVE":
                task.fail()


def move(number, **options):
    """Start a transfer with a short polling interval."""
    options = {"executor": "local", "polling_interval": 0.1, **options}
    return transfer_task("my-laptop", "hpc-scratch", f"/{number}", f"/{number}", **options)


def looked_at(*futures):
    """Wait until the service has reported the state of their tasks."""
    until(lambda: all(future.status().reason == "" and future.task_handle for future in futures), LIMIT)


def test_who_leaves_a_shared_task_has_ended(running, globus):
    """A transfer that is canceled or times out in a shared task has its own final status."""
    short, kept, lenient = move(1, timeout=8), move(2), move(3, timeout=8, check=False)
    left = move(4)
    looked_at(short, kept, lenient, left)
    assert len(globus.tasks) == 1
    left.cancel()
    assert isinstance(left.exception(LIMIT), TaskCanceledError)
    assert (left.status().state, left.status().code) == (TaskState.CANCELED, "CANCELED")
    assert left.status().reason.startswith("It was canceled; a task with ")
    assert isinstance(short.exception(LIMIT), TaskTimeoutError)
    assert (short.status().state, short.status().code) == (TaskState.EXPIRED, "EXPIRED")
    assert short.status().reason.startswith("It was not done within 8 seconds; ")
    assert lenient.result(LIMIT) is False
    assert lenient.status().state is TaskState.EXPIRED
    assert {future.status().handle for future in (left, short, lenient)} == {kept.task_handle}
    assert kept.status().state is TaskState.ACTIVE
    globus.clock.advance(1000)
    assert kept.result(LIMIT) is True
    assert (kept.status().state, left.status().state) == (TaskState.SUCCEEDED, TaskState.CANCELED)


def test_a_paused_task_that_was_stopped_is_over(running, globus):
    """A future that ended because of a pause has the state FAILED and the code PAUSED."""
    future = move(1)
    looked_at(future)
    [task] = globus.tasks.values()
    task.pause()
    assert isinstance(future.exception(LIMIT), TaskPausedError)
    assert (future.status().state, future.status().code) == (TaskState.FAILED, "PAUSED")
    assert "was paused, and stopped" in future.status().reason


def test_every_error_has_its_state(running, globus):
    """The state of a failed, lost or canceled task matches its error."""
    failed, lost, cancelled = move(1), move(2, verify_checksum=False), move(3, recursive=True)
    futures = failed, lost, cancelled
    looked_at(*futures)
    globus.task(failed.task_handle.task_id).fail("ENDPOINT_ERROR")
    globus.forget_task(lost.task_handle.task_id)
    cancelled.cancel()
    ends = [(type(future.exception(LIMIT)), future.status().state) for future in futures]
    assert ends == [
        (TaskFailedError, TaskState.FAILED),
        (TaskLostError, TaskState.LOST),
        (TaskCanceledError, TaskState.CANCELED),
    ]
    assert failed.status().code == "ENDPOINT_ERROR"


def test_what_has_no_place_at_the_service_waits(running, globus):
    """A transfer that waits for its submission says so in its status, with the error if the service refused it."""
    there = [move(0, preserve_timestamp=True), move(1, sync_level="size"), move(2, verify_checksum=False)]
    looked_at(*there)
    waiting = move(3)
    until(lambda: waiting.task_status() == "joining", LIMIT)
    status = waiting.status()
    assert (status.state, status.reason, waiting.task_handle) == (
        TaskState.ACTIVE,
        "It is waiting to be submitted.",
        None,
    )
    globus.fail_next(1000, 503, path="/transfer")
    there[0].cancel()
    until(lambda: waiting.status().reason.startswith("It is waiting to be submitted again. "), LIMIT)
    assert "503" in waiting.status().reason
    waiting.cancel()
    assert isinstance(waiting.exception(LIMIT), TaskCanceledError)
    assert waiting.status().state is TaskState.CANCELED


def test_a_transfer_in_another_process_tells_how_far_it_is(tmp_path):
    """The status counts the bytes that a worker process has moved so far; its status file is removed at the end."""
    (tmp_path / "scratch").mkdir()
    with socket.create_server(("127.0.0.1", 0)) as gate:
        source = {"url": "held://folder", "options": {"port": gate.getsockname()[1]}}
        places = {"store": {"filesystem": source}, "scratch": {"filesystem": str(tmp_path / "scratch")}}
        config = make_config(tmp_path / "runinfo", make_htex("local", workers=1))
        config.data = configure.load({"data": {"backend": "filesystem", "endpoints": places}}).data
        with chiltepin.Workflow(config):
            blocking_store.register(executor="local").result(LIMIT)
            future = transfer_task("store", "scratch", "/", "/", recursive=True, executor="local")
            until(lambda: future.status().bytes_done, LIMIT)
            status = future.status()
            assert (status.state, status.handle) == (TaskState.ACTIVE, future.task_handle)
            assert 0 < status.bytes_done < len(blocking_store.FILES) * blocking_store.SIZE
            assert not future.done()
            notes = os.path.join(config.run_dir, "000", "chiltepin")
            assert os.listdir(notes)
            for _ in range(len(blocking_store.FILES) - 1):
                gate.accept()[0].close()
            assert future.result(LIMIT) is True
            assert future.status().bytes_done == len(blocking_store.FILES) * blocking_store.SIZE
            until(lambda: not os.listdir(notes))
