"""Debian's OpenSSH server on a port of the loopback, with separate keys; for tests and benchmarks."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from typing_extensions import Self

SETTINGS = """
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host
AuthorizedKeysFile {folder}/user.pub
PidFile none
UsePAM no
StrictModes no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin yes
MaxSessions 50
MaxStartups 100
Subsystem sftp {subsystem}
{more}
"""


def daemon() -> str | None:
    """The path of sshd, which is only on root's PATH; None if it is not installed."""
    return shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin:/sbin")


class SshServer:
    """An SSH server for the current user, who logs in with a key; it ends with the ``with`` block.

    Parameters
    ----------
    folder : path
        An empty folder for its settings and keys.
    subsystem : str
        What serves SFTP.
    more : str
        More lines for its settings.
    """

    def __init__(self, folder: Path, *, subsystem: str = "internal-sftp", more: str = "") -> None:
        self.folder, self.user = Path(folder), getpass.getuser()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        for key in ("host", "user"):
            words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.folder / key]
            subprocess.run(words, check=True, stdin=subprocess.DEVNULL)
        kind, key, *_ = (self.folder / "host.pub").read_text().split()
        (self.folder / "known_hosts").write_text(f"[127.0.0.1]:{self.port} {kind} {key}\n")
        settings = SETTINGS.format(port=self.port, folder=self.folder, subsystem=subsystem, more=more)
        (self.folder / "sshd_config").write_text(settings)

    def __enter__(self) -> Self:
        if os.geteuid() == 0:
            # Where sshd locks itself up, made by the service's start elsewhere.
            os.makedirs("/run/sshd", mode=0o755, exist_ok=True)
        self.start()
        return self

    def start(self) -> None:
        """Start it, and wait until it listens."""
        words = [daemon(), "-D", "-e", "-f", self.folder / "sshd_config"]
        self.process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        lines = iter(self.process.stderr.readline, "")
        assert any("Server listening" in line for line in lines)
        # What it says later is read, so that it never waits for a reader.
        self._reader = threading.Thread(target=list, args=(lines,), daemon=True)
        self._reader.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Kill it, with all connections."""
        self.cut()
        self.process.kill()
        self.process.wait()
        self._reader.join(10)
        self.process.stderr.close()

    def sessions(self) -> list[psutil.Process]:
        """Its processes for the connections that it has."""
        return psutil.Process(self.process.pid).children(recursive=True)

    def cut(self) -> None:
        """Kill all connections; new ones are welcome."""
        for session in self.sessions():
            with suppress(psutil.NoSuchProcess):
                session.kill()

    def url(self, path: str | os.PathLike[str]) -> str:
        """What an endpoint says of a folder there."""
        return f"sftp://{self.user}@127.0.0.1:{self.port}{path}"

    @property
    def options(self) -> dict[str, Any]:
        """The options of such an endpoint."""
        return {
            "key_filename": f"{self.folder}/user",
            "known_hosts": f"{self.folder}/known_hosts",
            "ssh_config": "none",
        }

    def endpoint(self, path: str | os.PathLike[str], **options: Any) -> dict[str, Any]:
        """An endpoint at a folder there."""
        return {"url": self.url(path), "options": self.options | options}


@pytest.fixture(scope="session")
def ssh_server(tmp_path_factory) -> Iterator[SshServer]:
    """One server for all tests."""
    if daemon() is None:
        pytest.skip("There is no sshd here; install openssh-server.")
    with SshServer(tmp_path_factory.mktemp("ssh")) as server:
        yield server
