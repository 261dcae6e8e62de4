"""What ``delete_destination_extra`` keeps, on disks and in unusual stores."""

from __future__ import annotations

import errno
import os
import threading
from collections import Counter
from typing import ClassVar

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import given, settings
from hypothesis import strategies as st

from chiltepin.backends.filesystem import FilesystemBackend
from chiltepin.backends.filesystem.mover.listing import BATCH_FILES
from chiltepin.backends.filesystem.mover.thread_count import AdaptivePool
from chiltepin.backends.filesystem.temp_names import temporary
from chiltepin.model import TaskState
from chiltepin.transfers.arguments import transfer_request
from chiltepin.transfers.runner import Transfers


def mirror(urls, src_path="/d", dst_path="/e", **options):
    """Transfer a folder from laptop to scratch and, by default, delete extra files there."""
    request = transfer_request(
        src_ep="laptop",
        dst_ep="scratch",
        src_path=src_path,
        dst_path=dst_path,
        recursive=True,
        **{"delete_destination_extra": True, **options},
    )
    backend = FilesystemBackend.from_config({name: {"url": url} for name, url in urls.items()}, {})
    return Transfers(backend).run(request, timeout=60, polling_interval=1)


class ClosedMemory(MemoryFileSystem):
    """A filesystem in memory with one folder that cannot be listed."""

    protocol = "closed"
    store: ClassVar[dict] = {}
    pseudo_dirs: ClassVar[list] = [""]

    @classmethod
    def _strip_protocol(cls, path):
        return MemoryFileSystem._strip_protocol(path.removeprefix("closed://"))

    def ls(self, path, *arguments, **options):
        """List any folder but that one."""
        if path.rstrip("/") == "/laptop/d/sub":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return super().ls(path, *arguments, **options)


fsspec.register_implementation("closed", ClosedMemory, clobber=True)


def test_extras_are_found_by_names_alone(tmp_path):
    """Finding extra files queries no sizes or times, and lets the pool adjust its threads after each batch of names."""
    count, looks = 10 * BATCH_FILES, {"stat", "lstat", "fstat"}
    for end in ("laptop/d", "scratch/e"):
        (tmp_path / end).mkdir(parents=True)
        (tmp_path / end / "0").touch()
        for number in range(1, count):
            os.link(tmp_path / end / "0", tmp_path / end / f"{number}")
    seen = {}
    for extra in (False, True):
        calls = seen[extra] = Counter()

        def note(frame, event, called, calls=calls):
            if event == "c_call" and called.__name__ in looks:
                calls["stat"] += 1
            elif event == "call" and frame.f_code is AdaptivePool.free.__code__:
                calls["free"] += 1

        threading.setprofile(note)
        try:
            status = mirror(
                {name: str(tmp_path / name) for name in ("laptop", "scratch")},
                sync_level="mtime",
                delete_destination_extra=extra,
            )
        finally:
            threading.setprofile(None)
        assert (status.state, status.files_skipped) == (TaskState.SUCCEEDED, count)
    assert seen[False]["stat"] >= 2 * count
    assert seen[True]["stat"] - seen[False]["stat"] < BATCH_FILES
    # Once for each batch of names, on both sides.
    assert seen[True]["free"] - seen[False]["free"] >= 2 * count / BATCH_FILES


@pytest.mark.parametrize("top", ["/d", "/d/sub"])
def test_a_source_that_cannot_be_listed_whole_removes_nothing(tmp_path, top):
    """If a source folder cannot be listed, no extra file is deleted, not even in other folders."""
    for name in ("extra", "sub/f", "sub/extra"):
        (tmp_path / "e" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "e" / name).write_text("old")
    fsspec.filesystem("closed").pipe({"/laptop/d/f": b"new", "/laptop/d/sub/f": b"new"})
    status = mirror({"laptop": "closed://laptop", "scratch": str(tmp_path)}, src_path=top)
    assert (status.state, status.code) == (TaskState.FAILED, "PERMISSION_DENIED")
    assert {str(file.relative_to(tmp_path)) for file in tmp_path.rglob("extra")} == {"e/extra", "e/sub/extra"}


