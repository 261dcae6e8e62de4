"""Small real disks that are full, over quota, read-only, damaged or closed: errors, leftovers and re-runs."""

from __future__ import annotations

import fcntl
import filecmp
import os
import shutil
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from elsewhere import Faulty, NoDiskError, mounted
from waiting import until
from worlds import world_of

from chiltepin.backends.filesystem.local.claims import OPEN, open_locked
from chiltepin.backends.filesystem.temp_names import TEMP_PREFIX
from chiltepin.errors import BackendError, PermissionDeniedError
from chiltepin.transfers.arguments import transfer_request
from chiltepin.transfers.comparison import compare
from chiltepin.transfers.preview import preview
from chiltepin.transfers.two_trees import Place

KINDS = {"tmpfs": 4, "ext2": 16, "ext4": 16, "btrfs": 120, "xfs": 300}
ROOM = 1_500_000
NOBODY = 65534


@pytest.fixture
def done(machine):
    """Run a function in the process with the separate mounts; skip the test where a disk is missing."""

    def do(function, *arguments):
        try:
            return machine(function, *arguments)
        except NoDiskError as err:
            pytest.skip(str(err))

    return do


@contextmanager
def ends(disk, end="scratch"):
    """Yield two endpoints, one on a disk and one in a folder."""
    with tempfile.TemporaryDirectory() as top:
        os.chmod(top, 0o777)  # noqa: S103 - the user of the test may write there
        yield world_of(dict.fromkeys(("laptop", "scratch"), top) | {end: disk})


def outcome(status):
    """Return the fields of a status to compare."""
    return status.state.name, status.code, status.files_done, status.faults, status.reason


def foreseen_moves(world, source, goal, **options):
    """Return the problems of a preview, the files that would be moved, and how many would be skipped."""
    given = {"sync_level": "mtime", "preserve_timestamp": True, **options}
    request = transfer_request(src_ep="laptop", dst_ep="scratch", src_path=source, dst_path=goal, **given)
    seen = preview(world.transfers, request)
    return seen.problems, [move.destination for move in seen.moves], seen.skipped


def comparison(world, source, goal):
    """Return the differences between two paths, with their times, and what could not be compared."""
    found = compare(world.transfers, Place("laptop", source), Place("scratch", goal), "mtime")
    return [(one.path, one.what) for one in found.differences], found.problems


def contents(folder):
    """Return all files below a folder, even temporary ones: path, size and first three bytes."""
    found = {}
    for above, _, names in os.walk(folder):
        for name in names:
            with open(f"{above}/{name}", "rb") as file:
                found[os.path.relpath(f"{above}/{name}", folder)] = (os.fstat(file.fileno()).st_size, file.read(3))
    return found


def put(folder, name, content):
    """Write a file."""
    os.makedirs(os.path.dirname(f"{folder}/{name}"), exist_ok=True)
    with open(f"{folder}/{name}", "wb") as file:
        file.write(content)


def fill_up(disk, room):
    """Fill a disk so that only ``room`` bytes are free."""
    with open(f"{disk}/filler", "wb") as filler:
        os.sync()
        facts = os.statvfs(disk)
        for size in (facts.f_bavail * facts.f_frsize - room, 1 << 20, 1 << 16):
            try:
                os.posix_fallocate(filler.fileno(), 0, max(size, 1))
            except OSError:
                continue
            return


