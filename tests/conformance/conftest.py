"""Rigs for Chiltepin's own backends."""

from __future__ import annotations

import errno
import os
import re
import shutil
import tempfile
import threading
import time
import uuid
from contextlib import ExitStack, contextmanager
from datetime import datetime, timezone
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import buckets
import fsspec
import pytest
from cloudservers import cloud_bucket
from fileservers import file_server
from fsspec.implementations.memory import MemoryFileSystem
from sftpservers import RCLONE_LISTS_AFTER, sftp_server
from sshserver import ssh_server  # noqa: F401 - a fixture
from webservers import web_server

from chiltepin.backends.filesystem import FilesystemBackend, LocalBackend
from chiltepin.testing.conformance import FolderRig, Rig

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from buckets import Bucket

NAMES = ("laptop", "scratch")


class GatedMemory(MemoryFileSystem):
    """A memory filesystem whose reads wait for a gate; some paths have no size, and some folders cannot be listed."""

    protocol = "gated-memory"
    store: dict[str, Any] = {}  # noqa: RUF012 - shared by all instances, as in the base class
    pseudo_dirs = [""]  # noqa: RUF012 - shared as well
    gate = threading.Event()
    untold: set[str] = set()  # noqa: RUF012 - shared as well
    closed: set[str] = set()  # noqa: RUF012 - shared as well

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return MemoryFileSystem._strip_protocol(path.removeprefix("gated-memory://"))

    def info(self, path: str, **options: Any) -> Any:
        """Return no size for the untold paths."""
        found = super().info(path, **options)
        return {**found, "size": None} if found["name"] in self.untold else found

    def ls(self, path: str, detail: bool = True, **options: Any) -> Any:  # noqa: FBT001, FBT002 - fsspec's
        """Return no size for the untold paths, and refuse to list the closed folders."""
        if self._strip_protocol(path) in self.closed:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        found = super().ls(path, detail=True, **options)
        told = [{**info, "size": None} if info["name"] in self.untold else info for info in found]
        return told if detail else [info["name"] for info in told]

    def _open(self, path: str, mode: str = "rb", **options: Any) -> Any:
        if mode == "rb":
            self.gate.wait(60)
        return super()._open(path, mode, **options)


fsspec.register_implementation("gated-memory", GatedMemory)


def separate_memory(protocol: str) -> None:
    """Register a memory filesystem of its own, so that an endpoint can have all of it."""

    def stripped(path: str) -> str:
        return MemoryFileSystem._strip_protocol(path.removeprefix(f"{protocol}://"))

    members = {"protocol": protocol, "store": {}, "pseudo_dirs": [""], "_strip_protocol": staticmethod(stripped)}
    fsspec.register_implementation(protocol, type("SeparateMemory", (MemoryFileSystem,), members))


for name in NAMES:
    separate_memory(f"{name}-memory")


class MemoryRig(Rig):
    """Two folders of a memory filesystem of fsspec."""

    def __init__(self, protocol: str) -> None:
        self.top = f"/{uuid.uuid4().hex}"
        self.filesystem = fsspec.filesystem(protocol)
        endpoints = {name: {"url": f"{protocol}:/{self.top}/{name}"} for name in NAMES}
        super().__init__(FilesystemBackend.from_config(endpoints, {}), NAMES, config=(endpoints, {}))
        for name in NAMES:
            self.mkdir(name, "/")

    def of(self, endpoint: str) -> Any:
        """Return the filesystem of an endpoint."""
        del endpoint
        return self.filesystem

    def place(self, endpoint: str, path: str) -> str:
        """Return the place of an endpoint's path in the filesystem."""
        return f"{self.top}/{endpoint}{path}".rstrip("/")

    def put(self, endpoint: str, path: str, content: bytes, *, modified: float | None = None) -> None:
        """Write a file, and set the only time that the filesystem reports."""
        place, filesystem = self.place(endpoint, path), self.of(endpoint)
        filesystem.makedirs(place.rsplit("/", 1)[0], exist_ok=True)
        filesystem.pipe_file(place, content)
        try:
            if modified is not None:
                filesystem.store[place].created = datetime.fromtimestamp(modified, timezone.utc)
        except ValueError:
            self.lacks(f"a file with the modification time {modified}", "put")

    def get(self, endpoint: str, path: str) -> bytes | None:
        """Read a file."""
        place, filesystem = self.place(endpoint, path), self.of(endpoint)
        return filesystem.cat_file(place) if filesystem.isfile(place) else None

    def mkdir(self, endpoint: str, path: str) -> None:
        """Make a folder."""
        self.of(endpoint).makedirs(self.place(endpoint, path), exist_ok=True)

    def tree(self, endpoint: str) -> set[str]:
        """Return all paths."""
        top = self.place(endpoint, "/")
        found = self.of(endpoint).find(top, withdirs=True, detail=True)
        paths = {place[len(top) :] + ("/" if info["type"] == "directory" else "") for place, info in found.items()}
        return paths - {"/"}

    def clear(self) -> None:
        """Delete everything."""
        self.filesystem.rm(self.top, recursive=True)


