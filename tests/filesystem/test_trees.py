"""Trees: many threads, huge folders, long paths, bad files, and extra files at the destination."""

from __future__ import annotations

import os
import sys
import tempfile
import tracemalloc
from functools import partial

import pytest
from children import in_child
from slow import slow_world, vanishing_world
from worlds import World, file_world

from chiltepin.backends.filesystem import FilesystemBackend
from chiltepin.backends.filesystem.local.store import LocalStore
from chiltepin.backends.filesystem.locations import Place
from chiltepin.backends.filesystem.mover.delete import LISTED
from chiltepin.model import TaskState
from chiltepin.transfers.arguments import transfer_request
from chiltepin.transfers.runner import Transfers


@pytest.fixture
def memory_disk():
    """A folder in memory, if possible, for folders with many files."""
    memory = "/dev/shm"  # noqa: S108 - a folder with a unique name is made in it
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as folder:
        yield folder


def fill(folder: str, count: int) -> None:
    """Create empty files."""
    os.makedirs(folder)
    for number in range(count):
        os.close(os.open(f"{folder}/f{number}", os.O_CREAT | os.O_WRONLY))


def narrow(root: str) -> LocalStore:
    """A store with few threads, each of which keeps a portion of a folder in memory."""
    store = LocalStore(root)
    store.width = 4
    return store


def many(world: World, files: int, folders: int) -> None:
    """Create small files in folders on the laptop."""
    for number in range(files):
        world.put("laptop", f"/d/{number % folders}/{number}", b"x" * number)


def test_many_threads_copy_a_tree_and_count_it_exactly(tmp_path):
    """On a slow disk several threads copy a tree; every file arrives and is counted once."""
    world, workers = slow_world(tmp_path)
    many(world, 100, 8)
    os.symlink("nowhere", world.path("laptop", "/d/link"))
    status = world.move("/d", "/d", recursive=True)
    assert (status.state, status.files_done, status.files_skipped) == (TaskState.SUCCEEDED, 100, 1)
    assert status.bytes_done == sum(range(100))
    assert len(workers) > 1
    assert world.files("scratch") == world.files("laptop") - {"/d/link"}


def test_one_folder_is_copied_by_many_threads_too(tmp_path):
    """Several threads share the files of a single folder."""
    world, workers = slow_world(tmp_path)
    many(world, 60, 1)
    assert world.move("/d", "/d", recursive=True).files_done == 60
    assert len(workers) > 1


def test_a_tree_stops_soon_after_it_is_cancelled(memory_disk):
    """Canceling a huge tree stops its threads soon, with most of the tree left."""
    world, _ = slow_world(memory_disk)
    for folder in range(10):
        fill(world.path("laptop", f"/d/{folder}"), 500)
    backend = world.transfers.backend
    request = transfer_request(src_ep="laptop", dst_ep="scratch", src_path="/d", dst_path="/d", recursive=True)
    handle = backend.submit(request, backend.new_submission_id())
    while not backend.poll([handle])[0].files_done:
        backend.wait(handle, 0.01)
    backend.cancel(handle)
    backend.wait(handle, 60)
    (status,) = backend.poll([handle])
    assert status.state is TaskState.CANCELED
    assert status.files_done == len(world.files("scratch")) < 5000


def test_a_huge_folder_is_synced_and_deleted_in_little_memory(memory_disk):
    """A huge folder is synced and emptied in portions, in less memory than its names would take."""
    count = LISTED + 5000
    for end in ("laptop", "scratch"):
        fill(f"{memory_disk}/{end}/d", count)
    roots = {name: f"{memory_disk}/{name}" for name in ("laptop", "scratch")}
    backend = FilesystemBackend({name: Place(name, "file", "/", partial(narrow, roots[name])) for name in roots})
    world = World(Transfers(backend), None, roots)
    world.move("/d", "/d", recursive=True, sync_level="mtime", include=["f0"])

    def synced():
        tracemalloc.start()
        status = world.move("/d", "/d", recursive=True, sync_level="mtime")
        _, peak = tracemalloc.get_traced_memory()
        assert (status.state, status.files_done, status.files_skipped) == (TaskState.SUCCEEDED, 0, count)
        assert peak < count * sys.getsizeof(f"f{count}")

    # In a child, where no server of an earlier test takes memory meanwhile.
    in_child(synced)
    status = world.remove("/d", recursive=True)
    assert (status.state, status.files_done) == (TaskState.SUCCEEDED, count)
    assert os.listdir(roots["scratch"]) == []


