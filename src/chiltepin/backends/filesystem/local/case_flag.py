"""The flag of a folder that ignores the case of names, on a disk whose other folders do not (ext4, f2fs, tmpfs)."""

from __future__ import annotations

import errno
import fcntl
import os
import sys

from chiltepin.backends.filesystem.local import descriptors

__all__ = ["has_case_flag"]

#: The request FS_IOC_GETFLAGS of ioctl_iflags(2) and its flag FS_CASEFOLD_FL (linux/fs.h); 0 if the system has none.
_GETFLAGS = 0x80086601 if os.uname().sysname == "Linux" else 0
_CASEFOLD = 0x40000000

#: Errors of a disk without flags; any other concerns one folder, such as EBADF if it may not be listed.
_CANNOT = frozenset({errno.ENOTTY, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL})


def has_case_flag(descriptor: int) -> bool | None:
    """Whether a folder has the flag; None if its disk has no flags."""
    if not _GETFLAGS or not descriptors.are_real():
        return None
    try:
        flags = fcntl.ioctl(descriptor, _GETFLAGS, bytes(8))
    except OSError as err:
        return None if err.errno in _CANNOT else False
    return bool(int.from_bytes(flags[:4], sys.byteorder) & _CASEFOLD)