class TopRig(MemoryRig):
    """Two whole memory filesystems: the roots of the endpoints have nothing above them."""

    def __init__(self) -> None:
        endpoints = {name: {"url": f"{name}-memory://"} for name in NAMES}
        Rig.__init__(self, FilesystemBackend.from_config(endpoints, {}), NAMES, config=(endpoints, {}))

    def of(self, endpoint: str) -> Any:
        """Return the filesystem of an endpoint."""
        return fsspec.filesystem(f"{endpoint}-memory")

    def place(self, endpoint: str, path: str) -> str:
        """Return the same path."""
        del endpoint
        return path.rstrip("/")

    def clear(self) -> None:
        """Delete everything."""
        for name in NAMES:
            self.of(name).store.clear()
            self.of(name).pseudo_dirs[:] = [""]


class GatedRig(MemoryRig):
    """A memory filesystem with a gate, which can hold tasks."""

    def __init__(self) -> None:
        super().__init__("gated-memory")
        GatedMemory.gate.set()

    def put_untold(self, endpoint: str, path: str, content: bytes) -> None:
        """Write a file whose size is not reported."""
        self.put(endpoint, path, content)
        GatedMemory.untold.add(self.place(endpoint, path))

    def spoil(self, endpoint: str, folder: str) -> None:
        """Make a folder that cannot be listed."""
        self.put(endpoint, f"{folder}/closed/f", b"data")
        GatedMemory.closed.add(self.place(endpoint, f"{folder}/closed"))

    def clear(self) -> None:
        """Delete everything."""
        GatedMemory.untold.clear()
        GatedMemory.closed.clear()
        super().clear()

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Close the gate."""
        GatedMemory.gate.clear()
        try:
            yield
        finally:
            GatedMemory.gate.set()


class BucketRig(Rig):
    """Two folders of a bucket, on a real server."""

    def __init__(self, bucket: Bucket) -> None:
        self.bucket = bucket
        endpoints = {name: bucket.settings(name) for name in NAMES}
        super().__init__(FilesystemBackend.from_config(endpoints, {}), NAMES, config=(endpoints, {}))

    def put(self, endpoint: str, path: str, content: bytes, *, modified: float | None = None) -> None:
        """Create an object."""
        if modified is not None:
            self.lacks("setting the time of an object", "put")
        self.bucket.put(f"{endpoint}{path}", content)

    def get(self, endpoint: str, path: str) -> bytes | None:
        """Read an object."""
        return self.bucket.get(f"{endpoint}{path}")

    def mkdir(self, endpoint: str, path: str) -> None:
        """Create the objects that represent a folder and its parents."""
        names = path.strip("/").split("/")
        for depth in range(len(names)):
            self.bucket.put("/".join([endpoint, *names[: depth + 1]]) + "/", b"")

    def clear(self) -> None:
        """Delete everything."""
        self.bucket.empty()

    def tree(self, endpoint: str) -> set[str]:
        """Return all paths."""
        found = {key[len(endpoint) :] for key in self.bucket.keys(f"{endpoint}/")}
        above = {path[: end + 1] for path in found for end in range(len(path)) if path[end] == "/"}
        return (found | above) - {"/"}


class AnyKeyRig(BucketRig):
    """A bucket whose server accepts keys that are not paths."""

    def spoil(self, endpoint: str, folder: str) -> None:
        """Create an object whose key leads out of its folder."""
        self.bucket.put(f"{endpoint}{folder}/../f", b"data")


class MotoRig(AnyKeyRig):
    """A bucket whose server cannot find a key with a line break."""

    def put(self, endpoint: str, path: str, content: bytes, *, modified: float | None = None) -> None:
        """Create an object."""
        if "\n" in path:
            self.lacks("keys with a line end", "put")
        super().put(endpoint, path, content, modified=modified)


class RcloneRig(BucketRig):
    """A bucket that cannot keep the object of an empty folder: rclone 1.75 turns it into a file."""

    def mkdir(self, endpoint: str, path: str) -> None:
        """Create nothing."""


#: Laws that a server cannot keep, with the reasons.
BROKEN = {
    ("wsgidav", "test_names_mean_themselves"): "wsgidav cuts a name at a question mark.",
}


def skip_broken(request: pytest.FixtureRequest, kind: str) -> None:
    """Skip a law that a server cannot keep."""
    if reason := BROKEN.get((kind, getattr(request.node, "originalname", ""))):
        pytest.skip(reason)


def folders(top: Path) -> dict[str, Path]:
    """Make a folder for each endpoint."""
    made = {name: top / name for name in NAMES}
    for folder in made.values():
        folder.mkdir()
    return made


class HomeRig(FolderRig):
    """Folders of endpoints whose home is not their root."""

    def home(self, endpoint: str) -> str:
        """Return the home of an endpoint."""
        return f"/users/{endpoint}"


def rig_of_folders(top: Path) -> FolderRig:
    """Return a rig for the filesystem backend over two new folders."""
    made = folders(top)
    config = {name: {"url": f"file://{folder}"} for name, folder in made.items()}
    return FolderRig(FilesystemBackend.from_config(config, {}), made, config=(config, {}))


@pytest.fixture
def folder_rig(tmp_path):
    """The filesystem backend over two folders."""
    return rig_of_folders(tmp_path)


@pytest.fixture
def shm_rig():
    """The filesystem backend over two folders in memory."""
    memory = "/dev/shm"  # noqa: S108 - a folder with a unique name is made in it
    if not os.path.isdir(memory):
        pytest.skip("There is no disk in memory here.")
    with tempfile.TemporaryDirectory(dir=memory) as top:
        yield rig_of_folders(Path(top))


@pytest.fixture
def local_rig(tmp_path):
    """The local backend over one root; its endpoints have homes."""
    made = folders(tmp_path)
    config = {name: {"folder": name, "home": f"/users/{name}"} for name in NAMES}
    options = {"root": str(tmp_path)}
    return HomeRig(LocalBackend.from_config(config, options), made, config=(config, options))


@pytest.fixture
def memory_rig():
    """The filesystem backend over two folders in memory."""
    rig = MemoryRig("memory")
    yield rig
    rig.clear()


@pytest.fixture
def top_rig():
    """The filesystem backend over two whole memory filesystems."""
    rig = TopRig()
    yield rig
    rig.clear()


def emptied(request: pytest.FixtureRequest, rig: Any) -> Any:
    """Return a rig that all laws of a process share, and clear it after this law.

    Opening its connections, with an S3 client or an SSH login, takes longer than most laws.
    """
    request.addfinalizer(rig.clear)
    return rig


@pytest.fixture(scope="session")
def shared_bucket_rig(s3_server):
    """The filesystem backend over two folders of a bucket."""
    return MotoRig(s3_server.bucket())


@pytest.fixture
def bucket_rig(request, shared_bucket_rig, no_aws):
    """The shared rig, empty."""
    return emptied(request, shared_bucket_rig)


@pytest.fixture(scope="session")
def other_bucket_rigs(tmp_path_factory):
    """Creates a rig over two folders of a bucket on an S3 server other than moto."""
    with ExitStack() as ends:

        def made(kind):
            server = ends.enter_context(buckets.s3_server(kind, tmp_path_factory.mktemp(kind)))
            return (RcloneRig if kind == "rclone" else BucketRig)(server.bucket())

        yield cache(made)


@pytest.fixture
def other_bucket_rig(request, other_bucket_rigs, no_aws):
    """Returns such a rig, empty."""

    def made(kind):
        skip_broken(request, kind)
        return emptied(request, other_bucket_rigs(kind))

    return made


@pytest.fixture
def cloud_rig(monkeypatch):
    """Creates a rig over two folders of a bucket or container of another service."""
    monkeypatch.setenv("NO_PROXY", "*")
    return lambda kind: (AnyKeyRig if kind == "gcs" else BucketRig)(cloud_bucket(kind))


@pytest.fixture
def gated_rig():
    """The filesystem backend over a memory filesystem with a gate."""
    rig = GatedRig()
    yield rig
    rig.clear()


@pytest.fixture(scope="session")
def shared_sftp_rig(tmp_path_factory, ssh_server):  # noqa: F811 - the fixture
    """The filesystem backend over two folders behind an SFTP server."""
    made = folders(tmp_path_factory.mktemp("sftp"))
    config = {name: ssh_server.endpoint(folder) for name, folder in made.items()}
    return RemoteRig(FilesystemBackend.from_config(config, {}), made, config=(config, {}))


@pytest.fixture
def sftp_rig(request, shared_sftp_rig):
    """The shared rig, empty."""
    return emptied(request, shared_sftp_rig)


@pytest.fixture(scope="session")
def other_sftp_rigs(tmp_path_factory):
    """Creates a rig over two folders behind an SFTP server other than OpenSSH's."""
    with ExitStack() as ends:

        def made(kind):
            settings, root = ends.enter_context(sftp_server(kind, tmp_path_factory.mktemp(kind)))
            config = {name: {**settings, "url": f"{settings['url']}/{name}"} for name in NAMES}
            rig = RcloneSftpRig if kind == "rclone" else RemoteRig
            return rig(FilesystemBackend.from_config(config, {}), folders(root), config=(config, {}))

        yield cache(made)


