"""A local temporary file that several workers write together, perhaps on several hosts.

The process that distributes its parts owns it, and does not write it, so that no lock shows whether it is needed. Its
name contains this process, the attempt at a shard that made it, and a random number, so that two tasks never write the
same file. It is swept when its owner has ended or, if that is unknown because it is on another host, after a day
without a write. While its owner runs, the files of abandoned attempts are swept, which each shard lists.
"""

from __future__ import annotations

import errno
import os
import secrets
from contextlib import suppress
from typing import TYPE_CHECKING

from chiltepin.backends.filesystem.local.claims import NEW, OPEN, sweep_shared
from chiltepin.backends.filesystem.local.in_order_files import accepts_parts
from chiltepin.backends.filesystem.local.reader import OpenFile, close_quietly
from chiltepin.backends.filesystem.local.temp_files import create_mode
from chiltepin.backends.filesystem.local.writer import LocalTempFile
from chiltepin.backends.filesystem.temp_names import temporary

if TYPE_CHECKING:
    from chiltepin.backends.filesystem.local.temp_files import TempFiles
    from chiltepin.protocol import Shard

__all__ = ["SharedTempFile", "begin_shared"]


def begin_shared(temp_files: TempFiles, name: str, size: int, shard: Shard) -> str | None:
    """Make a temporary file of ``size`` bytes, and return its name; first sweep those of earlier tasks.

    None if the disk refuses what the workers need; then one worker copies the file, and reports what is wrong.
    """
    folder = temp_files.folder
    with suppress(OSError):
        sweep_shared(folder, shard.abandoned)
    if not accepts_parts(temp_files):
        return None
    temp_file = temporary(f"{shard.owner}-{shard.attempt}-{secrets.randbits(62)}")
    try:
        descriptor = os.open(temp_file, NEW, create_mode(temp_files.replaced(name)), dir_fd=folder)
        try:
            os.ftruncate(descriptor, size)
        finally:
            close_quietly(descriptor)
        # Each worker opens it anew.
        close_quietly(SharedTempFile(temp_files, temp_file, name, size).descriptor)
    except BaseException as err:
        temp_files.give_up(temp_file)
        if isinstance(err, OSError):
            return None
        raise
    return temp_file


class SharedTempFile(LocalTempFile):
    """A shared temporary file, open in one worker; leaving the ``with`` does not remove it."""

    def __init__(self, temp_files: TempFiles, temp_file: str, name: str, size: int) -> None:
        descriptor = os.open(temp_file, OPEN, dir_fd=temp_files.folder)
        facts = os.fstat(descriptor)
        if facts.st_uid != os.geteuid() or facts.st_nlink != 1 or facts.st_size != size:
            close_quietly(descriptor)
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), temp_file)
        super().__init__(temp_files, temp_file, descriptor, name, size, rights=temp_files.replaced(name))

    def mark_verified(self, offset: int, digest: bytes) -> None:
        """Record nothing: the file is not continued, and the worker that renames it would not cut the digests off."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        OpenFile.__exit__(self, kind, error, trace)