def on_a_full_disk(kind, size, large):
    """Copy a file and a tree to a nearly full disk; free space there, and copy the tree again."""
    # Reserve no space for root.
    whole = ("-m", "0") if kind.startswith("ext") else ()
    with mounted(kind, size, *whole) as disk, ends(disk) as world:
        put(world.roots["laptop"], "large", b"new" * (large // 3))
        for number in range(40):
            put(world.roots["laptop"], f"d/{number}", b"new" * 80_000)
        put(disk, "large", b"old")
        fill_up(disk, ROOM)
        alone = outcome(world.move("/large", "/large"))
        after = contents(disk)
        tree = outcome(world.move("/d", "/d", recursive=True))
        half = contents(f"{disk}/d")
        listed = {entry.name for entry in world.transfers.ls("scratch", "/")}
        freed = [outcome(world.remove(path))[:3] for path in ("/filler", "/large")]
        again = world.move("/d", "/d", recursive=True, sync_level="size")
        return alone, after, tree, half, listed, freed, (again.state.name, again.files_done), contents(disk)


@pytest.mark.parametrize("large", [2_100_000, 30_000_000])
@pytest.mark.parametrize("kind", KINDS)
def test_a_full_disk(done, kind, large):
    """A file that does not fit fails, frees its space and leaves the old file; a re-run with space completes."""
    alone, after, tree, half, listed, freed, again, left = done(on_a_full_disk, kind, KINDS[kind] + 16, large)
    assert alone[:4] == ("FAILED", "NO_SPACE_LEFT", 0, 1)
    assert alone[4].endswith("No space left on device; make room there, then run it again.")
    assert after.keys() == {"large", "filler"}
    assert after["large"] == (3, b"old")
    # Files already being written also run out of space; no further file is started.
    assert tree[:2] == ("FAILED", "NO_SPACE_LEFT")
    assert tree[2] == len(half)
    assert len(half) + tree[3] < 40
    assert set(half.values()) <= {(240_000, b"new")}
    assert listed - {"lost+found"} == {"large", "filler", "d"}
    assert freed == [("SUCCEEDED", "", 1)] * 2
    assert again == ("SUCCEEDED", 40 - len(half))
    assert left == {f"d/{number}": (240_000, b"new") for number in range(40)}


def over_a_mount():
    """Rename a file onto a disk that is mounted below the endpoint, and rename and delete the mount point."""
    with mounted("tmpfs", 4) as disk:
        world = world_of(dict.fromkeys(("laptop", "scratch"), os.path.dirname(disk)))
        put(os.path.dirname(disk), "f", b"data")
        said = []
        for path, new in (("/f", "/disk/f"), ("/disk", "/other")):
            with pytest.raises(BackendError) as caught:
                world.transfers.backend.rename("laptop", path, new)
            said.append(str(caught.value))
        return *said, outcome(world.remove("/disk", recursive=True)), contents(os.path.dirname(disk))


def test_a_disk_below_an_endpoint(done):
    """A rename across disks, and the rename and deletion of a mount point, fail with an instruction."""
    across, renamed, deleted, left = done(over_a_mount)
    assert across.endswith(
        "Invalid cross-device link; the paths are on different disks; use a transfer, then delete the old path."
    )
    busy = "Device or resource busy; it is a mount point or in use; unmount it, or choose another path."
    assert renamed.endswith(busy)
    assert (deleted[0], deleted[4].endswith(busy)) == ("FAILED", True)
    assert left == {"f": (4, b"dat")}


def without_inodes(kind, *options):
    """Copy many files to a disk with space but few inodes; delete some, and copy again."""
    with mounted(kind, 8, *options) as disk, ends(disk) as world:
        for number in range(100):
            put(world.roots["laptop"], f"d/{number}", b"")
            if number < 70:
                put(disk, f"old/{number}", b"")
        first = outcome(world.move("/d", "/d", recursive=True))
        half = contents(f"{disk}/d")
        world.remove("/old", recursive=True)
        again = world.move("/d", "/d", recursive=True, sync_level="size").state.name
        return first, len(half), again, set(contents(disk))


@pytest.mark.parametrize(("kind", "option"), [("tmpfs", ("nr_inodes=140",)), ("ext4", ("-N", "140"))])
def test_a_disk_without_inodes(done, kind, option):
    """A disk without free inodes is reported as full."""
    first, half, again, left = done(without_inodes, kind, *option)
    assert first[:2] == ("FAILED", "NO_SPACE_LEFT")
    assert 0 < first[2] == half < 100
    assert again == "SUCCEEDED"
    assert left == {f"d/{number}" for number in range(100)}


def out_of_quota():
    """Copy to a btrfs subvolume with a limit of 10 MiB; lift the limit, and copy again."""
    with mounted("btrfs", 150) as disk, ends(f"{disk}/part") as world:
        for words in (["quota", "enable", disk], ["subvolume", "create", f"{disk}/part"]):
            subprocess.run(["btrfs", *words], check=True, capture_output=True)
        limit = ["btrfs", "qgroup", "limit"]
        subprocess.run([*limit, "10M", f"{disk}/part"], check=True, capture_output=True)
        put(world.roots["laptop"], "large", b"new" * 7_000_000)
        for number in range(40):
            put(world.roots["laptop"], f"d/{number}", b"new" * 100_000)
        alone = outcome(world.move("/large", "/large"))
        after = contents(f"{disk}/part")
        os.sync()
        tree = outcome(world.move("/d", "/d", recursive=True))
        half = contents(f"{disk}/part/d")
        subprocess.run([*limit, "none", f"{disk}/part"], check=True, capture_output=True)
        again = world.move("/d", "/d", recursive=True, sync_level="size").state.name
        return alone, after, tree, half, again, contents(f"{disk}/part")


def test_a_quota(done):
    """An exceeded quota fails the task with QUOTA_EXCEEDED and leaves no partial file; a re-run completes it."""
    alone, after, tree, half, again, left = done(out_of_quota)
    assert alone[:4] == ("FAILED", "QUOTA_EXCEEDED", 0, 1)
    assert alone[4].endswith("Disk quota exceeded; make room there, then run it again.")
    assert after == {}
    assert tree[:2] == ("FAILED", "QUOTA_EXCEEDED")
    assert 0 < tree[2] == len(half) < 40
    assert set(half.values()) == {(300_000, b"new")}
    assert again == "SUCCEEDED"
    assert left == {f"d/{number}": (300_000, b"new") for number in range(40)}


def read_only(kind):
    """Run each operation on a disk that is mounted read-only, and again when it is writable."""
    with mounted(kind, KINDS[kind]) as disk, ends(disk) as world:
        for number in range(5):
            put(world.roots["laptop"], f"d/{number}", b"new")
            put(disk, f"old/{number}", b"old")
            put(disk, f"d/{number}", b"new")
            put(world.roots["laptop"], f"wide/{number}/f", b"new")
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)

        def all_of_it():
            return [
                outcome(world.move("/d/1", "/d/1")),
                outcome(world.move("/d", "/d", recursive=True)),
                outcome(world.move("/wide", "/wide", recursive=True)),
                outcome(world.remove("/old/1", ignore_missing=True)),
                outcome(world.remove("/old", recursive=True, ignore_missing=True)),
            ]

        first, left = all_of_it(), contents(disk)
        unchanged = outcome(world.move("/d", "/d", recursive=True, sync_level="size"))[:4]
        from_it = outcome(world.move("/old", "/copy", src_ep="scratch", dst_ep="laptop", recursive=True))[:4]
        listed = len(world.transfers.ls("scratch", "/old"))
        subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
        return first, left, unchanged, from_it, listed, all_of_it(), contents(disk)


@pytest.mark.parametrize("kind", ["ext4", "btrfs", "tmpfs"])
def test_a_read_only_disk(done, kind):
    """A read-only disk can be listed and copied from; every other operation fails and changes nothing."""
    first, left, unchanged, from_it, listed, again, now = done(read_only, kind)
    assert [status[:4] for status in first] == [
        ("FAILED", "PERMISSION_DENIED", 0, 1),
        ("FAILED", "PERMISSION_DENIED", 0, 5),
        ("FAILED", "PERMISSION_DENIED", 0, 1),
        ("FAILED", "PERMISSION_DENIED", 0, 1),
        ("FAILED", "PERMISSION_DENIED", 0, 5),
    ]
    assert all("Read-only file system; ask for the disk to be mounted read-write." in status[4] for status in first)
    assert "2 more failed." in first[1][4]
    assert left.keys() == {f"{folder}/{number}" for folder in ("old", "d") for number in range(5)}
    assert unchanged == ("SUCCEEDED", "", 0, 0)
    assert from_it == ("SUCCEEDED", "", 5, 0)
    assert listed == 5
    assert {status[0] for status in again} == {"SUCCEEDED"}
    assert now.keys() == {f"d/{number}" for number in range(5)} | {f"wide/{number}/f" for number in range(5)}


def sparse(kind):
    """Copy a sparse file that is larger than the disk."""
    with mounted(kind, KINDS[kind]) as disk, ends(disk) as world:
        end = (KINDS[kind] + 20) << 20
        with open(world.path("laptop", "/f"), "wb") as file:
            for offset in (0, 9_000_000, 17_000_000):
                file.seek(offset)
                file.write(b"data")
            file.truncate(end)
        state = world.move("/f", "/f").state.name
        facts = os.stat(f"{disk}/f")
        with open(f"{disk}/f", "rb") as file:
            read = [os.pread(file.fileno(), 5, offset) for offset in (0, 9_000_000, 17_000_000, end - 5)]
        return state, facts.st_size == end, facts.st_blocks * 512, read


@pytest.mark.parametrize("kind", KINDS)
def test_a_sparse_file_that_is_larger_than_its_disk(done, kind):
    """Holes take no space, even at the end."""
    state, whole, room, read = done(sparse, kind)
    assert (state, whole) == ("SUCCEEDED", True)
    assert room < 1 << 20
    assert read == [*[b"data\0"] * 3, bytes(5)]


def torn():
    """Copy from an ext4 whose device ends in the middle of its largest file."""
    with mounted("ext4", 32) as disk, ends(disk, "laptop") as world:
        for number in range(5):
            put(disk, f"d/{number}", b"new" * 100_000)
        put(disk, "d/large", b"new" * 6_000_000)
        put(world.roots["scratch"], "d/large", b"old")
        os.sync()
        with open(f"{disk}/d/large", "rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        # For the missing end of its file, a loop device reports the same error as a device with bad blocks.
        os.truncate(f"{os.path.dirname(disk)}/image", 12 << 20)
        tree = outcome(world.move("/d", "/d", recursive=True))
        alone = outcome(world.move("/d/large", "/alone"))
        return (
            tree,
            alone,
            contents(world.roots["scratch"]),
            [entry.name for entry in world.transfers.ls("laptop", "/d")],
        )


def test_a_device_with_bad_blocks(done):
    """A file that a disk cannot read to its end fails, its old destination stays, and other files arrive."""
    tree, alone, left, listed = done(torn)
    assert tree[:4] == ("FAILED", "ENDPOINT_ERROR", 5, 1)
    assert "/d/large on endpoint 'laptop' to " in tree[4]
    assert "Input/output error; the disk is damaged" in tree[4]
    assert alone[:4] == ("FAILED", "ENDPOINT_ERROR", 0, 1)
    assert left == {f"d/{number}": (300_000, b"new") for number in range(5)} | {"d/large": (3, b"old")}
    assert len(listed) == 6


def immutable():
    """Replace and delete files, one of them immutable."""
    with mounted("ext4", 16) as disk, ends(disk) as world:
        for name in ("d/fixed", "d/free"):
            put(disk, name, b"old")
            put(world.roots["laptop"], name, b"new")
        _flags(f"{disk}/d/fixed", 0x10)
        try:
            moved = outcome(world.move("/d", "/d", recursive=True))
            removed = outcome(world.remove("/d", recursive=True))
            return moved, removed, contents(disk)
        finally:
            _flags(f"{disk}/d/fixed", 0)


def _flags(path, flags):
    """Set the flags of a file: 0x10 is FS_IMMUTABLE_FL (ioctl_iflags(2))."""
    with open(path, "rb") as file:
        fcntl.ioctl(file.fileno(), 0x40086602, flags.to_bytes(8, "little"))


def test_a_file_that_may_not_be_changed(done):
    """An immutable file is neither replaced nor deleted; other files are."""
    moved, removed, left = done(immutable)
    assert moved[:4] == ("FAILED", "PERMISSION_DENIED", 1, 1)
    assert removed[:4] == ("FAILED", "PERMISSION_DENIED", 1, 1)
    assert left == {"d/fixed": (3, b"old")}


@pytest.fixture
def as_another_user(done):
    """Run a function that acts as an unprivileged user."""
    return done if not os.geteuid() else lambda function, *arguments: function(*arguments)


@contextmanager
def other_user():
    """Act as an unprivileged user."""
    root = not os.geteuid()
    if root:
        try:
            os.seteuid(NOBODY)
        except OSError:
            raise NoDiskError("root cannot become another user here") from None
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


CLOSED = (("unreadable", 0o000), ("closed", 0o000), ("names-only", 0o444), ("no-entry", 0o555))


def without_permission():
    """Copy, list and delete a tree without permission for some of it, and again with permission."""
    with tempfile.TemporaryDirectory() as top:
        os.chmod(top, 0o777)  # noqa: S103 - for all users
        roots = {name: f"{top}/{name}" for name in ("laptop", "scratch")}
        os.umask(0)
        with other_user():
            for name in ("f", "unreadable", "sub/f", "closed/f", "names-only/f", "no-entry/f"):
                put(roots["laptop"], f"d/{name}", b"new")
            os.makedirs(f"{roots['scratch']}/d/no-entry")
            for end, names in (("laptop", CLOSED[:3]), ("scratch", CLOSED[3:])):
                for name, mode in names:
                    os.chmod(f"{roots[end]}/d/{name}", mode)
            world = world_of(roots)
            first = outcome(world.move("/d", "/d", recursive=True))
            pairs = ("unreadable", "x"), ("closed/f", "x"), ("names-only/f", "x"), ("f", "d/no-entry/x")
            alone = [outcome(world.move(f"/d/{name}", f"/{goal}")) for name, goal in pairs]
            arrived = set(contents(roots["scratch"]))
            listed = {entry.name: entry.kind for entry in world.transfers.ls("laptop", "/d/names-only")}
            try:
                world.transfers.ls("laptop", "/d/closed")
            except PermissionDeniedError as err:
                refused = str(err)
            os.chmod(f"{roots['laptop']}/d/names-only", 0o555)  # noqa: S103 - closed to writing
            removed = outcome(world.remove("/d", "laptop", recursive=True))
            kept = set(contents(roots["laptop"]))
            for end, names in (("laptop", CLOSED[1:3]), ("scratch", CLOSED[3:])):
                for name, _ in names:
                    os.chmod(f"{roots[end]}/d/{name}", 0o777)  # noqa: S103 - for the cleanup
            again = [
                outcome(world.move("/d", "/d", recursive=True))[:4],
                outcome(world.remove("/d", "laptop", recursive=True))[:2],
            ]
        return first, alone, arrived, listed, refused, removed, kept, again, set(contents(roots["scratch"]))


def test_what_another_user_may_not_do(as_another_user):
    """Files and folders without permission fail and are counted one by one; the rest is copied and deleted."""
    first, alone, arrived, listed, refused, removed, kept, again, left = as_another_user(without_permission)
    assert first[:4] == ("FAILED", "PERMISSION_DENIED", 2, 4)
    assert "Permission denied; check the permissions of the user running the transfer." in first[4]
    assert "1 more failed." in first[4]
    assert [one[:4] for one in alone] == [("FAILED", "PERMISSION_DENIED", 0, 1)] * 4
    assert alone[0][4].startswith("Cannot read /d/unreadable on endpoint 'laptop': Permission denied; ")
    assert alone[3][4].startswith("Cannot write /d/no-entry/x on endpoint 'scratch': Permission denied; ")
    assert arrived == {"d/f", "d/sub/f"}
    assert listed == {"f": "file"}
    assert refused.startswith("Listing /d/closed on endpoint 'laptop': Permission denied; check the")
    # Write permission for a folder includes deleting unreadable files in it.
    assert removed[:4] == ("FAILED", "PERMISSION_DENIED", 4, 2)
    assert kept == {"d/names-only/f"}
    assert again == [("SUCCEEDED", "", 2, 0), ("SUCCEEDED", "")]
    assert left == {"d/f", "d/sub/f", "d/closed/f", "d/names-only/f"}
    assert not [name for name in left if TEMP_PREFIX in name]


def with_a_umask(umask):
    """Copy a tree of small, large and sparse files to another disk, as a user whose new files are read-only."""
    with mounted("tmpfs", 100) as disk, ends(disk) as world:
        for name, size in (("small", 5), ("middle", 300_000), ("large", 20_000_000)):
            put(world.roots["laptop"], f"d/{name}", b"x" * size)
        with open(f"{world.roots['laptop']}/d/sparse", "wb") as file:
            file.truncate(20_000_000)
            file.seek(9_000_000)
            file.write(b"data")
        with other_user():
            os.mkdir(f"{disk}/d")
            before = os.umask(umask)
            try:
                status = outcome(world.move("/d", "/d", recursive=True))
            finally:
                os.umask(before)
        top = world.roots["laptop"]
        return status, {name: filecmp.cmp(f"{top}/{name}", f"{disk}/{name}") for name in contents(disk)}


@pytest.mark.parametrize("umask", [0o222, 0o333, 0o777])
def test_a_umask_without_write_permission(as_another_user, umask):
    """Files of all sizes, also sparse ones, arrive on another disk if the umask makes new files read-only."""
    status, same = as_another_user(with_a_umask, umask)
    assert status[:4] == ("SUCCEEDED", "", 4, 0)
    assert same == dict.fromkeys(("d/small", "d/middle", "d/large", "d/sparse"), True)


def through_closed_folders():
    """Copy, list, mirror and delete through folders that can be entered but not listed."""
    with tempfile.TemporaryDirectory() as top:
        os.chmod(top, 0o777)  # noqa: S103 - for all users
        roots = {name: f"{top}/{name}" for name in ("laptop", "scratch")}
        os.umask(0)
        with other_user():
            for name in ("home/f", "home/large", "home/sub/g", "home/sub/deep/h", "d/f", "d/closed/g"):
                put(roots["laptop"], name, b"new" * (4_000_000 if name.endswith("large") else 1))
            for name in ("drop/old", "e/extra", "e/closed/extra"):
                put(roots["scratch"], name, b"old")
            closed = [(f"{roots['laptop']}/{name}", 0o311) for name in ("home", "d/closed", "")]
            closed += [(f"{roots['scratch']}/drop", 0o333)]
            for path, mode in closed:
                os.chmod(path, mode)
            world = world_of(roots)
            named = [
                outcome(world.move("/home/f", "/drop/f"))[:2],
                outcome(world.move("/home/large", "/drop/large"))[:2],
                outcome(world.move("/home/sub", "/drop/sub", recursive=True))[:2],
                outcome(world.move("/home/f", "/drop/old", sync_level="checksum"))[:2],
                outcome(world.remove("/drop/f"))[:2],
            ]
            foreseen = [foreseen_moves(world, *paths) for paths in (("/home/f", "/drop/new"), ("/home/f", "/drop/old"))]
            compared = comparison(world, "/home/f", "/drop/old")
            mirrored = outcome(world.move("/d", "/e", recursive=True, delete_destination_extra=True))[:4]
            try:
                world.transfers.ls("laptop", "/home")
            except PermissionDeniedError as err:
                refused = str(err)
            deleted = outcome(world.remove("/drop", recursive=True))[:2]
            for path, _ in reversed(closed):
                os.chmod(path, 0o777)  # noqa: S103 - for the cleanup
        return named, foreseen, compared, mirrored, refused, deleted, contents(roots["scratch"])


def test_folders_that_may_be_entered_and_not_listed(as_another_user):
    """A named file in such a folder is copied, as by cp, and can be compared; a listing fails and removes nothing."""
    named, foreseen, compared, mirrored, refused, deleted, left = as_another_user(through_closed_folders)
    assert named == [("SUCCEEDED", "")] * 5
    assert foreseen == [([], ["/drop/new"], 0), ([], [], 1)]
    assert compared == ([], [])
    assert mirrored == ("FAILED", "PERMISSION_DENIED", 1, 1)
    assert refused.startswith("Listing /home on endpoint 'laptop': Permission denied")
    assert deleted == ("FAILED", "PERMISSION_DENIED")
    assert left == {
        **{f"drop/{name}": (3, b"new") for name in ("old", "sub/g", "sub/deep/h")},
        "drop/large": (12_000_000, b"new"),
        **{f"e/{name}": (3, b"old") for name in ("extra", "closed/extra")},
        "e/f": (3, b"new"),
    }


def with_coarse_times(kind, size, options):
    """Copy files with odd times to a disk; return what a preview, a comparison and a second run do, twice."""
    with mounted(kind, size, *options) as disk, ends(disk) as world:
        for number in range(12):
            put(world.roots["laptop"], f"d/{number}", b"new")
            time = 1_700_000_000_123_456_789 + number * 333_333_333
            os.utime(f"{world.roots['laptop']}/d/{number}", ns=(time, time))
        world.move("/d", "/d", recursive=True, preserve_timestamp=True)
        rounds = []
        for _ in range(2):
            foreseen = foreseen_moves(world, "/d", "/d", recursive=True)
            differences = comparison(world, "/d", "/d")
            status = world.move("/d", "/d", recursive=True, sync_level="mtime", preserve_timestamp=True)
            rounds.append((foreseen, differences, status.files_done, status.files_skipped))
            for number in range(3):
                time = 1_800_000_000_123_456_789
                os.utime(f"{world.roots['laptop']}/d/{number}", ns=(time, time))
        return rounds


@pytest.mark.parametrize(
    ("kind", "size", "options"),
    [("ext4", 16, ("-I", "128")), ("vfat", 4, ()), ("exfat", 4, ()), ("tmpfs", 4, ())],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_copies_with_coarser_times_are_foreseen_as_equal(done, kind, size, options):
    """A preview and a comparison see copies whose times the disk has cut as the transfer does; newer files differ."""
    first, second = done(with_coarse_times, kind, size, options)
    assert first == (([], [], 12), ([], []), 0, 12)
    assert second == (([], ["/d/0", "/d/1", "/d/2"], 9), ([(name, "time") for name in "012"], []), 3, 9)


#: What FUSE disks lack, and the outcome of a copy to them.
LACKS = {
    ("order", "direct"): "SUCCEEDED",
    ("wronly", "direct"): "SUCCEEDED",
    ("wronly", "order", "direct"): "SUCCEEDED",
    ("order", "wronly", "keep", "direct"): "SUCCEEDED",
    ("keep",): "SUCCEEDED",
    ("other",): "SUCCEEDED",
    ("noname",): "cannot rename files",
    ("notime",): "cannot set the modification time",
}


def on_a_disk_that_lacks(program, modes):
    """Copy files of all sizes and a tree, with times, twice to a disk without some features; one file in ranges."""
    with tempfile.TemporaryDirectory() as top, Faulty(program, f"{top}/behind", *modes) as faulty:
        os.mkdir(f"{top}/laptop")
        for name, size in (("empty", 0), ("small", 5), ("middle", 400_000), ("large", 20_000_000)):
            put(f"{top}/laptop", f"d/{name}", b"new" * size)
        world = world_of({"laptop": f"{top}/laptop", "scratch": faulty.disk})
        said = []
        for _ in range(2):
            said += [
                outcome(world.move(f"/d/{name}", f"/{name}", preserve_timestamp=True))
                for name in ("large", "small", "middle", "empty")
            ]
            said.append(outcome(world.move("/d", "/d", recursive=True, preserve_timestamp=True)))
            said.append(outcome(world.share("/d/large", "/ranges/large", preserve_timestamp=True)))
        whole = {
            name: filecmp.cmp(f"{top}/behind/{name}", f"{top}/laptop/d/{os.path.basename(name)}", shallow=False)
            for name in contents(f"{top}/behind")
        }
        return said, whole


def on_rclone():
    """Copy to a folder that rclone mounts without a cache."""
    if shutil.which("rclone") is None or shutil.which("fusermount3") is None:
        raise NoDiskError("there is no rclone with FUSE here; install rclone and fuse3")
    with tempfile.TemporaryDirectory() as top:
        for name in ("laptop", "behind", "disk"):
            os.mkdir(f"{top}/{name}")
        for name, size in (("d/empty", 0), ("d/small", 5), ("d/sub/large", 10_000_000)):
            put(f"{top}/laptop", name, b"new" * size)
        command = ["rclone", "mount", "--config", os.devnull, f"{top}/behind", f"{top}/disk"]
        mount = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        try:
            until(lambda: os.path.ismount(f"{top}/disk") or mount.poll() is not None)
            if mount.poll() is not None:
                raise NoDiskError("rclone cannot mount here")
            world = world_of({"laptop": f"{top}/laptop", "scratch": f"{top}/disk"})
            said = [
                outcome(world.move("/d/sub/large", "/large")),
                outcome(world.move("/d", "/d", recursive=True, preserve_timestamp=True)),
                outcome(world.move("/d", "/d", recursive=True, sync_level="mtime", preserve_timestamp=True)),
                outcome(world.move("/d/small", "/large")),
                outcome(world.share("/d/sub/large", "/ranges")),
                outcome(world.share("/d", "/tree", recursive=True, preserve_timestamp=True)),
                # To a new folder, in a process that does not know the disk.
                outcome(world_of(world.roots).move("/d", "/new", recursive=True)),
            ]
        finally:
            subprocess.run(["umount", "--lazy", f"{top}/disk"], check=False, stderr=subprocess.DEVNULL)
            mount.terminate()
            mount.wait()
        return said, contents(f"{top}/behind")


def test_a_folder_that_rclone_mounts(done):
    """Files of all sizes arrive on an rclone mount, which is written in order, and nothing else is left."""
    said, left = done(on_rclone)
    assert [status[:3] for status in said] == [("SUCCEEDED", "", number) for number in (1, 3, 0, 1, 1, 3, 3)]
    assert left == {
        "large": (15, b"new"),
        "ranges": (30_000_000, b"new"),
        **{f"{top}/empty": (0, b"") for top in ("d", "tree", "new")},
        **{f"{top}/small": (15, b"new") for top in ("d", "tree", "new")},
        **{f"{top}/sub/large": (30_000_000, b"new") for top in ("d", "tree", "new")},
    }


def removed_while_its_lock_is_awaited(program):
    """Remove a file as a sweep does, while its writer waits for the lock; return what the writer gets."""
    with tempfile.TemporaryDirectory() as top, Faulty(program, f"{top}/behind", "direct") as faulty:
        folder = os.open(faulty.disk, os.O_RDONLY)
        locked = os.open("file", os.O_RDWR | os.O_CREAT, dir_fd=folder)
        fcntl.flock(locked, fcntl.LOCK_EX)
        with ThreadPoolExecutor() as pool:
            writer = pool.submit(open_locked, folder, "file", OPEN, 0)
            until(lambda: f"-> FLOCK  ADVISORY  WRITE {os.getpid()} " in Path("/proc/locks").read_text())
            os.unlink("file", dir_fd=folder)
            os.close(locked)
        os.close(folder)
        return writer.result()


def test_a_file_that_is_removed_while_its_lock_is_awaited_is_not_used(done, faulty):
    """A writer whose new file is removed before it has the lock makes another one, also if the disk calls it stale."""
    assert done(removed_while_its_lock_is_awaited, faulty) is None


def together_in_order(program):
    """Copy eight files at the same time, 60 times, to a disk that is not known yet and accepts files in order only."""
    said = []
    names = [str(number) for number in range(8)]
    with tempfile.TemporaryDirectory() as top, Faulty(program, f"{top}/behind", "order", "direct") as faulty:
        os.mkdir(f"{top}/laptop")
        for name in names:
            put(f"{top}/laptop", name, b"new" * 100_000)
        for _ in range(60):
            backend = world_of({"laptop": f"{top}/laptop", "scratch": faulty.disk}).transfers.backend
            handles = [
                backend.submit(
                    transfer_request(src_ep="laptop", dst_ep="scratch", src_path=f"/{name}", dst_path=f"/{name}"),
                    backend.new_submission_id(),
                )
                for name in names
            ]
            for handle in handles:
                backend.wait(handle, 30)
            said += map(outcome, backend.poll(handles))
    return said


def test_files_that_are_written_in_order_do_not_disturb_each_other(done, faulty):
    """Files that several tasks write into one folder at the same time arrive, also if a disk accepts no parts."""
    assert [status for status in done(together_in_order, faulty) if status[:3] != ("SUCCEEDED", "", 1)] == []


@pytest.mark.parametrize("modes", LACKS, ids="-".join)
def test_a_disk_that_can_less(done, faulty, modes):
    """Disks without random writes or replacing renames are written in another way; other gaps are reported."""
    said, whole = done(on_a_disk_that_lacks, faulty, modes)
    if LACKS[modes] == "SUCCEEDED":
        assert {status[:2] for status in said} == {("SUCCEEDED", "")}
        names = ("empty", "small", "middle", "large")
        assert whole == dict.fromkeys((*names, *(f"d/{name}" for name in names), "ranges/large"), True)
    else:
        assert all(LACKS[modes] in status[4] for status in said), said
        assert whole == {}
