"""A place on an endpoint: its store, and the names that lead to it there."""

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
    """A place on an endpoint, of which it is not known yet whether anything is there."""

    endpoint: str
    store: Store
    parts: Parts

    def __str__(self) -> str:
        return f"{joined(self.parts)} on endpoint {self.endpoint!r}"

    def below(self, *names: str) -> Location:
        """Return a place below this one."""
        return replace(self, parts=self.parts + names)

    def above(self) -> Location:
        """Return the place that holds this one; that of the root is the root."""
        return replace(self, parts=self.parts[:-1])

    def resolved(self, *, follow: bool) -> Location:
        """Return the place that links lead to; see `Store.resolve`."""
        return replace(self, parts=self.store.resolve(self.parts, follow=follow))

    def contains(self, other: Location) -> bool:
        """Whether the other place is this one, or lies below it."""
        return self.store.contains(self.parts, other.store, other.parts)

    def parent(self) -> Folder:
        """Open the folder that holds this place; to be asked only of what is not the root."""
        return self.store.folder(self.parts[:-1])

    def entry(self) -> Entry | None:
        """Return what is here, or None; the root is a folder always."""
        if not self.parts:
            return Entry("", "dir")
        try:
            with self.parent() as folder:
                return folder.entry(self.parts[-1])
        except (FileNotFoundError, NotADirectoryError):
            return None


def is_missing(location: Location) -> Fault:
    """Return the fault of a place where nothing is."""
    return Fault("FILE_NOT_FOUND", f"There is no {location}.")