def test_long_paths_are_no_limit(disk):
    """A tree with paths of 4,000 bytes and more is copied, synced and deleted."""
    path = "/d" + "".join(f"/{depth:02}{'x' * 198}" for depth in range(21))
    above = disk.path("laptop", "")
    folder = os.open(above, os.O_RDONLY)
    for name in path.strip("/").split("/"):
        os.mkdir(name, dir_fd=folder)
        inner = os.open(name, os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = inner
    os.close(os.open("f", os.O_CREAT | os.O_WRONLY, dir_fd=folder))
    os.close(folder)
    assert disk.move("/d", "/d", recursive=True).files_done == 1
    assert disk.move("/d", "/d", recursive=True, sync_level="mtime").files_skipped == 1
    for end in ("laptop", "scratch"):
        status = disk.remove("/d", src_ep=end, recursive=True)
        assert (status.state, status.files_done) == (TaskState.SUCCEEDED, 1)


def test_bad_files_are_told_and_the_others_are_in_place(world):
    """If some files fail, the rest arrive, and the task has the first reasons and the number of the other failures."""
    for number in range(8):
        world.put("laptop", f"/d/{number}", b"data")
        if number < 5:
            world.put("scratch", f"/d/{number}/in-the-way")
    status = world.move("/d", "/d", recursive=True)
    assert (status.state, status.code, status.files_done) == (TaskState.FAILED, "IS_A_DIRECTORY", 3)
    assert status.faults == 5
    assert status.reason.count("is a folder, and the source has a file there") == 3
    assert "2 more failed." in status.reason


@pytest.mark.parametrize("level", ["exists", "size", "mtime", "checksum"])
def test_an_unchanged_tree_is_skipped_whole(world, level):
    """A second transfer of a tree copies nothing and counts all files as skipped."""
    for number in range(20):
        world.put("laptop", f"/d/{number % 3}/{number}", b"data")
    assert world.move("/d", "/d", recursive=True, sync_level=level).files_done == 20
    status = world.move("/d", "/d", recursive=True, sync_level=level)
    assert (status.state, status.files_done, status.files_skipped, status.bytes_done) == (
        TaskState.SUCCEEDED,
        0,
        20,
        0,
    )


def test_the_first_filter_that_matches_decides(world):
    """The first rule that matches decides; a file without a match is copied, and an excluded file is skipped."""
    for name in ("a.nc", "a.tmp", "keep.tmp", "sub/b.tmp"):
        world.put("laptop", f"/d/{name}")
    status = world.move("/d", "/d", recursive=True, include=["keep.*"], exclude=["*.tmp"])
    assert (status.files_done, status.files_skipped) == (2, 2)
    assert world.files("scratch") == {"/d/a.nc", "/d/keep.tmp"}


def test_pipes_and_loops_are_skipped(disk):
    """A pipe does not block a transfer, and a link to a parent folder is not followed."""
    disk.put("laptop", "/d/sub/f")
    os.mkfifo(disk.path("laptop", "/d/pipe"))
    os.symlink("..", disk.path("laptop", "/d/sub/up"))
    status = disk.move("/d", "/d", recursive=True)
    assert (status.state, status.files_done, status.files_skipped) == (TaskState.SUCCEEDED, 1, 2)
    assert disk.files("scratch") == {"/d/sub/f"}


def mirror(world: World, **options):
    """Transfer ``/d`` and delete extra files at its destination."""
    return world.move("/d", "/d", recursive=True, delete_destination_extra=True, **options)


def test_what_is_too_much_goes_after_the_rest_has_arrived(world):
    """Files and trees that the source does not have are deleted, and nothing outside the destination."""
    for end, path in (
        *(("laptop", "/d/f"), ("laptop", "/d/sub/f")),
        *(("scratch", "/d/old"), ("scratch", "/d/sub/old"), ("scratch", "/d/tree/deep/old"), ("scratch", "/kept")),
    ):
        world.put(end, path)
    assert mirror(world).state is TaskState.SUCCEEDED
    assert world.files("scratch") == {"/d/f", "/d/sub/f", "/kept"}
    assert not world.exists("scratch", "/d/tree")


def test_what_filters_leave_out_is_not_too_much(world):
    """An extra file that the filters exclude is kept, with its parent folders."""
    world.put("laptop", "/d/f")
    for path in ("/d/old.log", "/d/old", "/d/tree/old.log", "/d/tree/old", "/d/other/old"):
        world.put("scratch", path)
    assert mirror(world, exclude=["*.log"]).state is TaskState.SUCCEEDED
    assert world.files("scratch") == {"/d/f", "/d/old.log", "/d/tree/old.log"}


def test_after_a_failure_nothing_is_too_much(world):
    """If one file fails, nothing is deleted."""
    for name in ("bad", "good"):
        world.put("laptop", f"/d/{name}")
    world.put("scratch", "/d/bad/in-the-way")
    world.put("scratch", "/d/old")
    assert mirror(world, exclude=["in-the-way"]).state is TaskState.FAILED
    assert world.files("scratch") == {"/d/bad/in-the-way", "/d/good", "/d/old"}


def test_a_source_that_went_away_makes_nothing_too_much():
    """If a folder is empty after its files were copied, its disk may be gone, and nothing is deleted."""
    world = vanishing_world()
    world.put("laptop", "/d/f")
    world.put("scratch", "/d/old")
    status = mirror(world)
    assert (status.state, status.code) == (TaskState.FAILED, "FILE_SIZE_CHANGED")
    assert world.files("scratch") == {"/d/f", "/d/old"}


def test_a_root_is_never_too_much(tmp_path):
    """An extra folder that is the root of another endpoint is kept, and the task says so."""
    world = file_world(tmp_path)
    world.put("laptop", "/d/f")
    world.put("scratch", "/d/inner/data")
    endpoints = {**world.roots, "inner": world.path("scratch", "/d/inner")}
    backend = FilesystemBackend.from_config({name: {"url": root} for name, root in endpoints.items()}, {})
    status = mirror(World(Transfers(backend), world.filesystem, world.roots))
    assert (status.state, status.code) == (TaskState.FAILED, "PERMISSION_DENIED")
    assert world.files("scratch") == {"/d/f", "/d/inner/data"}
