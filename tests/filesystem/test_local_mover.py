"""Copies within one machine: parts, holes, external checksums, and leftovers of killed runs."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from contextlib import ExitStack, contextmanager

import pytest

from chiltepin.backends.filesystem.errors import Fault
from chiltepin.backends.filesystem.local import kernel_copy as pieces
from chiltepin.backends.filesystem.local.store import LocalStore
from chiltepin.backends.filesystem.local.writer import PART
from chiltepin.backends.filesystem.location import Location
from chiltepin.backends.filesystem.mover import content
from chiltepin.backends.filesystem.mover.file import copy_file
from chiltepin.backends.filesystem.mover.task import TaskRun
from chiltepin.backends.filesystem.mover.thread_count import AdaptivePool
from chiltepin.backends.filesystem.mover.threads import MoverThreads
from chiltepin.backends.filesystem.protected_roots import Roots
from chiltepin.backends.filesystem.store import SMALL
from chiltepin.backends.filesystem.temp_names import TEMP_PREFIX
from chiltepin.model import TaskHandle, TaskState
from chiltepin.transfers.arguments import transfer_request

#: Copies a file or folder and pauses at check number sys.argv[4], of two per part, until it reads a line.
STOPPING = """
import sys, threading
from chiltepin.transfers.arguments import transfer_request
from chiltepin.backends.filesystem.mover.file import copy_file
from chiltepin.backends.filesystem.mover.thread_count import AdaptivePool
from chiltepin.backends.filesystem.local.store import LocalStore
from chiltepin.backends.filesystem.mover.threads import MoverThreads
from chiltepin.backends.filesystem.protected_roots import Roots
from chiltepin.backends.filesystem.location import Location
from chiltepin.backends.filesystem.mover.tree import copy_tree
from chiltepin.backends.filesystem.mover.task import TaskRun

class Stopping(TaskRun):
    left = int(sys.argv[4])
    def check(self):
        self.left -= 1
        if not self.left:
            print("middle", flush=True)
            sys.stdin.readline()

laptop, scratch, name = sys.argv[1:4]
request = transfer_request(src_ep="laptop", dst_ep="scratch", src_path="/" + name, dst_path="/" + name)
origin, goal = Location("laptop", LocalStore(laptop), (name,)), Location("scratch", LocalStore(scratch), (name,))
work = Stopping(request, None, lambda: AdaptivePool(MoverThreads()), threading.Event.wait)
(copy_tree if name == "d" else copy_file)(work, request, origin, goal, Roots())
print("done", flush=True)
"""

#: Creates three temporary files and waits.
WRITING = """
import os, sys
from chiltepin.backends.filesystem.local.store import LocalStore
folder = LocalStore(sys.argv[1]).folder(())
drafts = [folder.temp_file(str(number)) for number in range(3)]
print("middle", flush=True)
sys.stdin.readline()
"""


@contextmanager
def stopped(code: str, *arguments: str):
    """Run a process up to its pause, and kill it at the end."""
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout.readline() == "middle\n"
        yield process
    finally:
        process.kill()
        process.wait(60)
        process.stdin.close()
        process.stdout.close()


def left(disk, folder: str = "/") -> list[str]:
    """Return the temporary names in a folder of scratch."""
    return [name for name in os.listdir(disk.path("scratch", folder)) if name.startswith(TEMP_PREFIX)]


def copied(disk, name: str, checksum: str = "", do=None, **options) -> TaskRun:
    """Copy a file from the laptop; ``do`` replaces the task's check."""
    request = transfer_request(src_ep="laptop", dst_ep="scratch", src_path=name, dst_path=name, **options)
    handle = TaskHandle(backend="x", task_id="x", submission_id="x")
    work = TaskRun(request, handle, lambda: AdaptivePool(MoverThreads()), threading.Event.wait)
    work.check = do or work.check
    origin, goal = (Location(ep, LocalStore(disk.roots[ep]), (name.strip("/"),)) for ep in ("laptop", "scratch"))
    copy_file(work, request, origin, goal, Roots(), checksum=checksum)
    return work


