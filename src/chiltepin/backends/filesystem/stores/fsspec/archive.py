"""A zip, tar or other archive that fsspec can open, as a read-only store.

fsspec's listings of archives omit members whose names begin with ``/`` or ``./``, and list a folder in itself if it has
no entry. So the members are read from the table of the archive, and folders are derived from their names, as in
``unzip`` and ``tar``: a leading ``/`` or ``./`` is dropped, and the later of two members with the same name counts. A
member that these programs refuse is reported as a fault.
"""

from __future__ import annotations

import errno
import gzip
import os
import stat
import tarfile
import threading
import zipfile
import zlib
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, NoReturn

from chiltepin.backends.filesystem.defaults import LinkFreeStore, ReadOnlyFolder, read_only
from chiltepin.backends.filesystem.errors import Fault
from chiltepin.backends.filesystem.store import BLOCK, Entry, is_valid_name
from chiltepin.backends.filesystem.stores.fsspec.archive_file import ArchiveFile
from chiltepin.protocol.paths import joined

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from typing_extensions import Self

    from chiltepin.backends.filesystem.store import Store
    from chiltepin.protocol.paths import Parts

__all__ = ["ArchiveStore", "explain_damage"]

#: Where the files are, in messages.
_PLACE = "in an archive"

#: Flags of a zip member: its content is encrypted; its name is UTF-8 (APPNOTE.TXT, 4.4.4).
_ENCRYPTED, _UTF8 = 0x1, 0x800

#: Systems that made a zip member; on Unix, names may have any encoding and attributes a mode (APPNOTE.TXT, 4.4.2).
_FAT, _UNIX = 0, 3


#: Errors of the modules that read archives.
_DAMAGE = (zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError)


def _is_damage(error: Exception) -> bool:
    # A Python may lack the modules lzma and bz2; bz2 raises an OSError with this text.
    return isinstance(error, _DAMAGE) or type(error).__name__ == "LZMAError" or str(error) == "Invalid data stream"


@contextmanager
def explain_damage(reason: str) -> Iterator[None]:
    """Raise a ``Fault`` with this reason if a ``with`` block finds that an archive is damaged."""
    try:
        yield
    except Exception as err:
        if not _is_damage(err):
            raise
    else:
        return
    raise Fault("ENDPOINT_ERROR", reason)


class Member(NamedTuple):
    """One member of an archive."""

    name: str
    kind: Literal["file", "dir", "link", "other"]
    #: Bytes; None for a hard link, which has the size of its target.
    size: int | None
    mtime: float | None
    open: Callable[[], Any]


def _zip_name(info: zipfile.ZipInfo) -> str:
    """Return the name of a member, which zipfile decodes as code page 437 unless it is flagged as UTF-8."""
    if "\0" in info.orig_filename:
        # zipfile truncates it at the NUL, which may give the name of another member.
        return info.orig_filename
    if info.create_system == _FAT and "/" not in info.filename:
        # As unzip reads archives of some Windows programs.
        return info.filename.replace("\\", "/")
    if info.create_system != _UNIX or info.flag_bits & _UTF8:
        return info.filename
    try:
        return info.filename.encode("cp437").decode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return info.filename


def _zip_kind(info: zipfile.ZipInfo) -> Literal["file", "dir", "link", "other"]:
    if info.is_dir():
        return "dir"
    mode = info.external_attr >> 16 if info.create_system == _UNIX else 0
    if stat.S_ISLNK(mode):
        return "link"
    return "file" if stat.S_IFMT(mode) in (0, stat.S_IFREG) else "other"


def _open_zip(archive: Any, info: zipfile.ZipInfo) -> Any:
    if info.flag_bits & _ENCRYPTED:
        raise Fault("PERMISSION_DENIED", f"{info.filename} is encrypted in the archive; decrypt the archive first.")
    try:
        return archive.open(info)
    except NotImplementedError:
        reason = f"{info.filename} is compressed by a method that Python lacks; create the archive again with deflate."
    raise Fault("ENDPOINT_ERROR", reason)


def _of_zip(archive: Any) -> Iterator[Member]:
    for info in archive.infolist():
        yield Member(_zip_name(info), _zip_kind(info), info.file_size, None, partial(_open_zip, archive, info))


