"""What the mover needs from a place that holds files: the only interface between copying and any kind of store.

A `Store` is the tree below an endpoint's root; a `Folder` is one folder of it, held open. All names are single path
components, so that a folder gives access only to its own entries.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, NamedTuple, Protocol, TypeVar, runtime_checkable

from chiltepin.backends.filesystem.errors import Fault

if TYPE_CHECKING:
    from collections.abc import Collection, Hashable, Iterable, Iterator, Sequence
    from typing import Literal

    from typing_extensions import Self

    from chiltepin.protocol import Shard
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

#: Bytes of one file that are in memory at a time. 256 KiB was never slow; with 1 MiB, writes to a disk took up to four
#: times as long on some machines (benchmarks/README.md).
BLOCK = 1 << 18

#: Maximum bytes of a small file. Above, allocating memory for each file costs more than the system calls.
SMALL = 1 << 18

#: Limit of characters of a name; every filesystem allows fewer, and S3 allows 1,024 for a whole path.
_LONGEST_NAME = 4096

#: Names of one folder that are kept in memory; a longer list is treated as endless.
MOST_KEPT = 5_000_000


def is_valid_name(name: str) -> bool:
    """Whether a name that a server lists is valid for an entry of a folder.

    On the other side of a transfer, a name with a slash, or ``..``, would lead out of the folder.
    """
    return 0 < len(name) <= _LONGEST_NAME and name not in (".", "..") and "/" not in name and "\0" not in name


def limited(entries: Iterable[Item], where: object) -> Iterator[Item]:
    """Yield the entries of a folder, for callers that keep all of them; raise a ``Fault`` if there are too many."""
    for number, entry in enumerate(entries):
        if number >= MOST_KEPT:
            raise Fault("LIMIT_EXCEEDED", f"{where} has more than {MOST_KEPT:,} entries; name the paths that you need.")
        yield entry


@dataclass(slots=True, eq=False)
class Entry:
    """One entry of a folder; a link is not followed."""

    #: Resolution of an open file's time in the store, in nanoseconds, if a listing has a finer one.
    unit: ClassVar[int] = 1
    #: Whether a request can name it; if not, its contents were not listed.
    named: ClassVar[bool] = True

    name: str
    kind: Literal["file", "dir", "link", "other"]
    #: Bytes; None if the store does not provide them.
    size: int | None = 0
    #: Last modification, seconds since 1970 UTC; None if the store keeps none.
    mtime: float | None = None
    #: Why it cannot be copied although it is listed; only this entry fails.
    fault: Exception | None = None

    def fits(self, limit: int) -> bool:
        """Whether its size is known, and at most ``limit``."""
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
        Compare a checksum of the data read with a checksum of the data written.
    mtime : bool
        Keep the modification time.
    checksum : str
        The checksum that the content must have, such as ``sha256:...``; empty for any content.
    """

    verify: bool = True
    mtime: bool = False
    checksum: str = ""


class Closing(Protocol):
    """An object that is closed at the end of a ``with``."""

    def __enter__(self) -> Self: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None: ...


class Reader(Closing, Protocol):
    """A regular file that is open for reading."""

    #: Bytes; None if the store does not provide them.
    size: int | None
    #: Whether `read_at` works, also from several threads at once.
    parts: bool
    #: The store's own checksum of the whole content, such as ``md5:...``; empty if it has none that proves the content.
    checksum: str
    #: Whether each request names the content, by version or tag; if not, parts from a dead run are compared with it.
    pinned: bool

    @property
    def mtime(self) -> float | None:
        """Last modification, seconds since 1970 UTC; None if the store does not provide it.

        Raises
        ------
        Fault
            If the store's time is ambiguous.
        """
        ...

    @property
    def content_id(self) -> str:
        """An id of this content of this file, which differs after any change that the store can detect."""
        ...

    def read_at(self, offset: int, block: memoryview) -> int:
        """Fill the block from an offset; return the number of bytes read, smaller only at the end."""
        ...

    def readinto(self, block: memoryview) -> int:
        """Fill the block from where the last call ended; return the number of bytes read, 0 at the end."""
        ...

    def changed(self) -> bool:
        """Whether the file has been replaced since it was opened, if the store can tell."""
        ...


