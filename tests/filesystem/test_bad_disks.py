"""Disks that misbehave: what the task says, and what it leaves."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from smalldisk import transferred

from chiltepin.model import TaskState


@pytest.fixture
def folders(tmp_path):
    """A laptop with room, and scratch, which will be a disk of one megabyte."""
    (tmp_path / "laptop" / "before").mkdir(parents=True)
    (tmp_path / "scratch").mkdir()
    return tmp_path / "laptop", tmp_path / "scratch"


@pytest.mark.parametrize("size", [250_000, 2_000_000, 20_000_000])
def test_a_full_disk_fails_the_task_and_leaves_nothing(folders, size):
    """A copy that does not fit fails with NO_SPACE_LEFT, gives its room back and keeps what was there."""
    laptop, scratch = folders
    (laptop / "before" / "large").write_bytes(b"old")
    (laptop / "before" / "other").write_bytes(b"x" * 900_000)
    (laptop / "large").write_bytes(b"y" * size)
    state, code, _, _, left = transferred(laptop, scratch, src_path="/large", dst_path="/large")
    assert (state, code) == ("FAILED", "NO_SPACE_LEFT")
    assert sorted(left) == ["/large", "/other"]
    assert left["/large"] == "old"


def test_a_full_disk_ends_a_tree_at_once(folders):
    """When the disk is full, the other files of a tree are not tried."""
    laptop, scratch = folders
    (laptop / "d").mkdir()
    for number in range(50):
        (laptop / "d" / str(number)).write_bytes(b"x" * 400_000)
    state, code, done, faults, left = transferred(laptop, scratch, src_path="/d", dst_path="/d", recursive=True)
    assert (state, code) == ("FAILED", "NO_SPACE_LEFT")
    # Two at the same time may both find no room.
    assert done <= 2
    assert faults <= 2
    assert {len(content) for content in left.values()} <= {400_000}
    assert len(left) == done


def test_a_file_that_is_larger_than_files_may_be_is_named(tmp_path):
    """Of a limit on the size of files a file fails with LIMIT_EXCEEDED and leaves nothing; smaller ones arrive."""
    for name in ("laptop/d", "scratch"):
        (tmp_path / name).mkdir(parents=True)
    for number, size in enumerate((9_000_000, 10, 2_000_000, 10, 10)):
        (tmp_path / "laptop" / "d" / str(number)).write_bytes(b"x" * size)
    code = f"""
import os, resource
from chiltepin.arguments import transfer_request
from chiltepin.backends.filesystem import FilesystemBackend
from chiltepin.transfers import Transfers
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
endpoints = {{name: {{"url": f"{tmp_path}/{{name}}"}} for name in ("laptop", "scratch")}}
transfers = Transfers(FilesystemBackend.from_config(endpoints, {{}}))
for path in ("/d/0", "/d"):
    paths = {{"src_path": path, "dst_path": path, "recursive": path == "/d"}}
    request = transfer_request(src_ep="laptop", dst_ep="scratch", **paths)
    status = transfers.run(request, timeout=30, polling_interval=1)
    print(status.state.name, status.code, status.files_done, status.faults, sorted(os.listdir("{tmp_path}/scratch/d")))
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert ended.stdout == "FAILED LIMIT_EXCEEDED 0 1 []\nFAILED LIMIT_EXCEEDED 3 2 ['1', '3', '4']\n"


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (errno.EIO, "ENDPOINT_ERROR"),
        (errno.EDQUOT, "QUOTA_EXCEEDED"),
        (errno.EROFS, "PERMISSION_DENIED"),
        (errno.EACCES, "PERMISSION_DENIED"),
    ],
)
def test_a_disk_that_fails_in_the_middle_is_named(disk, monkeypatch, number, code):
    """An error of the disk while it is written becomes a code and a sentence, and no half file stays."""
    disk.put("laptop", "/f", b"x" * 10)
    write = os.write

    def failing(descriptor, data):
        if os.path.realpath(f"/proc/self/fd/{descriptor}").startswith(disk.roots["scratch"]):
            raise OSError(number, os.strerror(number))
        return write(descriptor, data)

    monkeypatch.setattr(os, "write", failing)
    status = disk.move("/f", "/f")
    assert (status.state, status.code) == (TaskState.FAILED, code)
    assert os.strerror(number) in status.reason
    assert disk.files("scratch") == set()


