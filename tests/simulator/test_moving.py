"""Effects of transfers and deletes on files."""

from __future__ import annotations

import os

import globus_sdk
import pytest
from simulated import refused


def test_a_tree_is_moved_whole(world):
    """A recursive transfer copies and counts all files and folders, including empty and hidden ones."""
    for name in ("a", "b/c", "b/d/e", ".hidden"):
        world.put(f"/tree/{name}", name.encode())
    (world.at("/tree/empty", world.laptop)).mkdir()
    task = world.moved(("/tree/", "/copy/"), item={"recursive": True})
    assert (task["status"], task["files"], task["directories"]) == ("SUCCEEDED", 4, 4)
    assert world.files() == {"/copy/a", "/copy/b/c", "/copy/b/d/e", "/copy/.hidden"}
    assert world.at("/copy/empty").is_dir()
    assert world.at("/copy/b/d/e").read_bytes() == b"b/d/e"


@pytest.mark.parametrize(("source", "expected"), [("/in", "/out"), ("/tree", "/out/f")])
def test_recursive_is_found_out(world, source, expected):
    """Without ``recursive``, the service determines whether the source is a file or a folder."""
    world.put("/in")
    world.put("/tree/f")
    assert world.moved((source, "/out"))["status"] == "SUCCEEDED"
    assert world.files() == {expected}


@pytest.mark.parametrize(
    ("source", "recursive", "code"), [("/in", True, "NOT_A_DIRECTORY"), ("/tree", False, "IS_A_DIRECTORY")]
)
def test_the_wrong_recursive_fails(world, source, recursive, code):
    """``recursive`` set for a file, or unset for a folder, fails the task at once."""
    world.put("/in")
    world.put("/tree/f")
    task = world.moved((source, "/out"), item={"recursive": recursive})
    assert (task["status"], task["fatal_error"]["code"]) == ("FAILED", code)
    assert world.files() == set()


def test_a_file_needs_its_whole_path(world):
    """A file cannot be transferred to a folder: a trailing slash is refused, and an existing folder fails the task."""
    world.put("/in")
    world.at("/dir").mkdir()
    error = refused(world.transfer, ("/in", "/dir/"), item={"recursive": False})
    assert (error.http_status, error.code) == (400, "ClientError.BadRequest")
    assert "recursive option" in error.message
    for destination in ("/dir", "/dir/", "/"):
        assert world.moved(("/in", destination))["fatal_error"]["code"] == "IS_A_DIRECTORY"


@pytest.mark.parametrize(
    ("level", "copied"),
    [
        (None, {"same", "older", "smaller", "other"}),
        ("exists", set()),
        ("size", {"smaller"}),
        ("mtime", {"older", "smaller"}),
        ("checksum", {"smaller", "other"}),
    ],
)
def test_sync_levels(world, level, copied):
    """Each sync level skips unchanged files and copies new ones."""
    for name, source, destination, age in (
        ("same", b"same", b"same", 0),
        ("older", b"same", b"same", 100),
        ("smaller", b"long", b"lo", -100),
        ("other", b"here", b"ther", -100),
    ):
        modified = world.put(f"/t/{name}", source).stat().st_mtime
        there = world.put(f"/t/{name}", destination, world.scratch)
        os.utime(there, (modified - age, modified - age))
    world.put("/t/new")
    options = {} if level is None else {"sync_level": level}
    task = world.moved(("/t", "/t"), **options)
    assert (task["files_transferred"], task["files_skipped"]) == (len(copied) + 1, 4 - len(copied))
    paths = {one["source_path"] for one in world.client.task_successful_transfers(task["task_id"])}
    assert paths == {f"/t/{name}" for name in copied | {"new"}}


def test_filter_rules(world):
    """The first matching rule decides, for files and folders; without a match, the entry is included."""
    for name in ("a.nc", "a.tmp", "keep.tmp", "logs/x.nc", "data/b.nc", "data/logs"):
        world.put(f"/tree/{name}")
    data = world.transfer_data(("/tree", "/tree"))
    data.add_filter_rule("keep.*", method="include", type="file")
    data.add_filter_rule("*.tmp", method="exclude", type="file")
    data.add_filter_rule("logs", method="exclude", type="dir")
    task = world.ended(world.client.submit_transfer(data)["task_id"])
    assert world.files() == {"/tree/a.nc", "/tree/keep.tmp", "/tree/data/b.nc", "/tree/data/logs"}
    assert task["filter_rules"][0]["name"] == "keep.*"


