"""Failing disks, special files and odd names: what the task reports, and what it leaves behind."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import socket
import stat
import subprocess
import sys
from contextlib import suppress

import pytest

from chiltepin.errors import BackendError
from chiltepin.model import TaskState


def test_a_file_that_is_larger_than_files_may_be_is_named(tmp_path):
    """A file above the limit on file sizes fails with LIMIT_EXCEEDED and leaves nothing; smaller files arrive."""
    for name in ("laptop/d", "scratch"):
        (tmp_path / name).mkdir(parents=True)
    for number, size in enumerate((9_000_000, 10, 2_000_000, 10, 10)):
        (tmp_path / "laptop" / "d" / str(number)).write_bytes(b"x" * size)
    code = f"""
import os, resource
from chiltepin.transfers.arguments import transfer_request
from chiltepin.backends.filesystem import FilesystemBackend
from chiltepin.transfers.runner import Transfers
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
endpoints = {{name: {{"url": f"{tmp_path}/{{name}}"}} for name in ("laptop", "scratch")}}
transfers = Transfers(FilesystemBackend.from_config(endpoints, {{}}))
for path in ("/d/0", "/d"):
    paths = {{"src_path": path, "dst_path": path, "recursive": path == "/d"}}
    request = transfer_request(src_ep="laptop", dst_ep="scratch", **paths)
    status = transfers.run(request, timeout=60, polling_interval=1)
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
    """A disk error during a write fails the task with a code and a reason, and leaves no partial file."""
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


def test_a_name_that_is_too_long_is_named(disk):
    """A name that the disk cannot hold fails with INVALID_PATH_NAME."""
    disk.put("laptop", "/f")
    assert disk.move("/f", "/" + "n" * 300).code == "INVALID_PATH_NAME"


def test_a_name_of_the_longest_length_fits(disk):
    """A file whose name has the maximum length can be copied through a temporary file."""
    disk.put("laptop", "/f")
    assert disk.move("/f", "/" + "n" * 255).state is TaskState.SUCCEEDED


def test_names_that_are_no_utf8_travel_in_a_tree(disk):
    """Names that are not UTF-8, and names with newlines, arrive unchanged."""
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
    """A tree with more levels than available descriptors is copied and deleted."""
    depth = 100
    few, many = resource.getrlimit(resource.RLIMIT_NOFILE)
    # Descriptors that other tests keep open count, too.
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


def special(folder: str) -> set[str]:
    """Make a pipe, a socket and, if permitted, devices in a folder; return the names."""
    os.makedirs(folder, exist_ok=True)
    os.mkfifo(f"{folder}/pipe")
    # The path of a socket is limited to 108 bytes (unix(7)).
    place = os.getcwd()
    os.chdir(folder)
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind("socket")
    os.chdir(place)
    # Device numbers reserved for experiments (devices.txt of Linux), which have no driver.
    for kind, name in ((stat.S_IFCHR, "characters"), (stat.S_IFBLK, "blocks")):
        with suppress(PermissionError):
            os.mknod(f"{folder}/{name}", kind | 0o666, os.makedev(240, 255))
    return set(os.listdir(folder))


def test_what_is_no_file_is_never_opened(disk):
    """Pipes, sockets and devices fail alone, count as skipped in a tree, and can be listed, replaced and deleted."""
    names = special(disk.path("laptop", "/d"))
    special(disk.path("scratch", "/d"))
    disk.put("laptop", "/d/f")
    for name in names:
        status = disk.move(f"/d/{name}", "/x")
        assert (status.state, status.code) == (TaskState.FAILED, "NOT_A_FILE")
        assert status.reason == f"/d/{name} on endpoint 'laptop' is neither a file nor a folder."
        assert disk.move("/d/f", f"/d/{name}").state is TaskState.SUCCEEDED
        assert disk.get("scratch", f"/d/{name}") == b"data"
    listed = {entry.name: entry.kind for entry in disk.transfers.ls("laptop", "/d")}
    assert listed == {**dict.fromkeys(names, "other"), "f": "file"}
    status = disk.move("/d", "/tree", recursive=True)
    assert (status.state, status.files_done, status.files_skipped) == (TaskState.SUCCEEDED, 1, len(names))
    assert disk.files("scratch") == {f"/d/{name}" for name in names} | {"/tree/f"}
    status = disk.remove("/d", "laptop", recursive=True)
    assert (status.state, status.files_done) == (TaskState.SUCCEEDED, len(names) + 1)


