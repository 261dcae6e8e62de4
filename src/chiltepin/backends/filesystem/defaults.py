"""What stores, folders and temporary files do that have nothing special: read only, without links, written in order."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Generic, NoReturn, TypeVar

from chiltepin.backends.filesystem.errors import Fault

if TYPE_CHECKING:
    from collections.abc import Collection, Hashable, Iterator, Sequence

    from typing_extensions import Self

    from chiltepin.backends.filesystem.store import CopyOptions, Entry, Folder, Reader, Small
    from chiltepin.protocol.paths import Parts

__all__ = ["InOrderFile", "LinkFreeStore", "NothingHeld", "PlainFolder", "ReadOnlyFolder", "read_only"]

F = TypeVar("F", bound="Folder", covariant=True)  # noqa: PLC0105 - a letter will do


def read_only(name: str, place: str) -> Fault:
    """Return the fault of what would write to a store that can only be read."""
    return Fault("PERMISSION_DENIED", f"{name} is {place}, which is read-only; write to another endpoint.")


class NothingHeld:
    """Something that holds nothing which a ``with`` would have to let go."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Let nothing go."""


class PlainFolder(NothingHeld):
    """A `Folder` that has one name, and no faster way to copy a file than through its store's own."""

    identity = None

    def copy_from(self, origin: Folder, entry: Entry, name: str, options: CopyOptions) -> int | None:
        """Return None: this store has no faster path."""
        del origin, entry, name, options
        return None

    def read_small(self, entry: Entry) -> Small | None:
        """Return None: this store has no faster path."""
        del entry
        return None


class ReadOnlyFolder(PlainFolder):
    """A `Folder` whose store can only be read.

    Attributes
    ----------
    place : str
        Where its files are, as messages say it: "on a web server".
    """

    place: ClassVar[str]

    def copy_from(self, origin: Folder, entry: Entry, name: str, options: CopyOptions) -> NoReturn:
        """Refuse."""
        del origin, entry, options
        raise read_only(name, self.place)

    def temp_file(self, name: str, *, size: int | None = None, content_id: str = "") -> NoReturn:
        """Refuse."""
        del size, content_id
        raise read_only(name, self.place)

    def remove(self, name: str) -> NoReturn:
        """Refuse."""
        raise read_only(name, self.place)

    def remove_all(self, names: Sequence[str]) -> Iterator[tuple[str, Exception]]:
        """Refuse each of them."""
        return ((name, read_only(name, self.place)) for name in names)

    def remove_folder(self, name: str) -> NoReturn:
        """Refuse."""
        raise read_only(name, self.place)


class LinkFreeStore(Generic[F]):
    """A `Store` in which a folder has one name, and no link is seen on the way to it."""

    def renewed(self) -> Self:
        """Return itself: no link is seen on the way to the root."""
        return self

    def folder(self, parts: Parts, *, create: bool = False) -> F:
        """See `Store.folder`."""
        raise NotImplementedError

    def resolve(self, parts: Parts, *, follow: bool) -> Parts:
        """Return the same place."""
        del follow
        return parts

    def enter(self, parts: Parts, *, create: bool = False) -> tuple[Parts, F]:
        """See `Store.enter`."""
        parts = self.resolve(parts, follow=True)
        return parts, self.folder(parts, create=create)

    def identities(self, parts: Parts) -> Collection[Hashable]:
        """Return none: a folder has one name."""
        del parts
        return ()

    def links(self) -> Collection[tuple[Hashable, str]]:
        """Return none: a link on the way to the root is the server's."""
        return ()


class InOrderFile:
    """A `TempFile` that is written from its start to its end, of which nothing is kept when its process dies."""

    part: int | None = None
    verifies_writes = False

    def has_part(self, offset: int, count: int) -> None:
        """Return None: nothing is kept."""
        del offset, count

    def copy_compared(self, reader: Reader, offset: int, count: int) -> None:
        """Return None: this store copies no parts."""

    def copy_part(self, reader: Reader, offset: int, count: int, *, verify: bool) -> bool:
        """Return False: this store has no faster path."""
        del reader, offset, count, verify
        return False

    def write_at(self, offset: int, block: memoryview) -> None:
        """Not for a file that is written in order."""
        raise NotImplementedError

    def mark_verified(self, offset: int, digest: bytes) -> None:
        """Keep nothing."""
        del offset, digest