def test_the_root_of_another_endpoint_stays(tmp_path):
    """An extra folder that contains the root of an endpoint is kept and reported; other extra files are deleted."""
    for name in ("laptop/d", "scratch/e/deep/archive"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("laptop/d/f", "scratch/e/extra", "scratch/e/deep/archive/kept"):
        (tmp_path / name).write_text("x")
    urls = {"laptop": "laptop", "scratch": "scratch", "archive": "scratch/e/deep/archive"}
    status = mirror({name: str(tmp_path / folder) for name, folder in urls.items()})
    assert (status.state, status.code) == (TaskState.FAILED, "PERMISSION_DENIED")
    assert "an endpoint's root" in status.reason
    assert (tmp_path / "scratch/e/deep/archive/kept").read_text() == "x"
    assert not (tmp_path / "scratch/e/extra").exists()


def test_a_file_that_is_being_written_stays(tmp_path):
    """A file that another task is writing at the destination is not deleted, nor is its folder."""
    for name in ("laptop/d", "scratch/e/new"):
        (tmp_path / name).mkdir(parents=True)
    temp_file = tmp_path / "scratch/e/new" / temporary("0123456789abcdef")
    temp_file.write_text("half")
    status = mirror({name: str(tmp_path / name) for name in ("laptop", "scratch")})
    assert status.state is TaskState.SUCCEEDED
    assert temp_file.read_text() == "half"


class CarelessMemory(MemoryFileSystem):
    """A case-insensitive filesystem in memory that lists names in lower case."""

    protocol = "careless"
    store: ClassVar[dict] = {}
    pseudo_dirs: ClassVar[list] = [""]

    @classmethod
    def _strip_protocol(cls, path):
        return MemoryFileSystem._strip_protocol(path.removeprefix("careless://")).lower()


fsspec.register_implementation("careless", CarelessMemory, clobber=True)


def test_a_disk_without_capital_letters_keeps_what_was_moved(tmp_path):
    """A copied file that the destination lists in another case is not deleted as an extra file."""
    (tmp_path / "d" / "Sub").mkdir(parents=True)
    for name in ("README", "Sub/Data.nc"):
        (tmp_path / "d" / name).write_text("new")
    scratch = fsspec.filesystem("careless")
    scratch.pipe_file("/scratch/e/extra", b"old")
    assert mirror({"laptop": str(tmp_path), "scratch": "careless://scratch"}).state is TaskState.SUCCEEDED
    assert set(scratch.find("/scratch")) == {"/scratch/e/readme", "/scratch/e/sub/data.nc"}


TREES = st.recursive(
    st.binary(max_size=3),
    lambda inner: st.dictionaries(st.sampled_from(["a", "b", "c"]), inner, max_size=3),
    max_leaves=8,
).filter(lambda tree: isinstance(tree, dict))


def planted(folder, tree):
    """Make a tree of files and folders."""
    folder.mkdir(parents=True)
    for name, inner in tree.items():
        if isinstance(inner, dict):
            planted(folder / name, inner)
        else:
            (folder / name).write_bytes(inner)


def grown(folder):
    """Read a tree of files and folders."""
    return {file.name: grown(file) if file.is_dir() else file.read_bytes() for file in folder.iterdir()}


@settings(max_examples=60)
@given(source=TREES, before=TREES, level=st.sampled_from([None, "size", "checksum"]))
def test_a_mirror_makes_the_destination_equal(tmp_path, source, before, level):
    """A mirror makes the destination equal to the source, whatever files and folders were there before."""
    top = tmp_path / os.urandom(4).hex()
    planted(top / "laptop/d", source)
    planted(top / "scratch/e", before)
    urls = {name: str(top / name) for name in ("laptop", "scratch")}
    assert mirror(urls, sync_level=level).state is TaskState.SUCCEEDED
    if level == "size":
        assert shape(grown(top / "scratch/e")) == shape(source)
    else:
        assert grown(top / "scratch/e") == source
    assert grown(top / "laptop/d") == source


def shape(tree):
    """The names and sizes of a tree, which a sync by size makes equal."""
    return {name: shape(inner) if isinstance(inner, dict) else len(inner) for name, inner in tree.items()}


@pytest.mark.parametrize("kind", ["unreadable", "root", "filtered", "link", "without"])
def test_what_stays_in_the_way_of_a_mirror(tmp_path, kind):
    """A mirror keeps a folder in place of a dangling link, or if it is a root or a filter excludes part of it."""
    (tmp_path / "laptop/d").mkdir(parents=True)
    (tmp_path / "scratch/e/x").mkdir(parents=True)
    (tmp_path / "scratch/e/x/kept").write_text("kept")
    urls = {name: str(tmp_path / name) for name in ("laptop", "scratch")}
    options = {}
    if kind == "unreadable":
        # A dangling link, because root could read a file without permissions.
        (tmp_path / "laptop/d/x").symlink_to("nowhere")
    else:
        (tmp_path / "laptop/d/x").write_text("new")
    if kind == "root":
        urls["archive"] = str(tmp_path / "scratch/e/x")
    if kind == "filtered":
        options["exclude"] = ["kept"]
    if kind == "link":
        (tmp_path / "scratch/e/x").rename(tmp_path / "elsewhere")
        (tmp_path / "scratch/e/x").symlink_to("../../elsewhere")
    status = mirror(urls, **options, delete_destination_extra=kind != "without")
    kept = tmp_path / ("elsewhere/kept" if kind == "link" else "scratch/e/x/kept")
    assert kept.read_text() == "kept"
    assert (status.state is TaskState.SUCCEEDED) == (kind in ("unreadable", "link"))