@pytest.fixture
def other_sftp_rig(request, other_sftp_rigs):
    """Returns such a rig, empty."""
    return lambda kind: emptied(request, other_sftp_rigs(kind))


class RemoteRig(FolderRig):
    """Folders behind a server with times of 32 bits, which overflow in 2106."""

    def put(self, endpoint: str, path: str, content: bytes, *, modified: float | None = None) -> None:
        """Write a file, with a time that the server can represent."""
        if modified is not None and modified >= 1 << 32:
            self.lacks("times after 2106", "put")
        super().put(endpoint, path, content, modified=modified)

    def clear(self) -> None:
        """Delete everything except the two folders, which the backend knows."""
        for folder in self.folders.values():
            for place in folder.iterdir():
                if place.is_dir() and not place.is_symlink():
                    shutil.rmtree(place)
                else:
                    place.unlink()


class ServedRig(RemoteRig):
    """Folders behind a server that reports links as their targets."""

    #: Whether the server lists modification times.
    times = True
    #: Creates an entry that the server cannot serve.
    spoiling: Callable[[Path], object] | None = None

    def chmod(self, endpoint: str, path: str, mode: int) -> None:
        """Set no mode: a replaced file gets the mode of a new one."""
        Rig.chmod(self, endpoint, path, mode)

    def spoil(self, endpoint: str, folder: str) -> None:
        """Create an entry that the server cannot serve."""
        if self.spoiling is None:
            self.lacks("entries that cannot be listed or read", "spoil")
        self.place(endpoint, folder).mkdir(parents=True, exist_ok=True)
        self.spoiling(self.place(endpoint, folder))

    def link(self, endpoint: str, path: str, target: str) -> None:
        """Create no link."""
        self.lacks("links that can be told from their targets", "link")

    def put(self, endpoint: str, path: str, content: bytes, *, modified: float | None = None) -> None:
        """Write a file, with a time if the server reports times."""
        if modified is not None and not self.times:
            self.lacks("times of files", "put")
        super().put(endpoint, path, content, modified=modified)


