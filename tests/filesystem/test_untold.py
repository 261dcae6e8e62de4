"""Wrong facts from the kernel: sizes of generated files, and coarse times."""

from __future__ import annotations

import os
import threading

import pytest
from elsewhere import NoDiskError, mounted
from worlds import world_of

from chiltepin.backends.filesystem.local.reader import LocalReader
from chiltepin.model import TaskState

pytestmark = pytest.mark.skipif(not os.path.exists("/proc/self/mountinfo"), reason="there is no /proc here")

#: Files with content, for which stat reports 0 or one page.
MADE = (
    "/proc/version",
    "/proc/sys/kernel/random/boot_id",
    "/proc/kallsyms",
    "/sys/class/net/lo/mtu",
    "/sys/kernel/mm/transparent_hugepage/enabled",
)


@pytest.fixture
def made(tmp_path):
    """The whole machine as a source endpoint."""
    (tmp_path / "scratch").mkdir()
    return world_of({"laptop": "/", "scratch": str(tmp_path / "scratch")})


@pytest.mark.parametrize("path", [path for path in MADE if os.access(path, os.R_OK)])
@pytest.mark.parametrize("level", [None, "size", "mtime", "checksum"])
def test_a_file_is_read_to_its_end_whatever_its_size(made, path, level):
    """A file of /proc or /sys arrives with its full content, and an empty copy is not considered equal."""
    made.put("scratch", "/f", b"")
    status = made.move(path, "/f", sync_level=level)
    with open(path, "rb") as file:
        content = file.read()
    assert (status.state, status.bytes_done) == (TaskState.SUCCEEDED, len(content))
    assert content
    assert made.get("scratch", "/f") == content


@pytest.mark.parametrize("level", [None, "size", "mtime"])
def test_a_tree_of_such_files(made, level):
    """In a tree, such files arrive with their content and replace empty copies."""
    for name in ("boot_id", "poolsize"):
        made.put("scratch", f"/r/{name}", b"")
    status = made.move("/proc/sys/kernel/random", "/r", recursive=True, sync_level=level)
    assert status.state is TaskState.SUCCEEDED
    with open("/proc/sys/kernel/random/boot_id", "rb") as file:
        assert made.get("scratch", "/r/boot_id") == file.read()
    assert made.get("scratch", "/r/poolsize") != b""


def test_a_file_that_grows_behind_its_size_is_seen(tmp_path):
    """A file that is longer than its earlier size has changed, even if its time has not."""
    file = tmp_path / "f"
    file.write_bytes(b"data")
    with open(file, "rb") as opened:
        reader = LocalReader(os.dup(opened.fileno()), "f")
    with reader:
        assert not reader.changed()
        before = os.stat(file)
        with open(file, "ab") as appended:
            appended.write(b"more")
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert reader.changed()


def test_a_file_that_is_rewritten_in_place_is_seen(tmp_path):
    """A file that is rewritten with its old time has changed, even if it also gets new permissions."""
    file = tmp_path / "f"
    file.write_bytes(b"data")
    before = os.stat(file)
    for mode in (0o644, 0o600):
        with LocalReader(os.open(file, os.O_RDONLY), "f") as reader:
            assert not reader.changed()
            with open(file, "r+b") as written:
                written.write(b"atad")
            os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
            os.chmod(file, mode)
            assert reader.changed()


def test_a_growing_file_fails_or_is_of_one_moment(tmp_path):
    """A copy of a file to which another process appends never ends within a line."""
    for name in ("laptop", "scratch"):
        (tmp_path / name).mkdir()
    log = tmp_path / "laptop/log"
    log.write_bytes(b"0123456789abcde\n" * 30_000)
    over = threading.Event()

    def append():
        with open(log, "ab", buffering=0) as file:
            while not over.is_set():
                file.write(b"0123456789abcde\n")

    thread = threading.Thread(target=append)
    thread.start()
    try:
        world = world_of({name: str(tmp_path / name) for name in ("laptop", "scratch")})
        states = {world.move("/log", f"/{number}").state for number in range(5)}
    finally:
        over.set()
        thread.join()
    assert states <= {TaskState.SUCCEEDED, TaskState.FAILED}
    for copy in (tmp_path / "scratch").iterdir():
        assert copy.read_bytes().endswith(b"e\n")


#: Times in nanoseconds, with fractions that coarse disks cut: before 1970 and 1980, now, after 2038, 2106 and 2446.
TIMES = (-1_500_000_000, 100_000_000_500_000_000, 1_700_000_001_987_654_321, 2**32 * 10**9 + 5, 2**34 * 10**9 + 5)


def coarse(kind, size, *options):
    """Sync a tree repeatedly to a disk; return the results of each sync, and the times that the disk keeps."""
    with mounted(kind, size, *options) as disk:
        laptop = os.path.dirname(disk) + "/laptop"
        for number in range(3):
            os.makedirs(f"{laptop}/d", exist_ok=True)
            with open(f"{laptop}/d/{number}", "w") as file:
                file.write("data" * (1 if number else 3_000_000))
            os.utime(f"{laptop}/d/{number}", ns=(TIMES[2] + number,) * 2)
        world = world_of({"laptop": laptop, "scratch": disk})

        def sync(path="/d", **options):
            status = world.move(path, path, preserve_timestamp=True, sync_level="mtime", **options)
            return status.state.name, status.files_done

        moved = [sync(recursive=True) for _ in range(2)] + [sync("/d/1")]
        # A later second would be kept on all of these disks except FAT, whose seconds are even.
        os.utime(f"{laptop}/d/1", ns=(TIMES[2] + 2 * 10**9,) * 2)
        moved += [sync(recursive=True), sync(recursive=True), sync("/d/1")]
        kept = {}
        for time in TIMES:
            for name in ("0", "1"):
                os.utime(f"{laptop}/d/{name}", ns=(time, time))
                status = world.move(f"/d/{name}", "/t", preserve_timestamp=True)
                times = [os.stat(path).st_mtime_ns for path in (f"{laptop}/d/{name}", f"{disk}/t")]
                kept[time, name] = status.state.name, status.reason, *times
        return moved, kept


DISKS = {
    "ext4": (16, (), 1),
    "ext3": (16, ("-I", "128"), 10**9),
    "vfat": (40, (), 2 * 10**9),
    "tmpfs": (40, (), 1),
}


@pytest.mark.parametrize("kind", DISKS)
def test_a_disk_with_a_coarse_clock(machine, kind):
    """On a disk with coarse times, unchanged files are skipped, and each time is cut to the disk's unit or refused."""
    size, options, unit = DISKS[kind]
    try:
        moved, kept = machine(coarse, "ext4" if kind == "ext3" else kind, size + 24, *options)
    except NoDiskError as err:
        pytest.skip(str(err))
    assert moved == [("SUCCEEDED", count) for count in (3, 0, 0, 1, 0, 0)]
    for state, reason, time, found in kept.values():
        if state == "SUCCEEDED":
            assert time // unit * unit == found
        else:
            assert "cannot keep the modification time" in reason
    assert [kept[TIMES[2], name][0] for name in ("0", "1")] == ["SUCCEEDED"] * 2
    if kind in ("ext3", "vfat"):
        assert kept[TIMES[4], "0"][0] == kept[TIMES[4], "1"][0] == "FAILED"
