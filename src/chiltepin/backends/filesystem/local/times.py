"""Modification times of local files, in nanoseconds, and the precision with which a disk keeps them."""

from __future__ import annotations

import errno
import os

from chiltepin.backends.filesystem.errors import Fault

__all__ = ["Instant", "keep_time", "nanoseconds", "unit_of"]

#: Resolution of times in nanoseconds: ext4 and XFS 1, NTFS 100, exFAT 10 ms, ext3 and some NFS 1 s, FAT 2 s.
_UNITS = (1, 100, 1000, 10**6, 10**7, 10**9, 2 * 10**9)

#: A time with no zero among its digits and an odd second, so that it reveals the resolution of a disk.
_PROBE = 1_111_111_111_123_456_789

#: Range of times, in nanoseconds, that every disk keeps (FAT from 1980, ext3 until 2038); other times are read back.
_EVERYWHERE = (315_619_200 * 10**9, (1 << 31) * 10**9)


class Instant(float):
    """A time in seconds since 1970 UTC with its exact nanoseconds, which do not fit into a ``float``."""

    __slots__ = ("nanoseconds",)
    nanoseconds: int

    @classmethod
    def of(cls, facts: os.stat_result) -> Instant:
        """Return the modification time of a file."""
        made = cls(facts.st_mtime)
        made.nanoseconds = facts.st_mtime_ns
        return made


def nanoseconds(mtime: float) -> int:
    """Return a time in nanoseconds since 1970 UTC; converted to a ``float``, it is the same again."""
    if isinstance(mtime, Instant):
        return mtime.nanoseconds
    seconds, rest = divmod(mtime, 1)
    return int(seconds) * 10**9 + round(rest * 1e9)


def keep_time(descriptor: int, mtime: int) -> None:
    """Set the modification time of an open file, in nanoseconds since 1970 UTC.

    A time that the disk cannot store is a ``Fault``: the kernel silently uses the nearest one.
    """
    try:
        os.utime(descriptor, ns=(mtime, mtime))
        kept = mtime if _EVERYWHERE[0] <= mtime < _EVERYWHERE[1] else os.fstat(descriptor).st_mtime_ns
    except OverflowError:
        kept = 0
    except OSError as err:
        if err.errno not in (errno.ENOSYS, errno.EOPNOTSUPP):
            raise
        reason = "The disk cannot set the modification time of a file; remove preserve_timestamp."
        raise Fault("ENDPOINT_ERROR", reason) from None
    if abs(kept - mtime) >= _UNITS[-1]:
        raise Fault(
            "ENDPOINT_ERROR",
            f"The disk cannot keep the modification time of the file, {mtime / 1e9:.0f} seconds since 1970; "
            "remove preserve_timestamp.",
        )


def unit_of(descriptor: int) -> int:
    """Return the resolution of modification times on a disk, in nanoseconds; the file must be made for this test."""
    try:
        os.utime(descriptor, ns=(_PROBE, _PROBE))
        kept = os.fstat(descriptor).st_mtime_ns
    except OSError:
        return 1
    return next((unit for unit in _UNITS if kept == _PROBE // unit * unit), 1)
