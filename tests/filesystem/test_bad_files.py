"""Disks that refuse some names, and files that cannot be read: the rest arrives, and the task reports the faults."""

from __future__ import annotations

import errno
import os
import tempfile
from contextlib import contextmanager

import pytest
from elsewhere import Faulty
from worlds import world_of

from chiltepin.model import TaskState

GOOD = [f"good{number}" for number in range(30)]


@contextmanager
def worlds(program, *modes, bad="scratch"):
    """Yield two endpoints, one of them on a failing disk, and the folder behind that disk."""
    with tempfile.TemporaryDirectory() as top, Faulty(program, f"{top}/behind", *modes) as faulty:
        os.mkdir(f"{top}/good")
        roots = dict.fromkeys(("laptop", "scratch"), f"{top}/good") | {bad: faulty.disk}
        yield world_of(roots), faulty.folder


def filled(folder, names, content=b"data"):
    """Make files and their parent folders."""
    for name in names:
        path = os.path.join(os.fsencode(folder), os.fsencode(name))
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(content)


def outcome(status):
    """The fields of a status to compare."""
    return status.state.name, status.code, status.files_done, status.faults, status.reason


def found(folder):
    """All paths below a folder, with a slash at the end of folders."""
    names = set()
    for above, folders, files in os.walk(folder):
        names |= {os.path.relpath(f"{above}/{name}", folder) for name in files}
        names |= {os.path.relpath(f"{above}/{name}", folder) + "/" for name in folders}
    return names


def with_bad_files(program, level, size):
    """Copy and delete a tree in which one file cannot be accessed and one cannot be read to its end."""
    with worlds(program, "bad", "direct", bad="laptop") as (world, behind):
        filled(behind, [f"d/{name}" for name in (*GOOD, "bad", "torn")], b"x" * size)
        moved = outcome(world.move("/d", "/d", recursive=True, sync_level=level))
        there = found(world.roots["scratch"] + "/d")
        listed = {entry.name for entry in world.transfers.ls("laptop", "/d")}
        removed = outcome(world.remove("/d", "laptop", recursive=True))
        return moved, there, listed, removed, found(behind)


@pytest.mark.parametrize("size", [5000, 300_000])
@pytest.mark.parametrize("level", [None, "size", "mtime", "checksum"])
def test_bad_files_do_not_keep_the_others(machine, faulty, level, size):
    """Files that cannot be accessed or read do not keep the rest from being copied, listed and deleted."""
    moved, there, listed, removed, left = machine(with_bad_files, faulty, level, size)
    assert moved[:4] == ("FAILED", "ENDPOINT_ERROR", 30, 2)
    for name in ("bad", "torn"):
        assert (
            f"Copying /d/{name} on endpoint 'laptop' to /d/{name} on endpoint 'scratch': Input/output error; "
            in moved[4]
        )
    assert there == set(GOOD)
    assert listed == {*GOOD, "bad", "torn"}
    assert removed[:4] == ("FAILED", "ENDPOINT_ERROR", 31, 1)
    assert left == {"d/", "d/bad"}


def with_names(program, mode, names):
    """Copy a tree to a disk that refuses some of its names, and again after they are changed."""
    with worlds(program, mode) as (world, behind):
        filled(world.roots["laptop"], [f"d/{name}" for name in (*GOOD, *names)])
        first = outcome(world.move("/d", "/d", recursive=True))
        alone = outcome(world.move(f"/d/{names[0]}", f"/{names[0]}"))
        there = found(f"{behind}/d")
        for name in names:
            top = name.split("/", 1)[0]
            os.rename(world.path("laptop", f"/d/{top}"), world.path("laptop", f"/d/renamed{names.index(name)}"))
        again = world.move("/d", "/d", recursive=True, sync_level="size")
        return first, alone, there, found(behind), (again.state, again.files_done, again.files_skipped)


@pytest.mark.parametrize(
    ("mode", "names"),
    [
        ("names=60", ["n" * 61, "f" * 61 + "/file"]),
        ("utf8", ["latin-\udce9", "folder-\udce9/file"]),
        ("colon", ["12:00", "00:00/file"]),
    ],
)
def test_names_that_the_disk_does_not_take(machine, faulty, mode, names):
    """Only names that are too long, not UTF-8 or forbidden fail; after a rename, the next run copies the files."""
    first, alone, there, left, again = machine(with_names, faulty, mode, names)
    assert first[:4] == ("FAILED", "INVALID_PATH_NAME", 30, 2)
    assert alone[:4] == ("FAILED", "INVALID_PATH_NAME", 0, 1)
    assert "rename" in alone[4]
    assert there == set(GOOD)
    assert again == (TaskState.SUCCEEDED, 2, 30)
    assert not [name for name in left if ".chiltepin" in name]


