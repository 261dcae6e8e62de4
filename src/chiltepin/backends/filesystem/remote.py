"""Any other fsspec filesystem as a store, by its plain methods.

For stores that have no way of their own here, as S3 and SFTP have. Names are checked (`chiltepin.paths`) before they
are put behind the root. Where a store may have links (SMB, for one), a path that goes through a link is refused, since
fsspec cannot tell where it leads; whoever changes such a store between that look and the use can still get a link in
the way. The methods that expand patterns (``rm``, ``mv`` of the base class, ``copy``) are not used: there, a file
called ``a[1].txt`` means another one.
"""

from __future__ import annotations

import errno
import os
import secrets
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from fsspec.archive import AbstractArchiveFileSystem
from fsspec.core import url_to_fs
from fsspec.spec import AbstractFileSystem

from chiltepin.backends.filesystem.archives import ArchiveStore
from chiltepin.backends.filesystem.faults import Fault
from chiltepin.backends.filesystem.names import is_draft, temporary
from chiltepin.backends.filesystem.store import BLOCK, Entry, sound
from chiltepin.paths import joined

if TYPE_CHECKING:
    from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
    from types import TracebackType

    from typing_extensions import Self

    from chiltepin.backends.filesystem.store import Folder, Reader, Store, Wish
    from chiltepin.paths import Parts

__all__ = ["RemoteStore", "opened"]

#: Where the filesystems that we know keep the modification time in what ``info`` returns.
_MTIME_KEYS = ("mtime", "LastModified", "last_modified", "modified", "updated", "created")

#: Kinds of stores that have no links, so that nobody need look for them.
_LINKLESS = frozenset({"abfs", "abfss", "az", "gcs", "gs", "http", "https", "memory", "oci", "oss", "s3", "s3a"})


#: What may pass by itself: a line that fails, a file server that is busy.
_PASSING = frozenset({errno.EAGAIN, errno.EINTR, errno.EIO, errno.ESTALE, errno.EHOSTUNREACH, errno.ENETUNREACH})

#: Answers of HTTP that ask for another try (RFC 9110, 15.5.9; RFC 6585, 4); so do those from 500 up.
_BUSY, _STATUS_DIGITS = frozenset({"408", "429"}), 3


def _kind(info: Mapping[str, Any]) -> Literal["file", "dir", "link", "other"]:
    if info.get("islink") or info.get("type") == "link":
        return "link"
    return {"file": "file", "directory": "dir"}.get(info.get("type", ""), "other")  # type: ignore[return-value]


def _mtime(info: Mapping[str, Any]) -> float | None:
    for key in _MTIME_KEYS:
        value = info.get(key)
        if isinstance(value, datetime):
            return value.timestamp()
        if isinstance(value, int | float):
            return float(value)
    return None


def _entry(info: Mapping[str, Any], name: str) -> Entry:
    return Entry(name, _kind(info), info.get("size") or 0, _mtime(info))


