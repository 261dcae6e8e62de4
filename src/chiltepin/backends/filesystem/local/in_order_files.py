"""Write to disks that accept a file in order only, and cannot read it back before it is closed.

Many disks over FUSE that store files as objects are such disks (``rclone mount``, Mountpoint for Amazon S3). A disk is
recognized as one when it first refuses an operation.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from chiltepin.backends.filesystem.defaults import InOrderFile
from chiltepin.backends.filesystem.local import descriptors
from chiltepin.backends.filesystem.local.claims import unlocked
from chiltepin.backends.filesystem.local.permissions import give_rights
from chiltepin.backends.filesystem.local.reader import FILE, LocalReader, OpenFile, close_quietly
from chiltepin.backends.filesystem.local.temp_files import give_name
from chiltepin.backends.filesystem.local.times import keep_time, nanoseconds
from chiltepin.backends.filesystem.temp_names import new_claim

if TYPE_CHECKING:
    from collections.abc import Callable

    from chiltepin.backends.filesystem.local.permissions import Rights
    from chiltepin.backends.filesystem.local.temp_files import TempFiles

__all__ = ["InOrderTempFile", "accepts_parts", "in_order_only"]

#: The errors of such disks for a write before the end, for a read, or for a file that is opened for both.
_REFUSALS = frozenset(
    {errno.EPERM, errno.EACCES, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS, errno.ESPIPE, errno.EBADF, errno.EIO}
)

_PIECE = 4096


def in_order_only(error: OSError, temp_files: TempFiles, *, known: bool) -> bool:
    """Whether a disk refused an operation because it accepts files in order only.

    If that is not ``known`` yet, it is tested with two new files.
    """
    if error.errno not in _REFUSALS:
        return False
    return known or (_works(temp_files, _by_order) and not accepts_parts(temp_files))


def accepts_parts(temp_files: TempFiles) -> bool:
    """Whether a disk accepts the parts of a file in any order; tested with a new file."""
    return _works(temp_files, _by_place)


def _works(temp_files: TempFiles, way: Callable[[int, str], bool]) -> bool:
    name = new_claim()
    unlocked.add(name)
    try:
        return way(temp_files.folder, name)
    except OSError:
        return False
    finally:
        temp_files.give_up(name)
        unlocked.discard(name)


def _by_order(folder: int, name: str) -> bool:
    target = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=folder)
    try:
        for letter in (b"a", b"b"):
            os.write(target, letter * _PIECE)
    finally:
        os.close(target)
    source = os.open(name, FILE, dir_fd=folder)
    try:
        return os.read(source, 3 * _PIECE) == b"a" * _PIECE + b"b" * _PIECE
    finally:
        close_quietly(source)


def _by_place(folder: int, name: str) -> bool:
    target = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=folder)
    try:
        # In order first: rclone creates an empty file only after it is closed, when it has already been removed.
        for offset, letter in ((0, b"x"), (_PIECE, b"b"), (0, b"a")):
            descriptors.pwrite(target, letter * _PIECE, offset)
        return descriptors.pread(target, 3 * _PIECE, 0) == b"a" * _PIECE + b"b" * _PIECE
    finally:
        close_quietly(target)


class InOrderTempFile(OpenFile, InOrderFile):
    """A file that is written from start to end, closed, read back by its name, and finally renamed to ``name``.

    ``rights`` are those of the file that it replaces, if any.
    """

    def __init__(self, temp_files: TempFiles, name: str, rights: Rights | None) -> None:
        self._temp_file, descriptor = temp_files.ordered(rights)
        super().__init__(descriptor)
        self._temp_files, self._name, self._rights = temp_files, name, rights
        self._written = self._committed = False

    def write(self, block: memoryview) -> None:
        """Append the block; a disk may accept it in pieces."""
        while block:
            block = block[os.write(self.descriptor, block) :]

    def _end(self) -> None:
        """Close the file for writing; such a disk reports errors only then."""
        if not self._written:
            self._written = True
            # The lock ends before the file is renamed.
            unlocked.add(self._temp_file)
            os.close(self.descriptor)

    def read_back(self) -> LocalReader:
        """Open the written data at its start."""
        self._end()
        descriptor = os.open(self._temp_file, FILE, dir_fd=self._temp_files.folder)
        try:
            return LocalReader(descriptor, self._temp_file)
        except BaseException:
            close_quietly(descriptor)
            raise

    def commit(self, mtime: float | None) -> None:
        """Set the time and rights of the file, and rename it."""
        self._end()
        if mtime is not None or self._rights is not None:
            descriptor = os.open(self._temp_file, FILE, dir_fd=self._temp_files.folder)
            try:
                if mtime is not None:
                    keep_time(descriptor, nanoseconds(mtime))
                if self._rights is not None:
                    give_rights(descriptor, self._rights)
            finally:
                close_quietly(descriptor)
        give_name(self._temp_files.folder, self._temp_file, self._name)
        self._committed = True

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if not self._written:
            self._written = True
            close_quietly(self.descriptor)
        if not self._committed:
            self._temp_files.give_up(self._temp_file)
        unlocked.discard(self._temp_file)
