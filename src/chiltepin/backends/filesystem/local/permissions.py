"""Give a file that replaces another one the rights of the old file, as if that had been written to."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from typing import NamedTuple

from chiltepin.backends.filesystem.local import descriptors

__all__ = ["Rights", "give_rights", "rights_of"]

#: The attribute in which Linux stores the entries of an access list (acl(5)).
_ACL = "system.posix_acl_access"

_HAS_LISTS = hasattr(os, "listxattr")


class Rights(NamedTuple):
    """Owners, access list, and mode without setuid and setgid, which the kernel drops when a file is written."""

    mode: int
    user: int
    group: int
    acl: bytes | None


def rights_of(folder: int, name: str) -> Rights | None:
    """Return the rights of a regular file in an open folder; None if it does not exist or is not a regular file."""
    try:
        facts = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except OSError:
        # The rename will report any error.
        return None
    if not stat.S_ISREG(facts.st_mode):
        return None
    # Without group rights, the mask of an access list disables its entries (acl(5)).
    acl = _acl_of(f"/proc/self/fd/{folder}/{name}") if facts.st_mode & 0o070 and _HAS_LISTS else None
    return Rights(facts.st_mode & 0o777, facts.st_uid, facts.st_gid, acl)


def _acl_of(path: str) -> bytes | None:
    try:
        # Listed first, as GNU ls does: most files have none, and an error would take half as long again.
        if _ACL not in os.listxattr(path, follow_symlinks=False):
            return None
    except OSError:
        # A disk that lists no attributes may still have this one.
        pass
    try:
        return os.getxattr(path, _ACL, follow_symlinks=False)
    except OSError:
        return None


def give_rights(descriptor: int, rights: Rights) -> None:
    """Give a file that was created with `TempFiles.new` the rights of the file that it replaces.

    An owner or group that only root could set is left unchanged; then the group gets no more rights than other users.
    """
    facts = os.fstat(descriptor)
    mode, acl = rights.mode, rights.acl
    if (facts.st_uid, facts.st_gid) != (rights.user, rights.group) and not _given(descriptor, rights):
        mode, acl = mode & ~0o070 | (mode & 0o007) << 3 & mode, None
    # A disk without modes gives all its files the same mode.
    if stat.S_IMODE(facts.st_mode) != mode:
        with suppress(OSError):
            os.fchmod(descriptor, mode)
    if acl is None and mode & 0o070 and not mode & 0o004:
        # Otherwise a default access list of the folder would grant access to others.
        with suppress(OSError, AttributeError):
            os.removexattr(descriptor, _ACL)
    if acl is not None:
        try:
            os.setxattr(descriptor, _ACL, acl)
        except OSError:
            with suppress(OSError):
                os.fchmod(descriptor, mode & 0o707)


def _given(descriptor: int, rights: Rights) -> bool:
    """Set owner and group, or the group alone; return whether the group was set."""
    for user in (rights.user, -1):
        with suppress(OSError):
            descriptors.fchown(descriptor, user, rights.group)
            return True
    return False
