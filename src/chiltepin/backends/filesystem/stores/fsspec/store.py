"""Any other fsspec filesystem as a store, by its plain methods.

This is for stores without an implementation here, unlike S3 and SFTP. Names are checked (`chiltepin.protocol.paths`)
before they are appended to the root. If a store may have links (SMB, for example), a path through a link is refused,
because fsspec cannot tell where it leads; a link that is created between this check and the use is still followed.
Methods that expand patterns (``rm``, ``mv`` of the base class, ``copy``) are not used: for them, ``a[1].txt`` is
another file.
"""

from __future__ import annotations

import errno
import os
import threading
from contextlib import suppress
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote, urlsplit

from fsspec.archive import AbstractArchiveFileSystem
from fsspec.core import url_to_fs
from fsspec.spec import AbstractFileSystem

from chiltepin.backends.filesystem.defaults import LinkFreeStore, PlainFolder
from chiltepin.backends.filesystem.errors import Fault
from chiltepin.backends.filesystem.store import Entry, is_valid_name
from chiltepin.backends.filesystem.stores import owners
from chiltepin.backends.filesystem.stores.fsspec.address import OURS, address_of
from chiltepin.backends.filesystem.stores.fsspec.archive import ArchiveStore, explain_damage
from chiltepin.backends.filesystem.stores.fsspec.files import FsspecReader, FsspecTempFile, mtime_of, renamed, shape_of
from chiltepin.backends.filesystem.stores.fsspec.ftp import FtpFileSystem
from chiltepin.backends.filesystem.temp_names import is_temp_name
from chiltepin.protocol.paths import joined

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from chiltepin.backends.filesystem.store import Store
    from chiltepin.protocol.paths import Parts

__all__ = ["FsspecStore", "opened"]

#: Kinds of stores without links, where no check for links is needed.
_LINKLESS = frozenset({"http", "https", "memory", "oci", "oss"})


#: Transient errors: a failing connection, a busy file server.
_PASSING = frozenset({errno.EAGAIN, errno.EINTR, errno.EIO, errno.ESTALE, errno.EHOSTUNREACH, errno.ENETUNREACH})

#: HTTP statuses after which a retry may succeed (RFC 9110, 15.5.9; RFC 6585, 4), as after all from 500 up.
_BUSY, _STATUS_DIGITS = frozenset({"408", "429"}), 3


def _kind(info: Mapping[str, Any]) -> Literal["file", "dir", "link", "other"]:
    if info.get("islink") or info.get("type") == "link":
        return "link"
    return {"file": "file", "directory": "dir"}.get(info.get("type", ""), "other")  # type: ignore[return-value]


def _entry(info: Mapping[str, Any], name: str) -> Entry:
    kind, size, fault = _kind(info), info.get("size"), None
    if not info.get("type"):
        # A WebDAV server sends no type for an entry that this user may not read.
        fault = Fault("PERMISSION_DENIED", f"The store lists {name} without its type; it may be a link.")
    return Entry(name, kind, size if kind == "file" else 0, mtime_of(info), fault)


def _bytes_as_latin(name: str) -> str:
    return name.encode("utf-8", "surrogateescape").decode("latin-1")


def _latin_as_bytes(name: str) -> str:
    return name.encode("latin-1").decode("utf-8", "surrogateescape")


def _escaped(name: str) -> str:
    return quote(name, safe="")


def _same(name: str) -> str:
    return name