class RcloneSftpRig(ServedRig):
    """Folders behind ``rclone serve sftp``, which follows the links in its folder and does not report them."""

    def put(self, endpoint: str, path: str, content: bytes, *, modified: float | None = None) -> None:
        """Write a file, and wait until the server lists its folder again."""
        super().put(endpoint, path, content, modified=modified)
        time.sleep(2 * RCLONE_LISTS_AFTER)


def line_end(folder: Path) -> None:
    """Create a file whose name cannot be sent over FTP."""
    (folder / "line\nend").write_text("data")


def closed_file(folder: Path) -> None:
    """Create a file that only its owner can read."""
    (folder / "closed").touch(mode=0o600)


def other_name(folder: Path) -> None:
    """Create a file that the server lists but refuses: lighttpd for the control character, Tomcat for the backslash."""
    (folder / "tab\tand\\").write_text("data")


#: Names that a web server hides, or lists but does not serve.
REFUSED = {"nginx": r"/\.", "lighttpd": r"/\.|\n", "tomcat": r"\\"}

#: Creates an entry that a server of this kind cannot serve.
SPOILING = {
    "pyftpdlib": line_end,
    "pyftpdlib-windows": line_end,
    "vsftpd": line_end,
    "apache-dav": closed_file,
    "lighttpd": other_name,
    "tomcat": other_name,
}


