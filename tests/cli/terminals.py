"""Run the command on a pseudo-terminal: read its screen and type keys."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time

import psutil

#: The pseudo-terminal controls the process, so that a typed Ctrl-C becomes SIGINT; the handler is the one that Python
#: installs in a shell, even if the tests' environment ignores the signal.
BEGIN = """
import fcntl, signal, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
signal.signal(signal.SIGINT, signal.default_int_handler)
from chiltepin.cli.main import main
main()
"""

CTRL_C = b"\x03"


class Terminal:
    """A pseudo-terminal of a given width, on which the command runs.

    Attributes
    ----------
    raw : str
        All output so far.
    shown : str
        The same output without escape sequences.
    """

    def __init__(self, world, *words, columns=80, before=""):
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        environment = {**os.environ, "TERM": "xterm-256color"}
        environment.pop("COLUMNS", None)
        self._process = subprocess.Popen(
            [sys.executable, "-c", before + BEGIN, *map(str, words)],
            cwd=world.folder,
            env=environment,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
        )
        os.close(slave)
        self.raw, self._typed = "", b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.kill()
        self._process.wait()
        os.close(self._master)

    @property
    def shown(self):
        """The output so far, without escape sequences."""
        return re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", self.raw)

    def type(self, keys):
        """Type keys once the command waits: Python would handle a signal just before its read only after that read."""
        end = time.monotonic() + 5
        while psutil.Process(self._process.pid).status() == psutil.STATUS_RUNNING and time.monotonic() < end:
            time.sleep(0.01)
        os.write(self._master, keys)
        self._typed = keys

    def until(self, pattern, limit=60):
        """Read until the output matches the pattern; return the match."""
        end = time.monotonic() + limit
        while not (match := re.search(pattern, self.shown)):
            assert self._read(end - time.monotonic()), f"{pattern!r} was not shown in {limit} s: {self.shown!r}"
        return match

    def ended(self, limit=60):
        """Read to the end of the output; return the exit code."""
        end = time.monotonic() + limit
        while self._read(min(30, end - time.monotonic()) if self._typed == CTRL_C else end - time.monotonic()):
            pass
        if self._typed == CTRL_C and self._process.poll() is None:
            # Python can miss the first Ctrl-C between its check for signals and its read; a user would press it again.
            with contextlib.suppress(subprocess.TimeoutExpired):
                return self._process.wait(timeout=15)
            os.write(self._master, CTRL_C)
            while self._read(end - time.monotonic()):
                pass
        return self._process.wait(timeout=limit)

    def _read(self, seconds):
        if not select.select([self._master], [], [], max(0, seconds))[0]:
            return False
        try:
            read = os.read(self._master, 65536)
        except OSError:
            # Linux reports an error when the other side of a terminal is closed.
            return False
        self.raw += read.decode(errors="replace")
        return bool(read)
