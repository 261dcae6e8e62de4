"""A destination is whole or absent at every moment."""

from __future__ import annotations

import errno
import fcntl
import io
import os
import threading
from typing import ClassVar

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from waiting import until
from worlds import World

from chiltepin.backends.filesystem import FilesystemBackend
from chiltepin.backends.filesystem.store import BLOCK
from chiltepin.backends.filesystem.temp_names import TEMP_PREFIX, temporary
from chiltepin.backends.processes import host_id
from chiltepin.errors import TaskTimeoutError
from chiltepin.model import TaskHandle, TaskState
from chiltepin.protocol import Shard
from chiltepin.transfers.arguments import transfer_request
from chiltepin.transfers.runner import Transfers

#: Names of users' files; the last two are names of temporary files of earlier versions.
USERS = (
    ".chiltepin-notes",
    ".chiltepin-",
    ".chiltepin-0123456789abcdef-00000000",
    ".chiltepin-0123456789abcdef",
    ".chiltepin-a-1",
)

#: The part of a temporary file's name that identifies a writer of this host.
WRITER = f"{host_id()}-0123456789abcdef"


class BusyBackend(FilesystemBackend):
    """A backend to which other threads submit tasks whenever its caller has waited for a task or polled one."""

    def others(self):
        """Run more tasks than the backend remembers."""
        for number in range(3):
            request = transfer_request(
                src_ep="laptop", dst_ep="scratch", src_path="/small", dst_path=f"/other/{number}"
            )
            handle = self.submit(request, self.new_submission_id())
            super().wait(handle, 60)
            assert super().poll([handle])[0].state is TaskState.SUCCEEDED

    def wait(self, handle, seconds):
        """Wait, then run other tasks."""
        super().wait(handle, seconds)
        self.others()

    def poll(self, handles):
        """Poll, then run other tasks."""
        statuses = super().poll(handles)
        self.others()
        return statuses


class GatedFile(io.BytesIO):
    """Returns its first block at once, and the rest when the gate is open."""

    def __init__(self, content: bytes, gate: threading.Event) -> None:
        super().__init__(content)
        self._gate = gate

    def read(self, size=-1):
        """Read when the gate is open; the end of the file is returned at once."""
        assert self.tell() in (0, len(self.getvalue())) or self._gate.wait(60)
        return super().read(size)


class GatedFileSystem(MemoryFileSystem):
    """A memory filesystem whose reads wait for a gate."""

    protocol = "gated"
    store: ClassVar[dict] = {}
    pseudo_dirs: ClassVar[list] = [""]
    gate = threading.Event()

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(path.replace("gated://", "memory://"))

    def _open(self, path, mode="rb", **options):
        if mode == "rb":
            return GatedFile(self.cat_file(path), self.gate)
        return super()._open(path, mode, **options)

    def cat_file(self, path, **_):
        """Read without waiting."""
        return self.store[self._strip_protocol(path)].getvalue()


fsspec.register_implementation("gated", GatedFileSystem)


@pytest.fixture
def slow(tmp_path):
    """A slow laptop in memory, and scratch on the disk; the gate is closed."""
    filesystem = GatedFileSystem()
    filesystem.gate.clear()
    filesystem.pipe_file("/laptop/f", os.urandom(4 * BLOCK))
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    endpoints = {"laptop": {"url": "gated://laptop"}, "scratch": {"url": str(scratch)}}
    transfers = Transfers(FilesystemBackend.from_config(endpoints, {}))
    world = World(transfers, fsspec.filesystem("file"), {"scratch": str(scratch)})
    world.gate, world.source = filesystem.gate, filesystem
    yield world
    filesystem.gate.set()
    filesystem.store.clear()


def temp_files(disk) -> list[str]:
    """Return the temporary files on scratch."""
    return [name for name in os.listdir(disk.roots["scratch"]) if name.startswith(TEMP_PREFIX)]


def test_a_file_that_is_being_written_has_no_real_name(slow):
    """During a copy the destination keeps the old file, and afterwards it has the whole new file."""
    slow.put("scratch", "/f", b"old")
    request = transfer_request(src_ep="laptop", dst_ep="scratch", src_path="/f", dst_path="/f")
    backend = slow.transfers.backend
    handle = backend.submit(request, "id")
    until(lambda: temp_files(slow))
    assert slow.get("scratch", "/f") == b"old"
    slow.gate.set()
    until(lambda: backend.poll([handle])[0].state.final)
    assert slow.get("scratch", "/f") == slow.source.cat_file("/laptop/f")
    assert slow.files("scratch") == {"/f"}


