"""A bucket or a container, or a folder in it, as a store.

Such a store has no folders, only names with slashes. A folder exists if any name begins with it. An empty folder is an
object (`Client.folder_key`).

An object is visible only when it is complete: no service shows an upload before its end (docs.aws.amazon.com, "Amazon
S3 data consistency model"; learn.microsoft.com, "Put Block List"; cloud.google.com, Storage, "Consistency"). So no
temporary names are needed.
"""

from __future__ import annotations

import errno
import os
import re
from contextlib import suppress
from typing import TYPE_CHECKING, ClassVar

from chiltepin.backends.filesystem.defaults import LinkFreeStore, PlainFolder
from chiltepin.backends.filesystem.errors import Fault
from chiltepin.backends.filesystem.store import Entry, is_valid_name
from chiltepin.backends.filesystem.stores.objects.client import WIDTH, CloudFault, all_pages
from chiltepin.backends.filesystem.stores.objects.temp_file import ObjectTempFile
from chiltepin.backends.filesystem.stores.same_server import same_server
from chiltepin.backends.filesystem.temp_names import is_temp_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from chiltepin.backends.filesystem.store import Reader, Store
    from chiltepin.backends.filesystem.stores.objects.client import Client, ObjectInfo
    from chiltepin.protocol.paths import Parts

__all__ = ["UNWRITABLE", "ObjectEntry", "ObjectFolder", "ObjectStore"]

#: Valid between two slashes in the name of an object, but not as a name in a path.
_NAMELESS = frozenset({"", ".", ".."})

#: Control characters, which S3 and Google advise against and XML 1.0 cannot represent, and bytes that are not UTF-8.
UNWRITABLE = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")

#: How Python represents bytes of a name that are not UTF-8 (PEP 383).
_BYTES = re.compile("[\ud800-\udfff]")

#: Bytes of the longest name of an object (all three services).
_LONGEST = 1024


class ObjectEntry(Entry):
    """An entry of a listing, with an id of its content."""

    __slots__ = ("version",)

    version: str


