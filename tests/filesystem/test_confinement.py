"""Nothing outside the root of an endpoint is read, written or deleted."""

from __future__ import annotations

import os
import shutil
import threading
from contextlib import suppress

import fsspec
import pytest
from fsspec.implementations.local import LocalFileSystem
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds import World

from chiltepin.backends.filesystem import FilesystemBackend, LocalBackend
from chiltepin.backends.filesystem.errors import Fault
from chiltepin.backends.filesystem.local.store import LocalStore
from chiltepin.errors import ConfigError, PermissionDeniedError
from chiltepin.model import TaskState
from chiltepin.transfers.runner import Transfers


@pytest.fixture
def secret(tmp_path):
    """A folder beside the endpoints, with one file in it."""
    folder = tmp_path / "secret"
    folder.mkdir()
    (folder / "key").write_bytes(b"secret")
    return folder


def untouched(secret) -> bool:
    """Whether the folder is unchanged."""
    return os.listdir(secret) == ["key"] and (secret / "key").read_bytes() == b"secret"


@pytest.mark.parametrize("names", [("data", "Data"), ("caf\u00e9", "CAF\u00c9"), ("data", "data.")])
def test_two_endpoints_do_not_share_a_folder_on_a_disk_without_case(tmp_path, names):
    """If a disk treats the names of two endpoints as one folder, an error names the second endpoint and the first."""
    (tmp_path / names[0]).mkdir()
    backend = LocalBackend.from_config({name: {} for name in names}, {"root": str(tmp_path)})
    assert backend.ls(names[0], "/") == []
    # Such a disk finds one folder under both names.
    (tmp_path / names[1]).symlink_to(names[0])
    with pytest.raises(ConfigError, match=f"{names[1]!r} and {names[0]!r} share the folder"):
        backend.ls(names[1], "/")


@pytest.mark.parametrize("target", ["{secret}", "../secret", "a/../../secret", "./../secret/."])
def test_a_link_that_leads_out_is_not_read(disk, secret, target):
    """Copying or listing a path through a link out of the root fails with an error that says why."""
    disk.put("laptop", "/a/f")
    os.symlink(target.format(secret=secret), disk.path("laptop", "/out"))
    for status in (disk.move("/out/key", "/got"), disk.move("/out", "/got", recursive=True)):
        assert (status.state, status.code) == (TaskState.FAILED, "PERMISSION_DENIED")
        assert "leads out of the root" in status.reason
    with pytest.raises(PermissionDeniedError, match="leads out of the root"):
        disk.transfers.ls("laptop", "/out")
    assert disk.files("scratch") == set()


def test_a_link_that_leads_out_is_not_written_through(disk, secret):
    """A destination below a link out of the root fails; a destination that is such a link is replaced."""
    os.symlink(secret, disk.path("scratch", "/out"))
    os.symlink(secret / "key", disk.path("scratch", "/key"))
    disk.put("laptop", "/f", b"new")
    assert disk.move("/f", "/out/new").code == "PERMISSION_DENIED"
    assert disk.move("/f", "/out/key").code == "PERMISSION_DENIED"
    assert disk.move("/f", "/key").state is TaskState.SUCCEEDED
    assert not os.path.islink(disk.path("scratch", "/key"))
    assert untouched(secret)


def test_a_link_that_leads_out_is_not_deleted_through(disk, secret):
    """Deleting below a link out of the root fails."""
    os.symlink(secret, disk.path("scratch", "/out"))
    assert disk.remove("/out/key").code == "PERMISSION_DENIED"
    assert untouched(secret)


