"""Copy a part of a local file in small steps, and compare the data read back with the data read."""

from __future__ import annotations

import os

import xxhash

from chiltepin.backends.filesystem.errors import Fault
from chiltepin.backends.filesystem.local import descriptors

__all__ = ["STEP", "copy_compared", "truncated", "write_at"]

#: Bytes that are read, written and read back at a time. With less, two threads take Python's lock from each other so
#: often that they are slower than one. With more, the kernel takes its memory in larger pieces, which a virtual machine
#: may first have to get from its host (docs/decisions/verification.md).
STEP = 1 << 17


def copy_compared(source: int, target: int, offset: int, count: int) -> tuple[bytes, bytes]:
    """Copy some bytes to the same offset of another open file.

    Each step is read back at once, while it is in the processor's cache.

    Returns
    -------
    tuple of bytes
        The XXH3 digests (128 bits) of what was read and of what was read back.

    Raises
    ------
    Fault
        ``FILE_SIZE_CHANGED`` if the source ends before these bytes.
    """
    real = descriptors.are_real()
    # Called directly: a Python call costs more in two threads than in one, because they share Python's lock.
    preadv, pwrite = (os.preadv, os.pwrite) if real else (descriptors.preadv, descriptors.pwrite)
    sent, found, end = xxhash.xxh3_128(), xxhash.xxh3_128(), offset + count
    block = memoryview(bytearray(min(STEP, count)))
    for start in range(offset, end, STEP):
        piece = block[: end - start]
        if (got := preadv(source, [piece], start)) < len(piece):
            got = descriptors.read_at(source, piece, start, got)
        if got < len(piece):
            raise truncated()
        if (done := pwrite(target, piece, start)) < len(piece):
            write_at(target, piece[done:], start + done)
        sent.update(piece)
        if (got := preadv(target, [piece], start)) < len(piece):
            piece = piece[: descriptors.read_at(target, piece, start, got)]
        found.update(piece)
    return sent.digest(), found.digest()


def write_at(descriptor: int, block: memoryview, offset: int) -> None:
    """Write a whole block; a disk may accept it in pieces."""
    while block:
        written = descriptors.pwrite(descriptor, block[:STEP], offset)
        offset, block = offset + written, block[written:]


def truncated() -> Fault:
    """Return the error of a source that was truncated."""
    return Fault("FILE_SIZE_CHANGED", "The file was truncated during the copy; transfer it again.")
