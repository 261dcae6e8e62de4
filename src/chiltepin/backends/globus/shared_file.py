"""Change a small file that processes on several hosts may change at the same time, without losing a change.

A disk may have no locks, or locks that work only between the processes of one host. So a lock (``flock``) only makes
the writers of one host wait for each other. What protects a change is the new file that each writer creates beside the
old one, under a unique name. A writer creates its new file, removes those of all other writers, and only then reads the
old file, writes the new one and renames it over the old one. If two writers run at once, one of them finds its new file
gone, and starts again with the file that the other has written. The disk only has to make, remove and list names in the
same order for all hosts.
"""

from __future__ import annotations

import os
import re
import secrets
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from chiltepin.backends.file_lock import FileLock, pause
from chiltepin.backends.processes import is_earlier_boot, machine_id, start_ticks

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["BusyFileError", "change_file"]

#: Seconds to wait for a writer that may still be running; a write takes milliseconds.
PATIENCE = 10.0

#: End of the name of a new file: machine, process id, start time and a random text; earlier versions had only ``.new``.
_NEW = re.compile(r"(?:\.([0-9a-f]+)-([0-9]+)-([0-9]+)-[0-9a-f]+)?\.new$")


class BusyFileError(Exception):
    """Other writers kept the file busy."""


def change_file(path: str, change: Callable[[], bytes], *, timeout: float) -> None:
    """Replace a file with the bytes that ``change`` returns; call it again if another writer was first.

    Raise a BusyFileError if other writers keep the file busy for ``timeout`` seconds.
    """
    deadline = time.monotonic() + timeout
    with FileLock(f"{path}.lock", timeout) as mine:
        while not (mine and _replaced(path, change)):
            if time.monotonic() > deadline:
                raise BusyFileError
            pause()


def _replaced(path: str, change: Callable[[], bytes]) -> bool:
    """Change the file once; return False if another writer has removed our new file, or takes precedence."""
    _remove(_await_others(path))
    mine = f"{path}.{machine_id()}-{os.getpid()}-{start_ticks(os.getpid()) or 0}-{secrets.token_hex(4)}.new"
    descriptor = os.open(mine, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with open(descriptor, "wb") as file:
            others = _new_files(path) - {mine}
            # If two writers start at the same time, one of them gives way.
            if mine > min(others, default=mine):
                return False
            _remove(others)
            # A umask may have cleared bits; it cannot have added any.
            os.fchmod(descriptor, 0o600)
            file.write(change())
            file.flush()
            os.fsync(descriptor)
        with suppress(FileNotFoundError):
            os.replace(mine, path)
            return True
        return False
    finally:
        _remove({mine})


def _await_others(path: str) -> set[str]:
    """Wait for writers that may be running; return the new files that remain."""
    end = time.monotonic() + PATIENCE
    while not all(map(_is_left, _new_files(path))) and time.monotonic() < end:
        pause()
    return _new_files(path)


def _new_files(path: str) -> set[str]:
    folder, name = os.path.split(path)
    return {
        os.path.join(folder, found)
        for found in os.listdir(folder)
        if found.startswith(name) and _NEW.match(found, len(name))
    }


def _is_left(new_file: str) -> bool:
    """Whether the writer of a new file is known to be dead."""
    told = _NEW.search(new_file)
    if told is None or told[1] is None or is_earlier_boot(told[1]):
        return True
    return told[1] == machine_id() and start_ticks(int(told[2])) != told[3]


def _remove(paths: set[str]) -> None:
    for path in paths:
        with suppress(FileNotFoundError):
            os.unlink(path)
