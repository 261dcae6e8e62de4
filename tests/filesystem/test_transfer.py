"""Transfers, on every kind of endpoint."""

from __future__ import annotations

import os
from datetime import datetime, timedelta, timezone

import pytest
from worlds import World

from chiltepin import settings
from chiltepin.backends.filesystem import FilesystemBackend
from chiltepin.backends.filesystem.store import BLOCK
from chiltepin.errors import EndpointNotFoundError, PermissionDeniedError, UnsupportedOptionError
from chiltepin.model import TaskHandle, TaskState, TransferItem, TransferRequest
from chiltepin.transfers.arguments import transfer_request
from chiltepin.transfers.runner import Transfers


def test_a_file_arrives_with_its_bytes(world):
    """A file arrives at the given path; missing folders are created, and nothing else is written."""
    content = os.urandom(3 * BLOCK + 17)
    world.put("laptop", "/a/input.dat", content)
    status = world.move("/a/input.dat", "/project/deep/renamed.dat")
    assert (status.state, status.files_done, status.bytes_done) == (TaskState.SUCCEEDED, 1, len(content))
    assert world.get("scratch", "/project/deep/renamed.dat") == content
    assert world.files("scratch") == {"/project/deep/renamed.dat"}


def test_an_empty_file_is_a_file(world):
    """An empty file arrives as an empty file."""
    world.put("laptop", "/empty", b"")
    assert world.move("/empty", "/empty").state is TaskState.SUCCEEDED
    assert world.get("scratch", "/empty") == b""


def test_a_file_is_replaced(world):
    """An existing destination is replaced."""
    world.put("laptop", "/a", b"new")
    world.put("scratch", "/a", b"old and longer")
    world.move("/a", "/a")
    assert world.get("scratch", "/a") == b"new"


@pytest.mark.parametrize("slashes", [("/d", "/e"), ("/d/", "/e/"), ("/d", "/e/")])
def test_a_tree_goes_into_the_destination_folder(world, slashes):
    """The contents of a folder are copied into the destination folder, with or without trailing slashes."""
    tree = {"/one": b"1", "/sub/two": b"22", "/sub/deeper/three": b"333"}
    for name, content in tree.items():
        world.put("laptop", "/d" + name, content)
    world.put("scratch", "/e/already-there", b"stays")
    status = world.move(*slashes, recursive=True)
    assert (status.state, status.files_done, status.bytes_done) == (TaskState.SUCCEEDED, 3, 6)
    assert {name: world.get("scratch", "/e" + name) for name in tree} == tree
    assert world.get("scratch", "/e/already-there") == b"stays"


def test_the_root_itself_can_be_moved(world):
    """The root of an endpoint is a valid source and destination folder."""
    world.put("laptop", "/a/b", b"x")
    assert world.move("/", "/", recursive=True).state is TaskState.SUCCEEDED
    assert world.files("scratch") == {"/a/b"}


@pytest.mark.parametrize(
    ("src_path", "dst_path", "recursive", "code", "words"),
    [
        ("/missing", "/x", False, "FILE_NOT_FOUND", "There is no /missing on endpoint 'laptop'"),
        ("/missing", "/x", True, "FILE_NOT_FOUND", "There is no /missing on endpoint 'laptop'"),
        ("/file/below", "/x", False, "FILE_NOT_FOUND", "/file/below"),
        ("/folder", "/x", False, "IS_A_DIRECTORY", "set recursive=True"),
        ("/file", "/x", True, "NOT_A_DIRECTORY", "set recursive=False"),
        ("/file", "/taken", False, "IS_A_DIRECTORY", "such as '/taken/file'"),
        ("/file", "/taken/inner/x", False, "NOT_A_DIRECTORY", "a part of one of the paths is a file"),
        ("/folder", "/taken/inner", True, "NOT_A_DIRECTORY", "/taken/inner"),
    ],
)
def test_what_cannot_be_moved_says_why(world, src_path, dst_path, recursive, code, words):
    """An impossible transfer fails with Globus's code, names the path, and does not change the destination."""
    world.put("laptop", "/file")
    world.put("laptop", "/folder/file")
    world.put("scratch", "/taken/inner", b"kept")
    status = world.move(src_path, dst_path, recursive=recursive)
    assert (status.state, status.code) == (TaskState.FAILED, code)
    assert words in status.reason
    assert world.files("scratch") == {"/taken/inner"}


def test_a_failure_and_its_reason_are_reported_together(disk, set_switch_interval):
    """Whenever a task is polled, it has a reason if it has failed."""
    set_switch_interval(1e-6)  # seconds: the thread of the task ends at any point of a poll
    for number in range(300):
        request = transfer_request(src_ep="laptop", dst_ep="scratch", src_path=f"/missing{number}", dst_path="/x")
        handle = disk.transfers.backend.submit(request, disk.transfers.backend.new_submission_id())
        while not (status := disk.transfers.backend.poll([handle])[0]).state.final:
            pass
        assert (status.code, bool(status.reason)) == ("FILE_NOT_FOUND", True)


