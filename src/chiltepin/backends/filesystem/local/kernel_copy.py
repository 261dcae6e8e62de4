"""Copy bytes between local files inside the kernel.

Which method works depends on the two disks, and only a trial shows it. The process remembers the result for each pair
of devices.
"""

from __future__ import annotations

import errno
import fcntl
import os
from typing import TYPE_CHECKING

from chiltepin.backends.filesystem.local import descriptors
from chiltepin.backends.filesystem.local.compared_copy import write_at

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from chiltepin.backends.filesystem.local.reader import LocalReader

__all__ = ["clonable", "clone", "data", "move"]

#: The request of ioctl_ficlone(2); 0 if the system has none.
_FICLONE = 0x40049409 if os.uname().sysname == "Linux" else 0

#: Errors of a method that the kernel does not support for these two files (copy_file_range(2), sendfile(2),
#: ioctl_ficlone(2)). EPERM: seccomp, in some containers.
_CANNOT = frozenset({errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTTY, errno.EXDEV, errno.EINVAL, errno.EPERM, errno.EBADF})

#: Bytes that pass through Python at a time if the kernel has no method.
_BLOCK = 1 << 18

_unclonable: set[tuple[int, int]] = set()
_way: dict[tuple[int, int], int] = {}


def clonable(devices: tuple[int, int]) -> bool:
    """Whether it is worth trying to `clone` from one device to the other."""
    return bool(_FICLONE) and devices not in _unclonable and descriptors.are_real()


def clone(source: int, target: int, devices: tuple[int, int]) -> bool:
    """Make an empty file share the blocks of another file; False if the disk cannot."""
    try:
        fcntl.ioctl(target, _FICLONE, source)
    except OSError as err:
        if err.errno not in _CANNOT:
            raise
        # EINVAL may concern only this file (btrfs: a file without checksums); other errors concern the disk.
        if err.errno != errno.EINVAL:
            _unclonable.add(devices)
        return False
    return True


def move(reader: LocalReader, target: int, reopen: Callable[[], int], offset: int, count: int) -> int:
    """Copy bytes to the same offset of another file, ``target``; return how many, fewer only at the end of the file.

    ``reopen`` opens the other file again, for a method that needs a separate position there.
    """
    devices = (reader.facts.st_dev, os.fstat(target).st_dev)
    done = 0
    first = _way.get(devices, 0) if descriptors.are_real() else len(_WAYS) - 1
    for way in range(first, len(_WAYS)):
        try:
            done += _WAYS[way](reader.descriptor, target, reopen, offset + done, count - done)
        except OSError as err:
            if err.errno not in (*_CANNOT, errno.EACCES) or way == len(_WAYS) - 1:
                raise
            # EACCES concerns only this file: the umask does not let its owner open it again.
            if err.errno != errno.EACCES:
                _way[devices] = way + 1
        # A method that ends early may not see the whole file (some FUSE and kernel filesystems); the last one decides.
        if done == count:
            break
    return done


def _by_range(source: int, target: int, _: Callable[[], int], offset: int, count: int) -> int:
    if not hasattr(os, "copy_file_range"):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    done = 0
    while done < count and (got := os.copy_file_range(source, target, count - done, offset + done, offset + done)):
        done += got
    return done


def _by_sendfile(source: int, _: int, reopen: Callable[[], int], offset: int, count: int) -> int:
    done, target = 0, reopen()
    try:
        os.lseek(target, offset, os.SEEK_SET)
        while done < count and (got := os.sendfile(target, source, offset + done, count - done)):
            done += got
    finally:
        os.close(target)
    return done


def _by_hand(source: int, target: int, _: Callable[[], int], offset: int, count: int) -> int:
    block, done = memoryview(bytearray(min(_BLOCK, count))), 0
    while done < count and (got := descriptors.preadv(source, [block[: count - done]], offset + done)):
        write_at(target, block[:got], offset + done)
        done += got
    return done


# On macOS, sendfile does not accept a file as its target (ENOTSOCK).
_WAYS = (_by_range, _by_sendfile, _by_hand) if os.uname().sysname == "Linux" else (_by_range, _by_hand)


def data(reader: LocalReader, offset: int, count: int) -> Iterator[tuple[int, int]]:
    """Yield the offset and count of each data segment in a part of a file, without the holes between them."""
    end = offset + count
    if not reader.sparse:
        yield offset, count
        return
    while offset < end:
        try:
            start = min(end, os.lseek(reader.descriptor, offset, os.SEEK_DATA))
            stop = min(end, os.lseek(reader.descriptor, start, os.SEEK_HOLE))
        except OSError as err:
            # ENXIO: only a hole up to the end of the file (lseek(2)). Otherwise the disk does not report holes.
            start, stop = (end, end) if err.errno == errno.ENXIO else (offset, end)
        if start < stop:
            yield start, stop - start
        offset = max(stop, start)
