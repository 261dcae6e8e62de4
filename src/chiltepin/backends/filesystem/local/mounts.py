"""What is mounted: the kinds of disks, and whether two mounts show one folder."""

from __future__ import annotations

import os

__all__ = ["is_same_folder", "kinds_of"]

#: Kinds of disks that show folders of other disks with inode numbers of their own (proc(5), mountinfo).
_LAYERED = frozenset({"overlay", "aufs", "unionfs"})


def kinds_of(device: int) -> frozenset[str]:
    """Return the kinds of the mounts that have a device number; none on systems other than Linux."""
    wanted = f"{os.major(device)}:{os.minor(device)}"
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
            mounts = [line.split() for line in file]
    except OSError:
        return frozenset()
    return frozenset(fields[fields.index("-") + 1] for fields in mounts if fields[2] == wanted)


def is_same_folder(one: os.stat_result, other: os.stat_result) -> bool | None:
    """Whether two mounts show the same folder, by what `os.stat` returned for both; None if only a new file can tell.

    The mounts may have different device numbers: a second mount of a network disk (``nosharecache``), a disk over FUSE,
    or an overlay. Such folders have the same times, to the nanosecond, and the same inode number, except in an overlay.
    """
    if os.path.samestat(one, other):
        return True
    if (one.st_mtime_ns, one.st_ctime_ns) != (other.st_mtime_ns, other.st_ctime_ns):
        return False
    if one.st_ino == other.st_ino:
        return True
    # Two folders that were made at the same tick of the clock have the same times, too.
    return False if _LAYERED.isdisjoint(kinds_of(one.st_dev) | kinds_of(other.st_dev)) else None
