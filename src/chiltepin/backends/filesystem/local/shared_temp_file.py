"""A local temporary file that several workers write together, perhaps on several hosts.

The process that distributes its parts owns it, and does not write it, so that no lock shows whether it is needed. Its
name contains this process, the mark of its content, and a number, so that two tasks never write the same file. It is
swept when its owner has ended or, if that is unknown because it is on another host, after a day without a write. A
later task with the same content removes it unless a worker on this host has it open and so holds a shared lock.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import secrets
from contextlib import suppress
from typing import TYPE_CHECKING

from chiltepin.backends.filesystem.local.claims import MARKED, NEW, OPEN, SHARED, open_locked
from chiltepin.backends.filesystem.local.reader import OpenFile, close_quietly
from chiltepin.backends.filesystem.local.temp_files import create_mode
from chiltepin.backends.filesystem.local.writer import LocalTempFile
from chiltepin.backends.filesystem.temp_names import TEMP_PREFIX, body_of, temporary

if TYPE_CHECKING:
    from chiltepin.backends.filesystem.local.temp_files import TempFiles

__all__ = ["SharedTempFile", "begin_shared", "remove_unused"]


def begin_shared(temp_files: TempFiles, content_id: str, name: str, size: int, owner: str) -> str:
    """Make a temporary file of ``size`` bytes, and return its name; remove those of dead tasks with this content."""
    folder = temp_files.folder
    temp_file = temporary(f"{owner}-{remove_unused(folder, content_id, name)}-{secrets.randbits(62)}")
    descriptor = os.open(temp_file, NEW, create_mode(temp_files.replaced(name)), dir_fd=folder)
    try:
        os.ftruncate(descriptor, size)
    except BaseException:
        os.unlink(temp_file, dir_fd=folder)
        raise
    finally:
        close_quietly(descriptor)
    return temp_file


def remove_unused(folder: int, content_id: str, name: str) -> str:
    """Remove the temporary files of dead tasks for a file; return the mark in their names."""
    mark = hashlib.sha256(f"{content_id}/{name}".encode(errors="surrogateescape")).hexdigest()[:MARKED]
    for other in os.listdir(folder):
        shared = SHARED.fullmatch(body_of(other) or "") if other.startswith(TEMP_PREFIX) else None
        if shared and shared["mark"] == mark:
            _remove_unused(folder, other)
    return mark


def _remove_unused(folder: int, name: str) -> None:
    with suppress(OSError):
        descriptor = open_locked(folder, name, OPEN, fcntl.LOCK_NB)
        if descriptor is not None:
            os.unlink(name, dir_fd=folder)
            close_quietly(descriptor)


class SharedTempFile(LocalTempFile):
    """A shared temporary file, open in one worker; leaving the ``with`` does not remove it."""

    def __init__(self, temp_files: TempFiles, temp_file: str, name: str, size: int) -> None:
        descriptor = os.open(temp_file, OPEN, dir_fd=temp_files.folder)
        facts = os.fstat(descriptor)
        if facts.st_uid != os.geteuid() or facts.st_nlink != 1 or facts.st_size != size:
            close_quietly(descriptor)
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), temp_file)
        # Without locks, a task with the same content may remove the file, and this task fails.
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        super().__init__(temp_files, temp_file, descriptor, name, size, rights=temp_files.replaced(name))

    def mark_verified(self, offset: int, digest: bytes) -> None:
        """Record nothing: the file is not continued, and the worker that renames it would not cut the digests off."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        OpenFile.__exit__(self, kind, error, trace)
