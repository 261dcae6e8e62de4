"""Debian's OpenSSH server on a port of the loopback, with separate keys, for tests and benchmarks."""

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

#: The default key exchange, which resists quantum computers, takes 70 ms of processor time on each side.
SETTINGS = """
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host
KexAlgorithms curve25519-sha256
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
    """Return the path of sshd, which is only on root's PATH, or None if it is not installed."""
    return shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin:/sbin")


class SshServer:
    """An SSH server, running during a ``with`` block, to which the current user logs in with a key.

    Parameters
    ----------
    folder : path
        An empty folder for its settings and keys.
    subsystem : str
        The command of the SFTP subsystem.
    more : str
        Extra lines for its settings.
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
            # The privilege separation folder of sshd, which the start of the service creates elsewhere.
            os.makedirs("/run/sshd", mode=0o755, exist_ok=True)
        self.start()
        return self

    def start(self) -> None:
        """Start the server, and wait until it listens."""
        words = [daemon(), "-D", "-e", "-f", self.folder / "sshd_config"]
        self.process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        lines = iter(self.process.stderr.readline, "")
        assert any("Server listening" in line for line in lines)
        # Later output is read, so that a full pipe never blocks sshd.
        self._reader = threading.Thread(target=list, args=(lines,), daemon=True)
        self._reader.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Kill the server and all connections."""
        self.cut()
        self.process.kill()
        self.process.wait()
        self._reader.join(10)
        self.process.stderr.close()

    def sessions(self) -> list[psutil.Process]:
        """Return the processes of its connections."""
        return psutil.Process(self.process.pid).children(recursive=True)

    def cut(self) -> None:
        """Kill all connections; the server accepts new ones."""
        for session in self.sessions():
            with suppress(psutil.NoSuchProcess):
                session.kill()

    def url(self, path: str | os.PathLike[str]) -> str:
        """Return the URL of a folder on the server."""
        return f"sftp://{self.user}@127.0.0.1:{self.port}{path}"

    @property
    def options(self) -> dict[str, Any]:
        """The options of an endpoint on the server."""
        return {
            "key_filename": f"{self.folder}/user",
            "known_hosts": f"{self.folder}/known_hosts",
            "ssh_config": "none",
        }

    def endpoint(self, path: str | os.PathLike[str], **options: Any) -> dict[str, Any]:
        """Return the settings of an endpoint at a folder on the server."""
        return {"url": self.url(path), "options": self.options | options}


@pytest.fixture(scope="session")
def ssh_server(tmp_path_factory) -> Iterator[SshServer]:
    """One server for all tests."""
    if daemon() is None:
        pytest.skip("There is no sshd here; install openssh-server.")
    with SshServer(tmp_path_factory.mktemp("ssh")) as server:
        yield server
