"""Deletions on every kind of endpoint."""

from __future__ import annotations

import os

import pytest

from chiltepin.backends.filesystem import FilesystemBackend
from chiltepin.backends.filesystem.temp_names import temporary
from chiltepin.errors import PermissionDeniedError
from chiltepin.model import TaskState
from chiltepin.transfers.arguments import delete_request
from chiltepin.transfers.runner import Transfers


def test_a_file_goes_and_its_neighbours_stay(world):
    """Deleting a file deletes nothing else."""
    world.put("scratch", "/d/a")
    world.put("scratch", "/d/b")
    status = world.remove("/d/a")
    assert (status.state, status.files_done) == (TaskState.SUCCEEDED, 1)
    assert world.files("scratch") == {"/d/b"}


def test_a_tree_goes_with_all_that_is_in_it(world):
    """A folder is deleted with its contents, including temporary files of dead runs."""
    for name in ("/d/a", "/d/sub/b", "/d/sub/deep/c", f"/d/{temporary('0123456789abcdef')}", "/kept"):
        world.put("scratch", name)
    assert world.remove("/d/", recursive=True).state is TaskState.SUCCEEDED
    assert world.files("scratch") == {"/kept"}
    assert not world.exists("scratch", "/d")


def test_a_folder_needs_recursive(world):
    """Deleting a folder without ``recursive`` fails and keeps its contents."""
    world.put("scratch", "/d/a")
    status = world.remove("/d")
    assert (status.state, status.code) == (TaskState.FAILED, "IS_A_DIRECTORY")
    assert "recursive=True" in status.reason
    assert world.files("scratch") == {"/d/a"}


def test_what_is_missing_fails_unless_it_may_be(world):
    """Deleting a missing path fails, or succeeds with ``ignore_missing``."""
    status = world.remove("/missing")
    assert (status.state, status.code) == (TaskState.FAILED, "FILE_NOT_FOUND")
    assert world.remove("/missing", ignore_missing=True).state is TaskState.SUCCEEDED


@pytest.mark.parametrize("root", ["/", "//", ".", "~", "/a/..", "/./"])
def test_a_root_is_never_deleted(world, root):
    """Deleting the root of an endpoint, however it is spelled, is refused before anything is deleted."""
    world.put("scratch", "/kept")
    with pytest.raises(PermissionDeniedError, match="is never deleted"):
        world.remove(root, recursive=True)
    assert world.files("scratch") == {"/kept"}


def test_a_folder_that_holds_another_root_is_not_deleted(tmp_path):
    """Deleting a folder that is or contains the root of another endpoint fails."""
    inner = tmp_path / "outer" / "a" / "inner"
    inner.mkdir(parents=True)
    endpoints = {"outer": {"url": str(tmp_path / "outer")}, "inner": {"url": str(inner)}}
    world = Transfers(FilesystemBackend.from_config(endpoints, {}))
    for path in ("/a", "/a/inner"):
        request = delete_request(src_ep="outer", src_path=path, recursive=True)
        status = world.run(request, timeout=60, polling_interval=1)
        assert (status.state, status.code) == (TaskState.FAILED, "PERMISSION_DENIED")
    assert inner.is_dir()


def test_a_link_goes_and_what_it_points_to_stays(disk, tmp_path):
    """Deleting a link, alone or in a tree, removes only the link."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_bytes(b"x")
    disk.put("scratch", "/d/f")
    os.symlink(outside, disk.path("scratch", "/d/out"))
    os.symlink(outside, disk.path("scratch", "/alone"))
    assert disk.remove("/alone/").state is TaskState.SUCCEEDED
    assert disk.remove("/d", recursive=True).state is TaskState.SUCCEEDED
    assert disk.files("scratch") == set()
    assert (outside / "precious").read_bytes() == b"x"
