"""Whenever and however an SFTP connection is lost, it is reopened and the task completes."""

from __future__ import annotations

import os
import random

import pytest
from losingssh import SERVER, Losing

from chiltepin.backends.filesystem import FilesystemBackend
from chiltepin.backends.filesystem.errors import ConnectionLostError, Fault, fault_of
from chiltepin.backends.filesystem.locations import place_of
from chiltepin.backends.filesystem.stores.sftp.store import SftpStore
from chiltepin.model import TaskState
from chiltepin.transfers.arguments import delete_request, transfer_request
from chiltepin.transfers.runner import Transfers

#: A large file, copied in parts; small files; and files in folders.
FILES = {"large": os.urandom(9_000_000), "small": b"data" * 1000, "sub/empty": b""} | {
    f"s{folder}/{name}": f"{folder}{name}".encode() * 9 for folder in range(4) for name in "abc"
}

#: Files at the destination of a mirror: an old small file, and files and folders that the source lacks.
STALE = {"small": b"old", "extra": b"extra", "more/extra": b"more", "s1/extra": b"extra"}

MIRROR = {"recursive": True, "delete_destination_extra": True, "sync_level": "checksum"}

#: Source, destination, path and options; a deletion has no destination.
OPERATIONS = {
    "upload": ("disk", "server", "/d", {"recursive": True}),
    "download": ("server", "disk", "/d", {"recursive": True}),
    "mirror there": ("disk", "server", "/d", MIRROR),
    "mirror here": ("server", "disk", "/d", MIRROR),
    "between roots": ("server", "other", "/d", {"recursive": True}),
    "one file there": ("disk", "server", "/d/large", {}),
    "one file here": ("server", "disk", "/d/large", {}),
    "delete": ("server", "", "/d", {"recursive": True}),
    "delete one file": ("server", "", "/d/small", {}),
}

#: Random positions tried in each stream, besides those in the greeting.
PLACES = 3


@pytest.fixture
def ssh(tmp_path, monkeypatch):
    """An ssh command that loses connections."""
    if SERVER is None:
        pytest.skip("There is no sftp-server here; install openssh-sftp-server.")
    command = Losing(tmp_path / "bin")
    monkeypatch.setenv("PATH", f"{command.folder}:{os.environ['PATH']}")
    return command


def files(folder):
    """Return the files below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


class World:
    """One local folder and two folders of the server, prepared for an operation.

    Parameters
    ----------
    folder : Path
        Their parent.
    operation : str
        One of `OPERATIONS`.
    """

    def __init__(self, folder, operation):
        self.roots = {name: folder / name for name in ("disk", "server", "other")}
        for root in self.roots.values():
            root.mkdir(parents=True)
        self.source, self.goal, self.path, self.options = OPERATIONS[operation]
        self._fill(self.source, FILES)
        if self.options is MIRROR:
            self._fill(self.goal, STALE)

    def _fill(self, name, content):
        for path, data in content.items():
            file = self.roots[name] / "d" / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)

    def do(self):
        """Run the operation with new connections, without waits; return its status."""
        settings = {name: f"sftp://me@host{root}" for name, root in self.roots.items()}
        settings["disk"] = str(self.roots["disk"])
        places = {name: place_of(name, {"url": url, "options": {}}) for name, url in settings.items()}
        transfers = Transfers(FilesystemBackend(places, pause=lambda *_: None))
        if self.goal:
            ends = {"src_ep": self.source, "dst_ep": self.goal, "src_path": self.path, "dst_path": self.path}
            request = transfer_request(**ends, **self.options)
        else:
            request = delete_request(src_ep=self.source, src_path=self.path, **self.options)
        try:
            return transfers.run(request, timeout=60, polling_interval=0.01)
        finally:
            transfers.close()

    def right(self):
        """Return whether the files are as the operation should leave them."""
        if not self.goal:
            return not (self.roots["server"] / self.path[1:]).exists()
        wanted = FILES if self.options.get("recursive") else {"large": FILES["large"]}
        return files(self.roots[self.goal] / "d") == wanted


@pytest.mark.parametrize("stream", ["replies", "requests"])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_connection_that_is_lost_anywhere_is_made_again(ssh, tmp_path, operation, stream):
    """Wherever a connection breaks, the next one completes the task, and no other file is left."""
    assert World(tmp_path / "whole", operation).do().faults == 0
    size = ssh.passed(stream)
    chance = random.Random(operation + stream)  # noqa: S311 - no secret
    for place in [1, 4, 9, *chance.sample(range(14, size), PLACES)]:
        ssh.lose(**{stream: place})
        world = World(tmp_path / f"{stream}{place}", operation)
        status = world.do()
        assert status.state is TaskState.SUCCEEDED, (place, size, status)
        assert world.right(), (place, size)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("", "ssh ended with status 255"),
        ("client_loop: send disconnect: Broken pipe\r\n", "client_loop: send disconnect: Broken pipe"),
        ("Timeout, server h3 not responding.\r\n", "Timeout, server h3 not responding."),
        ("Connection to h3 closed by remote host.\r\n", "Connection to h3 closed by remote host."),
    ],
)
def test_a_loss_is_told_as_ssh_told_it(ssh, tmp_path, words, told):
    """The error of a lost connection names the host and includes ssh's last message."""
    world = World(tmp_path / "world", "download")
    ssh.lose(requests=200, words=words)
    store = SftpStore(f"sftp://me@host{world.roots['server']}", {})

    def list_again_and_again():
        for _ in range(100):
            list(store.folder(()).entries())

    with pytest.raises(ConnectionLostError) as caught:
        list_again_and_again()
    store.close()
    assert store.transient(caught.value)
    fault = fault_of(caught.value, "Listing")
    assert fault.code == "CONNECTION_RESET"
    assert fault.reason == f"Listing: the connection to host was lost ({told}); run the transfer again."


@pytest.mark.parametrize(
    ("words", "told", "transient"),
    [
        ("ssh: connect to host host port 22: No route to host", "could not be reached (ssh: ", True),
        ("ssh: connect to host host port 22: Connection timed out", "Connection timed out); check", True),
        ("ssh: connect to host host port 22: Connection refused", "Connection refused); check", True),
        ("kex_exchange_identification: Connection closed by remote host", "Connection closed by remote host", True),
        ("ssh: Could not resolve hostname host: Temporary failure in name resolution", "Temporary failure", True),
        ("ssh: Could not resolve hostname gate: Name or service not known", "No host is named gate;", False),
        ("", "host could not be reached (ssh ended with status 255)", True),
    ],
)
def test_why_a_host_is_not_reached_is_told_as_ssh_told_it(ssh, tmp_path, words, told, transient):
    """The error of a failed connection includes ssh's reason and is permanent only for an unknown host name."""
    ssh.lose(replies=0, words=words)
    store = SftpStore(f"sftp://me@host{tmp_path}", {})
    with pytest.raises((ConnectionLostError, Fault)) as caught:
        store.folder(())
    assert store.transient(caught.value) is transient
    fault = fault_of(caught.value, "Listing")
    assert (fault.code, told in fault.reason) == ("CONNECT_FAILED", True), fault.reason