def test_a_private_file_is_private_while_it_is_replaced(slow):
    """A file that replaces a file of mode 0600 has this mode during the copy and afterwards."""
    slow.put("scratch", "/f", b"old")
    os.chmod(slow.path("scratch", "/f"), 0o600)
    request = transfer_request(src_ep="laptop", dst_ep="scratch", src_path="/f", dst_path="/f")
    backend = slow.transfers.backend
    handle = backend.submit(request, "id")
    until(lambda: temp_files(slow))
    assert os.stat(slow.path("scratch", temp_files(slow)[0])).st_mode & 0o777 == 0o600
    slow.gate.set()
    until(lambda: backend.poll([handle])[0].state.final)
    assert os.stat(slow.path("scratch", "/f")).st_mode & 0o777 == 0o600


def test_a_cancelled_copy_leaves_nothing(slow):
    """A canceled copy leaves no destination and no temporary file."""
    request = transfer_request(src_ep="laptop", dst_ep="scratch", src_path="/f", dst_path="/f")
    backend = slow.transfers.backend
    handle = backend.submit(request, "id")
    until(lambda: temp_files(slow))
    backend.cancel(handle)
    slow.gate.set()
    until(lambda: backend.poll([handle])[0].state.final)
    assert backend.poll([handle])[0].state is TaskState.CANCELED
    assert slow.files("scratch") == set()


def test_a_timeout_stops_the_copy(slow):
    """A copy that reaches its timeout stops and leaves nothing, and the error has the timeout."""
    threading.Timer(0.3, slow.gate.set).start()
    with pytest.raises(TaskTimeoutError, match=r"not done within 0\.1 seconds") as caught:
        slow.move("/f", "/f", timeout=0.1)
    assert caught.value.status.state is TaskState.CANCELED
    assert slow.files("scratch") == set()


def test_a_copy_that_hangs_does_not_hold_its_caller(slow, monkeypatch):
    """If a copy cannot be stopped, its caller still gets the timeout error."""
    monkeypatch.setattr("chiltepin.transfers.policy.wait_times.STOP_GRACE", 0.1)
    with pytest.raises(TaskTimeoutError) as caught:
        slow.move("/f", "/f", timeout=1)
    assert caught.value.status.state is TaskState.ACTIVE


def test_a_file_that_changes_while_it_is_copied_fails(slow):
    """A source that changes during its copy makes the copy fail, and no mixed content arrives."""
    request = transfer_request(src_ep="laptop", dst_ep="scratch", src_path="/f", dst_path="/f")
    backend = slow.transfers.backend
    handle = backend.submit(request, "id")
    until(lambda: temp_files(slow))
    slow.source.pipe_file("/laptop/f", os.urandom(4 * BLOCK))
    slow.gate.set()
    until(lambda: backend.poll([handle])[0].state.final)
    status = backend.poll([handle])[0]
    assert (status.state, status.code) == (TaskState.FAILED, "FILE_SIZE_CHANGED")
    assert slow.files("scratch") == set()


def test_bytes_that_the_disk_turned_are_noticed(slow):
    """If the written bytes differ when they are read back, the file fails and does not appear."""
    request = transfer_request(src_ep="laptop", dst_ep="scratch", src_path="/f", dst_path="/f")
    backend = slow.transfers.backend
    handle = backend.submit(request, "id")
    until(lambda: temp_files(slow) and os.path.getsize(slow.path("scratch", temp_files(slow)[0])) >= BLOCK)
    with open(slow.path("scratch", temp_files(slow)[0]), "r+b") as file:
        file.write(b"rot")
    slow.gate.set()
    until(lambda: backend.poll([handle])[0].state.final)
    status = backend.poll([handle])[0]
    assert (status.state, status.code) == (TaskState.FAILED, "VERIFY_CHECKSUM")
    assert slow.files("scratch") == set()


