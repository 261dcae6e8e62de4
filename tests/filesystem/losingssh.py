"""An `ssh` command that runs OpenSSH's SFTP server and loses its first connection after some bytes.

It is run as ``losingssh.py FOLDER SSH-ARGUMENTS...``; `Losing` makes it a command.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

SERVERS = ("/usr/lib/openssh/sftp-server", "/usr/libexec/openssh/sftp-server", "/usr/libexec/sftp-server")
#: OpenSSH's SFTP server, which uses standard input and output; None if it is not installed.
SERVER = next((path for path in SERVERS if os.path.exists(path)), None)


class Losing:
    """The command, in a new folder to be put first on the PATH."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder
        command = folder / "ssh"
        command.write_text(f'#!/bin/sh\nexec {sys.executable} -IS {__file__} {folder} "$@"\n')
        command.chmod(0o755)
        self.lose()

    def lose(self, *, replies: int = -1, requests: int = -1, status: int = 255, words: str = "") -> None:
        """Lose the next connection after so many bytes of replies or requests; ``words`` is the message of ssh."""
        for file in self.folder.glob("[0-9]*"):
            file.unlink()
        loss = {"replies": replies, "requests": requests, "status": status, "words": words}
        (self.folder / "loss").write_text(json.dumps(loss))

    def passed(self, stream: str) -> int:
        """Return how many bytes of ``replies`` or ``requests`` the first connection forwarded."""
        return int((self.folder / stream).read_text())


def _is_first(folder: Path) -> bool:
    """Count this connection; return whether it is the first one."""
    number = next(number for number in itertools.count() if not (folder / str(number)).exists())
    (folder / str(number)).touch(exist_ok=False)
    return number == 0


def _pass(source: int, goal: int, limit: int, counted: Path) -> None:
    """Forward bytes until the end or the limit."""
    count, counter = 0, os.open(counted, os.O_WRONLY | os.O_CREAT)
    while count != limit and (block := os.read(source, 65536 if limit < 0 else min(limit - count, 65536))):
        count += len(block)
        # Counted first, because the reader of the bytes can kill this process at once.
        os.pwrite(counter, b"%20d" % count, 0)
        view = memoryview(block)
        while view:
            view = view[os.write(goal, view) :]


def main(folder: Path) -> None:
    """Serve one connection; end this process as ssh would."""
    loss = json.loads((folder / "loss").read_text())
    with subprocess.Popen([SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        lost = threading.Lock()

        def lose() -> None:
            # Never released: if the other thread gets here too, it waits for the process to end.
            lost.acquire()
            server.kill()
            os.write(2, loss["words"].encode())
            os._exit(loss["status"])

        def requests() -> None:
            # The main thread kills the server at the limit of replies.
            with contextlib.suppress(BrokenPipeError):
                _pass(0, server.stdin.fileno(), loss["requests"], folder / "requests")
            lose()

        threading.Thread(target=requests, daemon=True).start()
        _pass(server.stdout.fileno(), 1, loss["replies"], folder / "replies")
        lose()


if __name__ == "__main__":
    if "-G" in sys.argv:
        sys.exit()
    if _is_first(Path(sys.argv[1])):
        main(Path(sys.argv[1]))
    os.execv(SERVER, [SERVER])  # noqa: S606 - no shell
