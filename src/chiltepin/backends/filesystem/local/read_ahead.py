"""Decide whether small files are read from the disk before they are copied."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from chiltepin.backends.filesystem.local import descriptors
from chiltepin.backends.filesystem.local.reader import FILE, close_quietly
from chiltepin.backends.filesystem.store import SMALL

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["read_ahead"]


def read_ahead(folder: int, names: Iterable[str]) -> None:
    """Have the disk read small files of an open folder all at once, if the first file is not in memory.

    A disk reads many files in nearly the time of one (posix_fadvise(2)). If they are in memory, opening each file for
    this would cost more than it saves.
    """
    cold = False
    for name in names:
        try:
            descriptor = os.open(name, FILE, dir_fd=folder)
        except OSError:
            # The copy will fail with the same error, and reports it.
            continue
        try:
            if not cold and not (cold := descriptors.is_cold(descriptor)):
                return
            descriptors.read_ahead(descriptor, SMALL)
        except OSError:
            return
        finally:
            close_quietly(descriptor)
