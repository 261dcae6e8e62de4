"""The roots of endpoints: no task deletes one, whatever name leads to it."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

from chiltepin.backends.filesystem.errors import Fault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from chiltepin.backends.filesystem.store import Folder, Spot

__all__ = ["Roots"]


class Roots:
    """Places that stay, with all that leads to them.

    A name alone does not tell what a folder is: a bind mount, another mount of its disk or a link gives it a second
    one. So a place is refused by its name before anything is done, and each folder is looked at again when it is open.

    Parameters
    ----------
    find : callable
        Returns the roots, and whatever else has to stay; called once, when something is about to be deleted.
    """

    def __init__(self, find: Callable[[], Iterable[Spot]] = tuple) -> None:
        self._find = find

    def also(self, spot: Spot) -> Roots:
        """Return these and one more."""
        return Roots(lambda: (*self._spots, spot))

    @cached_property
    def _spots(self) -> tuple[Spot, ...]:
        return tuple(self._find())

    def refuse(self, spot: Spot) -> None:
        """Raise a ``Fault`` if a place is or holds one of them."""
        if any(spot.contains(root) for root in self._spots):
            raise _stays(spot)

    def refuse_opened(self, folder: Folder, spot: Spot) -> None:
        """Raise a ``Fault`` if a folder that is open is or holds one of them by another name."""
        if folder.identity is not None and folder.identity in self._identities:
            raise _stays(spot)

    def refuse_link(self, folder: Folder, spot: Spot) -> None:
        """Raise a ``Fault`` if a link in an open folder is on the way to one of them, as the settings name it."""
        if self.linked(folder, replace(spot, parts=spot.parts[:-1]), spot.parts[-1:]):
            raise _stays(spot)

    def linked(self, folder: Folder, spot: Spot, names: Iterable[str]) -> set[str]:
        """Return which names in an open folder are those of links on the way to one of them."""
        if folder.identity is not None:
            return set(self._names.get(folder.identity, frozenset()).intersection(names))
        # Where a folder has one name, a link is known by its path.
        below = [root for root in self._spots if spot.contains(root)]
        leading = {name for name in names if any(map(spot.below(name).contains, below))}
        return {name for name in leading if (entry := folder.entry(name)) is not None and entry.kind == "link"}

    @cached_property
    def _identities(self) -> frozenset[Hashable]:
        return frozenset[Hashable]().union(*(spot.store.holders(spot.parts) for spot in self._spots))

    @cached_property
    def _names(self) -> dict[Hashable, frozenset[str]]:
        names: dict[Hashable, frozenset[str]] = {}
        for spot in self._spots:
            for identity, name in spot.store.links():
                names[identity] = names.get(identity, frozenset()) | {name}
        return names


def _stays(spot: Spot) -> Fault:
    reason = f"{spot} is, holds or leads to the root of an endpoint, or what is copied; that is never deleted."
    return Fault("PERMISSION_DENIED", reason)
