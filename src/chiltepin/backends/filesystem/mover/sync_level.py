"""Which existing files a sync level skips."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from chiltepin.backends.filesystem.local.times import nanoseconds

if TYPE_CHECKING:
    from collections.abc import Callable

    from chiltepin.backends.filesystem.store import Entry, Folder
    from chiltepin.model import SyncLevel

__all__ = ["KEPT", "Listing", "is_up_to_date"]

#: Entries of a folder that are kept in memory, at some 300 bytes each.
KEPT = 100_000


def is_up_to_date(
    level: SyncLevel, entry: Entry, existing: Entry | None, kept: Callable[[int], int] | None = None
) -> bool:
    """Whether an existing destination is up to date, if that can be decided without reading it.

    Each level includes the checks before it, but ``checksum`` ignores times and leaves the contents to be compared.
    ``kept`` cuts a modification time to the destination's precision, if this transfer preserves times.
    """
    if existing is None or existing.kind != "file":
        return False
    if level == "exists":
        return True
    if existing.size is None or entry.size is None:
        # Only the contents can decide.
        return level == "checksum"
    if existing.size != entry.size:
        return False
    if level != "mtime":
        return True
    return _is_as_new(entry, existing.mtime, kept)


def _is_as_new(entry: Entry, copy: float | None, kept: Callable[[int], int] | None) -> bool:
    """Whether a copy is not older than its source; both stores may keep times with less precision."""
    origin = entry.mtime
    if origin is None or copy is None:
        return False
    if copy >= origin:
        return True
    return kept is not None and nanoseconds(copy) >= kept(nanoseconds(origin) // entry.unit * entry.unit)


class Listing:
    """The contents of an open folder, listed once if each lookup would be a separate request.

    Of a folder with more than `KEPT` entries, only that many are kept, and the rest are looked up one by one.
    """

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        listed = list(islice(folder.entries(), KEPT))
        # If a file and a folder have the same name, keep the file.
        self._known = {entry.name: entry for entry in sorted(listed, key=lambda entry: entry.kind == "file")}
        self._whole = len(listed) < KEPT

    def entry(self, name: str) -> Entry | None:
        """Return one entry, or None."""
        known = self._known.get(name)
        return known if known is not None or self._whole else self._folder.entry(name)