@pytest.mark.parametrize("size", [0, 1, SMALL, SMALL + 1, PART, PART + 1, 3 * PART - 1])
@pytest.mark.parametrize("verify", [True, False])
def test_files_of_every_size_arrive(disk, size, verify):
    """A file of any size arrives complete, with each copy method, and no other file is left."""
    content = os.urandom(size)
    disk.put("laptop", "/f", content)
    status = disk.move("/f", "/f", verify_checksum=verify)
    assert (status.state, status.bytes_done) == (TaskState.SUCCEEDED, size)
    assert disk.get("scratch", "/f") == content
    assert disk.files("scratch") == {"/f"}


@pytest.mark.parametrize("without", [["copy_file_range"], ["copy_file_range", "sendfile"]])
def test_where_the_kernel_has_no_way_there_is_another(disk, monkeypatch, without):
    """Without copy_file_range, and without sendfile between files, the same bytes arrive."""

    def cannot(*_):
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    for name in without:
        monkeypatch.setattr(os, name, cannot)
    monkeypatch.setattr(pieces, "_way", {})
    content = os.urandom(2 * PART + 17)
    disk.put("laptop", "/f", content)
    assert disk.move("/f", "/f").state is TaskState.SUCCEEDED
    assert disk.get("scratch", "/f") == content


