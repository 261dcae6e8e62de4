"""Identify a process and its machine (host, boot and PID namespace), and check whether a process is running."""

from __future__ import annotations

import os
import socket
import uuid
from contextlib import suppress
from functools import cache
from pathlib import Path
from types import ModuleType

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

#: Hexadecimal digits of `host_id`, and of a boot and a PID namespace in `machine_id`.
HOST, _BOOT = 12, 6

#: States in ``/proc/pid/stat`` of a process that has ended: a zombie until its parent waits for it, or dead (proc(5)).
_ENDED = ("Z", "X")


@cache
def host_id() -> str:
    """Return an id for this host that stays the same after a reboot.

    All processes with this id run on one kernel at a time, so a kernel lock (``flock``) works between them on every
    disk. A container may share its name and address with a container on another machine, so there, and on a host that
    has only a name, the id comes from the kernel's boot.
    """
    address = uuid.getnode()
    # This bit marks a random address, new in each process, which Python uses without a network card (RFC 9562, 6.10).
    known = ("" if address >> 40 & 1 else str(address)) + _read("/etc/machine-id")
    boot = _read("/proc/sys/kernel/random/boot_id")
    if boot and (not known or _in_container()):
        return _digest(boot, digits=HOST)
    return _digest(socket.gethostname(), known, digits=HOST)


def machine_id() -> str:
    """Return an id for this host, its current boot, and this PID namespace, which a container does not share."""
    return _machine_id(isinstance(os, ModuleType))


@cache
def _machine_id(_: object) -> str:
    # The argument is False while a test has replaced ``os`` with fake files: other processes would take the id without
    # the boot for one of an earlier boot.
    processes = ""
    with suppress(OSError):
        processes = os.readlink("/proc/self/ns/pid")
    # Linux only; elsewhere the host alone identifies the machine.
    boot = _read("/proc/sys/kernel/random/boot_id")
    return host_id() + _digest(boot, digits=_BOOT) + _digest(processes, digits=_BOOT)


def is_earlier_boot(machine: str) -> bool:
    """Whether a `machine_id` is from an earlier boot of this host, so that none of its processes is running."""
    host, boot = slice(HOST), slice(HOST, HOST + _BOOT)
    ours = machine_id()
    return len(machine) == len(ours) and machine[host] == ours[host] and machine[boot] != ours[boot]


def process_id() -> str:
    """Return an id for this process: its machine, its process id, and its start time."""
    return f"{machine_id()}-{os.getpid()}-{start_ticks(os.getpid()) or 0}"


def has_ended(process: str) -> bool:
    """Whether the process of a `process_id` is known to have ended; False for a process on another machine."""
    machine, pid, started = process.split("-")
    return is_earlier_boot(machine) or (machine == machine_id() and start_ticks(int(pid)) != started)


def _digest(*facts: str, digits: int) -> str:
    return xxhash.xxh3_64_hexdigest("\0".join(facts).encode())[:digits]


def _read(path: str) -> str:
    """Return the text of a file; empty if it cannot be read."""
    with suppress(OSError):
        return Path(path).read_text(encoding="utf-8", errors="replace")
    return ""


def _in_container() -> bool:
    """Whether this is a container: Docker and Podman create a marker file, and its root may be an overlay."""
    if os.path.exists("/.dockerenv") or os.path.exists("/run/.containerenv"):
        return True
    # Index 4 is the mount point; the filesystem type follows a dash (proc_pid_mountinfo(5)).
    mounts = (line.split() for line in _read("/proc/self/mountinfo").splitlines())
    return any(mount[4] == "/" and "overlay" in mount[mount.index("-") :] for mount in mounts if "-" in mount)


def start_ticks(pid: int) -> str | None:
    """Return the start time of a running process on this machine, in clock ticks since boot; None if it has ended.

    With its process id, this distinguishes it from a later process. It is "0" if the system does not provide it.
    """
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            # The name of the program, in parentheses, comes first and may itself contain parentheses and spaces.
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
    """Return the start time of a running process, in seconds since 1970; None if it has ended.

    Setting the machine's clock shifts the result by up to a second.
    """
    # Imported here because only some processes need a time, but every process calls `start_ticks`.
    import psutil  # noqa: PLC0415 - see above

    if start_ticks(pid) is None:
        return None
    try:
        return float(psutil.Process(pid).create_time())
    except psutil.NoSuchProcess:
        return None