def test_external_checksums(world):
    """A file with the right external checksum is transferred; a wrong checksum fails the task and writes no file."""
    world.put("/in", b"hello")
    good = {"external_checksum": "5d41402abc4b2a76b9719d911017c592"}
    assert world.moved(("/in", "/md5"), item=good)["status"] == "SUCCEEDED"
    sha = {"external_checksum": "AAF4C61DDCC5E8A2DABEDE0F3B482CD9AEA9434D", "checksum_algorithm": "SHA1"}
    assert world.moved(("/in", "/sha1"), item=sha)["status"] == "SUCCEEDED"
    task = world.moved(("/in", "/bad"), item={"external_checksum": "0" * 32})
    assert (task["status"], task["fatal_error"]["code"]) == ("FAILED", "EXTERNAL_CHECKSUM_MISMATCH")
    assert world.files() == {"/md5", "/sha1"}


def test_timestamps_are_kept_if_wanted(world):
    """With preserve_timestamp, the destination has the source's time; otherwise, the time of the transfer."""
    os.utime(world.put("/in"), (1_000_000, 1_000_000))
    world.moved(("/in", "/kept"), preserve_timestamp=True)
    world.moved(("/in", "/new"))
    assert world.at("/kept").stat().st_mtime == 1_000_000
    assert world.at("/new").stat().st_mtime != 1_000_000


def test_verification_is_counted(world):
    """With verify_checksum, the destination is read back and its bytes are counted."""
    world.put("/in", b"12345")
    assert world.moved(("/in", "/a"), verify_checksum=True)["bytes_checksummed"] == 5
    assert world.moved(("/in", "/b"))["bytes_checksummed"] == 0


def test_extra_files_are_deleted_if_wanted(world):
    """delete_destination_extra removes files that the source lacks, only below the destination."""
    world.put("/tree/a/f")
    for name in ("/tree/a/old", "/tree/gone/x", "/beside"):
        world.put(name, collection=world.scratch)
    assert world.moved(("/tree", "/tree"), delete_destination_extra=True)["status"] == "SUCCEEDED"
    assert world.files() == {"/tree/a/f", "/beside"}


def test_extra_files_stay_if_the_source_was_not_read_whole(world):
    """After skipped source errors, no extra file is deleted, and an event reports this."""
    world.put("/tree/secret")
    world.put("/tree/old", collection=world.scratch)
    world.laptop.denied.add("/tree/secret")
    task = world.moved(("/tree", "/tree"), delete_destination_extra=True, skip_source_errors=True)
    assert task["status"] == "SUCCEEDED"
    assert world.files() == {"/tree/old"}
    assert "DELETE_DESTINATION_EXTRA_SKIPPED" in world.codes(task["task_id"])


def test_links_are_followed_at_the_top_only(world):
    """A link given as a source is followed; a link inside a folder is neither followed nor copied."""
    world.put("/real/f", b"real")
    root = world.laptop.folder
    os.symlink("real/f", f"{root}/link")
    os.symlink("real", f"{root}/folder")
    os.symlink("f", f"{root}/real/inner")
    assert world.moved(("/link", "/file"))["status"] == "SUCCEEDED"
    task = world.moved(("/folder", "/tree"))
    assert (task["status"], task["symlinks"]) == ("SUCCEEDED", 1)
    assert world.files() == {"/file", "/tree/f"}
    assert not world.at("/file").is_symlink()


def test_a_link_at_the_destination_is_replaced(world, tmp_path):
    """A link at the destination is replaced by a file; the link's target is unchanged."""
    (tmp_path / "outside").write_bytes(b"mine")
    world.put("/in", b"new")
    os.symlink(tmp_path / "outside", world.at("/out"))
    assert world.moved(("/in", "/out"))["status"] == "SUCCEEDED"
    assert not world.at("/out").is_symlink()
    assert (tmp_path / "outside").read_bytes() == b"mine"


