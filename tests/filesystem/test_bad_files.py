"""Disks that refuse some names, and files that cannot be read: the rest arrives, and the task reports the faults."""

from __future__ import annotations

import errno
import os
import tempfile
import unicodedata
import uuid
from contextlib import ExitStack, contextmanager
from pathlib import Path

import lesserserver
import pytest
from elsewhere import Faulty
from fileservers import ftp_server
from worlds import world_of

from chiltepin.model import TaskState
from chiltepin.protocol import Shard
from chiltepin.transfers.arguments import transfer_request

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


def with_names(program, mode, names, good):
    """Copy a tree to a disk that refuses some of its names, and again after they are changed."""
    with worlds(program, mode) as (world, behind):
        filled(world.roots["laptop"], [f"d/{name}" for name in (*good, *names)])
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
@pytest.mark.parametrize("good", [GOOD, [str(number) for number in range(30)]], ids=["letters", "digits"])
def test_names_that_the_disk_does_not_take(machine, faulty, mode, names, good):
    """Only names that are too long, not UTF-8 or forbidden fail; after a rename, the next run copies the files.

    If the other names are digits, the first name with a letter is one that the disk refuses.
    """
    first, alone, there, left, again = machine(with_names, faulty, mode, names, good)
    assert first[:4] == ("FAILED", "INVALID_PATH_NAME", 30, 2)
    assert alone[:4] == ("FAILED", "INVALID_PATH_NAME", 0, 1)
    assert "rename" in alone[4]
    assert there == set(good)
    assert again == (TaskState.SUCCEEDED, 2, 30)
    assert not [name for name in left if ".chiltepin" in name]


@contextmanager
def door_to(disk, door):
    """Yield the settings of an endpoint that reaches a disk as a folder, or through a server."""
    with ExitStack() as opened:
        if door == "folder":
            settings = {"url": f"file://{disk}"}
        elif door == "ftp":
            settings = {"url": opened.enter_context(ftp_server(disk))}
        else:
            patch = opened.enter_context(pytest.MonkeyPatch.context())
            lesserserver.install(Path(opened.enter_context(tempfile.TemporaryDirectory())), patch, ())
            settings = {"url": f"sftp://nobody@nowhere{disk}"}
        yield settings


#: Bytes of a file that is divided among workers, unless its name may be that of another.
LARGE = 300_000

#: Names that are one on a disk that ignores case, or Unicode normalization, and similar names that are not.
CASES = ["d/data", "d/Data", "d/DATA", "d/run/f", "d/Run/f"]
FORMS = ["d/caf\u00e9", "d/cafe\u0301", "d/r\u00e9s/f", "d/re\u0301s/f"]
OTHERS = ["d/0", "d/other", "d/a", "d/a.", "d/\u00c9", "d/in/data", "d/in/\u00e9"]