@pytest.mark.skipif(not os.path.isdir("/dev/shm"), reason="no disk in memory here")  # noqa: S108 - that disk is meant
def test_files_go_from_one_disk_to_another(disk, tmp_path):
    """Files of all sizes arrive on another disk, where other system calls copy."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as other:
        disk.roots["laptop"] = other
        for name, size in (("large", 2 * PART + 5), ("middle", SMALL + 1), ("small", 5)):
            disk.put("laptop", f"/{name}", os.urandom(size))
            copied(disk, f"/{name}")
            assert disk.get("scratch", f"/{name}") == disk.get("laptop", f"/{name}")


@pytest.mark.parametrize("segments", [[], [0], [PART // 2], [3 * PART - 5], [0, 2 * PART]])
@pytest.mark.parametrize("size", [PART // 2, 3 * PART])
def test_holes_stay_holes(disk, segments, size):
    """A sparse file arrives with the same bytes and stays sparse."""
    with open(disk.path("laptop", "/f"), "wb") as file:
        file.truncate(size)
        for offset in segments:
            file.seek(min(offset, size - 5))
            file.write(b"bytes")
    assert disk.move("/f", "/f").state is TaskState.SUCCEEDED
    assert disk.get("scratch", "/f") == disk.get("laptop", "/f")
    room = [os.stat(disk.path(endpoint, "/f")).st_blocks * 512 for endpoint in ("laptop", "scratch")]
    assert room[1] <= max(room[0], 1 << 16) * 2 < size


@pytest.mark.parametrize("algorithm", ["md5", "sha1", "sha256", "sha512"])
@pytest.mark.parametrize("size", [10, SMALL + 1, 2 * PART + 1])
def test_a_checksum_from_outside_is_met_or_nothing_arrives(disk, algorithm, size):
    """A file arrives if it has the requested checksum; otherwise it fails and leaves nothing."""
    content = os.urandom(size)
    disk.put("laptop", "/f", content)
    right = f"{algorithm}:{hashlib.new(algorithm, content).hexdigest().upper()}"
    wrong = right[:-1] + ("0" if right[-1] != "0" else "1")
    with pytest.raises(Fault, match=f"has the checksum {algorithm}:") as caught:
        copied(disk, "/f", checksum=wrong)
    assert caught.value.code == "EXTERNAL_CHECKSUM_MISMATCH"
    assert disk.files("scratch") == set()
    copied(disk, "/f", checksum=right)
    assert disk.get("scratch", "/f") == content


def test_a_checksum_that_cannot_be_checked_is_named(disk):
    """An unknown algorithm fails the file and lists the supported ones."""
    disk.put("laptop", "/f")
    with pytest.raises(Fault, match="supported: md5, sha1, sha256, sha512"):
        copied(disk, "/f", checksum="crc32:00000000")


@pytest.mark.parametrize("verify", [True, False])
def test_a_large_file_that_changes_while_it_is_copied_fails(disk, verify):
    """A source that is changed or truncated between two parts fails the copy, and nothing arrives."""
    for change in (lambda file: file.truncate(PART), lambda file: file.write(b"new")):
        disk.put("laptop", "/f", os.urandom(3 * PART))
        parts = []

        def do(change=change, parts=parts):
            parts.append(1)
            if len(parts) == 2:
                with open(disk.path("laptop", "/f"), "r+b") as file:
                    change(file)

        with pytest.raises(Fault) as caught:
            copied(disk, "/f", do=do, verify_checksum=verify)
        assert caught.value.code == "FILE_SIZE_CHANGED"
        assert disk.files("scratch") == set()


def test_a_killed_copy_of_a_large_file_is_continued(disk):
    """After kill -9 during a copy, the next run keeps exactly the intact parts."""
    content = os.urandom(4 * PART + 5)
    disk.put("laptop", "/f", content)
    with stopped(STOPPING, disk.roots["laptop"], disk.roots["scratch"], "f", "7"):
        pass
    (temp_file,) = left(disk)
    assert disk.files("scratch") == {f"/{temp_file}"}
    before = os.stat(disk.path("scratch", temp_file))
    with LocalStore(disk.roots["laptop"]).folder(()) as here, LocalStore(disk.roots["scratch"]).folder(()) as there:
        with here.read("f") as reader, open(disk.path("scratch", temp_file), "r+b") as file:
            file.seek(PART)
            file.write(b"rot")
        parts = [(offset, min(PART, len(content) - offset)) for offset in range(0, len(content), PART)]
        with there.temp_file("f", size=len(content), content_id=reader.content_id) as again:
            assert [again.has_part(*part) is not None for part in parts] == [True, False, True, False, False]
            for number in (1, 3, 4):
                again.write_at(parts[number][0], memoryview(content)[parts[number][0] :][: parts[number][1]])
            again.commit(None)
    assert disk.get("scratch", "/f") == content
    assert os.stat(disk.path("scratch", "/f")).st_ino == before.st_ino
    assert disk.files("scratch") == {"/f"}


def test_what_was_continued_is_verified_like_any_other(disk):
    """A resumed copy ends with the right bytes even if the disk corrupted some of them in between."""
    content = os.urandom(3 * PART)
    disk.put("laptop", "/f", content)
    with stopped(STOPPING, disk.roots["laptop"], disk.roots["scratch"], "f", "5"):
        pass
    (temp_file,) = left(disk)
    number = os.stat(disk.path("scratch", temp_file)).st_ino
    with open(disk.path("scratch", temp_file), "r+b") as file:
        file.write(b"rot")
    assert disk.move("/f", "/f").state is TaskState.SUCCEEDED
    assert disk.get("scratch", "/f") == content
    assert os.stat(disk.path("scratch", "/f")).st_ino == number
    assert disk.files("scratch") == {"/f"}


def test_another_content_does_not_continue_a_killed_copy(disk):
    """A leftover of older content is removed, and the new content arrives."""
    disk.put("laptop", "/f", os.urandom(3 * PART))
    with stopped(STOPPING, disk.roots["laptop"], disk.roots["scratch"], "f", "5"):
        pass
    content = os.urandom(3 * PART)
    disk.put("laptop", "/f", content)
    assert disk.move("/f", "/f").state is TaskState.SUCCEEDED
    assert disk.get("scratch", "/f") == content
    assert disk.files("scratch") == {"/f"}


def test_two_that_copy_the_same_large_file_do_not_meet(disk):
    """Two runs can copy the same large file at the same time, and both succeed."""
    content = os.urandom(3 * PART)
    disk.put("laptop", "/f", content)
    with stopped(STOPPING, disk.roots["laptop"], disk.roots["scratch"], "f", "2") as first:
        assert disk.move("/f", "/f").state is TaskState.SUCCEEDED
        assert len(left(disk)) == 1
        first.stdin.write("on\n")
        first.stdin.flush()
        assert first.stdout.readline() == "done\n"
    assert disk.get("scratch", "/f") == content
    assert disk.files("scratch") == {"/f"}


def test_many_drafts_share_a_claim_and_are_swept_when_it_is_let_go(disk):
    """A running writer's temporary files stay; a copy after its death removes them."""
    disk.put("laptop", "/f")
    with stopped(WRITING, disk.roots["scratch"]):
        writing = left(disk)
        assert len(writing) == 4
        assert disk.move("/f", "/f").state is TaskState.SUCCEEDED
        assert sorted(left(disk)) == sorted(writing)
    copied(disk, "/f")
    assert disk.files("scratch") == {"/f"}