def test_the_drafts_of_the_living_are_not_swept(disk):
    """A temporary file that is still being written is kept by another transfer to the same folder."""
    disk.put("laptop", "/f")
    alive = disk.path("scratch", f"/{temporary(WRITER)}")
    with open(alive, "wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert disk.move("/f", "/f").state is TaskState.SUCCEEDED
        assert os.path.exists(alive)


@pytest.mark.parametrize("level", ["exists", "size", "mtime", "checksum"])
def test_leftovers_go_where_nothing_is_left_to_do(disk, level):
    """The temporary files of a killed run are swept by the next run, even if it copies nothing."""
    disk.put("laptop", "/d/f")
    disk.put("scratch", "/d/f")
    disk.put("scratch", f"/d/{temporary(WRITER)}", b"")
    disk.put("scratch", f"/d/{temporary(WRITER + '-1')}", b"da")
    assert disk.move("/d", "/d", recursive=True, sync_level=level).files_skipped == 1
    assert disk.files("scratch") == {"/d/f"}


def test_drafts_are_no_data(disk):
    """A temporary file of a dead run is neither copied nor listed."""
    disk.put("laptop", "/d/f")
    disk.put("laptop", f"/d/{temporary(WRITER)}")
    disk.move("/d", "/d", recursive=True)
    assert disk.files("scratch") == {"/d/f"}
    assert [entry.name for entry in disk.transfers.ls("laptop", "/d")] == ["f"]


@pytest.mark.parametrize("name", USERS)
def test_a_name_that_looks_like_ours_is_the_users(disk, name):
    """A user's file or folder whose name only resembles that of a temporary file is listed, copied and kept."""
    disk.put("laptop", f"/d/{name}", b"file")
    disk.put("laptop", f"/d/sub/{name}/f", b"below")
    disk.put("scratch", f"/d/theirs/{name}", b"kept")
    assert disk.move("/d", "/d", recursive=True).files_done == 2
    assert disk.move(f"/d/{name}", f"/d/theirs/new-{name}").state is TaskState.SUCCEEDED
    assert disk.move(f"/d/{name}", f"/{name}").state is TaskState.SUCCEEDED
    wanted = {f"/d/{name}": b"file", f"/d/sub/{name}/f": b"below", f"/d/theirs/{name}": b"kept", f"/{name}": b"file"}
    assert {path: disk.get("scratch", path) for path in wanted} == wanted
    assert {entry.name for entry in disk.transfers.ls("scratch", "/d")} == {name, "sub", "theirs"}


def test_the_name_of_a_temporary_file_is_refused_as_a_destination(disk):
    """The name of a temporary file is refused as a destination, and the task says why."""
    disk.put("laptop", "/f")
    for path in (f"/{temporary(WRITER)}", f"/{temporary(WRITER)}/f", f"/d/{temporary(WRITER + '-1')}"):
        status = disk.move("/f", path)
        assert (status.state, status.code) == (TaskState.FAILED, "INVALID_PATH_NAME")
        assert "temporary file" in status.reason
    assert disk.move("/", f"/{temporary(WRITER)}", recursive=True).code == "INVALID_PATH_NAME"
    assert disk.files("scratch") == set()


@pytest.mark.parametrize("writer", ["000000000000-0123456789abcdef", "0123456789abcdef", f"{'0' * 12}-{'1' * 32}"])
def test_a_temporary_file_of_another_host_is_swept_after_a_day(disk, writer):
    """A temporary file of another host, or of a version without host names, is swept after a day without a write."""
    disk.put("laptop", "/d/f")
    names = [f"/d/{temporary(writer + end)}" for end in ("", "-1", "-2")]
    for name in names:
        disk.put("scratch", name)
    for name in names[1:]:
        os.utime(disk.path("scratch", name), (0, 0))
    assert disk.move("/d", "/d", recursive=True).state is TaskState.SUCCEEDED
    assert disk.files("scratch") == {"/d/f", *names}
    os.utime(disk.path("scratch", names[0]), (0, 0))
    backend = FilesystemBackend.from_config({end: {"url": root} for end, root in disk.roots.items()}, {})
    request = transfer_request(src_ep="laptop", dst_ep="scratch", src_path="/d", dst_path="/d", recursive=True)
    assert Transfers(backend).run(request, timeout=60, polling_interval=1).state is TaskState.SUCCEEDED
    assert disk.files("scratch") == {"/d/f"}


def test_what_is_left_on_a_disk_without_locks_is_swept_after_a_day(disk, monkeypatch):
    """Without locks, a temporary file of this host is also swept only after a day."""

    def refused(*_):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fcntl, "flock", refused)
    disk.put("laptop", "/d/f")
    young, old = f"/d/{temporary(WRITER)}", f"/d/{temporary(WRITER[:-1] + '0')}"
    for name in (young, old):
        disk.put("scratch", name)
    os.utime(disk.path("scratch", old), (0, 0))
    assert disk.move("/d", "/d", recursive=True).state is TaskState.SUCCEEDED
    assert disk.files("scratch") == {"/d/f", young}


def test_a_temporary_file_of_another_way_is_not_swept(disk):
    """A temporary file that is written over SFTP is not swept by a local copy."""
    disk.put("laptop", "/f")
    name = temporary("0-elsewhere-1-1764000000-00000000")
    disk.put("scratch", f"/d/{name}")
    assert disk.move("/f", "/d/f").state is TaskState.SUCCEEDED
    assert disk.files("scratch") == {"/d/f", f"/d/{name}"}


