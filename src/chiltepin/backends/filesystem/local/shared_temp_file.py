"""A local temporary file that several workers write together, perhaps on several hosts.

The process that distributes its parts owns it, and does not write it, so that no lock shows whether it is needed. Its
name contains this process and a random number, so that two tasks never write the same file. It is swept when its owner
has ended or, if that is unknown because it is on another host, after a day without a write.
"""

from __future__ import annotations

import errno
import os
import secrets
from contextlib import suppress
from typing import TYPE_CHECKING

from chiltepin.backends.filesystem.local.claims import MARKED, NEW, OPEN, sweep_shared
from chiltepin.backends.filesystem.local.reader import OpenFile, close_quietly
from chiltepin.backends.filesystem.local.temp_files import create_mode
from chiltepin.backends.filesystem.local.writer import LocalTempFile
from chiltepin.backends.filesystem.temp_names import temporary

if TYPE_CHECKING:
    from chiltepin.backends.filesystem.local.temp_files import TempFiles

__all__ = ["SharedTempFile", "begin_shared"]


def begin_shared(temp_files: TempFiles, name: str, size: int, owner: str) -> str:
    """Make a temporary file of ``size`` bytes, and return its name; first free the space of those of killed tasks."""
    folder = temp_files.folder
    with suppress(OSError):
        sweep_shared(folder)
    temp_file = temporary(f"{owner}-{secrets.token_hex(MARKED // 2)}-{secrets.randbits(62)}")
    descriptor = os.open(temp_file, NEW, create_mode(temp_files.replaced(name)), dir_fd=folder)
    try:
        os.ftruncate(descriptor, size)
    except BaseException:
        os.unlink(temp_file, dir_fd=folder)
        raise
    finally:
        close_quietly(descriptor)
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
