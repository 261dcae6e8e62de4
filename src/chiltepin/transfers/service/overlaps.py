"""Find the tasks that write to or delete the same paths as a new request."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from typing import TYPE_CHECKING

from chiltepin.errors import PermissionDeniedError
from chiltepin.model import DeleteRequest
from chiltepin.protocol.paths import parts

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator

    from chiltepin.model import Item, Request
    from chiltepin.transfers.service.batch import Batch

__all__ = ["PathClaims", "Place", "Placed", "plain_place"]

#: A store, and the components of a path from its root, or from a home folder, written ``~``.
Place = tuple[str, ...]

#: `PlacingBackend.place` of some settings.
Placed = Callable[[str, str], Place]


def plain_place(endpoint: str, path: str) -> Place:
    """Return where a path is, for a backend that is not a `PlacingBackend`."""
    home = () if path.startswith("/") else ("~",)
    return (endpoint, *home, *parts(path, endpoint=endpoint))


class PathClaims:
    """The paths that batches write to or delete; ``place`` is `PlacingBackend.place` or `plain_place`.

    Two paths that differ only in case or in Unicode form count as one, because some disks do not distinguish them. A
    path under an unknown home folder overlaps with every absolute path that may be the same. A batch with a ``place``
    has its own places.
    """

    def __init__(self, place: Placed) -> None:
        self._place = place
        #: For each lookup key, the batches that claim it, with the number of their claims.
        self._claims: dict[Hashable, dict[Batch, int]] = {}
        #: The last path that was looked up, and its place.
        self._last: tuple[tuple[Placed, str, str], Place | None] = (place, "", ""), None

    def __len__(self) -> int:
        return len(self._claims)

    def add(self, batch: Batch, item: Item) -> None:
        """Record that a batch claims the path of an item."""
        for mark in self._keys(batch.kind, item, batch.place):
            if (claims := self._claims.get(mark)) is None:
                claims = self._claims[mark] = {}
            claims[batch] = claims.get(batch, 0) + 1

    def remove(self, batch: Batch, item: Item) -> None:
        """Remove the claim of a batch on the path of an item."""
        for mark in self._keys(batch.kind, item, batch.place):
            claims = self._claims[mark]
            claims[batch] -= 1
            if not claims[batch]:
                del claims[batch]
            if not claims:
                del self._claims[mark]

    def overlapping(self, kind: Request, items: tuple[Item, ...]) -> set[Batch]:
        """Return the batches that claim a path that a request would write to or delete."""
        if not self._claims:
            return set()
        return {
            batch
            for item in items
            for mark in self._conflicting_keys(kind, item)
            for batch in self._claims.get(mark, ())
        }

    def _keys(self, kind: Request, item: Item, placed: Placed | None) -> Iterator[Hashable]:
        """Yield the lookup keys of a claim: the path, the folders above it, and its name if a home is unknown."""
        if (place := self._place_of_item(kind, item, placed or self._place)) is None:
            return
        yield "at", place
        yield from (("below", place[:length]) for length in range(1, len(place)))
        store, style, name = place[0], _style(place), place[-1]
        yield "any", store, style
        yield "named", store, style, name
        if kind.recursive or _is_pattern(kind):
            yield "tree", place
            yield "any tree", store, style

    def _conflicting_keys(self, kind: Request, item: Item) -> Iterator[Hashable]:
        if (place := self._place_of_item(kind, item, self._place)) is None:
            return
        yield "at", place
        yield from (("tree", place[:length]) for length in range(1, len(place)))
        store, other, name = place[0], not _style(place), place[-1]
        yield "named", store, other, name
        yield "any tree", store, other
        if kind.recursive or _is_pattern(kind):
            yield "below", place
            yield "any", store, other

    def _place_of_item(self, kind: Request, item: Item, placed: Placed) -> Place | None:
        if isinstance(kind, DeleteRequest):
            endpoint, path = kind.endpoint, str(item)
        else:
            endpoint, path = kind.destination, item.destination  # type: ignore[union-attr] # it is a transfer item
        # Kept, because each item is looked up and then added.
        if self._last[0] != (placed, endpoint, path):
            self._last = (placed, endpoint, path), _case_folded(placed, endpoint, path)
        place = self._last[1]
        # A pattern may match everything in its folder.
        return place[:-1] if place and _is_pattern(kind) else place


def _case_folded(placed: Placed, endpoint: str, path: str) -> Place | None:
    try:
        place = placed(endpoint, path)
    except (PermissionDeniedError, ValueError):
        # The path is invalid, and its submission will be refused.
        return None
    text = "\0".join(place)
    folded = text.lower() if text.isascii() else unicodedata.normalize("NFC", text).casefold()
    return tuple(folded.split("\0"))


def _is_pattern(kind: Request) -> bool:
    return isinstance(kind, DeleteRequest) and kind.globs


def _style(place: Place) -> bool:
    """Whether a place is relative to an unknown home folder."""
    return place[1:2] == ("~",)
