"""The table of store features matches the behavior of real servers.

CHILTEPIN_WRITE_PAGES=1 writes the results to the page instead of comparing them.
"""

from __future__ import annotations

import os
import random
import threading
import uuid
from contextlib import contextmanager, suppress
from pathlib import Path

import fsspec
import pytest
from botocore.exceptions import ResponseStreamingError
from buckets import OTHERS, s3_server
from cloudservers import cloud_bucket
from fileservers import file_server
from sftpservers import sftp_server
from sshserver import ssh_server  # noqa: F401 - a fixture
from webservers import web_server

from chiltepin.backends.filesystem import FilesystemBackend
from chiltepin.backends.filesystem.locations import place_of
from chiltepin.errors import ChiltepinError
from chiltepin.transfers.arguments import transfer_request
from chiltepin.transfers.runner import Transfers

PAGE = Path(__file__).parents[2] / "docs" / "concepts" / "what-a-store-can.md"

#: 2009-02-13, with nanoseconds.
MOMENT = 1_234_567_890_123_456_789
UNITS = {10**3: "1 µs", 10**6: "1 ms", 10**9: "1 s", 60 * 10**9: "1 min"}
NEVER = "–"  # noqa: RUF001 - what a reader of a table expects


class Behind:
    """A folder behind a server, as seen on the machine of the server."""

    def __init__(self, root):
        self.root = Path(root)

    def put(self, name, content):
        """Write a file with a known time."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        # Some servers run as another user.
        path.parent.chmod(0o777)
        path.write_bytes(content)
        os.utime(path, ns=(MOMENT, MOMENT))

    def seen(self, name):
        """Return the size of a file, or None if it does not exist."""
        try:
            return (self.root / name).stat().st_size
        except FileNotFoundError:
            return None

    def time(self, name):
        """Return the time of a file."""
        return (self.root / name).stat().st_mtime_ns

    def kept(self, name):
        """Whether a folder exists."""
        return (self.root / name).is_dir()


class Objects:
    """A bucket, or a memory filesystem of fsspec, as seen by another client."""

    def __init__(self, put, seen):
        self.put, self.seen = put, seen


@contextmanager
def folder(tmp_path):
    """Open a folder of this machine."""
    (tmp_path / "there").mkdir()
    yield {"url": f"file://{tmp_path}/there"}, Behind(tmp_path / "there")


@contextmanager
def memory(tmp_path):
    """Open a memory filesystem."""
    del tmp_path
    top, filesystem = f"/{uuid.uuid4().hex}", fsspec.filesystem("memory")
    filesystem.makedirs(top)

    def seen(name):
        return filesystem.info(f"{top}/{name}")["size"] if filesystem.exists(f"{top}/{name}") else None

    def put(name, content):
        filesystem.makedirs(f"{top}/{name}".rsplit("/", 1)[0], exist_ok=True)
        filesystem.pipe_file(f"{top}/{name}", content)

    made = Objects(put, seen)
    made.kept = lambda name: filesystem.isdir(f"{top}/{name}")
    yield {"url": f"memory:/{top}"}, made
    filesystem.rm(top, recursive=True)


def objects(bucket):
    """Return the settings of a bucket, and its objects as seen by another client."""

    def seen(name):
        while True:
            # A reader gets an error if a replacement interrupts it.
            with suppress(ResponseStreamingError):
                content = bucket.get(name)
                return None if content is None else len(content)

    made = Objects(bucket.put, seen)
    made.kept = lambda name: f"{name}/" in bucket.keys(name)
    return bucket.settings(), made


def other_bucket(kind):
    """Return a function that opens a bucket of a server other than moto."""

    @contextmanager
    def opened(tmp_path):
        (tmp_path / kind).mkdir()
        with s3_server(kind, tmp_path / kind) as server:
            yield objects(server.bucket())

    return opened


def cloud(kind):
    """Return a function that opens a bucket or container of a service other than S3."""

    @contextmanager
    def opened(tmp_path):
        del tmp_path
        yield objects(cloud_bucket(kind))

    return opened


def web(kind):
    """Return a function that opens a folder of a web server."""

    @contextmanager
    def opened(tmp_path):
        del tmp_path
        with web_server(kind) as (url, root):
            yield {"url": url}, Behind(root)

    return opened


def files(kind):
    """Return a function that opens a folder of an FTP or WebDAV server."""

    @contextmanager
    def opened(tmp_path):
        del tmp_path
        with file_server(kind) as (settings, root):
            yield settings, Behind(root)

    return opened


def sftp(kind):
    """Return a function that opens a folder of an SFTP server."""

    @contextmanager
    def opened(tmp_path):
        (tmp_path / kind).mkdir()
        with sftp_server(kind, tmp_path / kind) as (settings, root):
            yield settings, Behind(root)

    return opened


#: The first cell of each row, and the function that opens the store.
STORES = {
    "folder of Linux": folder,
    "memory of fsspec": memory,
    "SFTP: OpenSSH": None,
    "SFTP: asyncssh": sftp("asyncssh"),
    "SFTP: rclone": sftp("rclone"),
    "S3: moto": None,
    **{f"S3: {kind}": other_bucket(kind) for kind in OTHERS},
    "Azure: Azurite": cloud("azure"),
    "Google Cloud Storage: gcp-storage-emulator": cloud("gcs"),
    "FTP: pyftpdlib": files("pyftpdlib"),
    "FTP: pyftpdlib, a rename as on Windows": files("pyftpdlib-windows"),
    "FTP: vsftpd": files("vsftpd"),
    "WebDAV: Apache": files("apache-dav"),
    "WebDAV: wsgidav": files("wsgidav"),
    "HTTP: nginx": web("nginx"),
    "HTTP: nginx, its index in JSON": web("nginx-json"),
    "HTTP: Apache": web("apache"),
    "HTTP: lighttpd": web("lighttpd"),
    "HTTP: Tomcat": web("tomcat"),
}


@pytest.fixture
def opened(request, tmp_path, monkeypatch):
    """Opens a store by the first cell of its row."""
    monkeypatch.setenv("NO_PROXY", "*")
    request.getfixturevalue("no_aws")
    (tmp_path / "here").mkdir()

    @contextmanager
    def of(name):
        if name == "S3: moto":
            yield objects(request.getfixturevalue("bucket"))
        elif name == "SFTP: OpenSSH":
            (tmp_path / "there").mkdir()
            server = request.getfixturevalue("ssh_server")
            yield server.endpoint(tmp_path / "there"), Behind(tmp_path / "there")
        else:
            with STORES[name](tmp_path) as (settings, behind):
                yield settings, behind

    return of


class Probe:
    """A store, and the measurements of its features."""

    def __init__(self, settings, behind, here):
        self.behind, self.here = behind, here
        self.transfers = Transfers(
            FilesystemBackend.from_config({"there": settings, "here": {"url": f"file://{here}"}}, {})
        )
        self.store = place_of("there", settings).store()

    def move(self, path, **options):
        """Copy to the same path in the store; return whether the copy succeeded."""
        request = transfer_request(src_ep="here", dst_ep="there", src_path=path, dst_path=path, **options)
        return self.transfers.run(request, timeout=60, polling_interval=1).state.name == "SUCCEEDED"

    def entries(self, *parts):
        """List a folder."""
        with self.store.folder(parts) as opened:
            return list(opened.entries())

    def replaced(self):
        """Replace a file many times, and check its size continuously."""
        if not self.store.writable:
            return "never written"
        lengths, sizes, over = {300_000, 700_000}, set(), threading.Event()
        (self.here / "f").write_bytes(bytes(300_000))
        assert self.move("/f")

        def look():
            while not over.is_set():
                sizes.add(self.behind.seen("f"))

        looking = threading.Thread(target=look)
        looking.start()
        for length in (700_000, 300_000) * 12:
            if not sizes <= lengths:
                break
            (self.here / "f").write_bytes(bytes(length))
            assert self.move("/f")
        over.set()
        looking.join()
        if sizes <= lengths:
            return "at once"
        return "not there for a moment" if sizes <= {*lengths, None} else "not whole for a moment"

    def time_set(self):
        """Copy a file with its time."""
        if not self.store.writable:
            return NEVER
        if isinstance(self.behind, Objects):
            return "no"
        (self.here / "t").write_bytes(b"data")
        os.utime(self.here / "t", ns=(MOMENT, MOMENT))
        try:
            if not self.move("/t", preserve_timestamp=True):
                return "no"
        except ChiltepinError:
            return "no"
        return unit_of(self.behind.time("t"))

    def time_listed(self):
        """List a file with a known time; if none can be set, check whether any time has a fraction."""
        mtime = next(entry.mtime for entry in self.entries("read") if entry.name == "n00")
        if mtime is None:
            return "no"
        if isinstance(self.behind, Behind):
            return unit_of(round(mtime * 10**9))
        fine = {entry.mtime % 1 for entry in self.entries("read")} - {0.0}
        return "1 ms or finer" if fine else "1 s"

    def ranged(self):
        """Read from the middle of a file."""
        with self.store.folder(()) as opened, opened.read("large") as reader:
            block = memoryview(bytearray(5))
            return "yes" if reader.parts and reader.read_at(5_000_000, block) == 5 else "no"

    def content_checksum(self):
        """Open a file and return the algorithm of the checksum that the store reports."""
        with self.store.folder(()) as opened, opened.read("large") as reader:
            return reader.checksum.partition(":")[0].upper() or "no"

    def ordered(self):
        """List files that were not created in order."""
        names = [entry.name for entry in self.entries("read")]
        return "by name" if names == sorted(names) else "none"

    def sized(self):
        """List files and check whether their sizes are known."""
        return "yes" if all(entry.size is not None for entry in self.entries("read")) else "no"

    def linked(self):
        """List a link, if the storage behind the server has links."""
        if isinstance(self.behind, Objects):
            return NEVER
        (self.behind.root / "read" / "link").symlink_to("n01")
        kinds = {entry.name: entry.kind for entry in self.entries("read")}
        (self.behind.root / "read" / "link").unlink()
        return {"link": "reported", "file": "as files", None: "left out"}[kinds.get("link")]

    def mode_kept(self):
        """Replace a file with mode 0640."""
        if not self.store.writable or isinstance(self.behind, Objects):
            return NEVER
        path = self.behind.root / "f"
        path.chmod(0o640)
        assert self.move("/f")
        return "kept" if path.stat().st_mode & 0o777 == 0o640 else "no"

    def empty_folder(self):
        """Copy an empty folder."""
        if not self.store.writable:
            return NEVER
        (self.here / "empty").mkdir()
        return "yes" if self.move("/empty", recursive=True) and self.behind.kept("empty") else "no"

    def mirrored(self):
        """Mirror a folder that has fewer files than its destination."""
        if not self.store.writable:
            return "nothing"
        self.behind.put("mirror/f", b"old")
        self.behind.put("mirror/extra", b"old")
        (self.here / "mirror").mkdir()
        (self.here / "mirror" / "f").write_bytes(b"new")
        assert self.move("/mirror", recursive=True, delete_destination_extra=True)
        return "files and folders" if self.behind.seen("mirror/extra") is None else "nothing"

    def row(self):
        """Measure every cell of the row."""
        for name in random.Random(1).sample([f"n{number:02}" for number in range(40)], 40):  # noqa: S311 - an order
            self.behind.put(f"read/{name}", b"data")
        self.behind.put("large", bytes(9 << 20))
        return [
            self.replaced(),
            self.time_set(),
            self.time_listed(),
            self.ranged(),
            self.ordered(),
            self.content_checksum(),
            self.sized(),
            self.linked(),
            self.mode_kept(),
            self.empty_folder(),
            self.mirrored(),
        ]


def unit_of(moment):
    """Return the unit to which a time equals that of the file."""
    if moment == MOMENT:
        return "1 ns"
    return next((unit for size, unit in UNITS.items() if abs(moment - MOMENT) < size), "no")


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", STORES)
def test_the_row_of_a_store_is_what_a_real_server_does(name, opened, tmp_path):
    """Each row of the page matches a real server of that kind, if one is installed."""
    with opened(name) as (settings, behind):
        cells = Probe(settings, behind, tmp_path / "here").row()
    text = PAGE.read_text(encoding="utf-8")
    row = next((line for line in text.splitlines() if line.startswith(f"| {name} |")), "")
    # A short gap is not observed in every run.
    if cells[0] == "at once" and "for a moment" in row:
        cells[0] = row.split(" | ")[1]
    found = f"| {' | '.join([name, *cells])} |"
    if os.environ.get("CHILTEPIN_WRITE_PAGES"):
        PAGE.write_text(text.replace(row, found) if row else f"{text}{found}\n", encoding="utf-8")
    else:
        assert row == found
