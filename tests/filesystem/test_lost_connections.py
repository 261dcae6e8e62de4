"""Whenever a connection of SFTP is lost, and however, it is made again and the task completes."""

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

#: A large file, which goes in parts, a small one, and one in a folder.
FILES = {"large": os.urandom(9_000_000), "small": b"data" * 1000, "sub/empty": b""}

#: How many places of each stream are tried besides those of the greeting.
PLACES = 6


@pytest.fixture
def ssh(tmp_path, monkeypatch):
    """The command that loses a connection."""
    if SERVER is None:
        pytest.skip("There is no sftp-server here; install openssh-sftp-server.")
    command = Losing(tmp_path / "bin")
    monkeypatch.setenv("PATH", f"{command.folder}:{os.environ['PATH']}")
    return command


def files(folder):
    """Return what is in a folder and below."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


class World:
    """A folder of this machine and one of the server, in both of which there may be a tree.

    Parameters
    ----------
    folder : Path
        Where they are.
    """

    def __init__(self, folder):
        self.roots = {name: folder / name for name in ("disk", "server")}
        for root in self.roots.values():
            root.mkdir(parents=True)

    def fill(self, name):
        """Make the tree on one side."""
        for path, content in FILES.items():
            file = self.roots[name] / "d" / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)

    def do(self, operation):
        """Do one operation with new connections, without waits; return its status."""
        settings = {"disk": str(self.roots["disk"]), "server": f"sftp://me@host{self.roots['server']}"}
        places = {name: place_of(name, {"url": url, "options": {}}) for name, url in settings.items()}
        transfers = Transfers(FilesystemBackend(places, pause=lambda *_: None))
        try:
            if operation == "delete":
                request = delete_request(src_ep="server", src_path="/d", recursive=True)
            else:
                source, goal = ("disk", "server") if operation == "upload" else ("server", "disk")
                request = transfer_request(src_ep=source, dst_ep=goal, src_path="/d", dst_path="/d", recursive=True)
            return transfers.run(request, timeout=60, polling_interval=0.01)
        finally:
            transfers.close()

    def right(self, operation):
        """Whether the operation was done, and nothing else."""
        if operation == "delete":
            return not (self.roots["server"] / "d").exists()
        return files(self.roots["server" if operation == "upload" else "disk"] / "d") == FILES


def before(folder, operation):
    """Return a new world in which the operation can be done."""
    world = World(folder)
    world.fill("disk" if operation == "upload" else "server")
    return world


@pytest.mark.parametrize("stream", ["replies", "requests"])
@pytest.mark.parametrize("operation", ["upload", "download", "delete"])
def test_a_connection_that_is_lost_anywhere_is_made_again(ssh, tmp_path, operation, stream):
    """Wherever the stream of a connection ends, the next one completes the task, and nothing else is left."""
    assert before(tmp_path / "whole", operation).do(operation).faults == 0
    size = ssh.passed(stream)
    chance = random.Random(operation + stream)  # noqa: S311 - no secret
    for place in [1, 4, 5, 9, 13, *chance.sample(range(14, size), PLACES)]:
        ssh.lose(**{stream: place})
        world = before(tmp_path / f"{stream}{place}", operation)
        status = world.do(operation)
        assert status.state is TaskState.SUCCEEDED, (place, size, status)
        assert world.right(operation), (place, size)


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
    """The error of a connection that was lost names the host and has the last words of ssh."""
    world = before(tmp_path / "world", "download")
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
    assert fault.reason == f"Listing: the connection to host was lost ({told}); run it again."


@pytest.mark.parametrize(
    ("words", "told", "transient"),
    [
        ("ssh: connect to host host port 22: No route to host", "cannot be reached (ssh: ", True),
        ("ssh: connect to host host port 22: Connection timed out", "Connection timed out); see", True),
        ("ssh: connect to host host port 22: Connection refused", "Connection refused); see", True),
        ("kex_exchange_identification: Connection closed by remote host", "Connection closed by remote host", True),
        ("ssh: Could not resolve hostname host: Temporary failure in name resolution", "Temporary failure", True),
        ("ssh: Could not resolve hostname gate: Name or service not known", "No host is named gate;", False),
        ("", "host cannot be reached (ssh ended with status 255)", True),
    ],
)
def test_why_a_host_is_not_reached_is_told_as_ssh_told_it(ssh, tmp_path, words, told, transient):
    """The error of a connection that did not begin has the reason that ssh gave, and only what stays so is final."""
    ssh.lose(replies=0, words=words)
    store = SftpStore(f"sftp://me@host{tmp_path}", {})
    with pytest.raises((ConnectionLostError, Fault)) as caught:
        store.folder(())
    assert store.transient(caught.value) is transient
    fault = fault_of(caught.value, "Listing")
    assert (fault.code, told in fault.reason) == ("CONNECT_FAILED", True), fault.reason
