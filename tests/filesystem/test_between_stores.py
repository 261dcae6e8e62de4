"""Copies between different kinds of stores."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid

import fsspec
import pytest

from chiltepin.backends.filesystem import FilesystemBackend, LocalBackend
from chiltepin.errors import ConfigError, UnsupportedOptionError
from chiltepin.model import TaskState
from chiltepin.transfers.arguments import transfer_request
from chiltepin.transfers.runner import Transfers

# A store that keeps only the length of a file and returns zeros for its content. It needs no memory, so that the test
# measures the memory of the copy.
LARGE = """
import io, resource, sys
import fsspec
from fsspec.spec import AbstractFileSystem
from chiltepin.transfers.arguments import transfer_request
from chiltepin.backends.filesystem import FilesystemBackend
from chiltepin.transfers.runner import Transfers

class Zeros(io.RawIOBase):
    def __init__(self, files, path, mode):
        self.files, self.path, self.mode, self.at = files, path, mode, 0
        if "w" in mode:
            files[path] = 0
    def read(self, size=-1):
        left = self.files[self.path] - self.at
        size = left if size < 0 else min(size, left)
        self.at += size
        return bytes(size)
    def write(self, data):
        assert not any(data[:: 1 << 12])
        self.files[self.path] += len(data)
        return len(data)

class ZeroFileSystem(AbstractFileSystem):
    protocol = "zero"
    files = {}
    def _open(self, path, mode="rb", **options):
        return Zeros(self.files, path, mode)
    def info(self, path, **options):
        if path in self.files:
            return {"name": path, "size": self.files[path], "type": "file"}
        if "." in path.rsplit("/", 1)[-1]:
            raise FileNotFoundError(path)
        return {"name": path, "size": 0, "type": "directory"}
    def ls(self, path, detail=True, **options):
        return [self.info(name) for name in self.files]
    def makedirs(self, path, exist_ok=False):
        pass
    def mv(self, source, target, **options):
        self.files[target] = self.files.pop(source)

fsspec.register_implementation("zero", ZeroFileSystem)
endpoints = {"laptop": {"url": sys.argv[1]}, "scratch": {"url": "zero://bucket"}}
transfers = Transfers(FilesystemBackend.from_config(endpoints, {}))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for ends in (("laptop", "scratch"), ("scratch", "laptop")):
    request = transfer_request(src_ep=ends[0], dst_ep=ends[1], src_path="/f.dat", dst_path="/f.dat")
    status = transfers.run(request, timeout=100, polling_interval=1)
    assert status.state.name == "SUCCEEDED", status
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.fixture
def both(tmp_path):
    """Endpoints for a folder on the disk and a folder in memory."""
    memory = f"/{uuid.uuid4().hex}"
    fsspec.filesystem("memory").makedirs(memory)
    endpoints = {"disk": {"url": str(tmp_path)}, "memory": {"url": f"memory:/{memory}"}}
    yield Transfers(FilesystemBackend.from_config(endpoints, {})), memory
    fsspec.filesystem("memory").rm(memory, recursive=True)


def run(transfers, **options):
    """Transfer and wait."""
    return transfers.run(transfer_request(**options), timeout=60, polling_interval=1)


def test_a_tree_goes_from_the_disk_to_another_store_and_back(both, tmp_path):
    """Names and bytes of a tree are the same after a round trip through another kind of store."""
    transfers, memory = both
    tree = {"a": b"1", "d/b": os.urandom(3 << 20), "d/e/c": b""}
    for name, content in tree.items():
        (tmp_path / "from" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "from" / name).write_bytes(content)
    there = run(transfers, src_ep="disk", dst_ep="memory", src_path="/from", dst_path="/x", recursive=True)
    back = run(transfers, src_ep="memory", dst_ep="disk", src_path="/x", dst_path="/to", recursive=True)
    assert (there.state, back.state) == (TaskState.SUCCEEDED, TaskState.SUCCEEDED)
    assert fsspec.filesystem("memory").cat_file(f"{memory}/x/d/b") == tree["d/b"]
    found = {str(file.relative_to(tmp_path / "to")): file.read_bytes() for file in (tmp_path / "to").rglob("*.*")}
    found |= {name: (tmp_path / "to" / name).read_bytes() for name in tree}
    assert found == tree


def test_a_large_file_needs_little_memory(tmp_path):
    """Copying a file of 256 MiB to another store and back needs less than 64 MiB of additional memory."""
    with open(tmp_path / "f.dat", "wb") as file:
        file.truncate(1 << 28)
    ended = subprocess.run(
        [sys.executable, "-c", LARGE, str(tmp_path)], capture_output=True, text=True, check=False, timeout=100
    )
    assert ended.returncode == 0, ended.stderr
    assert int(ended.stdout) < 64 * 1024
    assert (tmp_path / "f.dat").stat().st_size == 1 << 28


def test_mtime_leaves_alone_what_is_not_older(disk):
    """Sync level ``mtime`` copies only files that are newer than their destination."""
    disk.put("laptop", "/f", b"new!")
    disk.put("scratch", "/f", b"old!")
    os.utime(disk.path("laptop", "/f"), (2000, 2000))
    os.utime(disk.path("scratch", "/f"), (2000, 2000))
    assert disk.move("/f", "/f", sync_level="mtime").files_skipped == 1
    os.utime(disk.path("scratch", "/f"), (1999, 1999))
    assert disk.move("/f", "/f", sync_level="mtime", preserve_timestamp=True).files_done == 1
    assert disk.get("scratch", "/f") == b"new!"
    assert disk.move("/f", "/f", sync_level="mtime").files_skipped == 1


@pytest.mark.parametrize(
    ("place", "error", "words"),
    [
        ({"url": "nosuch://x"}, UnsupportedOptionError, "a kind of store that fsspec does not know"),
        ({"url": "relative/path"}, ConfigError, "is not an absolute path"),
        ({"url": "memory://x", "options": {"key": {"env": "CHILTEPIN_NO_SUCH"}}}, ConfigError, "'CHILTEPIN_NO_SUCH'"),
    ],
)
def test_a_place_that_cannot_be_opened_is_named(place, error, words):
    """A store that cannot be opened raises an error that names its endpoint and the cause."""
    with pytest.raises(error) as caught:
        Transfers(FilesystemBackend.from_config({"odd": place}, {})).ls("odd", "/")
    assert words in str(caught.value)
    assert "'odd'" in str(caught.value)


def test_a_secret_comes_from_the_environment_and_stays_there(monkeypatch):
    """The value of an option that names an environment variable is kept only in the store itself."""
    monkeypatch.setenv("CHILTEPIN_TEST_KEY", "hush")
    places = {"odd": {"url": "memory://x", "options": {"client": {"keys": [{"env": "CHILTEPIN_TEST_KEY"}]}}}}
    backend = FilesystemBackend.from_config(places, {})
    assert backend._place("odd").store().filesystem.storage_options["client"] == {"keys": ["hush"]}
    assert "hush" not in repr(places)


@pytest.mark.parametrize("backend", [FilesystemBackend, LocalBackend])
def test_an_option_that_a_backend_does_not_have_is_refused(backend, tmp_path):
    """An unknown option of a backend raises an error that names it."""
    root = {"root": str(tmp_path)} if backend is LocalBackend else {}
    with pytest.raises(ConfigError, match=f"Backend '{backend.name}' has no option 'rot'") as caught:
        backend.from_config({}, {**root, "rot": "x"})
    assert caught.value.key == f"data.{backend.name}.rot"
