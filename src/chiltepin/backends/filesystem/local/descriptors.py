"""Replace the calls on open files that pyfakefs does not replace: they would use fake descriptors on real files.

If a test has replaced ``os``, these functions use only calls that are replaced as well. No kernel copies such files.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

from chiltepin.backends.fake_files import fake_os

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["are_real", "fchown", "is_cold", "pread", "preadv", "pwrite", "read_ahead", "read_at", "readv"]

#: A fake file has one position for all threads. Here it ends at the start, from which files are read in order: the old
#: position is unknown, because lseek returns nothing (pyfakefs 6.3).
_POSITION = threading.Lock()


def are_real() -> bool:
    """Whether descriptors belong to the kernel."""
    return fake_os() is None


def pread(descriptor: int, count: int, offset: int) -> bytes:
    """Like ``os.pread``."""
    if are_real():
        return os.pread(descriptor, count, offset)
    with _POSITION:
        os.lseek(descriptor, offset, os.SEEK_SET)
        try:
            return os.read(descriptor, count)
        finally:
            os.lseek(descriptor, 0, os.SEEK_SET)


def preadv(descriptor: int, blocks: Sequence[memoryview], offset: int) -> int:
    """Like ``os.preadv``; for a fake file, into the first block only."""
    if are_real():
        return os.preadv(descriptor, blocks, offset)
    return _filled(blocks[0], pread(descriptor, len(blocks[0]), offset))


def read_at(descriptor: int, block: memoryview, offset: int, count: int = 0) -> int:
    """Fill a block that already has ``count`` bytes; return its number of bytes, smaller only at the end of the file.

    A disk may return them in pieces.
    """
    while count < len(block) and (got := preadv(descriptor, [block[count:]], offset + count)):
        count += got
    return count


def readv(descriptor: int, blocks: Sequence[memoryview]) -> int:
    """Like ``os.readv``; for a fake file, into the first block only."""
    if are_real():
        return os.readv(descriptor, blocks)
    with _POSITION:
        return _filled(blocks[0], os.read(descriptor, len(blocks[0])))


def pwrite(descriptor: int, block: bytes | memoryview, offset: int) -> int:
    """Like ``os.pwrite``."""
    if are_real():
        return os.pwrite(descriptor, block, offset)
    with _POSITION:
        os.lseek(descriptor, offset, os.SEEK_SET)
        try:
            return os.write(descriptor, bytes(block))
        finally:
            os.lseek(descriptor, 0, os.SEEK_SET)


def is_cold(descriptor: int) -> bool:
    """Whether the start of a file has to be read from the disk; False if the kernel cannot tell (preadv2(2))."""
    if not are_real() or not hasattr(os, "RWF_NOWAIT"):
        return False
    try:
        os.preadv(descriptor, [bytearray(1)], 0, os.RWF_NOWAIT)
    except BlockingIOError:
        return True
    return False


def read_ahead(descriptor: int, count: int) -> None:
    """Have the disk read the start of a file into memory, without waiting for it; only for a file that `is_cold`."""
    os.posix_fadvise(descriptor, 0, count, os.POSIX_FADV_WILLNEED)


def fchown(descriptor: int, user: int, group: int) -> None:
    """Like ``os.fchown``."""
    if are_real():
        os.fchown(descriptor, user, group)
    else:
        os.chown(descriptor, user, group)


def _filled(block: memoryview, content: bytes) -> int:
    block[: len(content)] = content
    return len(content)