def test_a_missing_root_is_not_made(tmp_path):
    """A missing root is not created, because its disk may not be mounted."""
    (tmp_path / "laptop").mkdir()
    (tmp_path / "laptop" / "f").write_bytes(b"x")
    endpoints = {"laptop": {"url": str(tmp_path / "laptop")}, "scratch": {"url": str(tmp_path / "not-mounted")}}
    transfers = Transfers(FilesystemBackend.from_config(endpoints, {}))
    request = transfer_request(src_ep="laptop", dst_ep="scratch", src_path="/f", dst_path="/d/f")
    status = transfers.run(request, timeout=60, polling_interval=1)
    assert (status.state, status.code) == (TaskState.FAILED, "FILE_NOT_FOUND")
    assert "root" in status.reason
    assert os.listdir(tmp_path) == ["laptop"]


def test_threads_end_with_their_tasks(disk):
    """After a task has ended, its threads end."""
    before = set(threading.enumerate())
    disk.put("laptop", "/f")
    for number in range(5):
        disk.move("/f", f"/{number}")
    until(lambda: before.issuperset(threading.enumerate()))


def test_a_task_does_not_wait_for_a_long_one(slow):
    """Transfers succeed while another one hangs, even if no caller waits for them."""
    slow.source.pipe_file("/laptop/small", b"small")
    backend = slow.transfers.backend
    stuck = transfer_request(src_ep="laptop", dst_ep="scratch", src_path="/f", dst_path="/f")
    handle = backend.submit(stuck, "stuck")
    until(lambda: temp_files(slow))
    for number in range(3):
        assert slow.move("/small", f"/d/{number}").state is TaskState.SUCCEEDED
    assert backend.poll([handle])[0].state is TaskState.ACTIVE
    small = transfer_request(src_ep="laptop", dst_ep="scratch", src_path="/small", dst_path="/d/last")
    alone = backend.submit(small, "alone")
    slow.gate.set()
    until(lambda: all(status.state.final for status in backend.poll([handle, alone])))
    assert slow.files("scratch") == {"/f", "/d/0", "/d/1", "/d/2", "/d/last"}


@pytest.fixture
def busy(tmp_path, monkeypatch):
    """Transfers of a backend that remembers one task, and has others to run at every moment."""
    monkeypatch.setattr("chiltepin.backends.filesystem.backend.MEMORY", 1)
    for name in ("laptop/tree/a", "laptop/tree/b", "scratch"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "laptop/small").write_bytes(b"small")
    endpoints = {name: {"url": str(tmp_path / name)} for name in ("laptop", "scratch")}
    return Transfers(BusyBackend.from_config(endpoints, {}))


def test_an_ended_task_is_remembered_until_its_end_is_read(busy):
    """`run` returns the end of its task, even if many other tasks end before it reads it."""
    request = transfer_request(src_ep="laptop", dst_ep="scratch", src_path="/tree", dst_path="/tree", recursive=True)
    assert busy.run(request, timeout=60, polling_interval=1, submission_id="mine").state is TaskState.SUCCEEDED
    assert busy.backend.poll([TaskHandle.at_worker("filesystem", "mine")])[0].state is TaskState.LOST


def test_an_ended_shard_is_remembered_until_its_outcome_is_read(busy):
    """The outcome of a shard contains the work that it returns, even if many other tasks end before it is read."""
    request = transfer_request(src_ep="laptop", dst_ep="scratch", src_path="/tree", dst_path="/tree", recursive=True)
    times = {"timeout": 60, "polling_interval": 1, "stopped": lambda: False}
    shard = Shard(seconds=0.0, workers=2)
    outcome = busy.run_shard(request, shard, submission_id="mine", **times)
    assert outcome.status.state is TaskState.SUCCEEDED
    assert sorted(folder for rest in outcome.rest for folder in rest.folders) == [("a",), ("b",)]


def test_closing_a_backend_stops_its_tasks(slow):
    """Closing a backend cancels its active tasks and deletes no data."""
    request = transfer_request(src_ep="laptop", dst_ep="scratch", src_path="/f", dst_path="/f")
    handle = slow.transfers.backend.submit(request, "id")
    until(lambda: temp_files(slow))
    slow.transfers.close()
    slow.gate.set()
    until(lambda: slow.transfers.backend.poll([handle])[0].state.final)
    assert slow.transfers.backend.poll([handle])[0].state is TaskState.CANCELED
    assert slow.source.exists("/laptop/f")