@pytest.mark.parametrize("way", ["/../outside", "/out/secret", "/~/../../outside", "/a/../../outside"])
def test_nothing_outside_is_read(world, tmp_path, way):
    """Neither ``..`` nor a link lets a task or a listing read outside a collection."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_bytes(b"secret")
    os.symlink(tmp_path / "outside", f"{world.laptop.folder}/out")
    task = world.moved((way, "/stolen"))
    assert (task["status"], task["nice_status"]) == ("ACTIVE", "PERMISSION_DENIED")
    assert world.files() == set()
    for call in (world.client.operation_ls, world.client.operation_stat):
        assert refused(call, world.laptop.id, way).code == "EndpointPermissionDenied"


@pytest.mark.parametrize("way", ["/../outside/f", "/out/f"])
def test_nothing_outside_is_written_or_removed(world, tmp_path, way):
    """Neither ``..`` nor a link lets a transfer, a delete, mkdir or rename change files outside a collection."""
    (tmp_path / "outside").mkdir()
    victim = tmp_path / "outside" / "f"
    victim.write_bytes(b"mine")
    os.symlink(tmp_path / "outside", world.at("/out"))
    world.put("/in", b"theirs")
    world.put("/here", collection=world.scratch)
    assert world.moved(("/in", way))["status"] == "ACTIVE"
    assert world.removed(way)["status"] == "ACTIVE"
    refused(world.client.operation_mkdir, world.scratch.id, f"{way}2")
    refused(world.client.operation_rename, world.scratch.id, "/here", f"{way}2")
    refused(world.client.operation_rename, world.scratch.id, way, "/stolen")
    assert os.listdir(tmp_path / "outside") == ["f"]
    assert victim.read_bytes() == b"mine"


def test_a_tree_is_not_copied_into_itself(globus, world):
    """A transfer into a folder inside its source fails instead of recursing forever."""
    world.put("/tree/f")
    data = globus_sdk.TransferData(world.laptop.id, world.laptop.id)
    data.add_item("/tree", "/tree/copy")
    task = world.ended(world.client.submit_transfer(data)["task_id"])
    assert (task["status"], task["fatal_error"]["code"]) == ("FAILED", "INVALID_PATH_NAME")


def test_a_file_that_changes_is_moved_again(world):
    """A source that changes while it is read causes a fault; the retry copies the new content."""
    world.globus.settings.bandwidth = 1 << 20
    source = world.put("/in", b"a" * (2 << 20))
    task_id = world.transfer(("/in", "/out"))
    world.clock.advance(1)
    source.write_bytes(b"b" * (2 << 20))
    assert world.ended(task_id)["faults"] == 1
    assert world.task(task_id)["status"] == "SUCCEEDED"
    assert world.at("/out").read_bytes() == b"b" * (2 << 20)


def test_home_is_the_default_directory(world):
    """``~`` and relative paths start at the default directory."""
    world.laptop.default_directory = "/users/me"
    world.put("/users/me/in", b"mine")
    assert world.moved(("/~/in", "/a"), ("~/in", "/b"), ("in", "/c"))["files_transferred"] == 3
    assert [file["name"] for file in world.client.operation_ls(world.laptop.id)] == ["in"]


def test_delete_needs_recursive_for_a_folder(world):
    """A folder is deleted only with ``recursive``; a file needs no option."""
    for name in ("/f", "/tree/a/b"):
        world.put(name, collection=world.scratch)
    task = world.removed("/tree")
    assert (task["status"], task["fatal_error"]["code"]) == ("FAILED", "IS_A_DIRECTORY")
    assert world.removed("/f")["status"] == "SUCCEEDED"
    task = world.removed("/tree/", recursive=True)
    assert (task["status"], task["type"], task["files"], task["directories"]) == ("SUCCEEDED", "DELETE", 1, 2)
    assert os.listdir(world.scratch.folder) == []


def test_deleting_what_is_missing_fails(world):
    """A missing path fails a delete at once, unless ignore_missing is given."""
    task = world.removed("/nothing")
    assert (task["status"], task["fatal_error"]["code"]) == ("FAILED", "FILE_NOT_FOUND")
    assert world.removed("/nothing", "/no/thing", ignore_missing=True)["status"] == "SUCCEEDED"


def test_globs_are_interpreted_if_wanted(world):
    """With interpret_globs, the last name of a path is a pattern; otherwise, it is a literal name."""
    for name in ("a.nc", "b.nc", "*.nc", "c.txt"):
        world.put(f"/{name}", collection=world.scratch)
    assert world.removed("/*.nc")["status"] == "SUCCEEDED"
    assert world.files() == {"/a.nc", "/b.nc", "/c.txt"}
    assert world.removed("/*.nc", interpret_globs=True)["status"] == "SUCCEEDED"
    assert world.files() == {"/c.txt"}


def test_a_deleted_link_goes_alone(world):
    """Deleting a link, or a folder that contains links, keeps the links' targets."""
    world.put("/real/f", collection=world.scratch)
    os.symlink("real", world.at("/link"))
    world.at("/tree").mkdir()
    os.symlink("../real", world.at("/tree/link"))
    assert world.removed("/link", "/tree", recursive=True)["status"] == "SUCCEEDED"
    assert world.files() == {"/real/f"}


@pytest.mark.parametrize("path", ["/", "/~/", "/a/..", "~"])
def test_the_root_is_never_deleted(world, path):
    """Deleting the root of a collection is refused, in any spelling."""
    world.put("/f", collection=world.scratch)
    task = world.removed(path, recursive=True)
    assert (task["status"], task["fatal_error"]["code"]) == ("FAILED", "PERMISSION_DENIED")
    assert world.files() == {"/f"}
