"""Open folders of this machine by one name at a time, so that no link is followed."""

from __future__ import annotations

import errno
import os
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


__all__ = ["ENTERED", "closing", "identity_of", "open_child", "open_folder", "steps_of", "target_of"]

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


#: The flag to open a folder that may be entered but not listed (x without r); 0 if the system has none.
ENTERED = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC if hasattr(os, "O_PATH") else 0


def target_of(folder: int, name: str) -> str | None:
    """Return the target of a link; None if it is not a link or does not exist."""
    try:
        return os.readlink(name, dir_fd=folder)
    except OSError as err:
        if err.errno in (errno.EINVAL, errno.ENOENT):
            return None
        raise


@contextmanager
def closing(descriptor: int) -> Iterator[None]:
    """Close a descriptor at the end of a ``with``."""
    try:
        yield
    finally:
        os.close(descriptor)


def identity_of(path: str) -> tuple[int, int]:
    """Return the disk and the number of a folder."""
    facts = os.stat(path)
    return facts.st_dev, facts.st_ino


def steps_of(path: str) -> list[str]:
    """Return the names in a path, the last one first."""
    return [name for name in reversed(path.split("/")) if name not in ("", ".")]


def open_folder(name: str, folder: int | None = None) -> int:
    """Open a folder, or only enter it where it may not be listed."""
    try:
        return os.open(name, _FOLDER, dir_fd=folder)
    except PermissionError:
        if not ENTERED:
            raise
    return os.open(name, ENTERED, dir_fd=folder)


def open_child(folder: int, name: str, *, create: bool) -> tuple[int, bool]:
    """Open a folder in another one; return its descriptor, and whether it was made for that."""
    try:
        return open_folder(name, folder), False
    except FileNotFoundError:
        if not create:
            raise
    made = False
    with suppress(FileExistsError):
        os.mkdir(name, dir_fd=folder)
        made = True
    return open_folder(name, folder), made