def with_twins(program, mode):
    """Copy a tree with names that differ only in case, twice, and twice more after renaming the duplicates."""
    with worlds(program, *mode) as (world, behind):
        filled(world.roots["laptop"], ["d/0", "d/data", "d/Data", "d/DATA", "d/other", "d/run/f", "d/Run/f"])
        statuses = [outcome(world.move("/d", "/d", recursive=True, sync_level=level)) for level in (None, "size")]
        there = found(f"{behind}/d")
        names = {name.lower(): name for name in os.listdir(world.path("laptop", "/d"))}
        for number, name in enumerate(set(os.listdir(world.path("laptop", "/d"))) - set(names.values())):
            os.rename(world.path("laptop", f"/d/{name}"), world.path("laptop", f"/d/renamed{number}"))
        again = [world.move("/d", "/d", recursive=True, sync_level="size").state for _ in range(2)]
        return statuses, there, again, found(f"{behind}/d")


@pytest.mark.parametrize("mode", [("fold",), ()])
def test_twins_of_a_disk_that_folds(machine, faulty, mode):
    """If names differ only in case, a case-insensitive disk gets one and the rest fail; other disks get all."""
    statuses, there, again, left = machine(with_twins, faulty, mode)
    if not mode:
        assert [status[:4] for status in statuses] == [("SUCCEEDED", "", 7, 0), ("SUCCEEDED", "", 0, 0)]
        return
    assert [status[:4] for status in statuses] == [
        ("FAILED", "AMBIGUOUS_PATH", 4, 3),
        ("FAILED", "AMBIGUOUS_PATH", 0, 3),
    ]
    assert "rename one of the two" in statuses[0][4]
    assert there == {"0", "data", "other", "run/", "run/f"}
    assert again == [TaskState.SUCCEEDED, TaskState.SUCCEEDED]
    assert len(left) == 9


def without_a_change(program):
    """Sync an unchanged tree; return the destination folder's modification time before and after."""
    with worlds(program) as (world, behind):
        filled(world.roots["laptop"], ["d/data"])
        world.move("/d", "/d", recursive=True)
        before = os.stat(f"{behind}/d").st_mtime_ns
        world.move("/d", "/d", recursive=True, sync_level="size")
        return before, os.stat(f"{behind}/d").st_mtime_ns


def test_whether_a_disk_folds_is_seen_of_what_is_there(machine, faulty):
    """Syncing an unchanged tree does not modify the destination folder."""
    before, after = machine(without_a_change, faulty)
    assert before == after


def told_late(program, size):
    """Replace a file on a disk that reports only on close that it is full; then make room and repeat."""
    with tempfile.TemporaryDirectory() as top, Faulty(program, f"{top}/behind", "late", "nocopy") as faulty:
        os.mkdir(f"{top}/good")
        world = world_of({"laptop": f"{top}/good", "scratch": faulty.disk})
        filled(world.roots["laptop"], ["d/f"], b"n" * size)
        filled(faulty.disk, ["d/f"], b"old")
        faulty.plan(1, 0, errno.ENOSPC, "write")
        first = [outcome(world.move("/d/f", "/d/f")), outcome(world.move("/d", "/d", recursive=True))]
        there = {name: os.path.getsize(f"{faulty.folder}/d/{name}") for name in os.listdir(f"{faulty.folder}/d")}
        faulty.plan()
        again = world.move("/d", "/d", recursive=True, sync_level="size").state
        return first, there, again, world.get("scratch", "/d/f") == b"n" * size, found(faulty.folder)


@pytest.mark.parametrize("size", [5000, 300_000, (8 << 20) + 5])
def test_what_a_disk_tells_only_when_a_file_is_closed(machine, faulty, size):
    """A full disk that accepts writes and reports the error only on close, as NFS does, fails the transfer."""
    first, there, again, right, left = machine(told_late, faulty, size)
    assert [status[:4] for status in first] == [("FAILED", "NO_SPACE_LEFT", 0, 1)] * 2
    assert there == {"f": 3}
    assert again is TaskState.SUCCEEDED
    assert right
    assert left == {"d/", "d/f"}
