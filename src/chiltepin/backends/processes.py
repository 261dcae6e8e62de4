"""Whether a process is running, and on which machine: the host, this boot of it, and the set of processes."""

from __future__ import annotations

import os
import socket
import uuid
from contextlib import suppress
from functools import cache
from pathlib import Path

import xxhash

__all__ = ["machine_id", "start_ticks", "start_time"]

#: States in ``/proc/pid/stat`` of a process that has ended; before its parent has waited for it, a zombie (proc(5)).
_ENDED = ("Z", "X")


@cache
def machine_id() -> str:
    """Return a name for this host, this boot of it, and this set of processes: a container has its own."""
    facts = [socket.gethostname(), str(uuid.getnode())]
    # Linux only; elsewhere host and address have to do.
    with suppress(OSError):
        facts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii"))
        facts.append(os.readlink("/proc/self/ns/pid"))
    return xxhash.xxh3_64_hexdigest("\0".join(facts).encode())


def start_ticks(pid: int) -> str | None:
    """Return when a running process of this machine was started, in clock ticks since the boot; None if it has ended.

    Together with its number, this tells it from a later process. It is "0" where the system does not provide it.
    """
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            # The name of the program, in brackets, comes first and may itself contain brackets and blanks.
            facts = file.read().rpartition(")")[2].split()
            return None if facts[0] in _ENDED else facts[19]
    except (OSError, IndexError):
        pass
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except (OSError, OverflowError):
        pass
    return "0"


def start_time(pid: int) -> float | None:
    """Return when a running process was started, in seconds since 1970; None if it has ended.

    Setting the clock of the machine moves the result by up to a second.
    """
    # Loaded by those only that need a time: `start_ticks` is called in every process.
    import psutil  # noqa: PLC0415 - see above

    if start_ticks(pid) is None:
        return None
    try:
        return float(psutil.Process(pid).create_time())
    except psutil.NoSuchProcess:
        return None