class TempFile(Closing, Protocol):
    """A file that is being written, under a temporary name.

    Leaving the ``with`` without `commit` removes it. A killed process leaves it behind; then the next temporary file
    with the same mark may use its complete parts, and files that are not continued are swept.
    """

    #: Bytes of a part, if parts may be written in any order and from several threads; None: only `write`, in order.
    part: int | None
    #: Whether the store checks each block against our checksum; if so, nothing has to be read back.
    verifies_writes: bool

    def write(self, block: memoryview) -> None:
        """Append the whole block."""
        ...

    def has_part(self, offset: int, count: int) -> bytes | None:
        """Return the digest of a complete part that a dead process left in a temporary file with the same mark.

        It is the digest from `mark_verified`; None if the part has to be copied.
        """
        ...

    def copy_compared(self, reader: Reader, offset: int, count: int) -> tuple[bytes, bytes] | None:
        """Copy one part in one step; return the digests of the data read and read back, or None if it cannot."""
        ...

    def copy_part(self, reader: Reader, offset: int, count: int, *, verify: bool) -> bool:
        """Copy one part by the store's own means, such as the kernel or the server.

        Return False if it has none, or none that is worth it if the part will be read back to ``verify`` it.
        """
        ...

    def write_at(self, offset: int, block: memoryview) -> None:
        """Write one part; the last may be shorter."""
        ...

    def mark_verified(self, offset: int, digest: bytes) -> None:
        """Record the checksum of a part that was read back and is correct; `has_part` may use it after a crash."""
        ...

    def read_back(self) -> Reader:
        """Open the written data at its start; not called for a temporary file that ``verifies_writes``."""
        ...

    def commit(self, mtime: float | None) -> None:
        """Rename the file to its real name, replacing an existing file; set its modification time if one is given."""
        ...


class Folder(Closing, Protocol):
    """One folder, held open."""

    @property
    def identity(self) -> Hashable | None:
        """An id that is the same by all names of this folder, as in `Store.identities`; None if it has only one."""
        ...

    def entries(self, *, temp_files: bool = False) -> Iterator[Entry]:
        """Yield all entries, in no particular order; temporary files (`is_temp_name`) only if ``temp_files``."""
        ...

    def entry(self, name: str) -> Entry | None:
        """Return one entry, or None if the name does not exist."""
        ...

    def read(self, name: str) -> Reader:
        """Open a regular file; a link is refused."""
        ...

    def copy_from(self, origin: Folder, entry: Entry, name: str, options: CopyOptions) -> int | None:
        """Copy a file from another folder in one step, if this store has a faster way than a temporary file.

        As with a temporary file, the copy appears under its name only when it is complete and verified as requested.

        Returns
        -------
        int or None
            Its bytes; None if this is not possible from that folder, or for a file of that size.
        """
        ...

    def read_small(self, entry: Entry) -> Small | None:
        """Read a file of at most `SMALL` bytes at once.

        Returns
        -------
        Small or None
            The content in one consistent state, as compared with the store's facts; None if the store cannot read it at
            once, or if the file has grown.
        """
        ...

    def temp_file(self, name: str, *, size: int | None = None, content_id: str = "") -> TempFile:
        """Begin a file that will be called ``name``.

        ``size`` is its number of bytes, if known, and ``content_id`` that of the `Reader` whose content it gets; empty:
        no temporary file of a dead writer is continued.
        """
        ...

    def remove(self, name: str) -> None:
        """Remove anything but a folder; of a link, remove only the link."""
        ...

    def remove_all(self, names: Sequence[str]) -> Iterator[tuple[str, Exception]]:
        """Remove several entries, in as few requests as the store can; yield those that remain, and why."""
        ...

    def remove_folder(self, name: str) -> None:
        """Remove an empty folder."""
        ...