def test_a_killed_copy_of_a_tree_leaves_only_whole_files(disk):
    """After kill -9 during a tree copy, its files are complete, and the next run leaves nothing else."""
    for number in range(20):
        disk.put("laptop", f"/d/{number}", b"x" * 100)
    with stopped(STOPPING, disk.roots["laptop"], disk.roots["scratch"], "d", "10"):
        pass
    whole = [name for name in os.listdir(disk.path("scratch", "/d")) if not name.startswith(TEMP_PREFIX)]
    assert 0 < len(whole) < 20
    assert {disk.get("scratch", f"/d/{name}") for name in whole} == {b"x" * 100}
    assert left(disk, "/d")
    assert disk.move("/d", "/d", recursive=True).state is TaskState.SUCCEEDED
    assert disk.files("scratch") == {f"/d/{number}" for number in range(20)}


def test_a_temporary_file_of_another_user_is_not_written_to(disk):
    """A file that is hard-linked as a temporary file keeps its content."""
    disk.put("laptop", "/f", os.urandom(2 * PART))
    here, there = (LocalStore(disk.roots[endpoint]).folder(()) for endpoint in ("laptop", "scratch"))
    with here, there, here.read("f") as reader, there.temp_file("f", size=2 * PART, content_id=reader.content_id):
        (name,) = left(disk)
    disk.put("scratch", "/precious", b"kept")
    os.link(disk.path("scratch", "/precious"), disk.path("scratch", name))
    assert disk.move("/f", "/f").state is TaskState.SUCCEEDED
    assert disk.get("scratch", "/precious") == b"kept"
    assert disk.get("scratch", "/f") == disk.get("laptop", "/f")


@pytest.mark.parametrize("size", [1, SMALL + 1, 2 * PART])
@pytest.mark.parametrize("after", ["nothing", "another"])
def test_a_temporary_file_that_was_taken_away_fails_its_copy(disk, size, after):
    """A temporary file that is removed during its copy fails the copy, even if another run has created a new one."""
    disk.put("laptop", "/f", os.urandom(size))
    with LocalStore(disk.roots["laptop"]).folder(()) as here, here.read("f") as reader, ExitStack() as opened:

        def begun():
            folder = opened.enter_context(LocalStore(disk.roots["scratch"]).folder(()))
            return folder.temp_file("f", size=size, content_id=reader.content_id)

        temp_file = begun()
        os.unlink(disk.path("scratch", *left(disk)))
        others = [opened.enter_context(begun())] if after == "another" else []
        with pytest.raises(Fault, match="was removed while it was written") as caught:
            temp_file.commit(None)
        temp_file.__exit__(None, None, None)
        assert len(left(disk)) == len(others) == len(disk.files("scratch"))
    assert caught.value.code == "FILE_NOT_FOUND"
    assert disk.files("scratch") == set()


def test_links_between_files_modes_and_times(disk):
    """Hard links become two files; modes are those of new files, and times are kept on request."""
    disk.put("laptop", "/d/a", b"same")
    os.link(disk.path("laptop", "/d/a"), disk.path("laptop", "/d/b"))
    os.chmod(disk.path("laptop", "/d/a"), 0o700)
    os.utime(disk.path("laptop", "/d/a"), ns=(1, 1_234_567_890_123_456_789))
    disk.move("/d", "/d", recursive=True, preserve_timestamp=True)
    a, b = (os.stat(disk.path("scratch", f"/d/{name}")) for name in "ab")
    mask = os.umask(0)
    os.umask(mask)
    assert a.st_ino != b.st_ino
    assert a.st_mode & 0o777 == 0o666 & ~mask
    assert a.st_mtime_ns == 1_234_567_890_123_456_789


