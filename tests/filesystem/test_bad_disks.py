"""Disks that misbehave: what the task says, and what it leaves."""

from __future__ import annotations

import errno
import os
import resource
import stat

import pytest
from pyfakefs.helpers import reset_ids, set_uid

from chiltepin.arguments import transfer_request
from chiltepin.backends.filesystem import FilesystemBackend
from chiltepin.model import TaskState
from chiltepin.transfers import Transfers


def run(**options):
    """Transfer between two folders of the fake disk."""
    endpoints = {"laptop": {"url": "/laptop"}, "scratch": {"url": "/scratch"}}
    request = transfer_request(src_ep="laptop", dst_ep="scratch", **options)
    return Transfers(FilesystemBackend.from_config(endpoints, {})).run(request, timeout=30, polling_interval=1)


@pytest.fixture
def small_disk(fs):
    """A disk of one megabyte, for scratch, beside a large one; both only in memory (pyfakefs)."""
    fs.add_mount_point("/laptop")
    fs.add_mount_point("/scratch", total_size=1_000_000)
    return fs


def test_a_full_disk_fails_the_task_and_leaves_nothing(small_disk):
    """A copy that does not fit fails with NO_SPACE_LEFT, gives its room back and keeps what was there."""
    small_disk.create_file("/laptop/large", contents=b"x" * 2_000_000)
    small_disk.create_file("/scratch/large", contents=b"old")
    status = run(src_path="/large", dst_path="/large")
    assert (status.state, status.code) == (TaskState.FAILED, "NO_SPACE_LEFT")
    assert os.listdir("/scratch") == ["large"]
    with open("/scratch/large", "rb") as file:
        assert file.read() == b"old"


def test_a_full_disk_ends_a_tree_at_once(small_disk):
    """When the disk is full, the other files of a tree are not tried."""
    for number in range(50):
        small_disk.create_file(f"/laptop/d/{number}", contents=b"x" * 400_000)
    status = run(src_path="/d", dst_path="/d", recursive=True)
    assert (status.state, status.code) == (TaskState.FAILED, "NO_SPACE_LEFT")
    # Two at the same time may both find no room.
    assert status.files_done <= 2
    assert status.faults <= 2
    assert len(os.listdir("/scratch/d")) == status.files_done


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


def test_what_may_not_be_read_or_written_is_denied(fs, request):
    """A source without read permission, and a folder without write permission, fail with PERMISSION_DENIED."""
    fs.create_file("/laptop/closed", contents=b"x", st_mode=stat.S_IFREG)
    fs.create_file("/laptop/open", contents=b"x", st_mode=stat.S_IFREG | 0o644)
    fs.create_dir("/scratch/closed")
    os.chmod("/scratch/closed", 0o555)  # noqa: S103 - nobody may write
    request.addfinalizer(reset_ids)
    set_uid(1000)
    assert run(src_path="/closed", dst_path="/x").code == "PERMISSION_DENIED"
    assert run(src_path="/open", dst_path="/closed/x").code == "PERMISSION_DENIED"


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
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, many))
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
