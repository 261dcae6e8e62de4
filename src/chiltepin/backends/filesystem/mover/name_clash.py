"""Find names that differ at the source but are one name at the destination, such as ``a`` and ``A``.

On a disk that ignores case (macOS, VFAT, folders of ext4 with ``casefold``) the second of two files would replace the
first, and both would count as copied.
"""

from __future__ import annotations

import os
import unicodedata
from typing import TYPE_CHECKING

from chiltepin.backends.filesystem.errors import Fault
from chiltepin.backends.filesystem.local.reader import close_quietly

if TYPE_CHECKING:
    from collections.abc import Iterable

    from chiltepin.backends.filesystem.local.folder import LocalFolder
    from chiltepin.backends.filesystem.location import Location

__all__ = ["SeenNames", "clashing_name", "folded", "is_case_insensitive"]


def folded(name: str) -> str:
    """Return a key that is equal for all names that a case-insensitive disk might consider equal."""
    # The same as `casefold` for ASCII, in a third of the time.
    return name.lower() if name.isascii() else unicodedata.normalize("NFC", name).casefold()


def is_case_insensitive(there: LocalFolder, names: Iterable[str]) -> bool | None:
    """Whether the disk of a folder ignores the case of names; None if none of the names has a letter.

    This is tested with an existing file, or with a new one, which is removed: the transfer will write files anyway.
    """
    telling = next((name for name in names if name.swapcase() != name), None)
    if telling is None:
        return None
    if there.entry(telling) is not None:
        if there.entry(telling.swapcase()) is None:
            return False
        if _same(there, telling, telling.swapcase()):
            return True
        # Two files, or one file with an inode number for each name, as over FUSE (exfat-fuse).
    temp_files = there.open_temp_files()
    try:
        name, descriptor = temp_files.new()
    except OSError:
        # The first file of the transfer will report why no file can be created.
        return None
    try:
        # No other file has such a name.
        return there.entry(name.swapcase()) is not None
    finally:
        temp_files.give_up(name)
        close_quietly(descriptor)


def _same(there: LocalFolder, *names: str) -> bool:
    try:
        return os.path.samestat(*(os.stat(name, dir_fd=there.descriptor, follow_symlinks=False) for name in names))
    except OSError:
        return False


class SeenNames:
    """The names that are already used in one folder of a case-insensitive disk."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def twins(self, names: Iterable[str]) -> set[str]:
        """Add names; return those that equal an earlier one."""
        found = set()
        for name in names:
            key = folded(name)
            if key in self._taken:
                found.add(name)
            self._taken.add(key)
        return found


def clashing_name(location: Location) -> Fault:
    """Return the fault of a file or folder whose name is already used at the destination."""
    reason = "its name equals that of another file at the destination, which ignores case"
    return Fault("AMBIGUOUS_PATH", f"{location} was not copied because {reason}; rename one of the two.")
