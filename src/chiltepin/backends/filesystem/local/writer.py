"""A local file that is written in parts, and continued by the next run if its writer dies."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from typing import TYPE_CHECKING

import xxhash

from chiltepin.backends.filesystem.local import descriptors
from chiltepin.backends.filesystem.local.claims import is_removed
from chiltepin.backends.filesystem.local.compared_copy import STEP, copy_compared, truncated, write_at
from chiltepin.backends.filesystem.local.kernel_copy import data, move
from chiltepin.backends.filesystem.local.permissions import give_rights
from chiltepin.backends.filesystem.local.reader import LocalReader, OpenFile
from chiltepin.backends.filesystem.local.temp_files import give_name, surface_close_errors
from chiltepin.backends.filesystem.local.times import keep_time, nanoseconds
from chiltepin.backends.filesystem.store import BLOCK
from chiltepin.backends.filesystem.temp_names import taken_away

if TYPE_CHECKING:
    from collections.abc import Callable

    from chiltepin.backends.filesystem.local.permissions import Rights
    from chiltepin.backends.filesystem.local.temp_files import TempFiles
    from chiltepin.backends.filesystem.store import Reader

__all__ = ["PART", "LocalTempFile"]

#: Bytes of a part. Two threads that each copy, hash and read back one part find it in the processor's cache, and a part
#: takes long enough that handing it to another thread costs little in comparison (benchmarks/README.md).
PART = 1 << 23

_DIGEST = xxhash.xxh3_128().digest_size


class LocalTempFile(OpenFile):
    """A file that is being written under a temporary name, and finally renamed to ``name``.

    ``size`` is None if unknown, and ``rights`` are those of the file that it replaces. ``marked`` tells whether its
    temporary name comes from its content (`TempFiles.marked`), ``continued`` whether a dead writer has left data in it,
    and ``learns`` whether an error shows how the disk has to be written to; see `in_order_files`.

    Notes
    -----
    After the last byte, a large temporary file has the digests of its verified parts, in the order of the parts, so
    that the next run knows which parts to keep. `commit` cuts them off.
    """

    part: int | None = PART
    verifies_writes = False

    def __init__(
        self,
        temp_files: TempFiles,
        temp_file: str,
        descriptor: int,
        name: str,
        size: int | None,
        *,
        rights: Rights | None = None,
        marked: bool = False,
        continued: bool = False,
        learns: Callable[[OSError], bool] = lambda _: False,
    ) -> None:
        super().__init__(descriptor)
        self._rights, self._learns = rights, learns
        self._temp_files, self._temp_file, self._name, self._size = temp_files, temp_file, name, size
        self._committed = self._parted = False
        self._marked, self._continued = marked, continued

    def has_part(self, offset: int, count: int) -> bytes | None:
        """Read the part, and compare it with the digest that was recorded when it was complete."""
        if not self._continued:
            return None
        noted = descriptors.pread(self.descriptor, _DIGEST, self._note(offset))
        digest, block = xxhash.xxh3_128(), memoryview(bytearray(min(BLOCK, count)))
        for start in range(offset, offset + count, BLOCK):
            got = descriptors.preadv(self.descriptor, [block[: offset + count - start]], start)
            digest.update(block[:got])
        return noted if noted == digest.digest() else None

    def mark_verified(self, offset: int, digest: bytes) -> None:
        """Record the digest of a part; if the disk has no room for it, the next part will report that."""
        if self._size is not None and self._size > PART:
            self._parted = True
            with suppress(OSError):
                write_at(self.descriptor, memoryview(digest), self._note(offset))

    def _note(self, offset: int) -> int:
        return (self._size or 0) + offset // PART * _DIGEST

    def copy_compared(self, reader: Reader, offset: int, count: int) -> tuple[bytes, bytes] | None:
        """Copy a part of another local file in small steps; the kernel copies a file with holes."""
        if not isinstance(reader, LocalReader) or reader.sparse:
            return None
        return copy_compared(reader.descriptor, self.descriptor, offset, count)

    def copy_part(self, reader: Reader, offset: int, count: int, *, verify: bool) -> bool:
        """Have the kernel copy a part of another local file; holes stay holes."""
        # Data that will be read at both ends anyway costs less with the steps of `copy_compared`.
        if not isinstance(reader, LocalReader) or (verify and not reader.sparse):
            return False
        if reader.sparse:
            self._stretch()
        # In a file that a dead run has written to, its data would remain in place of a hole.
        segments = [(offset, count)] if self._continued else data(reader, offset, count)
        for start, length in segments:
            if move(reader, self.descriptor, self._opened, start, length) < length:
                raise truncated()
        return True

    def _stretch(self) -> None:
        """Give the file its size, so that a hole at its end is also read back as one."""
        if os.fstat(self.descriptor).st_size < (self._size or 0):
            os.ftruncate(self.descriptor, self._size or 0)

    def _opened(self) -> int:
        return os.open(self._temp_file, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._temp_files.folder)

    def write_at(self, offset: int, block: memoryview) -> None:
        """Write one part."""
        write_at(self.descriptor, block, offset)

    def write(self, block: memoryview) -> None:
        """Append the block; a disk may accept it in pieces."""
        while block:
            block = block[os.write(self.descriptor, block[:STEP]) :]

    def read_back(self) -> LocalReader:
        """Open the written data at its start."""
        os.lseek(self.descriptor, 0, os.SEEK_SET)
        return _ReadBack(self.descriptor, self._temp_file)

    def commit(self, mtime: float | None) -> None:
        """Set the time and rights of the file, and rename it."""
        if self._size is not None and (self._parted or self._continued):
            os.ftruncate(self.descriptor, self._size)
        if self._rights is not None:
            give_rights(self.descriptor, self._rights)
        surface_close_errors(self.descriptor)
        # As late as possible: with an old time, another host would treat the temporary file as abandoned.
        if mtime is not None:
            keep_time(self.descriptor, nanoseconds(mtime))
        if not self._has_name():
            raise taken_away(self._temp_file, self._name)
        give_name(self._temp_files.folder, self._temp_file, self._name)
        self._committed = True

    def _has_name(self) -> bool:
        """Whether its temporary name still belongs to this file; after a sweep, another writer may have reused it."""
        if not self._marked:
            return True
        try:
            there = os.stat(self._temp_file, dir_fd=self._temp_files.folder, follow_symlinks=False)
            return os.path.samestat(os.fstat(self.descriptor), there)
        except OSError as err:
            # Otherwise the next call will report what is wrong with the disk.
            return not is_removed(err)

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if not self._committed and self._has_name():
            self._temp_files.give_up(self._temp_file)
        super().__exit__(kind, error, trace)
        if not self._committed and isinstance(error, OSError) and self._learns(error):
            # Worth a retry (see `LocalStore.transient`), which writes in another way.
            raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN)) from error


class _ReadBack(LocalReader):
    """A temporary file that is read; its descriptor belongs to the writer."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Leave the descriptor open."""
