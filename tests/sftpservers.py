"""Real SFTP servers other than OpenSSH on ports of the loopback, each serving a folder."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from waiting import until
from webservers import answers, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

#: The kinds of servers.
KINDS = ("rclone", "asyncssh")

#: Seconds after which rclone sees what a test has changed on disk; with a shorter time, rclone 1.75 only looks for
#: changes.
RCLONE_LISTS_AFTER = 0.001

ASYNCSSH = """
import asyncio, sys
import asyncssh

async def serve():
    folder, port = sys.argv[1:]
    keys = {"server_host_keys": [f"{folder}/host"], "authorized_client_keys": f"{folder}/user.pub"}
    await asyncssh.listen("127.0.0.1", int(port), sftp_factory=True, **keys)
    await asyncio.Event().wait()

asyncio.run(serve())
"""


def _words(kind: str, folder: Path, root: Path, port: int) -> list[str]:
    """Return the command that serves a folder; skip the test if it is not installed."""
    if kind == "rclone":
        if shutil.which("rclone") is None:
            pytest.skip("There is no rclone here; install rclone.")
        keys = ["--key", f"{folder}/host", "--authorized-keys", f"{folder}/user.pub", "--user", "me"]
        keys += ["--dir-cache-time", f"{RCLONE_LISTS_AFTER * 1000:g}ms"]
        return ["rclone", "serve", "sftp", str(root), "--addr", f"127.0.0.1:{port}", *keys]
    if importlib.util.find_spec("asyncssh") is None:
        pytest.skip("There is no asyncssh here; run: pip install asyncssh.")
    return [sys.executable, "-c", ASYNCSSH, str(folder), str(port)]


@contextmanager
def sftp_server(kind: str, folder: Path) -> Iterator[tuple[dict[str, Any], Path]]:
    """Start a server in an empty folder; yield the settings of its endpoint, and the folder that it serves."""
    if shutil.which("ssh-keygen") is None:
        pytest.skip("There is no ssh here; install openssh-client.")
    root, port = folder / "root", free_port()
    root.mkdir()
    words = _words(kind, folder, root, port)
    for key in ("host", "user"):
        made = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / key)]
        subprocess.run(made, check=True, stdin=subprocess.DEVNULL)
    name, key, *_ = (folder / "host.pub").read_text().split()
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {name} {key}\n")
    options = {"key_filename": f"{folder}/user", "known_hosts": f"{folder}/known_hosts", "ssh_config": "none"}
    # rclone shows the served folder as the root.
    url = f"sftp://me@127.0.0.1:{port}{'' if kind == 'rclone' else root}"
    with open(folder / "said", "wb") as said:
        environment = os.environ | {"RCLONE_CONFIG": str(folder / "rclone.conf")}
        started = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=said, stderr=said, env=environment)
    with started:
        try:
            until(lambda: answers(port) or started.poll() is not None)
            assert started.poll() is None, (folder / "said").read_text()
            yield {"url": url, "options": options}, root
        finally:
            started.kill()