class FsspecFolder(PlainFolder):
    """One folder of the store."""

    def __init__(self, store: FsspecStore, parts: Parts) -> None:
        self._store, self.filesystem, self.shapes = store, store.filesystem, store.shapes
        self._parts, self._path = parts, store.path(parts)

    def path(self, name: str) -> str:
        """Return the filesystem's path for a name."""
        return self._store.path((*self._parts, name))

    def names(self) -> set[str]:
        """Return all names in the listing."""
        return {entry.name for entry in self.entries(temp_files=True)}

    def now(self) -> float | None:
        """Return the time by the clock of the store, from a new file; None if unknown."""
        name = owners.new_name()
        path = self.path(name)
        made = None
        # A store that cannot write a file reports that when a transfer writes one.
        with suppress(Exception):
            file = self.filesystem.open(path, "wb")
            file.write(b"0")
            file.close()
            made = mtime_of(self.filesystem.info(path))
        with suppress(Exception):
            self.filesystem.rm_file(path)
        owners.release(name)
        return made

    def entries(self, *, temp_files: bool = False) -> Iterator[Entry]:
        """Yield all entries but the marker that object stores keep for the folder itself."""
        listed: set[str] = set()
        for info in self.filesystem.ls(self._path, detail=True):
            path = info["name"].rstrip("/")
            name = self._store.read_name(path.rsplit("/", 1)[-1])
            listed.add(name)
            if self._is_marker(path) or (is_temp_name(name) and not temp_files):
                continue
            if not is_valid_name(name):
                raise Fault("INVALID_PATH_NAME", f"The store lists an invalid name in {self._path}.")
            yield _entry(info, name)
        if not temp_files:
            yield from owners.missing(listed)

    def put_back(self, names: Mapping[str, str]) -> None:
        """Rename files that were set aside back to their old names."""
        for old, new in names.items():
            self.filesystem.mv(self.path(old), self.path(new))

    def _is_marker(self, path: str) -> bool:
        """Whether an entry is the folder itself, which object stores keep as an object."""
        return path.strip("/") == self._path.strip("/")

    def entry(self, name: str) -> Entry | None:
        """Return one entry, or None."""
        try:
            if self._store.may_link:
                # In most filesystems with links, info follows them, and ls reports them.
                return next((entry for entry in self.entries(temp_files=True) if entry.name == name), None)
            return _entry(self.filesystem.info(self.path(name)), name)
        except FileNotFoundError:
            return None

    def read(self, name: str) -> FsspecReader:
        """Open a file."""
        return FsspecReader(self.filesystem, self.path(name))

    def temp_file(self, name: str, *, size: int | None = None, content_id: str = "") -> FsspecTempFile:
        """Begin a file; the name of a folder is refused."""
        del size, content_id
        self._store.sweep_once(self, self._path)
        if self.filesystem.isdir(self.path(name)):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), name)
        return FsspecTempFile(self, name)

    def remove(self, name: str) -> None:
        """Remove a file, by its exact name."""
        self.filesystem.rm_file(self.path(name))

    def remove_all(self, names: Sequence[str]) -> Iterator[tuple[str, Exception]]:
        """Remove the files one by one."""
        for name in names:
            try:
                self.remove(name)
            except Exception as err:  # noqa: BLE001, PERF203 - any error is yielded
                yield name, err

    def remove_folder(self, name: str) -> None:
        """Remove an empty folder, if the store has folders."""
        filesystem, path = self.filesystem, self.path(name)
        with suppress(FileNotFoundError):
            filesystem.rmdir(path)
        # fsspec's own rmdir does nothing, for stores without folders.
        if getattr(filesystem.rmdir, "__func__", None) is not AbstractFileSystem.rmdir or not filesystem.isdir(path):
            return
        # What deletes a file may delete a whole tree, too.
        if filesystem.ls(path, detail=False):
            raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY))
        with suppress(NotImplementedError):
            filesystem.rm_file(path)
        if filesystem.isdir(path):
            raise Fault("ENDPOINT_ERROR", f"fsspec cannot remove folders of this store; remove {name} by other means.")


def opened(url: str, options: Mapping[str, Any]) -> Store:
    """Open a URL that fsspec supports, with its storage options; archives are read from their tables."""
    store = FsspecStore(url, options)
    if not issubclass(store.address.kind, AbstractArchiveFileSystem):
        # Opened here, so that a mistake in its options is reported before a task begins.
        store.filesystem  # noqa: B018
        return store
    kind = urlsplit(url).scheme
    write = f"write a URL such as '{kind}://::/data/run.{kind}'"
    try:
        with explain_damage(f"The file is not a {kind} archive, or it is damaged; {write}, or download it again."):
            return ArchiveStore(store.filesystem, store.root)
    except FileNotFoundError:
        failure = Fault("FILE_NOT_FOUND", f"The archive does not exist; {write}.")
    except IsADirectoryError:
        failure = Fault("IS_A_DIRECTORY", f"The URL names a folder instead of an archive; {write}.")
    raise failure