@pytest.mark.parametrize(("recursive", "goal"), [(False, "/d/f"), (True, "/d"), (True, "/d/inner")])
def test_nothing_is_moved_onto_or_into_itself(world, recursive, goal):
    """A transfer of a file onto itself, or of a folder into itself, is refused and changes nothing."""
    world.put("laptop", "/d/f", b"whole")
    status = world.move("/d" if recursive else "/d/f", goal, dst_ep="laptop", recursive=recursive)
    assert status.code in {"SAME_FILE", "INVALID_PATH_NAME"}
    assert world.files("laptop") == {"/d/f"}
    assert world.get("laptop", "/d/f") == b"whole"


def test_relative_paths_count_from_the_root_without_a_home(world):
    """Relative paths and paths under ~ count from the root if the endpoint has no home."""
    world.put("laptop", "/a/f", b"1")
    assert world.move("a/f", "~/g").state is TaskState.SUCCEEDED
    assert world.get("scratch", "/g") == b"1"


def test_names_are_taken_by_their_letters(world):
    """Names with patterns, blanks, percent signs, leading dashes and other alphabets are used literally."""
    names = ["a[1].txt", "a1.txt", "*", "?", "100%25", " blank ", "-rf", "ñandú", "a\tb", "~", "#x", "c:d"]
    for number, name in enumerate(names):
        world.put("laptop", f"/{name}", str(number).encode())
    for name in names:
        assert world.move(f"/{name}", f"/to/{name}").state is TaskState.SUCCEEDED
    assert world.files("scratch") == {f"/to/{name}" for name in names}
    assert world.remove("/to/a[1].txt").state is TaskState.SUCCEEDED
    assert world.files("scratch") == {f"/to/{name}" for name in names} - {"/to/a[1].txt"}


def test_filters_choose_files_and_the_first_match_decides(world):
    """Include and exclude select files by name, in every folder; folders are not filtered."""
    for name in ("/d/a.nc", "/d/b.txt", "/d/sub/c.nc", "/d/sub/d.log"):
        world.put("laptop", name)
    status = world.move("/d", "/only", recursive=True, include=["*.nc"], exclude=["*"])
    assert world.files("scratch") == {"/only/a.nc", "/only/sub/c.nc"}
    assert (status.files_done, status.files_skipped) == (2, 2)
    world.move("/d", "/but", recursive=True, exclude="*.log")
    assert {name for name in world.files("scratch") if name.startswith("/but")} == {
        "/but/a.nc",
        "/but/b.txt",
        "/but/sub/c.nc",
    }


@pytest.mark.parametrize(
    ("level", "old", "left"),
    [
        ("exists", b"x", True),
        ("size", b"xxxx", True),
        ("size", b"xxx", False),
        ("checksum", b"data", True),
        ("checksum", b"atad", False),
    ],
)
def test_a_sync_level_leaves_a_good_destination_alone(world, level, old, left):
    """Each sync level skips the files that it considers equal, and copies the rest."""
    world.put("laptop", "/f", b"data")
    world.put("scratch", "/f", old)
    status = world.move("/f", "/f", sync_level=level)
    assert status.state is TaskState.SUCCEEDED
    assert (status.files_skipped, status.files_done) == ((1, 0) if left else (0, 1))
    assert world.get("scratch", "/f") == (old if left else b"data")


def test_the_same_submission_makes_one_task(world):
    """A second submission with the same id returns the same task and moves nothing twice."""
    world.put("laptop", "/f", b"first")
    backend = world.transfers.backend
    request = transfer_request(src_ep="laptop", dst_ep="scratch", src_path="/f", dst_path="/f")
    status = world.transfers.run(request, timeout=60, polling_interval=1, submission_id="once")
    world.put("laptop", "/f", b"second")
    assert backend.submit(request, "once") == status.handle
    assert backend.poll([status.handle]) == [status]
    assert world.get("scratch", "/f") == b"first"


def test_poll_answers_in_order_and_names_what_is_lost(world):
    """Statuses are in the order of the handles, and an unknown task is LOST."""
    world.put("laptop", "/f")
    known = world.move("/f", "/f")
    unknown = TaskHandle(backend=world.transfers.backend.name, task_id="unknown", submission_id="unknown")
    lost, found = world.transfers.backend.poll([unknown, known.handle])
    assert (lost.handle, lost.state) == (unknown, TaskState.LOST)
    assert found == known