class ObjectFolder(PlainFolder):
    """The objects below a prefix, which is empty or ends with a slash.

    A ``fresh`` folder did not exist before, and is kept even if it stays empty.
    """

    def __init__(self, store: ObjectStore, prefix: str, *, fresh: bool = False) -> None:
        self.store, self.prefix = store, prefix
        #: Whether a write here may replace an object.
        self.replaces = not fresh
        self._kept = fresh

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Keep a new folder that stayed empty."""
        if self._kept and error is None:
            self.store.client.keep_folder(self.prefix)

    def fills(self) -> None:
        """Make no object that keeps the folder; see `KeptByObject`."""
        self._kept = False

    def entries(self, *, temp_files: bool = False) -> Iterator[Entry]:
        """Yield all entries, page by page; names that no path can contain are of the kind ``other``.

        If there are none, raise FileNotFoundError or NotADirectoryError, because opening a folder does not check it.
        """
        del temp_files  # There are none: an upload has no name before it is complete.
        empty = self.replaces
        for entry in self.store.listed(self.prefix):
            empty = False
            # Else it is the empty object that keeps the folder.
            if entry.name or entry.kind != "dir":
                yield entry
        if empty:
            self.store.refuse_missing(self.prefix)

    def entry(self, name: str) -> Entry | None:
        """Return one entry, or None; if a file and a folder have the same name, the file."""
        _refuse_bytes(name)
        with suppress(FileNotFoundError):
            found = self.store.client.head(self.prefix + name)
            # An empty object with the name of the folder only keeps it.
            if not name and not found.size:
                return None
            return Entry(name, "dir") if found.is_folder else self.store.file_entry(name, found)
        return Entry(name, "dir") if self.store.any_below(f"{self.prefix}{name}/") else None

    def read(self, name: str) -> Reader:
        """Open an object."""
        return self.store.client.read(self.prefix + name)

    def temp_file(self, name: str, *, size: int | None = None, content_id: str = "") -> ObjectTempFile:
        """Begin an object; one with the name of a folder is refused, unless it is shared."""
        del content_id  # The parts kept of a dead upload, if any, are identified by their content.
        self.begin(name)
        return ObjectTempFile(self.store.client, self.prefix + name, size)

    def begin(self, name: str) -> None:
        """Refuse a name that the store cannot hold, or that is only a folder, unless the source has both."""
        # The invalid name may be that of a folder in the path.
        for part in (*self.prefix.split("/"), name):
            self.store.refuse_name(part)
        if len(os.fsencode(self.prefix + name)) > _LONGEST:
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), name)
        if not self.prefix + name:
            reason = (
                "The content of a folder object cannot be stored at the root of a bucket of "
                f"{self.store.client.store}; "
            )
            raise Fault("INVALID_PATH_NAME", f"{reason}choose a folder in it.")
        if name and self.replaces:
            self.store.refuse_folder(self.prefix + name)
        self._kept = False

    def remove(self, name: str) -> None:
        """Remove an object."""
        for _, error in self.remove_all([name]):
            raise error

    def remove_all(self, names: Sequence[str]) -> Iterator[tuple[str, Exception]]:
        """Remove several objects; those whose names are invalid in a path stay."""
        # The empty name is that of the object that keeps this folder, which is listed if it has content.
        for name in _NAMELESS.intersection(names):
            if self.store.any_below(f"{self.prefix}{name}/"):
                reason = f"Below {self.prefix}{name}/ are objects whose names are not valid paths; delete them."
                yield name, Fault("INVALID_PATH_NAME", reason)
        yield from self.remove_keys([name for name in names if self.prefix + name])

    def remove_keys(self, names: Sequence[str]) -> Iterator[tuple[str, Exception]]:
        """Remove objects one by one; a missing object counts as removed."""
        for name in names:
            key = self.prefix + name
            try:
                self.store.client.delete(key)
            except FileNotFoundError:
                continue
            except (Fault, OSError) as err:
                yield name, err

    def remove_folder(self, name: str) -> None:
        """Remove an empty folder: the objects that keep it, if there are any."""
        prefix = f"{self.prefix}{name}/"
        pages = all_pages(self.store.client, prefix, count=2, deep=True)
        if any(found.key != prefix for page in pages for found in page.objects):
            raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY), name)
        # Other programs keep a folder by an object whose name ends with a slash.
        for key in {prefix, self.store.client.folder_key(prefix)}:
            with suppress(FileNotFoundError):
                if key == prefix or self.store.client.head(key).is_folder:
                    self.store.client.delete(key)


class ObjectStore(LinkFreeStore[ObjectFolder]):
    """The tree below a folder of a bucket; the folder is empty for the whole bucket."""

    #: The classes of its folders and entries.
    folder_type: ClassVar[type[ObjectFolder]] = ObjectFolder
    entry_type: ClassVar[type[ObjectEntry]] = ObjectEntry

    def __init__(self, client: Client, root: str) -> None:
        self.client, self.root = client, root
        self.width = self.least = WIDTH
        self.times, self.writable = False, True
        #: Entries requested for one page of a listing; S3 and Google send no more.
        self.page = 1000
        #: Keys that may be both an object and a folder, as at the source.
        self._shared: set[str] = set()

    def share(self, parts: Parts) -> None:
        """Allow a name to be both an object and a folder; see `SharedNames`."""
        self._shared.add(self.prefix(parts)[:-1])

    def transient(self, error: Exception) -> bool:
        """See `Store.transient`."""
        return error.transient if isinstance(error, CloudFault) else isinstance(error, ConnectionError | TimeoutError)

    def prefix(self, parts: Parts) -> str:
        """Return the prefix of the names of all objects in a folder."""
        names = (self.root, *parts) if self.root else parts
        prefix = "".join(f"{name}/" for name in names)
        _refuse_bytes(prefix)
        return prefix

    def folder(self, parts: Parts, *, create: bool = False) -> ObjectFolder:
        """Open a folder; with ``create`` it is looked up now, otherwise when it is listed."""
        prefix = self.prefix(parts)
        if not create or not parts or self.is_folder(prefix):
            return self.folder_type(self, prefix)
        for depth in range(len(parts), 0, -1):
            self.refuse_name(parts[depth - 1])
            self._refuse_object(self.prefix(parts[:depth])[:-1])
        return self.folder_type(self, prefix, fresh=True)

    def contains(self, parts: Parts, other: Store, other_parts: Parts) -> bool:
        """Compare the two prefixes if both are in one bucket of one server."""
        if not isinstance(other, ObjectStore) or self.client.bucket != other.client.bucket:
            return False
        if not other.prefix(other_parts).startswith(self.prefix(parts)):
            return False
        return same_server(self.client.server, other.client.server)

    def refuse_name(self, name: str) -> None:
        """Raise a ``Fault`` for a name that the store cannot hold."""
        if UNWRITABLE.search(name):
            reason = f"{self.client.store} accepts only names of printable characters in UTF-8, not {name!r}."
            raise Fault("INVALID_PATH_NAME", reason)
        self.client.refuse_name(name)

    def refuse_missing(self, prefix: str) -> None:
        """Raise FileNotFoundError or NotADirectoryError for a missing folder; the root always exists."""
        if prefix != self.prefix(()) and not self.is_folder(prefix):
            self._refuse_object(prefix[:-1])
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), prefix)

    def refuse_folder(self, key: str) -> None:
        """Raise IsADirectoryError for a key that is only a folder."""
        if key not in self._shared and self.is_folder(f"{key}/") and not self._is_object(key):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), key)

    def _refuse_object(self, key: str) -> None:
        if key not in self._shared and self._is_object(key) and not self.is_folder(f"{key}/"):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), key)

    def _is_object(self, key: str) -> bool:
        try:
            return not self.client.head(key).is_folder
        except FileNotFoundError:
            return False

    def any_below(self, prefix: str) -> bool:
        """Whether any object's name begins with the prefix."""
        return any(page.objects for page in all_pages(self.client, prefix, count=1, deep=True))

    def is_folder(self, prefix: str) -> bool:
        """Whether a folder exists, even an empty one."""
        if self.any_below(prefix):
            return True
        # On Azure, the object that keeps an empty folder is outside its prefix.
        key = self.client.folder_key(prefix)
        if key == prefix:
            return False
        try:
            return self.client.head(key).is_folder
        except FileNotFoundError:
            return False

    def listed(self, prefix: str) -> Iterator[Entry]:
        """Yield the entries directly below a prefix, and the object of that name."""
        folders = set[str]()
        for page in self.client.pages(prefix, count=self.page):
            for found in page.objects:
                name = self._below(prefix, found.key)
                if not found.is_folder or not name:
                    yield self._entry(prefix, name, found)
                elif name not in folders:
                    folders.add(name)
                    yield _unnameable(name) or Entry(name, "dir")
            for below in page.prefixes:
                name = self._below(prefix, below[:-1])
                # The object that keeps the folder may already have been listed.
                if name not in folders:
                    folders.add(name)
                    yield _unnameable(name) or Entry(name, "dir")

    def _below(self, prefix: str, key: str) -> str:
        """Return the rest of a key after its prefix: a name, or one of `_NAMELESS`."""
        name = key.removeprefix(prefix)
        if not key.startswith(prefix) or (name not in _NAMELESS and not is_valid_name(name)):
            reason = f"{self.client.store} lists {key!r} below {prefix!r}, which is not its prefix."
            raise Fault("INVALID_PATH_NAME", reason)
        return name

    def file_entry(self, name: str, found: ObjectInfo, fault: Fault | None = None) -> ObjectEntry:
        """Return the entry of an object."""
        entry = self.entry_type(name, "file", found.size, found.mtime, fault)
        entry.version = found.version
        return entry

    def _entry(self, prefix: str, name: str, found: ObjectInfo) -> Entry:
        if name:
            return _unnameable(name) or self.file_entry(name, found)
        if not found.size:
            return Entry(name, "dir")
        reason = f"The object {prefix!r} has {found.size} bytes and a name that ends with '/'; rename it to copy it."
        return self.file_entry(name, found, Fault("INVALID_PATH_NAME", reason))


def _refuse_bytes(name: str) -> None:
    """Raise a ``Fault`` for a name that no request can contain: one with bytes that are not UTF-8."""
    if _BYTES.search(name):
        raise Fault("INVALID_PATH_NAME", f"Names of objects are UTF-8, and {name!r} is not.")


class _UnnamedEntry(Entry):
    __slots__ = ()

    named = False


def _unnameable(name: str) -> Entry | None:
    """Return the entry for a name that is invalid in a path or a request; None for any other name."""
    if UNWRITABLE.search(name):
        return _UnnamedEntry(name, "other")
    return Entry(name, "other") if name in _NAMELESS or is_temp_name(name) else None