class WebRig(ServedRig):
    """The folder of a web server as the source, and a folder of this machine as the destination."""

    source_is_read_only = True
    #: A pattern for the paths that the server does not list or serve.
    refuses = "$^"

    def put(self, endpoint: str, path: str, content: bytes, *, modified: float | None = None) -> None:
        """Write a file, unless the server would refuse or hide it."""
        if endpoint == self.source and re.search(self.refuses, path):
            self.lacks("names that the server refuses or hides", "put")
        if modified is not None and modified < 0:
            self.lacks("times before 1970", "put")
        super().put(endpoint, path, content, modified=modified)


@pytest.fixture(scope="session")
def started_web():
    """Starts a web server once for all tests."""
    with ExitStack() as ends:
        yield cache(lambda kind: ends.enter_context(web_server(kind)))


@pytest.fixture
def web_rig(started_web, tmp_path, monkeypatch):
    """Creates a rig over the folder of a web server and a folder of this machine."""
    monkeypatch.setenv("NO_PROXY", "*")

    def made(kind):
        url, root = started_web(kind)
        top = uuid.uuid4().hex
        made = {"laptop": root / top, "scratch": tmp_path / "scratch"}
        for folder in made.values():
            folder.mkdir()
        config = {"laptop": {"url": f"{url}/{top}"}, "scratch": {"url": str(made["scratch"])}}
        rig = WebRig(FilesystemBackend.from_config(config, {}), made, config=(config, {}))
        rig.refuses, rig.spoiling = REFUSED.get(kind, "$^"), SPOILING.get(kind)
        return rig

    return made


@pytest.fixture(scope="session")
def served_rigs():
    """Creates a rig over two folders behind a server of some kind."""
    with ExitStack() as ends:

        def made(kind):
            settings, root = ends.enter_context(file_server(kind))
            config = {name: {**settings, "url": f"{settings['url']}/{name}"} for name in NAMES}
            rig = ServedRig(FilesystemBackend.from_config(config, {}), folders(root), config=(config, {}))
            rig.times = kind != "vsftpd"
            rig.spoiling = SPOILING.get(kind)
            return rig

        yield cache(made)


@pytest.fixture
def served_rig(request, served_rigs, monkeypatch):
    """Returns such a rig, empty."""
    monkeypatch.setenv("NO_PROXY", "*")
    # Some servers run as another user, who has to write to the folders of a test.
    before = os.umask(0)

    def made(kind):
        skip_broken(request, kind)
        return emptied(request, served_rigs(kind))

    yield made
    os.umask(before)
