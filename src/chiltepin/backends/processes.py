"""Whether a process is running, and on which machine: the host, this boot of it, and the set of processes."""

from __future__ import annotations

import os
import socket
import uuid
from contextlib import suppress
from functools import cache
from pathlib import Path

import xxhash

__all__ = [
    "HOST",
    "has_ended",
    "host_id",
    "is_earlier_boot",
    "machine_id",
    "process_id",
    "start_ticks",
    "start_time",
]

#: Hexadecimal digits of `host_id`, and of a boot and a set of processes in `machine_id`.
HOST, _BOOT = 12, 6

#: States in ``/proc/pid/stat`` of a process that has ended; before its parent has waited for it, a zombie (proc(5)).
_ENDED = ("Z", "X")


@cache
def host_id() -> str:
    """Return a name for this host that stays the same when it is booted again.

    One kernel at a time runs all processes with this name, so a lock of the kernel (``flock``) counts between them on
    every disk. A container may have the name and the address of one on another machine, so there it is the boot of the
    kernel that has a name, and so where a host has nothing but its name.
    """
    address = uuid.getnode()
    # A bit that no network card has: without one, Python makes up another address in each process (RFC 9562, 6.10).
    known = ("" if address >> 40 & 1 else str(address)) + _read("/etc/machine-id")
    boot = _read("/proc/sys/kernel/random/boot_id")
    if boot and (not known or _in_container()):
        return _digest(boot, digits=HOST)
    return _digest(socket.gethostname(), known, digits=HOST)


@cache
def machine_id() -> str:
    """Return a name for this host, this boot of it, and this set of processes: a container has its own."""
    processes = ""
    with suppress(OSError):
        processes = os.readlink("/proc/self/ns/pid")
    # Linux only; elsewhere the host has to do.
    boot = _read("/proc/sys/kernel/random/boot_id")
    return host_id() + _digest(boot, digits=_BOOT) + _digest(processes, digits=_BOOT)


def is_earlier_boot(machine: str) -> bool:
    """Whether a `machine_id` is one of this host before it was booted, so that none of its processes is running."""
    host, boot = slice(HOST), slice(HOST, HOST + _BOOT)
    ours = machine_id()
    return len(machine) == len(ours) and machine[host] == ours[host] and machine[boot] != ours[boot]


def process_id() -> str:
    """Return a name for this process: its machine, its number there, and when it was started."""
    return f"{machine_id()}-{os.getpid()}-{start_ticks(os.getpid()) or 0}"


def has_ended(process: str) -> bool:
    """Whether the process of a `process_id` is known to have ended; that is unknown of one of another machine."""
    machine, pid, started = process.split("-")
    return is_earlier_boot(machine) or (machine == machine_id() and start_ticks(int(pid)) != started)


def _digest(*facts: str, digits: int) -> str:
    return xxhash.xxh3_64_hexdigest("\0".join(facts).encode())[:digits]


def _read(path: str) -> str:
    """Return what a file says; empty if there is none."""
    with suppress(OSError):
        return Path(path).read_text(encoding="utf-8", errors="replace")
    return ""


def _in_container() -> bool:
    """Whether this is a container, by the marks of Docker and Podman, or by a root that is put together of layers."""
    if os.path.exists("/.dockerenv") or os.path.exists("/run/.containerenv"):
        return True
    # Of each mount its place, and after a dash the kind of its disk (proc_pid_mountinfo(5)).
    mounts = (line.split() for line in _read("/proc/self/mountinfo").splitlines())
    return any(mount[4] == "/" and "overlay" in mount[mount.index("-") :] for mount in mounts if "-" in mount)


def start_ticks(pid: int) -> str | None:
    """Return when a running process of this machine was started, in clock ticks since the boot; None if it has ended.

    Together with its number, this tells it from a later process. It is "0" where the system does not provide it.
    """
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
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
