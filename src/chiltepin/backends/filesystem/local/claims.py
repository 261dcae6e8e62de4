"""Which temporary files of this machine have a writer that lives, and what dead writers leave.

The name of a temporary file begins with the name of its *claim*: a file in the same folder that its writer holds locked
(``flock``) for as long as it lives, and that the kernel lets go of however the writer ends. A temporary file may be
its own claim; where many files are written into one folder they share one, which costs less. A sweep removes each claim
that is not locked, with all its temporary files.
"""

from __future__ import annotations

import fcntl
import os
import re
from contextlib import suppress

from chiltepin.backends.filesystem.local.reader import close_quietly
from chiltepin.backends.filesystem.temp_names import TEMP_PREFIX, body_of, temporary

__all__ = ["MARKED", "OPEN", "TOKEN", "open_locked", "sweep"]

#: How a claim is opened.
OPEN = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

#: Bytes of the random text in the name of a claim; hexadecimal digits in that of a temporary file that may be
#: continued.
TOKEN, MARKED = 8, 32

#: What the names of temporary files of this machine hold. Those of writers over SFTP (`owners`) have no claim, and are
#: theirs to sweep.
_LOCAL = re.compile(f"[0-9a-f]{{{2 * TOKEN}}}(-[0-9]+)?|[0-9a-f]{{{MARKED}}}")


def open_locked(folder: int, name: str, flags: int, wait: int, mode: int = 0o600) -> int | None:
    """Open a file and lock it; None if it is locked, or if the name now means another file."""
    descriptor = os.open(name, flags, mode, dir_fd=folder)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | wait)
        # Between the two calls a sweeper may have removed it, or its writer may have given it its real name.
        if os.path.samestat(os.fstat(descriptor), os.stat(name, dir_fd=folder, follow_symlinks=False)):
            return descriptor
    except FileNotFoundError:
        pass
    except OSError:
        # Without locks on this disk (ENOLCK, some network disks) nothing is ever swept either.
        if flags & os.O_EXCL:
            return descriptor
    close_quietly(descriptor)
    return None


def sweep(folder: int) -> bool:
    """Remove the temporary files of writers that are dead; return whether the disk let all of them go."""
    claims: dict[str, list[str]] = {}
    with os.scandir(folder) as found:
        for entry in found:
            # Most files are none of ours, and are told by a look at the start of their names.
            body = body_of(entry.name) if entry.name.startswith(TEMP_PREFIX) else None
            if body is not None and _LOCAL.fullmatch(body):
                claims.setdefault(temporary(body.partition("-")[0]), []).append(entry.name)
    clean = True
    for claim, names in claims.items():
        try:
            _remove_dead(folder, claim, names)
        except OSError:  # noqa: PERF203 - the others go all the same
            clean = False
    return clean


def _remove_dead(folder: int, claim: str, names: list[str]) -> None:
    descriptor = None
    with suppress(FileNotFoundError):
        descriptor = open_locked(folder, claim, OPEN, fcntl.LOCK_NB)
        if descriptor is None:
            return
    # A claim goes after its temporary files: a temporary file without one has no writer.
    try:
        for name in sorted(names, reverse=True):
            with suppress(FileNotFoundError):
                os.unlink(name, dir_fd=folder)
    finally:
        if descriptor is not None:
            close_quietly(descriptor)
