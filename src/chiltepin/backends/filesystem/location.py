"""A place on an endpoint: its store, and its path there."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from chiltepin.backends.filesystem.errors import Fault
from chiltepin.backends.filesystem.store import Entry
from chiltepin.protocol.paths import joined

if TYPE_CHECKING:
    from chiltepin.backends.filesystem.store import Folder, Store
    from chiltepin.protocol.paths import Parts

__all__ = ["Location", "is_missing"]


@dataclass(frozen=True, slots=True)
class Location:
    """A place on an endpoint, which may or may not exist."""

    endpoint: str
    store: Store
    parts: Parts

    def __str__(self) -> str:
        return f"{joined(self.parts)} on endpoint {self.endpoint!r}"

    def below(self, *names: str) -> Location:
        """Return a place below this one."""
        return replace(self, parts=self.parts + names)

    def above(self) -> Location:
        """Return the parent of this place; the parent of the root is the root."""
        return replace(self, parts=self.parts[:-1])

    def resolved(self, *, follow: bool) -> Location:
        """Return this place with its links resolved; see `Store.resolve`."""
        return replace(self, parts=self.store.resolve(self.parts, follow=follow))

    def contains(self, other: Location) -> bool:
        """Whether the other place is this one, or is below it."""
        return self.store.contains(self.parts, other.store, other.parts)

    def parent(self) -> Folder:
        """Open the folder that holds this place, which must not be the root."""
        return self.store.folder(self.parts[:-1])

    def entry(self) -> Entry | None:
        """Return the entry at this place, or None; the root is always a folder."""
        if not self.parts:
            return Entry("", "dir")
        try:
            with self.parent() as folder:
                return folder.entry(self.parts[-1])
        except (FileNotFoundError, NotADirectoryError):
            return None


def is_missing(location: Location) -> Fault:
    """Return the fault of a place that does not exist."""
    return Fault("FILE_NOT_FOUND", f"There is no {location}.")