def test_links_that_lead_in_a_circle(disk):
    """A loop of links anywhere in a path fails with INVALID_SYMLINK; in a tree, it is skipped or deleted."""
    disk.put("laptop", "/d/f")
    for name, target in (("d/self", "self"), ("d/a", "b"), ("d/b", "a"), ("d/up", ".."), ("d/far", "up/d/far")):
        os.symlink(target, disk.path("laptop", name))
    for path in ("/d/self", "/d/a", "/d/self/f", "/d/far"):
        alone, tree = disk.move(path, "/x"), disk.move(path, "/y", recursive=True)
        assert (alone.state, alone.code) == (tree.state, tree.code) == (TaskState.FAILED, "INVALID_SYMLINK")
        assert "links form a circle" in alone.reason
    disk.put("scratch", "/g")
    os.symlink("self", disk.path("scratch", "/self"))
    assert disk.move("/d/f", "/self/f").code == "INVALID_SYMLINK"
    with pytest.raises(BackendError, match="links form a circle"):
        disk.transfers.ls("laptop", "/d/self")
    assert disk.move("/d", "/d", recursive=True).files_skipped == 5
    # Replacing and deleting act on the link itself.
    assert disk.move("/d/f", "/self").state is TaskState.SUCCEEDED
    assert disk.remove("/d/self", "laptop").state is TaskState.SUCCEEDED
    assert disk.remove("/d", "laptop", recursive=True).state is TaskState.SUCCEEDED
    assert disk.files("laptop") == set()


def test_any_bytes_are_a_name(disk):
    """A file with newlines, escapes or bytes that are not UTF-8 in its name is copied, listed and deleted."""
    large = b"x" * ((8 << 20) + 1)
    for name in ("two\nlines", "latin-\udce9", "\x1b[31m", " ", "-rf", "*", "\\", "\udcff\udcfe"):
        for content in (large, b"one"):
            disk.put("laptop", f"/{name}", content)
            assert disk.move(f"/{name}", f"/to/{name}").state is TaskState.SUCCEEDED
            with open(os.fsencode(disk.path("scratch", f"/to/{name}")), "rb") as file:
                assert file.read() == content
        assert [entry.name for entry in disk.transfers.ls("scratch", "/to")] == [name]
        assert disk.remove(f"/to/{name}").state is TaskState.SUCCEEDED
        missing = disk.move(f"/{name}/none", "/x")
        assert (missing.state, missing.code) == (TaskState.FAILED, "FILE_NOT_FOUND")
        assert missing.reason.isprintable()


def test_a_path_of_4_000_bytes_alone(disk):
    """A file whose path exceeds the kernel's limit is copied, listed and deleted by its path."""
    names = ["x" * 199] * 21
    path = "/" + "/".join(names)
    disk.put("laptop", "/f", b"deep")
    assert disk.move("/f", f"{path}/f").state is TaskState.SUCCEEDED
    assert [entry.name for entry in disk.transfers.ls("scratch", path)] == ["f"]
    status = disk.move(f"{path}/f", "/back", src_ep="scratch", dst_ep="laptop")
    assert (status.state, disk.get("laptop", "/back")) == (TaskState.SUCCEEDED, b"deep")
    assert disk.remove(f"{path}/f").state is TaskState.SUCCEEDED
    assert disk.remove(f"/{names[0]}", recursive=True).state is TaskState.SUCCEEDED
    assert disk.files("scratch") == set()


def test_files_that_vanish_while_their_folder_is_copied(disk):
    """A file or folder that is removed after it was listed fails and is reported; the rest arrives."""
    for number in range(30):
        disk.put("laptop", f"/d/{number}")
    disk.put("laptop", "/d/sub/f")

    def vanish(origin, _):
        if len(os.listdir(disk.path("laptop", "/d"))) > 20:
            for name in {*os.listdir(disk.path("laptop", "/d")), "sub/f"} - {"sub", os.path.basename(origin[1])}:
                os.unlink(disk.path("laptop", f"/d/{name}"))
            os.rmdir(disk.path("laptop", "/d/sub"))

    disk.transfers.backend.witness = vanish
    status = disk.move("/d", "/d", recursive=True)
    assert (status.state, status.code, status.files_done) == (TaskState.FAILED, "FILE_NOT_FOUND", 1)
    assert status.faults == 30
    assert "was removed while its folder was copied; run the transfer again." in status.reason
    assert len(disk.files("scratch")) == 1
    assert disk.move("/d", "/d", recursive=True).state is TaskState.SUCCEEDED


def test_a_destination_that_is_removed_meanwhile(disk):
    """If the destination folder is removed during a transfer, the reason says so, and a second run completes it."""
    for number in range(10):
        disk.put("laptop", f"/d/{number}")
    disk.transfers.backend.witness = lambda *_: shutil.rmtree(disk.path("scratch", "/d"))
    status = disk.move("/d", "/d", recursive=True)
    assert (status.state, status.code, status.files_done, status.faults) == (TaskState.FAILED, "FILE_NOT_FOUND", 1, 9)
    assert "its destination folder was removed; run the transfer again." in status.reason
    disk.transfers.backend.witness = None
    assert disk.move("/d", "/d", recursive=True).files_done == 10
