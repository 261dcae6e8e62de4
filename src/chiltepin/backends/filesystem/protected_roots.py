"""Protect the roots of endpoints: no task deletes one, by any of its names."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from chiltepin.backends.filesystem.errors import Fault
from chiltepin.backends.filesystem.local.folder import LocalFolder
from chiltepin.backends.filesystem.local.store import LocalStore, is_shown_again

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from chiltepin.backends.filesystem.location import Location
    from chiltepin.backends.filesystem.store import Folder

__all__ = ["Roots"]


@dataclass(eq=False)
class Roots:
    """Folders that are never removed, like the folders on their paths.

    The name of a folder is not enough: a bind mount, another mount of its disk, an overlay or a link gives it a second
    name. So a path is checked by its name before anything is done, and each folder is checked again when it is open.
    ``find`` returns the roots and everything else to keep; it is called once, before the first deletion.
    """

    find: Callable[[], Iterable[Location]] = tuple

    def also(self, location: Location) -> Roots:
        """Return these folders and one more."""
        return Roots(lambda: (*self._spots, location))

    @cached_property
    def _spots(self) -> tuple[Location, ...]:
        return tuple(self.find())

    def refuse(self, location: Location) -> None:
        """Raise a ``Fault`` if a place is or holds one of them."""
        if any(location.contains(root) for root in self._spots):
            raise _stays(location)

    def refuse_opened(self, folder: Folder, location: Location) -> None:
        """Raise a ``Fault`` if an open folder is or holds one of them by another name."""
        if folder.identity is None:
            return
        if folder.identity in self._identities or self._shows(folder):
            raise _stays(location)

    def refuse_link(self, folder: Folder, location: Location) -> None:
        """Raise a ``Fault`` if a link in an open folder is on the path of one of them, as the settings name it."""
        if self.linked(folder, replace(location, parts=location.parts[:-1]), location.parts[-1:]):
            raise _stays(location)

    def linked(self, folder: Folder, location: Location, names: Iterable[str]) -> set[str]:
        """Return which names in an open folder are links on the path of one of them."""
        if folder.identity is not None:
            links = self._names.get(folder.identity)
            return set(links.intersection(names)) if links else set()
        # If a folder has only one name, its path identifies a link in it.
        below = [root for root in self._spots if location.contains(root)]
        leading = {name for name in names if any(map(location.below(name).contains, below))}
        return {name for name in leading if (entry := folder.entry(name)) is not None and entry.kind == "link"}

    def _shows(self, folder: Folder) -> bool:
        """Whether an open folder is one of them on another mount."""
        if not isinstance(folder, LocalFolder):
            return False
        return any(
            device != folder.device and is_shown_again(folder, spot.store, spot.parts, written=True)
            for spot, device in self._devices
        )

    @cached_property
    def _devices(self) -> list[tuple[Location, int]]:
        """The local ones, each with its device number."""
        local = [(spot, spot.store) for spot in self._spots if isinstance(spot.store, LocalStore)]
        found = [(spot, store.facts(spot.parts)) for spot, store in local]
        return [(spot, facts.st_dev) for spot, facts in found if facts is not None]

    @cached_property
    def _identities(self) -> frozenset[Hashable]:
        return frozenset[Hashable]().union(*(location.store.identities(location.parts) for location in self._spots))

    @cached_property
    def _names(self) -> dict[Hashable, frozenset[str]]:
        names: dict[Hashable, frozenset[str]] = {}
        for location in self._spots:
            for identity, name in location.store.links():
                names[identity] = names.get(identity, frozenset()) | {name}
        return names


def _stays(location: Location) -> Fault:
    reason = (
        f"{location} is, contains or links to an endpoint's root or the transfer's source, which are never deleted."
    )
    return Fault("PERMISSION_DENIED", reason)
