"""Combine the pages of a folder's listing; an incomplete listing is an error.

The service returns at most 100,000 entries in one response, and reads the folder again for each page (SDK
documentation, ``operation_ls``). If the folder changes in between, entries could be missing, or appear twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chiltepin.backends.globus.responses import entries, entry_of
from chiltepin.errors import ServiceUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from chiltepin.model import DirEntry

__all__ = ["PAGE", "complete"]

#: Entries in one page: the service's maximum, and its default.
PAGE = 100_000

#: Limit of entries in one folder; Globus supports 5,000,000 (FAQ "Transfer and Sharing", limits).
MOST_ENTRIES = 10_000_000

#: Attempts at a listing before it fails.
TRIES = 3


def complete(ask: Callable[[int], Mapping[str, Any]], what: str) -> list[DirEntry]:
    """Return all entries of a folder.

    ``ask`` returns the ``file_list`` document that starts at an offset; the order of the names is always the same.
    ``what`` begins the message of a ServiceUnavailableError, if the pages never match. A response that is not a listing
    is a TypeError, KeyError or ValueError.
    """
    for _ in range(TRIES):
        found = _once(ask)
        if found is not None:
            return found
    raise ServiceUnavailableError(
        f"{what}: the folder changed during each of {TRIES} listings; try again when no program writes to it.",
        backend="globus",
        code="ListingChanged",
        transient=True,
    )


def _once(ask: Callable[[int], Mapping[str, Any]]) -> list[DirEntry] | None:
    """Return all entries; None if the pages do not match."""
    found: dict[str, DirEntry] = {}
    total = last = None
    while True:
        # Each page begins with the last entry of the previous page. If that entry has moved, entries are missing or
        # repeated, even if the total is unchanged.
        page = ask(max(0, len(found) - 1))
        listed = [entry_of(entry) for entry in entries(page)]
        if _count(page, "length") not in (None, len(listed)) or (found and _count(page, "total") != total):
            return None
        total = _count(page, "total")
        if last is not None and (not listed or listed[0].name != last):
            return None
        new = listed if last is None else listed[1:]
        before = len(found)
        found.update((entry.name, entry) for entry in new)
        if len(found) != before + len(new):
            return None
        if len(found) > MOST_ENTRIES:
            raise ValueError("no end")
        if len(found) == total or (total is None and not new):
            return list(found.values())
        if not new or (total is not None and len(found) > total):
            return None
        last = new[-1].name


def _count(page: Mapping[str, Any], key: str) -> int | None:
    """Return a count of a listing; None if it has none."""
    count = page.get(key)
    if count is not None and (isinstance(count, bool) or not isinstance(count, int) or count < 0):
        raise ValueError(key)
    return count