def test_links_that_stay_inside_are_followed_at_the_top_only(disk):
    """A link in a requested path is followed inside the root; links in a tree are skipped."""
    disk.put("laptop", "/real/sub/f", b"here")
    os.symlink("real/sub", disk.path("laptop", "/relative"))
    os.symlink(disk.path("laptop", "/real"), disk.path("laptop", "/absolute"))
    os.symlink("relative", disk.path("laptop", "/chained"))
    os.symlink("f", disk.path("laptop", "/real/sub/inner"))
    assert disk.move("/relative/f", "/1").state is TaskState.SUCCEEDED
    assert disk.move("/absolute/sub/../sub/f", "/2").state is TaskState.SUCCEEDED
    assert disk.move("/chained/inner", "/3").state is TaskState.SUCCEEDED
    assert [disk.get("scratch", f"/{n}") for n in (1, 2, 3)] == [b"here"] * 3
    status = disk.move("/chained", "/tree", recursive=True)
    assert (status.files_done, status.files_skipped) == (1, 1)


def test_a_loop_of_links_ends(disk):
    """Links that point to each other fail with INVALID_SYMLINK."""
    os.symlink("b", disk.path("laptop", "/a"))
    os.symlink("a", disk.path("laptop", "/b"))
    assert disk.move("/a", "/x").code == "INVALID_SYMLINK"


def test_pipes_and_sockets_are_refused_alone_and_skipped_in_a_tree(disk):
    """A pipe does not block a transfer: it fails alone and is skipped in a tree."""
    disk.put("laptop", "/d/f")
    os.mkfifo(disk.path("laptop", "/d/pipe"))
    assert disk.move("/d/pipe", "/x").code == "NOT_A_FILE"
    status = disk.move("/d", "/d", recursive=True)
    assert (status.state, status.files_done, status.files_skipped) == (TaskState.SUCCEEDED, 1, 1)


def test_a_link_swapped_in_between_look_and_use_leads_nowhere(disk, secret):
    """While a folder is repeatedly swapped for a link out of the root, no read, write or deletion leaves the root."""
    for endpoint in ("laptop", "scratch"):
        disk.put(endpoint, "/spare/key", b"inside")
        os.rename(disk.path(endpoint, "/spare"), disk.path(endpoint, "/swap"))
    over = threading.Event()
    swaps: list[str] = []

    def swap(endpoint: str) -> None:
        place, aside = disk.path(endpoint, "/swap"), disk.path(endpoint, "/aside")
        while not over.is_set():
            # Any step can fail, because a transfer can recreate the folder at any moment.
            for step in (
                lambda: os.rename(place, aside),
                lambda: (os.symlink(secret, place), swaps.append(endpoint)),
                lambda: os.remove(place),
                lambda: shutil.rmtree(place),
                lambda: os.rename(aside, place),
            ):
                with suppress(OSError):
                    step()

    swappers = [threading.Thread(target=swap, args=(endpoint,)) for endpoint in ("laptop", "scratch")]
    for swapper in swappers:
        swapper.start()
    try:
        got = set()
        for number in range(150):
            if disk.move("/swap/key", f"/got/{number}").state is TaskState.SUCCEEDED:
                got.add(disk.get("scratch", f"/got/{number}"))
            disk.move("/swap", f"/tree/{number}", recursive=True)
            disk.move("/swap/key", "/swap/written")
            disk.remove("/swap/written", ignore_missing=True)
    finally:
        over.set()
        for swapper in swappers:
            swapper.join(60)
    assert set(swaps) == {"laptop", "scratch"}
    assert got <= {b"inside"}
    for path in disk.files("scratch"):
        assert disk.get("scratch", path) == b"inside"
    assert untouched(secret)


class LinkedFileSystem(LocalFileSystem):
    """A store with links, like an SFTP server: fsspec's local filesystem, which follows them out of any folder."""

    protocol = "linked"

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(path.removeprefix("linked://"))


fsspec.register_implementation("linked", LinkedFileSystem)