def _open_tar(archive: tarfile.TarFile, info: tarfile.TarInfo) -> Any:
    link = f"{info.name} is a hard link in the archive to {info.linkname}"
    cure = "create the archive again without it."
    try:
        file = archive.extractfile(info)
    except KeyError:
        raise Fault("FILE_NOT_FOUND", f"{link}, which the archive does not hold; {cure}") from None
    except RecursionError:
        raise Fault("INVALID_SYMLINK", f"{link}, whose links form a circle; {cure}") from None
    if file is None:
        raise Fault("NOT_A_FILE", f"{link}, which is not a file; {cure}")
    return file


def _of_tar(archive: tarfile.TarFile) -> Iterator[Member]:
    for info in archive.getmembers():
        kind: Literal["file", "dir", "link", "other"] = "file" if info.isreg() or info.islnk() else "other"
        kind = "dir" if info.isdir() else "link" if info.issym() else kind
        size = None if info.islnk() else info.size
        yield Member(info.name, kind, size, info.mtime, partial(_open_tar, archive, info))
    # tarfile ends the list silently at a damaged or truncated header; a complete archive ends with a block of zeros
    # (POSIX, pax).
    archive.fileobj.seek(archive.offset)
    if archive.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise Fault(
            "ENDPOINT_ERROR", "The archive is damaged or truncated: its end marker is missing; download it again."
        )
    # In a compressed archive a checksum follows, which is verified at the end.
    while archive.fileobj.read(BLOCK):
        pass


def _of_any(filesystem: Any) -> Iterator[Member]:
    """Yield the members of another kind of archive, from fsspec's index."""
    filesystem.ls("", detail=True)
    for name, info in filesystem.dir_cache.items():
        kind: Literal["file", "dir"] = "dir" if info["type"] == "directory" else "file"
        yield Member(name, kind, info.get("size"), info.get("mtime"), partial(filesystem.open, name, "rb"))


def _members(filesystem: Any) -> Iterator[Member]:
    if hasattr(filesystem, "zip"):
        return _of_zip(filesystem.zip)
    if hasattr(filesystem, "tar"):
        return _of_tar(filesystem.tar)
    return _of_any(filesystem)


def _tree(members: Iterable[Member]) -> dict[Parts, dict[str, Member | Fault]]:
    tree: dict[Parts, dict[str, Member | Fault]] = {(): {}}
    files: dict[Parts, Member] = {}
    for member in members:
        parts = tuple(part for part in member.name.split("/") if part not in ("", "."))
        if objection := _objection(member, parts):
            fault = Fault("INVALID_PATH_NAME", f"The archive holds {objection}; create it again with other names.")
            tree[()][ascii(member.name).replace("/", "%2F")] = fault
        elif member.kind == "dir":
            tree.setdefault(parts, {})
        elif parts:
            files[parts] = member
    for parts in [*tree, *(parts[:-1] for parts in files)]:
        for depth in range(len(parts)):
            tree.setdefault(parts[: depth + 1], {})
            tree[parts[:depth]][parts[depth]] = Member("", "dir", 0, None, _nothing)
    for parts, member in files.items():
        if parts in tree:
            reason = (
                f"The archive holds {joined(parts)} both as a file and as a folder; create it again with other names."
            )
            tree[parts[:-1]][parts[-1]] = Fault("INVALID_PATH_NAME", reason)
        else:
            tree[parts[:-1]][parts[-1]] = member
    return tree


def _objection(member: Member, parts: Parts) -> str:
    """Return why a member cannot be read; empty if it can."""
    if ".." in parts:
        return f"{member.name}, which leads out of a folder"
    if not all(map(is_valid_name, parts)):
        return f"{member.name!r}, which is not a name"
    if member.kind == "dir" and member.size:
        return f"{member.size} bytes under {member.name}, the name of a folder"
    return ""


def _nothing() -> NoReturn:
    raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))


class _MemberFile:
    """The content of a member; damage is a ``Fault``."""

    def __init__(self, member: Member) -> None:
        self._damaged = f"{member.name} is damaged in the archive; download the archive again."
        with explain_damage(self._damaged):
            self._file = member.open()

    def read(self, count: int) -> Any:
        with explain_damage(self._damaged):
            return self._file.read(count)

    def close(self) -> None:
        self._file.close()