@runtime_checkable
class Batching(Protocol):
    """A folder that can also copy many small files at the cost of few."""

    def copy_all_from(
        self, origin: Folder, entries: Sequence[Entry], options: CopyOptions
    ) -> Iterator[tuple[Entry, int | Exception | None]]:
        """Copy files from another folder under the same names, each as `Folder.copy_from` would.

        The store limits the memory in use; the caller may stop between two files.

        Yields
        ------
        tuple of Entry and int, Exception or None
            Each file, once, in any order: its bytes, or the reason for a failure; None if it has to be copied alone.
        """
        ...

    def prefetch(self, entries: Sequence[Entry]) -> Folder:
        """Return the same folder for one thread to read these files, in this order, each once."""
        ...


@runtime_checkable
class Dividing(Protocol):
    """A folder that also has temporary files that several workers write, each a part."""

    def begin_shared(self, reader: Reader, name: str, shard: Shard) -> str | None:
        """Make a temporary file as large as the source; return its name, or None if its disk does not accept parts."""
        ...

    def shared_temp_file(self, temp_file: str, name: str, size: int) -> TempFile:
        """Open such a file; leaving the ``with`` does not remove it."""
        ...


@runtime_checkable
class KeptByObject(Protocol):
    """A new folder in a store without folders: an object keeps it while it is empty."""

    #: Whether a file that is written here may replace something.
    replaces: bool

    def fills(self) -> None:
        """Make no such object, because the folder will not be empty."""
        ...


@runtime_checkable
class SharedNames(Protocol):
    """A store in which a file and a folder may have the same name, such as ``a`` and ``a/x`` in an object store.

    A folder itself may have content there, under ``a/``: the folder ``a`` lists it as a file with an empty name and a
    fault, which says why no other store can hold it.
    """

    def share(self, parts: Parts) -> None:
        """Allow a file and a folder with this name from now on, because the source has both."""
        ...


class Store(Protocol):
    """The tree of an endpoint.

    Every method may raise a ``Fault``, or an ``OSError``, with an ``errno`` if there is one. No method reaches outside
    the root.
    """

    #: Maximum number of files and parts in progress at once; `thread_count` measures how many are useful.
    width: int
    #: Minimum number of files in progress at once, if each waits for a response.
    least: int
    #: Whether it can set modification times.
    times: bool
    #: Whether anything can be written or deleted there.
    writable: bool

    def renewed(self) -> Store | None:
        """Return the store for another task, whose root may now lead elsewhere; None if it has to be opened again."""
        ...

    def transient(self, error: Exception) -> bool:
        """Whether an error of a method is transient, so that a retry may succeed."""
        ...

    def resolve(self, parts: Parts, *, follow: bool) -> Parts:
        """Return a path with its links resolved.

        Names that do not exist are kept. With ``follow``, the last name may be a link too. A link that leads out of
        the root, or to an unknown place, raises a ``Fault``.
        """
        ...

    def folder(self, parts: Parts, *, create: bool = False) -> Folder:
        """Open a folder; ``create`` makes it and missing parents. No link is followed: call `resolve` first."""
        ...

    def enter(self, parts: Parts, *, create: bool = False) -> tuple[Parts, Folder]:
        """Open the folder that `resolve` finds; return its resolved path, and the folder."""
        ...

    def contains(self, parts: Parts, other: Store, other_parts: Parts) -> bool:
        """Whether a path of another store is this path of ours, or is below it, by any name."""
        ...

    def identities(self, parts: Parts) -> Collection[Hashable]:
        """Return the `Folder.identity` of a path and of all its parents; empty if a folder has only one name."""
        ...

    def links(self) -> Collection[tuple[Hashable, str]]:
        """Return the links on the path of the root as configured, each as its folder's identity and its name."""
        ...