def test_a_path_through_a_link_of_another_store_is_refused(tmp_path, secret):
    """If fsspec cannot resolve links, nothing is read, written or deleted through a link."""
    for name in ("laptop", "scratch"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "out").symlink_to(secret)
        (tmp_path / name / "key").symlink_to(secret / "key")
    (tmp_path / "laptop" / "f").write_bytes(b"fine")
    places = {name: {"url": f"linked://{tmp_path / name}"} for name in ("laptop", "scratch")}
    world = World(Transfers(FilesystemBackend.from_config(places, {})), None, {})
    for src_path, dst_path, recursive in (
        ("/out/key", "/x", False),
        ("/key", "/x", False),
        ("/out", "/x", True),
        ("/f", "/out/new", False),
    ):
        status = world.move(src_path, dst_path, recursive=recursive)
        assert (status.state, status.code) == (TaskState.FAILED, "PERMISSION_DENIED")
        assert "is a link" in status.reason
    assert world.remove("/out/key").code == "PERMISSION_DENIED"
    with pytest.raises(PermissionDeniedError, match="is a link"):
        world.transfers.ls("laptop", "/out")
    assert world.move("/", "/tree", recursive=True).files_skipped == 2
    assert world.remove("/out", recursive=True).state is TaskState.SUCCEEDED
    assert sorted(os.listdir(tmp_path / "scratch")) == ["key", "tree"]
    assert untouched(secret)


def test_a_link_within_the_destination_tree_of_another_store_is_refused(tmp_path, secret):
    """A source folder is not copied into a link within the destination tree."""
    (tmp_path / "laptop" / "t" / "sub" / "deep").mkdir(parents=True)
    (tmp_path / "laptop" / "t" / "sub" / "f").write_bytes(b"new")
    (tmp_path / "scratch" / "t").mkdir(parents=True)
    (tmp_path / "scratch" / "t" / "sub").symlink_to(secret)
    places = {name: {"url": f"linked://{tmp_path / name}"} for name in ("laptop", "scratch")}
    world = World(Transfers(FilesystemBackend.from_config(places, {})), None, {})
    status = world.move("/t", "/t", recursive=True)
    assert (status.state, status.code) == (TaskState.FAILED, "PERMISSION_DENIED")
    assert untouched(secret)


NAMES = st.sampled_from(["a", "b", "c", "x", "y", "..", "."])
PATHS = st.lists(NAMES, min_size=1, max_size=6).map("/".join)
UP = st.sampled_from(
    ["a/b/c", "x/..", "x/../b", "x/../../b", "{root}/a/b/c", "y/../x/..", "{root}/x/../c", "b/../x/.."]
)
TARGETS = st.one_of(PATHS, PATHS.map("/".__add__), st.sampled_from(["{root}", "{root}/a", "{root}/../out", "/"]), UP)


@settings(max_examples=300)
@given(links=st.lists(st.tuples(st.sampled_from(["x", "y", "a/x", "a/b/y", "c"]), TARGETS), max_size=5), path=PATHS)
def test_a_resolved_place_is_the_kernels_or_refused(tmp_path, links, path):
    """A path through any links is resolved as the kernel resolves it, or refused if that is outside the root."""
    root = tmp_path / os.urandom(4).hex() / "root"
    for name in ("a/b/c", "b"):
        (root / name).mkdir(parents=True)
    (root.parent / "out").mkdir()
    for name, target in links:
        place = root / name
        if place.parent.is_dir() and place.parent.resolve().is_relative_to(root) and not os.path.lexists(place):
            os.symlink(target.format(root=root), place)
    parts = tuple(name for name in path.split("/") if name not in (".", ".."))
    try:
        real = os.path.realpath(root.joinpath(*parts), strict=True)
    except OSError:
        return  # A missing path or a loop: the kernel cannot resolve it either.
    store = LocalStore(str(root))
    if os.path.commonpath((real, root)) != str(root):
        with pytest.raises(Fault, match="leads out of the root"):
            store.resolve(parts, follow=True)
        return
    # A path that leaves the root is refused even if it comes back.
    with suppress(Fault):
        assert str(root.joinpath(*store.resolve(parts, follow=True))) == real
