"""Status files, from which other processes read the status of a task."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from clocked_backends import Clock

from chiltepin.model import TaskHandle, TaskState, TaskStatus
from chiltepin.transfers.own_files import create_own, exists_own
from chiltepin.transfers.status_file import StatusFile, read

HANDLE = TaskHandle(backend="filesystem", task_id="id", submission_id="id")


def status(count: int, state: TaskState = TaskState.ACTIVE) -> TaskStatus:
    """Return a status with this number of bytes."""
    return TaskStatus(handle=HANDLE, state=state, code="", reason="größer", bytes_done=count, files_done=1, faults=2)


@pytest.fixture
def clock():
    """A clock that is moved by hand."""
    return Clock()


@pytest.fixture
def file(tmp_path):
    """The path of a status file: in a missing folder inside an existing one."""
    return str(tmp_path / "chiltepin" / "id.json")


def test_a_note_is_the_status(file, clock):
    """A status is read back complete, and no other file is left beside it."""
    notes = StatusFile(file, clock)
    clock.time += 1
    notes.update(status(5))
    assert read(file) == status(5)
    assert os.listdir(os.path.dirname(file)) == ["id.json"]


def test_a_short_task_writes_none(file, clock):
    """A task that ends within a second writes no file, and a final state is never written."""
    notes = StatusFile(file, clock)
    clock.time += 0.9
    notes.update(status(5))
    clock.time += 5
    notes.update(status(6, TaskState.SUCCEEDED))
    assert read(file) is None
    assert not os.path.exists(os.path.dirname(file))


def test_a_long_task_writes_one_a_second(file, clock):
    """The status is written at most once a second, and only if it has changed."""
    notes = StatusFile(file, clock)
    seen = []
    for tick in range(1, 17):
        clock.time += 0.25
        notes.update(status(min(10, tick)))
        seen.append(getattr(read(file), "bytes_done", None))
    assert seen == [None] * 3 + [4] * 4 + [8] * 4 + [10] * 5
    os.remove(file)
    clock.time += 1
    notes.update(status(10))
    assert read(file) is None


@pytest.mark.parametrize("place", ["", "{}/nowhere/chiltepin/id.json", "{}/a-file/id.json"])
def test_where_no_note_can_be_written_the_task_goes_on(tmp_path, clock, place):
    """Without a file name, a run folder or a writable disk, nothing is created and nothing is raised."""
    (tmp_path / "a-file").touch()
    notes = StatusFile(place.format(tmp_path), clock)
    clock.time += 1
    notes.update(status(5))
    assert os.listdir(tmp_path) == ["a-file"]
    assert read(place.format(tmp_path)) is None


@pytest.mark.parametrize("content", ["", "{", "[]", '{"state": "active"}', '{"handle": {}, "state": "asleep"}'])
def test_what_cannot_be_read_is_no_status(tmp_path, content):
    """A status file with invalid contents is ignored."""
    (tmp_path / "id.json").write_text(content)
    assert read(str(tmp_path / "id.json")) is None


@pytest.mark.parametrize("how", ["open to all", "a link", "a second name", "a pipe", "nested too deeply"])
def test_a_note_that_another_user_can_have_written_is_not_read(file, clock, how):
    """A status file that another user can have written is ignored, and reading it never blocks."""
    notes = StatusFile(file, clock)
    clock.time += 1
    notes.update(status(5))
    if how == "open to all":
        Path(file).chmod(0o666)
    elif how == "a second name":
        os.link(file, f"{file}.2")
    else:
        os.rename(file, f"{file}.2")
        if how == "a link":
            os.symlink(f"{file}.2", file)
        elif how == "a pipe":
            os.mkfifo(file)
        else:
            Path(file).write_text("[" * 100_000)
    assert read(file) is None


def test_a_note_is_never_written_through_a_link(file, clock, tmp_path):
    """A link at the path of the temporary file is not followed."""
    (tmp_path / "precious").write_text("mine")
    os.mkdir(os.path.dirname(file))
    os.symlink(tmp_path / "precious", f"{file}.tmp")
    notes = StatusFile(file, clock)
    clock.time += 1
    notes.update(status(5))
    assert read(file) == status(5)
    assert (tmp_path / "precious").read_text() == "mine"


def test_a_stop_file_of_another_user_stops_nothing(tmp_path):
    """Only a stop file of this user counts, and creating it follows no link."""
    stop = str(tmp_path / "id.stop")
    (tmp_path / "precious").write_text("mine")
    os.symlink(tmp_path / "precious", stop)
    assert not exists_own(stop)
    os.close(create_own(stop))
    assert exists_own(stop)
    assert (tmp_path / "precious").read_text() == "mine"
    Path(stop).chmod(0o666)
    assert not exists_own(stop)
