"""Default methods of stores, folders and temporary files: read-only, without links, written in order."""

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
    """Return the fault of a write to a read-only store."""
    return Fault("PERMISSION_DENIED", f"{name} is {place}, which is read-only; write to another endpoint.")


class NothingHeld:
    """An object that holds nothing for a ``with`` to release."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Release nothing."""


class PlainFolder(NothingHeld):
    """A `Folder` with only one name, and no faster way to copy a file."""

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
    """A `Folder` whose store is read-only.

    Attributes
    ----------
    place : str
        Where its files are, in the words of a message: "on a web server".
    """

    place: ClassVar[str]

    def copy_from(self, origin: Folder, entry: Entry, name: str, options: CopyOptions) -> NoReturn:
        """Raise the fault of a read-only store."""
        del origin, entry, options
        raise read_only(name, self.place)

    def temp_file(self, name: str, *, size: int | None = None, content_id: str = "") -> NoReturn:
        """Raise the fault of a read-only store."""
        del size, content_id
        raise read_only(name, self.place)

    def remove(self, name: str) -> NoReturn:
        """Raise the fault of a read-only store."""
        raise read_only(name, self.place)

    def remove_all(self, names: Sequence[str]) -> Iterator[tuple[str, Exception]]:
        """Yield the fault of a read-only store for each name."""
        return ((name, read_only(name, self.place)) for name in names)

    def remove_folder(self, name: str) -> NoReturn:
        """Raise the fault of a read-only store."""
        raise read_only(name, self.place)


class LinkFreeStore(Generic[F]):
    """A `Store` whose folders have only one name, and whose paths have no visible links."""

    def renewed(self) -> Self | None:
        """Return itself: the path of the root has no visible link."""
        return self

    def folder(self, parts: Parts, *, create: bool = False) -> F:
        """See `Store.folder`."""
        raise NotImplementedError

    def resolve(self, parts: Parts, *, follow: bool) -> Parts:
        """Return the same path."""
        del follow
        return parts

    def enter(self, parts: Parts, *, create: bool = False) -> tuple[Parts, F]:
        """See `Store.enter`."""
        parts = self.resolve(parts, follow=True)
        return parts, self.folder(parts, create=create)

    def identities(self, parts: Parts) -> Collection[Hashable]:
        """Return nothing: a folder has only one name."""
        del parts
        return ()

    def links(self) -> Collection[tuple[Hashable, str]]:
        """Return nothing: only the server can see a link on the path of the root."""
        return ()


class InOrderFile:
    """A `TempFile` that is written from start to end, and of which nothing is kept if its process dies."""

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
        """Raise an error: this file is written in order."""
        raise NotImplementedError

    def mark_verified(self, offset: int, digest: bytes) -> None:
        """Keep nothing."""
        del offset, digest