class _Open:
    """An open file of fsspec."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


class RemoteReader(_Open):
    """A file of the store, open for reading."""

    def __init__(self, filesystem: Any, path: str) -> None:
        self._filesystem, self._path = filesystem, path
        info = filesystem.info(path)
        if info.get("type") == "directory":
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        self.size: int | None = info.get("size")
        self.mtime = _mtime(info)
        self.parts, self.proof, self.mark = False, "", ""
        super().__init__(filesystem.open(path, "rb", block_size=BLOCK))

    def read_at(self, offset: int, block: memoryview) -> int:
        """Not for a plain file of fsspec, which has one position."""
        raise NotImplementedError

    def readinto(self, block: memoryview) -> int:
        """Fill the block; see `Reader.readinto`."""
        data = self._file.read(len(block))
        block[: len(data)] = data
        return len(data)

    def changed(self) -> bool:
        """Ask the store again for size and modification time."""
        with suppress(AttributeError):
            self._filesystem.invalidate_cache(self._path)
        info = self._filesystem.info(self._path)
        return (info.get("size"), _mtime(info)) != (self.size, self.mtime)


class RemoteDraft(_Open):
    """A file that is being written beside its real name."""

    def __init__(self, filesystem: Any, folder: str, name: str) -> None:
        self._filesystem = filesystem
        self._draft, self._path = f"{folder}/{temporary(secrets.token_hex(8))}", f"{folder}/{name}"
        self._committed = False
        self.part: int | None = None
        self.proves = False
        super().__init__(filesystem.open(self._draft, "wb"))

    def kept(self, offset: int, count: int) -> None:
        """Keep nothing from dead drafts."""
        del offset, count

    def step(self, reader: Reader) -> None:
        """Have none: a request for each would cost more."""

    def take(self, reader: Reader, offset: int, count: int, *, verify: bool) -> bool:
        """Have no means of its own."""
        del reader, offset, count, verify
        return False

    def write_at(self, offset: int, block: memoryview) -> None:
        """Not for a plain file of fsspec, which has one position."""
        raise NotImplementedError

    def write(self, block: memoryview) -> None:
        """Append the block."""
        self._file.write(bytes(block))

    def whole(self, offset: int, digest: bytes) -> None:
        """Keep nothing from dead drafts."""
        del offset, digest

    def read_back(self) -> RemoteReader:
        """Close what was written, and open it again from the store."""
        self._file.close()
        return RemoteReader(self._filesystem, self._draft)

    def commit(self, mtime: float | None) -> None:
        """Rename where the filesystem has a rename of its own; else copy within the store, then remove the draft."""
        del mtime  # fsspec has no way to set one; the backend refuses preserve_timestamp before anything is submitted.
        self._file.close()
        if type(self._filesystem).mv is AbstractFileSystem.mv:
            self._filesystem.cp_file(self._draft, self._path)
            self._filesystem.rm_file(self._draft)
        else:
            self._rename()
        self._committed = True

    def _rename(self) -> None:
        try:
            self._filesystem.mv(self._draft, self._path)
        except OSError:
            # Not every rename replaces (SMB's does not); there is no whole-or-not way then.
            if not self._filesystem.isfile(self._path):
                raise
            self._filesystem.rm_file(self._path)
            self._filesystem.mv(self._draft, self._path)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        if not self._committed:
            with suppress(FileNotFoundError):
                self._filesystem.rm_file(self._draft)


class RemoteFolder:
    """One folder of the store; ``links`` says whether an entry may be one."""

    #: A folder has one name here.
    identity = None

    def __init__(self, filesystem: Any, path: str, *, links: bool) -> None:
        self._filesystem, self._path, self._links = filesystem, path, links

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing is held."""

    def entries(self, *, drafts: bool = False) -> Iterator[Entry]:
        """Yield all entries but the marker that object stores keep for the folder itself."""
        for info in self._filesystem.ls(self._path, detail=True):
            path = info["name"].rstrip("/")
            name = path.rsplit("/", 1)[-1]
            if path.strip("/") != self._path.strip("/") and (drafts or not is_draft(name)):
                if not sound(name):
                    raise Fault("INVALID_PATH_NAME", f"The store lists a name that is none, in {self._path}.")
                yield _entry(info, name)

    def entry(self, name: str) -> Entry | None:
        """Return one entry, or None."""
        try:
            if self._links:
                # Where there are links, info mostly follows them, and ls tells them.
                return next((entry for entry in self.entries(drafts=True) if entry.name == name), None)
            return _entry(self._filesystem.info(f"{self._path}/{name}"), name)
        except FileNotFoundError:
            return None

    def read(self, name: str) -> RemoteReader:
        """Open a file."""
        return RemoteReader(self._filesystem, f"{self._path}/{name}")

    def take(self, origin: Folder, entry: Entry, name: str, wish: Wish) -> int | None:
        """Have no shorter way."""
        del origin, entry, name, wish
        return None

    def at_once(self, entry: Entry) -> None:
        """Have no shorter way."""
        del entry

    def draft(self, name: str, *, size: int | None = None, mark: str = "") -> RemoteDraft:
        """Begin a file; one that ends in a folder's name is refused."""
        del size, mark
        if self._filesystem.isdir(f"{self._path}/{name}"):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), name)
        return RemoteDraft(self._filesystem, self._path, name)

    def remove(self, name: str) -> None:
        """Remove a file, by its exact name."""
        self._filesystem.rm_file(f"{self._path}/{name}")

    def remove_all(self, names: Sequence[str]) -> Iterator[tuple[str, Exception]]:
        """Remove them one by one."""
        for name in names:
            try:
                self.remove(name)
            except Exception as err:  # noqa: BLE001, PERF203 - whatever a filesystem raises is told
                yield name, err

    def remove_folder(self, name: str) -> None:
        """Remove an empty folder, where the store has folders at all."""
        with suppress(FileNotFoundError):
            self._filesystem.rmdir(f"{self._path}/{name}")


