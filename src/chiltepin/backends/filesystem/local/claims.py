"""Tell which local temporary files have a live writer, and remove those of dead writers.

The name of a temporary file begins with the host of its writer and the name of its *claim*: a file in the same folder
that its writer keeps locked (``flock``) while it runs, and that the kernel unlocks however the writer ends. A temporary
file may be its own claim; many files that are written into one folder share a claim, which costs less. A sweep removes
each claim that is not locked, with all its temporary files.

Whether a lock works between two hosts depends on how they have mounted the disk (Lustre ``localflock``, NFS
``local_lock``). So locks are used only to check writers of this host, from any of its boots. A writer on another host
may still be running: its temporary files are never continued, and are swept only a day after its last write.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
from contextlib import suppress
from functools import cache, partial
from typing import TYPE_CHECKING

from chiltepin.backends.filesystem.local.reader import close_quietly
from chiltepin.backends.filesystem.temp_names import ABANDONED_AFTER, TEMP_PREFIX, TOKEN, body_of, new_claim, temporary
from chiltepin.backends.processes import HOST, has_ended, host_id, machine_id

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["MARKED", "NEW", "OPEN", "is_removed", "open_locked", "sweep", "sweep_shared", "time_of", "unlocked"]

#: How a claim is opened.
OPEN = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

#: How a claim is made.
NEW = OPEN | os.O_CREAT | os.O_EXCL

#: Hexadecimal digits in the name of a temporary file that may be continued.
MARKED = 32

#: The names of local temporary files: the host, and the claim. Earlier versions used no host. Names of writers over
#: SFTP (`owners`) have no claim, and these writers sweep their own files.
_LOCAL = re.compile(f"(([0-9a-f]{{{HOST}}}-)?([0-9a-f]{{{2 * TOKEN}}}|[0-9a-f]{{{MARKED}}}))(-[0-9]+)?")

#: The name of a file that several workers write: the process that distributes its parts, the attempt at a shard that
#: made it (`Shard.attempt`), and a random number.
_SHARED = re.compile(f"(?P<owner>[0-9a-f]+-[0-9]+-[0-9]+)-(?P<attempt>[0-9a-f]{{{MARKED}}})-[0-9]+")


#: Temporary files that this process uses without a lock.
unlocked: set[str] = set()


class NoLocksError(OSError):
    """The disk has no locks, like some network disks (ENOLCK), so it is unknown whether a writer is running."""


def open_locked(folder: int, name: str, flags: int, wait: int, mode: int = 0o600) -> int | None:
    """Open a file and lock it; None if it is locked, or if the name now belongs to another file.

    On a disk without locks, a new file is returned unlocked, and any other file is a NoLocksError.
    """
    descriptor = os.open(name, flags, mode, dir_fd=folder)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | wait)
        # Between the two calls a sweeper may have removed it, or its writer may have given it its real name.
        if os.path.samestat(os.fstat(descriptor), os.stat(name, dir_fd=folder, follow_symlinks=False)):
            return descriptor
    except BlockingIOError:
        pass
    except OSError as err:
        if not is_removed(err):
            if flags & os.O_EXCL:
                return descriptor
            close_quietly(descriptor)
            raise NoLocksError(err.errno, os.strerror(err.errno or 0)) from None
    close_quietly(descriptor)
    return None


def is_removed(error: OSError) -> bool:
    """Whether an error about an open file means that its name was removed: on NFS and over FUSE, it is then stale."""
    return error.errno in (errno.ENOENT, errno.ESTALE)


def sweep(folder: int) -> bool:
    """Remove the temporary files of dead writers; return whether the disk removed them all."""
    names = _temp_files(folder)
    return not names or _sweep(folder, names)


def sweep_shared(folder: int, abandoned: tuple[str, ...]) -> None:
    """Remove the files of several workers whose owner has ended, as `sweep` does, or whose attempt is abandoned."""
    _sweep(folder, [name for name in _temp_files(folder) if _SHARED.fullmatch(body_of(name) or "")], abandoned)


def _temp_files(folder: int) -> list[str]:
    with os.scandir(folder) as found:
        # Most files are not ours. A comprehension skips them in a third of the time of a loop.
        return [entry.name for entry in found if entry.name.startswith(TEMP_PREFIX)]


def _sweep(folder: int, names: list[str], abandoned: tuple[str, ...] = ()) -> bool:
    claims: dict[str, list[str]] = {}
    #: By the owner of the file, and whether its attempt is abandoned.
    owners: dict[tuple[str, bool], list[str]] = {}
    for name in names:
        body = body_of(name) or ""
        if ours := _LOCAL.fullmatch(body):
            claims.setdefault(ours[1], []).append(name)
        elif shared := _SHARED.fullmatch(body):
            owners.setdefault((shared["owner"], shared["attempt"].startswith(abandoned)), []).append(name)
    clean, now = True, cache(partial(time_of, folder))
    for (owner, is_abandoned), temp_files in owners.items():
        try:
            if is_abandoned:
                _remove(folder, temp_files)
            else:
                _remove_ended(folder, owner, temp_files, now)
        except OSError:  # noqa: PERF203 - the others are removed anyway
            clean = False
    for claim, temp_files in claims.items():
        try:
            if claim.startswith(f"{host_id()}-"):
                _remove_dead(folder, temporary(claim), temp_files, now)
            else:
                _remove_old(folder, temp_files, now())
        except OSError:  # noqa: PERF203 - the others are removed anyway
            clean = False
    return clean


def _remove_ended(folder: int, owner: str, names: list[str], now: Callable[[], float]) -> None:
    """Remove the files that several workers write for a process, unless it is running."""
    if has_ended(owner):
        _remove(folder, names)
    elif not owner.startswith(f"{machine_id()}-"):
        _remove_old(folder, names, now())


def _remove_dead(folder: int, claim: str, names: list[str], now: Callable[[], float]) -> None:
    """Remove the files of a writer on this host, unless it is running."""
    descriptor = None
    try:
        descriptor = open_locked(folder, claim, OPEN, fcntl.LOCK_NB)
        if descriptor is None:
            return
    except NoLocksError:
        _remove_old(folder, names, now())
        return
    except FileNotFoundError:
        pass  # A file without a claim has no writer.
    try:
        _remove(folder, names)
    finally:
        if descriptor is not None:
            close_quietly(descriptor)


def _remove_old(folder: int, names: list[str], now: float) -> None:
    """Remove the files of a writer that cannot be checked, if it has not written for a day."""
    written = []
    for name in names:
        with suppress(FileNotFoundError):
            written.append(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mtime)
    if written and now - max(written) > ABANDONED_AFTER:
        _remove(folder, names)


def _remove(folder: int, names: list[str]) -> None:
    # A claim is removed after its temporary files: a temporary file without a claim counts as abandoned.
    for name in sorted(set(names) - unlocked, reverse=True):
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=folder)


def time_of(folder: int) -> float:
    """Return the time by the disk's clock, which may differ from ours: the time of a new file."""
    name = new_claim()
    descriptor = os.open(name, NEW, 0o600, dir_fd=folder)
    try:
        return os.fstat(descriptor).st_mtime
    finally:
        close_quietly(descriptor)
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=folder)
