"""What delete_destination_extra keeps, on disks and in stores that are not like others."""

from __future__ import annotations

import errno
import os
from typing import ClassVar

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from chiltepin.arguments import transfer_request
from chiltepin.backends.filesystem import FilesystemBackend
from chiltepin.backends.filesystem.names import temporary
from chiltepin.model import TaskState
from chiltepin.transfers import Transfers


def mirror(urls, src_path="/d", dst_path="/e", **options):
    """Move a folder from laptop to scratch, and remove what is too much there."""
    request = transfer_request(
        src_ep="laptop",
        dst_ep="scratch",
        src_path=src_path,
        dst_path=dst_path,
        recursive=True,
        delete_destination_extra=True,
        **options,
    )
    backend = FilesystemBackend.from_config({name: {"url": url} for name, url in urls.items()}, {})
    return Transfers(backend).run(request, timeout=30, polling_interval=1)


class ClosedMemory(MemoryFileSystem):
    """Memory in which one folder cannot be listed."""

    protocol = "closed"
    store: ClassVar[dict] = {}
    pseudo_dirs: ClassVar[list] = [""]

    @classmethod
    def _strip_protocol(cls, path):
        return MemoryFileSystem._strip_protocol(path.removeprefix("closed://"))

    def ls(self, path, *arguments, **options):
        """List any other folder."""
        if path.rstrip("/") == "/laptop/d/sub":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return super().ls(path, *arguments, **options)


fsspec.register_implementation("closed", ClosedMemory, clobber=True)


@pytest.mark.parametrize("top", ["/d", "/d/sub"])
def test_a_source_that_cannot_be_listed_whole_removes_nothing(tmp_path, top):
    """Where a folder of the source cannot be listed, nothing counts as too much, not even in other folders."""
    for name in ("extra", "sub/f", "sub/extra"):
        (tmp_path / "e" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "e" / name).write_text("old")
    fsspec.filesystem("closed").pipe({"/laptop/d/f": b"new", "/laptop/d/sub/f": b"new"})
    status = mirror({"laptop": "closed://laptop", "scratch": str(tmp_path)}, src_path=top)
    assert (status.state, status.code) == (TaskState.FAILED, "PERMISSION_DENIED")
    assert {str(file.relative_to(tmp_path)) for file in tmp_path.rglob("extra")} == {"e/extra", "e/sub/extra"}


def test_the_root_of_another_endpoint_stays(tmp_path):
    """A folder that is, or holds, the root of an endpoint is never too much; the task says so, the rest is done."""
    for name in ("laptop/d", "scratch/e/deep/archive"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("laptop/d/f", "scratch/e/extra", "scratch/e/deep/archive/kept"):
        (tmp_path / name).write_text("x")
    urls = {"laptop": "laptop", "scratch": "scratch", "archive": "scratch/e/deep/archive"}
    status = mirror({name: str(tmp_path / folder) for name, folder in urls.items()})
    assert (status.state, status.code) == (TaskState.FAILED, "PERMISSION_DENIED")
    assert "root of an endpoint" in status.reason
    assert (tmp_path / "scratch/e/deep/archive/kept").read_text() == "x"
    assert not (tmp_path / "scratch/e/extra").exists()


def test_a_file_that_is_being_written_stays(tmp_path):
    """What another task is just writing at the destination is not removed, nor is the folder that it is in."""
    for name in ("laptop/d", "scratch/e/new"):
        (tmp_path / name).mkdir(parents=True)
    draft = tmp_path / "scratch/e/new" / temporary("0123456789abcdef")
    draft.write_text("half")
    status = mirror({name: str(tmp_path / name) for name in ("laptop", "scratch")})
    assert status.state is TaskState.SUCCEEDED
    assert draft.read_text() == "half"


class CarelessMemory(MemoryFileSystem):
    """A disk that does not tell small letters from capital ones, and lists the small ones."""

    protocol = "careless"
    store: ClassVar[dict] = {}
    pseudo_dirs: ClassVar[list] = [""]

    @classmethod
    def _strip_protocol(cls, path):
        return MemoryFileSystem._strip_protocol(path.removeprefix("careless://")).lower()


fsspec.register_implementation("careless", CarelessMemory, clobber=True)


def test_a_disk_without_capital_letters_keeps_what_was_moved(tmp_path):
    """A file that is listed under another spelling than the one it was moved under is not too much."""
    (tmp_path / "d" / "Sub").mkdir(parents=True)
    for name in ("README", "Sub/Data.nc"):
        (tmp_path / "d" / name).write_text("new")
    scratch = fsspec.filesystem("careless")
    scratch.pipe_file("/scratch/e/extra", b"old")
    assert mirror({"laptop": str(tmp_path), "scratch": "careless://scratch"}).state is TaskState.SUCCEEDED
    assert set(scratch.find("/scratch")) == {"/scratch/e/readme", "/scratch/e/sub/data.nc"}