class ArchiveReader:
    """A member that is open for reading."""

    parts, pinned, checksum, content_id = False, False, "", ""

    def __init__(self, member: Member, lock: threading.Lock, is_changed: Callable[[], bool]) -> None:
        self.size, self.mtime, self._lock, self._is_changed = member.size, member.mtime, lock, is_changed
        with lock:
            self._file = _MemberFile(member)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        with self._lock:
            self._file.close()

    def read_at(self, offset: int, block: memoryview) -> int:
        """Not supported: a member is read in order."""
        raise NotImplementedError

    def readinto(self, block: memoryview) -> int:
        """Fill the block; see `Reader.readinto`."""
        with self._lock:
            data = self._file.read(len(block))
        block[: len(data)] = data
        return len(data)

    def changed(self) -> bool:
        """Whether the archive has changed, or the member is longer than stated.

        At the end of a zip member its checksum is verified.
        """
        with self._lock:
            return bool(self._file.read(1)) or self._is_changed()


class ArchiveFolder(ReadOnlyFolder):
    """One folder of an archive."""

    place = _PLACE

    def __init__(
        self, content: dict[str, Member | Fault], lock: threading.Lock, is_changed: Callable[[], bool]
    ) -> None:
        self._content, self._lock, self._is_changed = content, lock, is_changed

    def entries(self, *, temp_files: bool = False) -> Iterator[Entry]:
        """Yield all entries."""
        del temp_files
        return map(self._entry, self._content)

    def _entry(self, name: str) -> Entry:
        member = self._content[name]
        if isinstance(member, Fault):
            return Entry(name, "other", None, fault=member)
        return Entry(name, member.kind, member.size, member.mtime)

    def entry(self, name: str) -> Entry | None:
        """Return one entry, or None."""
        return self._entry(name) if name in self._content else None

    def read(self, name: str) -> ArchiveReader:
        """Open a file."""
        member = self._content.get(name)
        if isinstance(member, Fault):
            raise member
        if member is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
        return ArchiveReader(member, self._lock, self._is_changed)


class ArchiveStore(LinkFreeStore[ArchiveFolder]):
    """The members of an open archive, below a folder ``root`` in it.

    An incomplete table of members raises ``Fault``.
    """

    times, writable = False, False
    width = least = 1

    def __init__(self, filesystem: Any, root: str) -> None:
        self.filesystem = filesystem
        self._root = tuple(part for part in root.split("/") if part)
        # All members are read through one open file.
        self._lock = threading.Lock()
        self._file = ArchiveFile(filesystem)
        self._tree = _tree(_members(filesystem))

    def renewed(self) -> Self | None:
        """Return itself; None if the archive may have changed since its table was read."""
        return self if self._file.is_current() else None

    def transient(self, error: Exception) -> bool:
        """See `Store.transient`; the archive may be on a server."""
        return isinstance(error, ConnectionError | TimeoutError)

    def resolve(self, parts: Parts, *, follow: bool) -> Parts:
        """Return the same path, or refuse it if it is a link."""
        member = self._tree.get((*self._root, *parts[:-1]), {}).get(parts[-1]) if parts else None
        if follow and isinstance(member, Member) and member.kind == "link":
            raise Fault("PERMISSION_DENIED", f"{joined(parts)} is a link in an archive; name its target.")
        return parts

    def folder(self, parts: Parts, *, create: bool = False) -> ArchiveFolder:
        """Open a folder."""
        if create:
            raise read_only(joined(parts), _PLACE)
        place = self._root + parts
        if place in self._tree:
            return ArchiveFolder(self._tree[place], self._lock, self._file.changed)
        kind = NotADirectoryError if place[-1] in self._tree.get(place[:-1], {}) else FileNotFoundError
        number = errno.ENOTDIR if kind is NotADirectoryError else errno.ENOENT
        raise kind(number, os.strerror(number), joined(parts))

    def contains(self, parts: Parts, other: Store, other_parts: Parts) -> bool:
        """Compare the two places, if both are in one archive."""
        return isinstance(other, ArchiveStore) and other is self and other_parts[: len(parts)] == parts
