"""What the mover needs of a place that holds files: the one seam between copying and any kind of store.

A `Store` is the tree below an endpoint's root; a `Folder` is one folder of it, held open. All names are single path
components, so that nothing can be reached from a folder but its own entries.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, NamedTuple, Protocol, TypeVar, runtime_checkable

from chiltepin.backends.filesystem.errors import Fault

if TYPE_CHECKING:
    from collections.abc import Collection, Hashable, Iterable, Iterator, Sequence
    from typing import Literal

    from typing_extensions import Self

    from chiltepin.protocol.paths import Parts

__all__ = [
    "BLOCK",
    "SMALL",
    "Batching",
    "CopyOptions",
    "Dividing",
    "Entry",
    "Folder",
    "KeptByObject",
    "Reader",
    "SharedNames",
    "Small",
    "Store",
    "TempFile",
    "is_valid_name",
    "limited",
]

Item = TypeVar("Item")

#: Bytes that are in memory at a time for one file. 256 KiB was never slow; with 1 MiB, writes to a disk took up to four
#: times as long on some machines (benchmarks/README.md).
BLOCK = 1 << 18

#: Bytes up to which a file is small. Above, memory that is asked for anew for each file costs more than calls do.
SMALL = 1 << 18

#: Limit of characters of a name; every filesystem allows fewer, and S3 allows 1,024 for a whole path.
_LONGEST_NAME = 4096

#: Names of one folder that are kept in memory; a list that is longer is taken for one without an end.
MOST_KEPT = 5_000_000


def is_valid_name(name: str) -> bool:
    """Whether a name that a server lists can be that of something in a folder.

    On the other side of a transfer one with a slash in it, or ``..``, would lead out of the folder.
    """
    return 0 < len(name) <= _LONGEST_NAME and name not in (".", "..") and "/" not in name and "\0" not in name


def limited(entries: Iterable[Item], where: object) -> Iterator[Item]:
    """Yield the entries of a folder, for callers that keep all of them; a ``Fault`` if a server never stops."""
    for number, entry in enumerate(entries):
        if number >= MOST_KEPT:
            raise Fault("LIMIT_EXCEEDED", f"{where} has more than {MOST_KEPT:,} entries; name the paths that you need.")
        yield entry


@dataclass(slots=True, eq=False)
class Entry:
    """One entry of a folder, its link not followed."""

    #: Nanoseconds to which the store cuts the time that it tells of an open file, where a listing tells it finer.
    unit: ClassVar[int] = 1
    #: Whether a request can name it; if not, what it holds was not seen.
    named: ClassVar[bool] = True

    name: str
    kind: Literal["file", "dir", "link", "other"]
    #: Bytes; None where the store does not tell.
    size: int | None = 0
    #: Last modification, seconds since 1970 UTC; None where the store keeps none.
    mtime: float | None = None
    #: Why it cannot be copied although it is listed; it fails by itself, and the entries beside it do not.
    fault: Exception | None = None

    def fits(self, limit: int) -> bool:
        """Whether it is known to have no more bytes than that."""
        return self.size is not None and self.size <= limit


class Small(NamedTuple):
    """A small file, in memory as a whole; `mtime` is in nanoseconds since 1970 UTC."""

    content: bytes
    size: int
    mtime: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyOptions:
    """How a file is to be copied.

    Parameters
    ----------
    verify : bool
        Compare a checksum of what was read with one of what was written.
    mtime : bool
        Keep the modification time.
    checksum : str
        What the content has to have, such as ``sha256:...``; empty for anything.
    """

    verify: bool = True
    mtime: bool = False
    checksum: str = ""


class Closing(Protocol):
    """Something that is let go of at the end of a ``with``."""

    def __enter__(self) -> Self: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None: ...


class Reader(Closing, Protocol):
    """A regular file that is open for reading."""

    #: Bytes; None where the store does not tell.
    size: int | None
    #: Whether `read_at` works, from several threads at once.
    parts: bool
    #: What the store itself says of the whole content, such as ``md5:...``; empty where it says nothing that proves it.
    checksum: str
    #: Whether each request names the content, by version or tag; if not, what a dead run has left is compared with it.
    pinned: bool

    @property
    def mtime(self) -> float | None:
        """Last modification, seconds since 1970 UTC; None where the store does not tell.

        Raises
        ------
        Fault
            If what the store tells may mean another time, too.
        """
        ...

    @property
    def content_id(self) -> str:
        """What names this content of this file: another one after any change that the store can tell."""
        ...

    def read_at(self, offset: int, block: memoryview) -> int:
        """Fill the block from there; return how many bytes came, fewer only at the end."""
        ...

    def readinto(self, block: memoryview) -> int:
        """Fill the block from where the last call ended; return how many bytes came, 0 at the end."""
        ...

    def changed(self) -> bool:
        """Whether the file has been replaced since it was opened, if the store can tell."""
        ...


class TempFile(Closing, Protocol):
    """A file that is being written, under a name that is not data.

    Leaving the ``with`` without `commit` removes it. A process that is killed leaves it behind; then what is whole of
    it may serve the next temporary file of the same mark, and files that are not continued are swept.
    """

    #: Bytes of a part, where parts may be written in any order and from several threads; None: only `write`, in order.
    part: int | None
    #: Whether the store compares each block that it gets with a checksum of ours; if so, nothing need be read back.
    verifies_writes: bool

    def write(self, block: memoryview) -> None:
        """Append the block, all of it."""
        ...

    def has_part(self, offset: int, count: int) -> bytes | None:
        """Return the digest of a part that is there, whole, from a temporary file of the same mark whose process died.

        That of `mark_verified`; None if the part has to be copied.
        """
        ...

    def copy_compared(self, reader: Reader, offset: int, count: int) -> tuple[bytes, bytes] | None:
        """Copy one part at once; return the digests of what was read and read back, or None if it cannot."""
        ...

    def copy_part(self, reader: Reader, offset: int, count: int, *, verify: bool) -> bool:
        """Get one part by the store's own means, such as the kernel or the server.

        False if it has none for it, or, where the part will be read back to ``verify`` it, none that is worth it.
        """
        ...

    def write_at(self, offset: int, block: memoryview) -> None:
        """Write one part; the last may be shorter."""
        ...

    def mark_verified(self, offset: int, digest: bytes) -> None:
        """Note the checksum of a part that was read back and is right; `has_part` may use it after a crash."""
        ...

    def read_back(self) -> Reader:
        """Open what was written, from its start; not asked of a temporary file that ``verifies_writes``."""
        ...

    def commit(self, mtime: float | None) -> None:
        """Give the file its real name, in place of what had it; set its modification time if one is given."""
        ...


class Folder(Closing, Protocol):
    """One folder, held open."""

    @property
    def identity(self) -> Hashable | None:
        """What is the same for this folder by all its names, as in `Store.holders`; None where it has only one."""
        ...

    def entries(self, *, temp_files: bool = False) -> Iterator[Entry]:
        """Yield all entries, in no particular order; temporary files (`is_temp_name`) only if ``temp_files``."""
        ...

    def entry(self, name: str) -> Entry | None:
        """Return one entry, or None if there is none of that name."""
        ...

    def read(self, name: str) -> Reader:
        """Open a regular file; a link is refused."""
        ...

    def copy_from(self, origin: Folder, entry: Entry, name: str, options: CopyOptions) -> int | None:
        """Copy a file of another folder in one step, in a way of this store that is faster than a temporary file.

        As with a temporary file, the copy appears under its name only when it is complete and verified as requested.

        Returns
        -------
        int or None
            Its bytes; None if that is not possible from that folder, or for a file of that size.
        """
        ...

    def read_small(self, entry: Entry) -> Small | None:
        """Read a file of `SMALL` bytes at most in one go.

        Returns
        -------
        Small or None
            All of one state of it, compared with what the store says of it; None if there is no such way, or no such
            small file any more.
        """
        ...

    def temp_file(self, name: str, *, size: int | None = None, content_id: str = "") -> TempFile:
        """Begin a file that will be called ``name``.

        ``size`` is how many bytes it will have, where that is known, and ``content_id`` that of the `Reader` whose
        content it gets; empty: nothing is kept from temporary files of dead writers.
        """
        ...

    def remove(self, name: str) -> None:
        """Remove anything but a folder; a link goes, what it points to stays."""
        ...

    def remove_all(self, names: Sequence[str]) -> Iterator[tuple[str, Exception]]:
        """Remove several, in as few requests as the store can; yield those that stayed, and why."""
        ...

    def remove_folder(self, name: str) -> None:
        """Remove an empty folder."""
        ...


@runtime_checkable
class Batching(Protocol):
    """What a folder may have besides: ways to copy many small files at the cost of few."""

    def copy_all_from(
        self, origin: Folder, entries: Sequence[Entry], options: CopyOptions
    ) -> Iterator[tuple[Entry, int | Exception | None]]:
        """Copy files of another folder under their names, each like `Folder.copy_from` would.

        What is in memory at a time is bounded by the store; between two files the caller may stop.

        Yields
        ------
        tuple of Entry and int, Exception or None
            Each file, once, in any order: its bytes, or why it was not copied; None if it has to be copied alone.
        """
        ...

    def prefetch(self, entries: Sequence[Entry]) -> Folder:
        """Return the same folder for the reading of these files by one thread, in this order, each once."""
        ...


@runtime_checkable
class Dividing(Protocol):
    """What a folder may have besides: temporary files that several workers write, each a part."""

    def begin_shared(self, reader: Reader, name: str, owner: str) -> str | None:
        """Make a temporary file of the size of a source, and return its name; None if its disk takes no parts.

        When the process ``owner`` (`chiltepin.backends.processes.process_id`) has ended, it may be swept.
        """
        ...

    def shared_temp_file(self, temp_file: str, name: str, size: int) -> TempFile:
        """Open it; leaving the ``with`` does not remove it."""
        ...


@runtime_checkable
class KeptByObject(Protocol):
    """A new folder of a store that has none: an object keeps it as long as it is empty."""

    #: Whether a file that is written here may take the place of something.
    replaces: bool

    def fills(self) -> None:
        """Make no such object, as something will be in the folder."""
        ...


@runtime_checkable
class SharedNames(Protocol):
    """A store in which a file and a folder may have one name, as ``a`` beside ``a/x`` in a store of objects.

    A folder may have content itself there, under ``a/``: it is listed in the folder ``a`` as a file with an empty name
    and a fault, which says why no other store can hold it.
    """

    def share(self, parts: Parts) -> None:
        """Let this name be that of a file and of a folder from now on, since it is both at the source."""
        ...


class Store(Protocol):
    """The tree of an endpoint.

    Every method may raise a ``Fault``, or an ``OSError``, with an ``errno`` where there is one. None ever reaches out
    of the root.
    """

    #: Files and parts that may be under way at once; how many are worth it is measured (`thread_count`).
    width: int
    #: Files that are under way at once in any case, where each waits for an answer.
    least: int
    #: Whether it can set modification times.
    times: bool
    #: Whether anything can be written or deleted there.
    writable: bool

    def renewed(self) -> Store | None:
        """Return the store for one more task, whose root may lead elsewhere now; None: it has to be opened again."""
        ...

    def transient(self, error: Exception) -> bool:
        """Whether what a method raised may go away by itself, so that the same is worth another try."""
        ...

    def resolve(self, parts: Parts, *, follow: bool) -> Parts:
        """Return the place that ``parts`` mean, links replaced by where they lead.

        Names that do not exist are kept. With ``follow``, the last name may be a link too. A link that leads out of
        the root, or to an unknown place, raises a ``Fault``.
        """
        ...

    def folder(self, parts: Parts, *, create: bool = False) -> Folder:
        """Open a folder; ``create`` makes it and its parents if need be. No link is followed: `resolve` first."""
        ...

    def enter(self, parts: Parts, *, create: bool = False) -> tuple[Parts, Folder]:
        """Open the folder that `resolve` leads to; return it with the place where it really is."""
        ...

    def contains(self, parts: Parts, other: Store, other_parts: Parts) -> bool:
        """Whether a place of another store is this place of ours, or lies below it, by whatever name."""
        ...

    def identities(self, parts: Parts) -> Collection[Hashable]:
        """Return the `Folder.identity` of a place and of all it lies in; none where a folder has one name."""
        ...

    def links(self) -> Collection[tuple[Hashable, str]]:
        """Return the links on the way to the root as it is configured, each as its folder's identity and its name."""
        ...
