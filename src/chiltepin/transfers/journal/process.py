"""The process that writes to a file of the journal, and whether it is still running."""

from __future__ import annotations

import os
import re
import socket
from dataclasses import dataclass

from chiltepin.backends.processes import start_ticks

__all__ = ["ProcessId"]


@dataclass(frozen=True, slots=True)
class ProcessId:
    """A process: its host, as a part of a file name, its process id, and its start time.

    ``started``, in clock ticks since the machine was booted, distinguishes it from a later process with the same id;
    it is "0" if the system does not provide it.
    """

    host: str
    pid: int
    started: str

    @classmethod
    def current(cls) -> ProcessId:
        """Return the calling process."""
        pid = os.getpid()
        return cls(_host(), pid, start_ticks(pid) or "0")

    @classmethod
    def from_path(cls, path: str) -> ProcessId | None:
        """Return the process in the name of a file; None for any other name."""
        try:
            before, pid, started, _ = os.path.basename(path).rsplit("-", 3)
            return cls(before.split("-", 1)[1], int(pid), started)
        except (ValueError, IndexError):
            return None

    def __str__(self) -> str:
        return f"{self.host}-{self.pid}-{self.started}"

    def is_running(self) -> bool:
        """Whether it is running; a process on another machine counts as ended, because it cannot be checked.

        A restarted batch job rarely runs on the node where it was killed.
        """
        return self.host == _host() and start_ticks(self.pid) == self.started

    def has_ended(self) -> bool:
        """Whether it is known to have ended; always False for a process on another machine."""
        return self.host == _host() and not self.is_running()


def _host() -> str:
    return re.sub(r"[^A-Za-z0-9.-]", "_", socket.gethostname())[:64]
