"""Modification times of files of this machine, in nanoseconds, and what a disk keeps of them."""

from __future__ import annotations

import errno
import os

from chiltepin.backends.filesystem.errors import Fault

__all__ = ["Instant", "keep_time", "nanoseconds", "unit_of"]

#: Nanoseconds to which disks cut times: ext4 and XFS 1, NTFS 100, exFAT 10 ms, ext3 and some of NFS 1 s, FAT 2 s.
_UNITS = (1, 100, 1000, 10**6, 10**7, 10**9, 2 * 10**9)

#: A time with no zero among its digits and an odd second, so that it shows where a disk cuts it.
_PROBE = 1_111_111_111_123_456_789

#: Seconds between which every disk keeps a time (FAT from 1980, ext3 until 2038); outside, it is looked at again.
_EVERYWHERE = (315_619_200 * 10**9, (1 << 31) * 10**9)


class Instant(float):
    """A time in seconds since 1970 UTC that also knows its nanoseconds, which a ``float`` has not room for."""

    __slots__ = ("nanoseconds",)
    nanoseconds: int

    @classmethod
    def of(cls, facts: os.stat_result) -> Instant:
        """Return the modification time of a file."""
        made = cls(facts.st_mtime)
        made.nanoseconds = facts.st_mtime_ns
        return made


def nanoseconds(mtime: float) -> int:
    """Return a time in nanoseconds since 1970 UTC; as a ``float`` it is the same again."""
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
    """Return to how many nanoseconds a disk cuts modification times, seen of a file that was made for it."""
    try:
        os.utime(descriptor, ns=(_PROBE, _PROBE))
        kept = os.fstat(descriptor).st_mtime_ns
    except OSError:
        return 1
    return next((unit for unit in _UNITS if kept == _PROBE // unit * unit), 1)