CLONING = """
mount -o loop "$1/image" "$1/disk" && "$0" -c '
import os, sys
from chiltepin.transfers.arguments import transfer_request
from chiltepin.backends.filesystem import FilesystemBackend
from chiltepin.transfers.runner import Transfers
top = sys.argv[1]
with open(top + "/f", "wb") as file:
    file.write(os.urandom(40 << 20))
os.sync()
free = os.statvfs(top).f_bavail
transfers = Transfers(FilesystemBackend.from_config({"disk": {"url": top}}, {}))
request = transfer_request(src_ep="disk", dst_ep="disk", src_path="/f", dst_path="/g")
print(transfers.run(request, timeout=60, polling_interval=1).state.name)
os.sync()
facts = os.statvfs(top)
print((free - facts.f_bavail) * facts.f_bsize < 8 << 20, open(top + "/f", "rb").read() == open(top + "/g", "rb").read())
' "$1/disk"
"""


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("mkfs.btrfs"), reason="only root can mount a btrfs")
def test_a_disk_that_can_share_blocks_does(tmp_path):
    """On a disk with reflinks, a copy takes no space and has the same bytes."""
    (tmp_path / "disk").mkdir()
    with open(tmp_path / "image", "wb") as file:
        file.truncate(300 << 20)
    subprocess.run(["mkfs.btrfs", "-q", tmp_path / "image"], check=True, capture_output=True)
    command = ["unshare", "--mount", "sh", "-c", CLONING, sys.executable, tmp_path]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    if "mount:" in ended.stderr:
        pytest.skip("no disk can be mounted here")
    assert ended.stdout == "SUCCEEDED\nTrue True\n", ended.stderr


def rewrites(path):
    """Rewrite a file in place with its old time, and change its mode, as ``rsync --inplace`` can."""
    facts = os.stat(path)
    with open(path, "r+b") as file:
        file.write(b"2" * facts.st_size)
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    os.chmod(path, 0o600)


CHANGES = {
    "mode": lambda path: os.chmod(path, 0o600),
    "name": lambda path: os.link(path, f"{path}-2"),
    "content": rewrites,
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_change_that_keeps_size_and_time(disk, monkeypatch, what):
    """If mode, links or content change during the copy, but not size and time, the file is copied once more."""
    disk.put("laptop", "/f", b"1" * (3 * PART))
    part, changes = content.Content._part, [CHANGES[what]]

    def then_changed(self, *given):
        part(self, *given)
        if changes:
            changes.pop()(disk.path("laptop", "/f"))

    monkeypatch.setattr(content.Content, "_part", then_changed)
    copied(disk, "/f")
    assert disk.get("scratch", "/f") == disk.get("laptop", "/f")


def test_a_source_that_changes_with_each_copy(disk, monkeypatch):
    """A file whose content changes during both copies fails, although its size and time stay; the old copy stays."""
    disk.put("laptop", "/f", b"1" * (3 * PART))
    disk.put("scratch", "/f", b"old")
    part = content.Content._part

    def then_changed(self, *given):
        part(self, *given)
        rewrites(disk.path("laptop", "/f"))

    monkeypatch.setattr(content.Content, "_part", then_changed)
    assert disk.move("/f", "/f").code == "FILE_SIZE_CHANGED"
    assert disk.get("scratch", "/f") == b"old"
    assert disk.files("scratch") == {"/f"}


def test_a_source_that_was_rewritten_in_place_is_not_continued(disk):
    """A killed copy is not resumed with parts of earlier content of the same size and time."""
    old, new = (os.urandom(4 * PART + 5) for _ in range(2))
    disk.put("laptop", "/f", old)
    facts = os.stat(disk.path("laptop", "/f"))
    with stopped(STOPPING, disk.roots["laptop"], disk.roots["scratch"], "f", "7"):
        pass
    (temp_file,) = left(disk)
    with open(disk.path("laptop", "/f"), "r+b") as file:
        file.write(new)
    os.utime(disk.path("laptop", "/f"), ns=(facts.st_atime_ns, facts.st_mtime_ns))
    # As if the change time were too coarse to differ: the leftover seems to be of this file.
    with (
        LocalStore(disk.roots["laptop"]).folder(()) as here,
        LocalStore(disk.roots["scratch"]).folder(()) as there,
        here.read("f") as reader,
        there.temp_file("f", size=len(new), content_id=reader.content_id) as again,
    ):
        os.replace(disk.path("scratch", temp_file), disk.path("scratch", again._temp_file))
        again._committed = True
    copied(disk, "/f")
    assert disk.get("scratch", "/f") == new
    assert disk.files("scratch") == {"/f"}