@pytest.fixture
def open_folder():
    """A folder that everybody may enter, which those of pytest are not."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)  # noqa: S103 - for everybody
        yield Path(folder)


def test_what_may_not_be_read_or_written_is_denied(open_folder):
    """A source without read permission, and a folder without write permission, fail with PERMISSION_DENIED."""
    for name, mode in (("laptop", 0o755), ("scratch", 0o777), ("scratch/closed", 0o555)):
        (open_folder / name).mkdir()
        (open_folder / name).chmod(mode)
    for name, mode in (("closed", 0o000), ("open", 0o644)):
        (open_folder / "laptop" / name).write_bytes(b"x")
        (open_folder / "laptop" / name).chmod(mode)
    # Root may do everything, so it becomes somebody else.
    code = f"""
import os
from chiltepin.arguments import transfer_request
from chiltepin.backends.filesystem import FilesystemBackend
from chiltepin.transfers import Transfers
endpoints = {{name: {{"url": f"{open_folder}/{{name}}"}} for name in ("laptop", "scratch")}}
if not os.geteuid():
    os.seteuid(65534)
for paths in (("/closed", "/x"), ("/open", "/closed/x"), ("/open", "/x")):
    request = transfer_request(src_ep="laptop", dst_ep="scratch", src_path=paths[0], dst_path=paths[1])
    print(Transfers(FilesystemBackend.from_config(endpoints, {{}})).run(request, timeout=30, polling_interval=1).code)
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert ended.stdout == "PERMISSION_DENIED\nPERMISSION_DENIED\n\n"


def test_a_name_that_is_too_long_is_named(disk):
    """A name that the disk cannot hold fails with INVALID_PATH_NAME."""
    disk.put("laptop", "/f")
    assert disk.move("/f", "/" + "n" * 300).code == "INVALID_PATH_NAME"


def test_a_name_of_the_longest_length_fits(disk):
    """The temporary name is no longer than the real one may be."""
    disk.put("laptop", "/f")
    assert disk.move("/f", "/" + "n" * 255).state is TaskState.SUCCEEDED


def test_names_that_are_no_utf8_travel_in_a_tree(disk):
    """Names whose bytes are not UTF-8, and names with newlines, arrive as they are."""
    top = os.fsencode(disk.path("laptop", "/d"))
    os.mkdir(top)
    names = {b"latin-\xe9", b"two\nlines", b"\xff\xfe"}
    for name in names:
        with open(top + b"/" + name, "wb") as file:
            file.write(name)
    assert disk.move("/d", "/d", recursive=True).state is TaskState.SUCCEEDED
    arrived = os.fsencode(disk.path("scratch", "/d"))
    assert set(os.listdir(arrived)) == names


def test_a_tree_deeper_than_the_limit_of_descriptors_is_moved_and_deleted(disk, request):
    """A tree deeper than there are descriptors needs two at a time, not two for each level."""
    depth = 100
    few, many = resource.getrlimit(resource.RLIMIT_NOFILE)
    # What other tests keep open counts, too.
    limit = max(map(int, os.listdir("/proc/self/fd"))) + 50
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, many))
    request.addfinalizer(lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (few, many)))
    place = os.open(disk.roots["laptop"], os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("d", dir_fd=place)
        below = os.open("d", os.O_RDONLY, dir_fd=place)
        os.close(place)
        place = below
    with open(os.open("bottom", os.O_WRONLY | os.O_CREAT, dir_fd=place), "wb") as file:
        file.write(b"deep")
    os.close(place)
    status = disk.move("/d", "/d", recursive=True)
    assert (status.state, status.files_done) == (TaskState.SUCCEEDED, 1)
    for endpoint in ("laptop", "scratch"):
        assert disk.remove("/d", endpoint, recursive=True).state is TaskState.SUCCEEDED
        assert disk.files(endpoint) == set()