def opened(url: str, options: Mapping[str, Any]) -> Store:
    """Open what fsspec opens, with its storage options; archives are read by their own tables."""
    store = RemoteStore(url, options)
    if isinstance(store.filesystem, AbstractArchiveFileSystem):
        return ArchiveStore(store.filesystem, store.root)
    return store


class RemoteStore:
    """The tree below a URL.

    Parameters
    ----------
    url : str
        Any URL that fsspec can open.
    options : mapping of str to Any
        fsspec's storage options.
    """

    def __init__(self, url: str, options: Mapping[str, Any]) -> None:
        # An instance of our own: what is set on it below must not reach the user's.
        self.filesystem, root = url_to_fs(url, skip_instance_cache=True, **options)
        self.root = root.rstrip("/")
        protocol = self.filesystem.protocol
        self._links = _LINKLESS.isdisjoint((protocol,) if isinstance(protocol, str) else protocol)
        # A listing that is kept shows what was there before somebody else changed it (s3fs keeps it for good).
        # Set here and not as an option, because some hand every option to their connection.
        with suppress(AttributeError):
            self.filesystem.dircache.use_listings_cache = False
        self.times, self.writable = False, True
        self.width = self.least = 1

    def transient(self, error: Exception) -> bool:
        """See `Store.transient`."""
        if isinstance(error, ConnectionError | TimeoutError):
            return True
        if isinstance(error, OSError) and error.errno in _PASSING:
            return True
        # The clients of object stores tell the status of the answer by one of these names, as a number or as text.
        told = str(getattr(error, "status", None) or getattr(error, "code", ""))
        return told in _BUSY or (len(told) == _STATUS_DIGITS and told.isdecimal() and told.startswith("5"))

    def resolve(self, parts: Parts, *, follow: bool) -> Parts:
        """Return the same place, or refuse it if a link is on the way."""
        for depth in range(len(parts) if follow else len(parts) - 1) if self._links else ():
            entry = self._folder(parts[:depth]).entry(parts[depth])
            if entry is None:
                break
            if entry.kind == "link":
                where = joined(parts[: depth + 1])
                raise Fault(
                    "PERMISSION_DENIED", f"{where} is a link, and where a link of this store leads is not told."
                )
        return parts

    def path(self, parts: Parts) -> str:
        """Return the name that fsspec has for a place."""
        return "/".join((self.root, *parts))

    def _folder(self, parts: Parts) -> RemoteFolder:
        return RemoteFolder(self.filesystem, self.path(parts), links=self._links)

    def folder(self, parts: Parts, *, create: bool = False) -> RemoteFolder:
        """Open a folder; a file or a link on the way to it is an error."""
        # Also within a tree: what is a folder at its origin may be a link here.
        self.resolve(parts, follow=True)
        path = self.path(parts)
        if create:
            with suppress(FileExistsError):  # A file: told below, in the same words by every filesystem.
                self.filesystem.makedirs(path, exist_ok=True)
        if parts and not self.filesystem.isdir(path):
            if self.filesystem.exists(path):
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
            # Object stores make no folder before there is something in it.
            if not create:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return self._folder(parts)

    def enter(self, parts: Parts, *, create: bool = False) -> tuple[Parts, RemoteFolder]:
        """Refuse links, then open; see `Store.enter`."""
        parts = self.resolve(parts, follow=True)
        return parts, self.folder(parts, create=create)

    def contains(self, parts: Parts, other: Store, other_parts: Parts) -> bool:
        """Compare the two places, if both are on one filesystem."""
        if not isinstance(other, RemoteStore) or type(other.filesystem) is not type(self.filesystem):
            return False
        if other.filesystem.storage_options != self.filesystem.storage_options:
            return False
        ours, theirs = self.path(parts), other.path(other_parts)
        return f"{theirs}/".startswith(f"{ours}/")

    def holders(self, parts: Parts) -> Collection[Hashable]:
        """Return none: a folder has one name here."""
        del parts
        return ()

    def links(self) -> Collection[Hashable]:
        """Return none: a link on the way to the root is the server's."""
        return ()
