"""Whose file it is: the process that writes to a file of the journal, and whether it still lives."""

from __future__ import annotations

import os
import re
import socket
from dataclasses import dataclass

__all__ = ["ProcessId"]

#: States of a process that is over, in ``/proc/pid/stat``: one that nobody has waited for yet is a zombie (proc(5)).
_OVER = ("Z", "X")


@dataclass(frozen=True, slots=True)
class ProcessId:
    """A process, told from every other one of its host, also from one that is given the same number later.

    Parameters
    ----------
    host : str
        The name of its machine, as far as a file name can have it.
    pid : int
        Its number there.
    started : str
        When the kernel started it, in ticks since the machine was; "0" where the system does not tell.
    """

    host: str
    pid: int
    started: str

    @classmethod
    def current(cls) -> ProcessId:
        """Return the process that asks."""
        pid = os.getpid()
        return cls(_host(), pid, _found(pid)[1])

    @classmethod
    def from_path(cls, path: str) -> ProcessId | None:
        """Return the owner of a file, by its name; None if the name is none of ours."""
        try:
            before, pid, started, _ = os.path.basename(path).rsplit("-", 3)
            return cls(before.split("-", 1)[1], int(pid), started)
        except (ValueError, IndexError):
            return None

    def __str__(self) -> str:
        return f"{self.host}-{self.pid}-{self.started}"

    def is_running(self) -> bool:
        """Whether it runs; one of another machine, which cannot be asked, counts as dead.

        A batch job that is started again is seldom on the node where it was killed.
        """
        if self.host != _host():
            return False
        state, started = _found(self.pid)
        return state not in _OVER and started == self.started

    def has_ended(self) -> bool:
        """Whether it is known to be over; of a process of another machine that is not known."""
        return self.host == _host() and not self.is_running()


def _host() -> str:
    return re.sub(r"[^A-Za-z0-9.-]", "_", socket.gethostname())[:64]


def _found(pid: int) -> tuple[str, str]:
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            # The name of the program comes before them, in brackets, and may have brackets and blanks in it.
            facts = file.read().rpartition(")")[2].split()
            return facts[0], facts[19]
    except (OSError, IndexError):
        pass
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return _OVER[-1], "0"
    except (OSError, OverflowError):
        pass
    return "?", "0"