def test_one_bad_item_leaves_the_others(world):
    """If one of several items fails, the rest arrive, and the task fails with the reason."""
    world.put("laptop", "/a", b"a")
    world.put("laptop", "/c", b"c")
    items = tuple(TransferItem(source=f"/{name}", destination=f"/{name}") for name in "abc")
    request = TransferRequest(source="laptop", destination="scratch", items=items)
    status = world.transfers.run(request, timeout=60, polling_interval=1)
    assert (status.state, status.code, status.faults) == (TaskState.FAILED, "FILE_NOT_FOUND", 1)
    assert world.files("scratch") == {"/a", "/c"}


def test_a_deadline_that_has_passed_moves_nothing(world):
    """A task whose deadline has passed ends as EXPIRED and writes nothing."""
    world.put("laptop", "/f")
    past = datetime.now(timezone.utc) - timedelta(seconds=1)
    item = TransferItem(source="/f", destination="/f")
    request = TransferRequest(source="laptop", destination="scratch", items=(item,), deadline=past)
    status = world.transfers.run(request, timeout=60, polling_interval=1)
    assert status.state is TaskState.EXPIRED
    assert world.files("scratch") == set()


def test_an_unknown_endpoint_is_refused_before_anything_moves(world):
    """A submission with an unknown endpoint raises an error that names the nearest one."""
    with pytest.raises(EndpointNotFoundError, match="did you mean 'scratch'") as caught:
        world.move("/f", "/f", dst_ep="scrach")
    assert caught.value.endpoint == "scrach"


def test_a_path_out_of_the_root_is_refused_before_anything_moves(world):
    """A submission with a path that leaves the root by '..' raises an error."""
    with pytest.raises(PermissionDeniedError, match="leads out of the root"):
        world.move("/a/../../secret", "/f")


def test_a_folder_is_listed(world):
    """A listing has names, kinds and sizes."""
    world.put("laptop", "/d/file", b"12345")
    world.put("laptop", "/d/sub/x")
    found = {entry.name: (entry.kind, entry.size) for entry in world.transfers.ls("laptop", "/d")}
    assert found == {"file": ("file", 5), "sub": ("dir", 0)}


def test_modification_times_are_kept_or_refused(world):
    """Modification times are kept on a disk; a store that cannot keep them refuses before anything is moved."""
    world.put("laptop", "/f")
    if world.roots["laptop"].startswith("/") and os.path.isdir(world.roots["laptop"]):
        os.utime(world.path("laptop", "/f"), (1_000_000_000, 1_000_000_000))
        world.move("/f", "/f", preserve_timestamp=True)
        assert os.stat(world.path("scratch", "/f")).st_mtime == 1_000_000_000
    else:
        with pytest.raises(UnsupportedOptionError, match="remove preserve_timestamp"):
            world.move("/f", "/f", preserve_timestamp=True)
        assert world.files("scratch") == set()


ODD_NAMES = (
    "case::01",
    "a%20b",
    "a#b?c",
    "*[ab]{c}",
    "new\nline",
    " blank ",
    "\udcff",
    "-rf",
    "~me",
    "s3:",
    "a\\b",
    "\u00e9\u0301",
    "'\"$(x)`",
)


@pytest.mark.parametrize("name", ODD_NAMES)
def test_a_folder_may_have_any_name(tmp_path, name):
    """An endpoint's root and its contents can have any name that a disk accepts; their neighbors are kept."""
    roots = {"laptop": tmp_path / "laptop", "scratch": tmp_path / name}
    for root in roots.values():
        (root / name).mkdir(parents=True)
        (root / name / name).write_bytes(b"data")
    neighbours = [tmp_path / part for part in {*name.split("::"), name.partition("#")[0], name.strip()} - {name, ""}]
    for neighbour in neighbours:
        neighbour.mkdir(exist_ok=True)
        (neighbour / "precious").write_bytes(b"kept")
    endpoints = {key: {"filesystem": str(root)} for key, root in roots.items()}
    places = settings.check({"data": {"endpoints": endpoints}}, backends=["filesystem"]).data.places("filesystem")
    transfers = Transfers(FilesystemBackend.from_config(places, {}))
    world = World(transfers, None, {})
    assert world.move(f"/{name}/{name}", "/copy").state is TaskState.SUCCEEDED
    assert world.move(f"/{name}", f"/tree/{name}", recursive=True).state is TaskState.SUCCEEDED
    assert {entry.name for entry in transfers.ls("scratch", "/")} == {name, "copy", "tree"}
    assert world.remove(f"/{name}", recursive=True).state is TaskState.SUCCEEDED
    assert world.remove("/precious").code == "FILE_NOT_FOUND"
    assert (roots["scratch"] / "copy").read_bytes() == b"data"
    assert (roots["scratch"] / "tree" / name / name).read_bytes() == b"data"
    assert not (roots["scratch"] / name).exists()
    assert all((neighbour / "precious").exists() for neighbour in neighbours)
