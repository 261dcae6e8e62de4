"""A process that dies, and the next one: what is in flight is joined, and nothing is asked for twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import pytest
from guided import Guided

from chiltepin.arguments import transfer_request
from chiltepin.errors import BackendError
from chiltepin.journal import Journal
from chiltepin.model import TaskState


class Death(BaseException):
    """What ends the first process."""


def move(number=0, **options):
    """Ask for one file of many."""
    return transfer_request(src_ep="a", dst_ep="b", src_path=f"/{number}", dst_path=f"/out/{number}", **options)


@pytest.fixture
def process(backend, globus, laptop, tmp_path):
    """Make another process: a hub with a journal of its own in the same folder."""
    for number in range(5):
        (laptop / str(number)).write_text(str(number))

    def make():
        return Guided(backend, globus, journal=Journal(tmp_path / "journal", clock=globus.clock.now))

    return make


def die_in(thing, method, *, after):
    """Have a method be the last thing that a process does, or nearly does."""
    do = getattr(thing, method)

    def last(*args, **kwargs):
        if after:
            do(*args, **kwargs)
        raise Death

    return last


DEATHS = {
    "before the intent is written": ("journal", "intend", False),
    "after the intent is written": ("journal", "intend", True),
    "before it is submitted": ("backend", "submit", False),
    "after it is submitted": ("backend", "submit", True),
    "before its name is written": ("journal", "submitted", False),
    "after its name is written": ("journal", "submitted", True),
    "at the first look": ("backend", "poll", False),
}


@pytest.mark.parametrize("count", [1, 5])
@pytest.mark.parametrize("where", DEATHS)
def test_whenever_it_dies_each_file_is_asked_for_once(process, backend, globus, scratch, monkeypatch, where, count):
    """Killed at any step of the journal, the next run ends well, with one task, and each file moved once."""
    globus.settings.task_latency = 20
    part, method, after = DEATHS[where]
    first = process()
    thing = backend if part == "backend" else first.hub._record._journal
    with monkeypatch.context() as patch:
        patch.setattr(thing, method, die_in(thing, method, after=after))
        for number in range(count):
            first.start(move(number))
        with pytest.raises(Death):
            first.live()
    second = process()
    errands = [second.start(move(number)) for number in range(count)]
    second.live()
    assert [errand.future.result(0).state for errand in errands] == [TaskState.SUCCEEDED] * count
    assert len(globus.tasks) == 1
    assert sorted(file.name for file in (scratch / "out").iterdir()) == [str(number) for number in range(count)]


def test_what_has_succeeded_meanwhile_is_noticed(process, globus):
    """A task that ended while nobody looked is a success, and is not made again."""
    globus.settings.task_latency = 20
    first = process()
    first.start(move())
    first.live(seconds=1)
    globus.clock.advance(60)
    second = process()
    errand = second.start(move())
    second.live()
    assert errand.future.result(0).state is TaskState.SUCCEEDED
    assert len(globus.tasks) == 1


def test_what_has_failed_meanwhile_is_tried_anew(process, globus):
    """What came of a task of a dead process is no answer to whoever asks now, if it is not success."""
    globus.settings.task_latency = 20
    first = process()
    errand = first.start(move())
    first.live(seconds=1)
    globus.task(errand.handle.task_id).fail()
    second = process()
    again = second.start(move())
    second.live()
    assert again.future.result(0).state is TaskState.SUCCEEDED
    assert len(globus.tasks) == 2


def test_a_task_that_globus_has_lost_is_made_anew(process, globus):
    """If nobody knows the task of the dead process any more, there is a new one."""
    globus.settings.task_latency = 20
    first = process()
    errands = [first.start(move(number)) for number in range(3)]
    first.live(seconds=1)
    globus.forget_task(errands[0].handle.task_id)
    second = process()
    again = [second.start(move(number)) for number in range(3)]
    second.live()
    assert all(errand.future.result(0).state is TaskState.SUCCEEDED for errand in again)


def test_what_has_ended_is_made_again_when_it_is_asked_for_again(process, globus):
    """A journal keeps nobody from moving the same file every day."""
    for count in (1, 2):
        run = process()
        errand = run.start(move())
        run.live()
        assert errand.future.result(0).state is TaskState.SUCCEEDED
        assert len(globus.tasks) == count


def test_what_is_long_over_is_not_taken_for_an_answer(process, globus):
    """After its deadline, what a dead process has begun is nobody's any more."""
    first = process()
    first.start(move(), timeout=100)
    first.live(seconds=1)
    globus.clock.advance(200)
    second = process()
    second.start(move())
    second.live()
    assert len(globus.tasks) == 2


def test_another_request_joins_nothing(process, globus):
    """Only what is wholly alike is joined: other options for the same paths are refused as long as those are taken."""
    globus.settings.task_latency = 20
    first = process()
    first.start(move(0))
    first.live(seconds=1)
    second = process()
    other, wanted = second.start(move(1)), second.start(move(0, sync_level="size"))
    second.live()
    assert other.future.result(0).handle.task_id != next(iter(globus.tasks))
    with pytest.raises(BackendError, match="not this same request"):
        wanted.future.result(0)


@pytest.mark.parametrize("count", [1, 5])
def test_a_script_resumes_what_is_in_flight(process, globus, count):
    """Without its requests being made again, all that a dead process has begun is followed to its end."""
    globus.settings.task_latency = 20
    first = process()
    for number in range(count):
        first.start(move(number))
    first.live(seconds=1)
    second = process()
    errands = second.hub.resume(timeout=100, polling_interval=30, grace=60)
    second.live()
    assert [errand.future.result(0).state for errand in errands] == [TaskState.SUCCEEDED] * count
    assert len(globus.tasks) == 1
    assert process().hub.resume(timeout=100, polling_interval=30, grace=60) == []


SCRIPT = """
import sys, chiltepin
from chiltepin import transfer_task
with chiltepin.Workflow({"data": {"backend": "globus"}}, run_dir=sys.argv[1]):
    futures = [
        transfer_task("my-laptop", "hpc-scratch", f"/{n}", f"/out/{n}", executor="local", polling_interval=0.2)
        for n in range(20)
    ]
    print([future.result(60) for future in futures].count(True))
"""


@pytest.mark.parametrize("moment", [0.0, 0.3, 0.9])
def test_a_workflow_that_is_killed_joins_what_is_in_flight(chiltepin_globus, tmp_path, moment):
    """Kill -9 of a real workflow at some moment after its first request: the next run of it moves each file once."""
    globus = chiltepin_globus
    globus.settings.task_latency = 1.5
    for number in range(20):
        (tmp_path / "my-laptop" / str(number)).write_text(str(number))
    command = [sys.executable, "-c", SCRIPT, str(tmp_path / "runinfo")]
    started = threading.Event()
    first = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not globus.tasks and first.poll() is None:
        started.wait(0.01)
    started.wait(moment)
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    before = len(globus.tasks)
    second = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)
    assert (second.stdout.strip(), second.stderr) == ("20", "")
    written = [
        entry["destination_path"] for task in globus.tasks for entry in globus.client().task_successful_transfers(task)
    ]
    assert sorted(written) == sorted(f"/out/{number}" for number in range(20))
    assert len(globus.tasks) >= before