class FsspecStore(LinkFreeStore[FsspecFolder]):
    """The tree below any URL that fsspec can open, with the storage options of fsspec.

    With ``any_login`` it stands for the root of an endpoint that must stay, whatever the login of a deletion. It sends
    no request before its ``filesystem`` is used.
    """

    def __init__(self, url: str, options: Mapping[str, Any], *, any_login: bool = False) -> None:
        self.address, self.any_login = address_of(url, options), any_login
        self._url, self._options, kind = url, options, self.address.kind
        protocols = {kind.protocol} if isinstance(kind.protocol, str) else set(kind.protocol)
        #: How to encode names for the filesystem, and to decode those in its listings.
        self._write_name, self.read_name = _same, _same
        if "webdav" in protocols:
            # Its client decodes escapes in a name as in a URL, and lists names without escapes.
            self._write_name = _escaped
        elif issubclass(kind, FtpFileSystem) and "encoding" not in options:
            self._write_name, self.read_name = _bytes_as_latin, _latin_as_bytes
        #: The folders already swept.
        self._swept: set[str] = set()
        self._lock = threading.Lock()
        #: Shapes of names that this store has kept unchanged; see `FsspecTempFile`.
        self.shapes: set[str] = set()
        #: Whether an entry may be a link.
        self.may_link = _LINKLESS.isdisjoint(protocols)
        # What fsspec writes to references exists only in memory.
        self.times, self.writable = False, "reference" not in protocols
        self.width = self.least = 1

    @cached_property
    def _opened(self) -> tuple[Any, str]:
        """A separate instance, so that our settings do not affect the user's, and the path of its root."""
        url, options, kind = self._url, self._options, self.address.kind
        if urlsplit(url).scheme in OURS:
            # As url_to_fs does for a registered filesystem.
            told = {**kind._get_kwargs_from_urls(url), **options}  # noqa: SLF001
            filesystem, root = kind(**told), kind._strip_protocol(url)  # noqa: SLF001
        else:
            filesystem, root = url_to_fs(url, skip_instance_cache=True, **options)
        # A cached listing misses changes by other processes (s3fs never drops it).
        # Set here and not as an option, because some filesystems pass every option to their connection.
        with suppress(AttributeError):
            filesystem.dircache.use_listings_cache = False
        # Elsewhere the URL has the root as the filesystem expects it.
        return filesystem, self._write_name(root) if isinstance(filesystem, FtpFileSystem) else str(root)

    @property
    def filesystem(self) -> Any:
        """The filesystem of fsspec."""
        return self._opened[0]

    @property
    def root(self) -> str:
        """The path of the root there."""
        return self._opened[1]

    def transient(self, error: Exception) -> bool:
        """See `Store.transient`."""
        if isinstance(error, ConnectionError | TimeoutError):
            return True
        if isinstance(error, OSError) and error.errno in _PASSING:
            return True
        # The clients of object stores put the status in one of these attributes, as a number or as text.
        names = ("status", "status_code", "code")
        told = str(next((value for name in names if (value := getattr(error, name, None))), ""))
        # A failed connection in httpx, which is not an error of the operating system.
        if any(kind.__name__ == "TransportError" for kind in type(error).__mro__):
            return True
        return told in _BUSY or (len(told) == _STATUS_DIGITS and told.isdecimal() and told.startswith("5"))

    def resolve(self, parts: Parts, *, follow: bool) -> Parts:
        """Return the same path, or refuse it if it contains a link."""
        for depth in range(len(parts) if follow else len(parts) - 1) if self.may_link else ():
            entry = self._folder(parts[:depth]).entry(parts[depth])
            if entry is None:
                break
            if entry.fault is not None:
                raise entry.fault
            if entry.kind == "link":
                where = joined(parts[: depth + 1])
                raise Fault(
                    "PERMISSION_DENIED", f"{where} is a link, and this store does not report the target of a link."
                )
        return parts

    def path(self, parts: Parts) -> str:
        """Return fsspec's path for a place."""
        if not parts:
            return self.root
        # Some filesystems, such as those of archives, have paths without a slash at their start.
        above = self.root if not self.root or self.root.endswith("/") else f"{self.root}/"
        return above + "/".join(map(self._write_name, parts))

    def _folder(self, parts: Parts) -> FsspecFolder:
        return FsspecFolder(self, parts)

    def folder(self, parts: Parts, *, create: bool = False) -> FsspecFolder:
        """Open a folder; a file or a link on the way to it is an error."""
        # Also within a tree: a folder at the source may be a link here.
        self.resolve(parts, follow=True)
        path = self.path(parts)
        if create:
            self._make(parts)
        if parts and not self.filesystem.isdir(path):
            if self.filesystem.exists(path):
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
            # In object stores, a folder does not exist before it contains a file.
            if not create:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return self._folder(parts)

    def _make(self, parts: Parts) -> None:
        """Make a folder and its parents, and check that the store keeps each name unchanged."""
        if self.filesystem.isdir(self.path(parts)) and all(shape_of(name) in ("", *self.shapes) for name in parts):
            return
        for depth, name in enumerate(parts):
            place, shape = parts[: depth + 1], shape_of(name)
            with suppress(FileExistsError):  # A file: `folder` raises the same error for every filesystem.
                self.filesystem.makedirs(self.path(place), exist_ok=True)
            if shape in ("", *self.shapes) or not self.filesystem.isdir(self.path(place)):
                continue
            listed = self._folder(parts[:depth]).names()
            if name in listed:
                self.shapes.add(shape)
            # Object stores do not list empty folders.
            elif listed:
                with suppress(Exception):
                    self.filesystem.rmdir(self.path(place))
                raise renamed(name)

    def sweep_once(self, folder: FsspecFolder, path: str) -> None:
        """Before this store's first write to a folder, remove or put back files that dead writers left there."""
        with self._lock:
            if path in self._swept:
                return
            self._swept.add(path)
        # A folder that cannot be swept may still be writable; a later run sweeps it.
        with suppress(Exception):
            entries = list(folder.entries(temp_files=True))
            now = cache(folder.now)
            spare, only = owners.left({entry.name for entry in entries}, now)
            spare += [
                entry.name
                for entry in entries
                if is_temp_name(entry.name)
                and not owners.stands_aside(entry.name)
                and owners.is_abandoned(entry.name, entry.mtime, now)
            ]
            for _ in folder.remove_all(spare):
                pass  # Another run removes the rest.
            folder.put_back({temp_file: name for temp_file, name in only.items() if name})

    def contains(self, parts: Parts, other: Store, other_parts: Parts) -> bool:
        """Compare the two addresses."""
        if not isinstance(other, FsspecStore):
            return False
        return self.address.contains(parts, other.address, other_parts, any_login=other.any_login)