def copied(world, shards, **options):
    """Copy the tree, in one piece or as so many shards; return whether that succeeded, and the codes of failures."""
    if not shards:
        status = world.move("/d", "/d", recursive=True, **options)
        return status.state is TaskState.SUCCEEDED, {status.code} - {""}
    request = transfer_request(
        src_ep="laptop", dst_ep="scratch", src_path="/d", dst_path="/d", recursive=True, **options
    )
    run = {"timeout": 60, "polling_interval": 1, "stopped": lambda: False}
    codes, done = set(), True
    for part in range(shards):
        shard = Shard(part=part, parts=shards, workers=shards, range_size=LARGE // 3)
        outcome = world.transfers.run_shard(request, shard, submission_id=uuid.uuid4().hex, **run)
        codes |= {code for code, _ in outcome.failures}
        done = done and outcome.status.state is TaskState.SUCCEEDED
    return done, codes


def is_whole(world):
    """Whether the destination holds each file of the source, with its content."""
    source, copy = (Path(world.path(end, "/d")) for end in ("laptop", "scratch"))
    names = found(source)
    files = [name for name in names if not name.endswith("/")]
    same = all((copy / name).is_file() and (copy / name).read_bytes() == (source / name).read_bytes() for name in files)
    return same and len(found(copy)) == len(names)


def with_twins(program, mode, door, shards):
    """Copy a tree whose names may be equal on the disk, twice, and twice more after renaming the duplicates."""
    with worlds(program, *mode) as (ends, _), door_to(ends.roots["scratch"], door) as settings:
        world = world_of(ends.roots, scratch=settings)
        for name in (*CASES, *FORMS, *OTHERS):
            size = LARGE if name in FORMS[:2] and mode != ("fold",) else 100
            filled(world.roots["laptop"], [name], (os.fsencode(name) * size)[:size])

        def seen(shards=0, **options):
            return *copied(world, shards, **options), is_whole(world)

        first = [seen(shards, sync_level=level) for level in (None, "size")]
        top, taken = world.path("laptop", "/d"), set()
        for number, name in enumerate(sorted(os.listdir(top))):
            key = unicodedata.normalize("NFC", name).lower()
            if key in taken:
                os.rename(f"{top}/{name}", f"{top}/renamed{number}")
            taken.add(key)
        return [*first, seen(delete_destination_extra=True), seen(sync_level="size")]


@pytest.mark.parametrize("shards", [0, 3])
@pytest.mark.parametrize("door", ["folder", "ftp", "sftp"])
@pytest.mark.parametrize("mode", [("fold",), ("norm",), ()], ids=" ".join)
def test_twins_of_a_disk_that_folds(machine, faulty, mode, door, shards):
    """If names are one on a disk, some fail, also behind a server and as shards; other disks get all."""
    seen = machine(with_twins, faulty, mode, door, shards)
    first, again = seen[:2], seen[2:]
    assert again == [(True, set(), True)] * 2
    if not mode:
        assert first == again
        return
    assert [(done, whole) for done, _, whole in first] == [(False, False)] * 2
    # The store of FTP checks itself that an unusual name is kept.
    assert {code for _, codes, _ in first for code in codes} <= {"AMBIGUOUS_PATH", "INVALID_PATH_NAME"}
    assert door == "ftp" or first[0][1] == {"AMBIGUOUS_PATH"}


def to_a_mounted_disk(program):
    """Copy names that differ in case to a disk that ignores it, mounted below one that does not."""
    with tempfile.TemporaryDirectory() as top, Faulty(program, f"{top}/copy/inner", "fold") as faulty:
        inner = os.path.basename(faulty.disk)
        filled(f"{top}/tree", ["file", f"{inner}/data", f"{inner}/Data"])
        world = world_of({"laptop": f"{top}/tree", "scratch": f"{top}/copy"})
        return outcome(world.move("/", "/", recursive=True))


def test_twins_on_a_mounted_disk_that_folds(machine, faulty):
    """Names that are one on a disk fail there, even if the disk that it is mounted on distinguishes them."""
    state, code, _, faults, reason = machine(to_a_mounted_disk, faulty)
    assert (state, code, faults) == ("FAILED", "AMBIGUOUS_PATH", 1)
    assert "rename one of the two" in reason


def to_a_folder_that_folds(program, other, shards):
    """Copy names that differ in case to a folder that ignores it, next to one that does not, twice."""
    with worlds(program, "flag") as (ends, _):
        world = world_of(ends.roots)
        names = [f"d/any-case/{folder}{name}" for folder in ("", "in/") for name in ("data", "Data")]
        filled(world.roots["laptop"], [*names, f"d/{other}/data", f"d/{other}/Data"])
        os.makedirs(world.path("scratch", "/d/any-case"))
        said = [copied(world, shards) for _ in range(2)]
        top = world.path("scratch", "/d")
        return said, {name: len(os.listdir(f"{top}/{name}")) for name in ("any-case", "any-case/in", other)}


@pytest.mark.parametrize("shards", [0, 3])
@pytest.mark.parametrize("other", ["a", "z"])
def test_twins_in_a_folder_that_folds(machine, faulty, other, shards):
    """A folder that ignores case on a disk that does not gets one of two names; other folders get both."""
    said, counts = machine(to_a_folder_that_folds, faulty, other, shards)
    assert said == [(False, {"AMBIGUOUS_PATH"})] * 2
    assert counts == {"any-case": 2, "any-case/in": 1, other: 2}


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


def where_the_other_kind_is(program, door):
    """Copy a tree whose file is a folder at the destination, and whose folder is a file there."""
    with worlds(program) as (ends, _), door_to(ends.roots["scratch"], door) as settings:
        world = world_of(ends.roots, scratch=settings)
        filled(world.roots["laptop"], ["d/one", "d/two/file"])
        filled(world.roots["scratch"], ["d/one/file", "d/two"])
        return outcome(world.move("/d", "/d", recursive=True))


@pytest.mark.parametrize("door", ["folder", "ftp", "sftp"])
def test_a_name_of_the_other_kind_is_explained(machine, faulty, door):
    """If a file would replace a folder, or a folder a file, the reason names both and says to remove the old one."""
    state, _, _, faults, reason = machine(where_the_other_kind_is, faulty, door)
    assert (state, faults) == ("FAILED", 2)
    for name, old, new in (("one", "folder", "file"), ("two", "file", "folder")):
        assert f"/d/{name} on endpoint 'scratch' is a {old}, and the source has a {new} there; remove it." in reason
