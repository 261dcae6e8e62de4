"""Files of a store that fsspec opens: read in order, written under a temporary name, then renamed.

Not every rename replaces an existing file: SMB and FTP servers on Windows do not, and WebDAV servers only on request.
In such a store the old file is renamed first, and renamed back if the new one cannot be renamed; so it is never lost,
and no incomplete file is visible.
"""

from __future__ import annotations

import errno
import os
import re
import unicodedata
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol

from fsspec.spec import AbstractBufferedFile, AbstractFileSystem

from chiltepin.backends.filesystem.defaults import InOrderFile
from chiltepin.backends.filesystem.errors import Fault
from chiltepin.backends.filesystem.store import BLOCK
from chiltepin.backends.filesystem.stores import owners

if TYPE_CHECKING:
    from collections.abc import Mapping

    from typing_extensions import Self


__all__ = ["FsspecReader", "FsspecTempFile", "Within", "moved", "mtime_of", "renamed", "shape_of"]

#: Keys of the modification time in ``info`` of the filesystems known to us.
_MTIME_KEYS = ("mtime", "LastModified", "last_modified", "modified", "updated", "created")

#: Characters that every known store keeps unchanged in a name, and escapes that a URL would decode.
_PLAIN, _ESCAPE = re.compile(r"[A-Za-z0-9_.+=@~-]+"), re.compile("%[0-9A-Fa-f]{2}")

#: Limit in characters of a real name that is appended to its temporary name.
_LONGEST = 150


def mtime_of(info: Mapping[str, Any]) -> float | None:
    """Return the time of last modification from fsspec's info, in seconds since 1970 UTC; None if there is none."""
    for key in _MTIME_KEYS:
        value = info.get(key)
        if isinstance(value, datetime):
            return value.timestamp()
        if isinstance(value, int | float):
            return float(value)
    return None


class Within(Protocol):
    """The part of the folder that a file uses."""

    filesystem: Any
    #: The shapes of names (`shape_of`) that the store is known to keep unchanged.
    shapes: set[str]

    def path(self, name: str) -> str:
        """Return the filesystem's path for a name."""
        ...

    def names(self) -> set[str]:
        """Return all names in the listing."""
        ...

    def now(self) -> float | None:
        """Return the time by the clock of the store; None if unknown."""
        ...


def shape_of(name: str) -> str:
    """Return the unusual features of a name; a store treats names of the same shape alike."""
    escaped = "%00" if _ESCAPE.search(name) else ""
    ends = "".join(f"{end}|" for end in (name[0], name[-1]) if end in " .")
    forms = [form for form in ("NFC", "NFD") if not name.isascii() and unicodedata.normalize(form, name) != name]
    # Of non-ASCII characters only the normal form matters, and whether they are surrogates, which stand for bytes.
    odd = {
        char if char.isascii() else "\udc80" if "\udc80" <= char <= "\udcff" else "é" for char in _PLAIN.sub("", name)
    }
    return "".join([escaped, ends, *forms, *sorted(odd)])


def renamed(name: str) -> Fault:
    """Return the fault for a name that a store does not keep unchanged."""
    reason = f"The store keeps {name} under another name; use a name of letters and digits."
    return Fault("INVALID_PATH_NAME", reason)


def moved(filesystem: Any, old: str, new: str) -> None:
    """Rename a file, and check that the old name is gone: WebHDFS reports a refused rename as a success.

    A rename that did nothing is a ``Fault``.
    """
    filesystem.mv(old, new)
    if _is_there(filesystem, old):
        raise Fault("ENDPOINT_ERROR", "The store reported a rename as done, but did not do it; run the transfer again.")


def _is_there(filesystem: Any, path: str) -> bool:
    """Whether a path exists; unlike ``exists`` of fsspec, it does not take any error for a no."""
    try:
        filesystem.info(path)
    except FileNotFoundError:
        return False
    return True


class _Open:
    def __init__(self, file: Any) -> None:
        self._file = file

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._file.close()


class FsspecReader(_Open):
    """A file of the store, open for reading."""

    def __init__(self, filesystem: Any, path: str) -> None:
        self._filesystem, self._path = filesystem, path
        info = filesystem.info(path)
        if info.get("type") == "directory":
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        self.size: int | None = info.get("size")
        self.mtime = mtime_of(info)
        self.parts, self.pinned, self.checksum, self.content_id = False, False, "", ""
        super().__init__(filesystem.open(path, "rb", block_size=BLOCK))

    def read_at(self, offset: int, block: memoryview) -> int:
        """Not supported: a plain file of fsspec has one position."""
        raise NotImplementedError

    def readinto(self, block: memoryview) -> int:
        """Fill the block; see `Reader.readinto`."""
        data = self._file.read(len(block))
        block[: len(data)] = data
        return len(data)

    def changed(self) -> bool:
        """Compare size and modification time with the store again; also return True if the file is longer than stated.

        A client that decodes a content encoding of HTTP returns more bytes than the store holds.
        """
        if self._file.read(1):
            return True
        with suppress(AttributeError):
            self._filesystem.invalidate_cache(self._path)
        info = self._filesystem.info(self._path)
        return (info.get("size"), mtime_of(info)) != (self.size, self.mtime)


class FsspecTempFile(_Open, InOrderFile):
    """A file that is being written under a temporary name."""

    def __init__(self, folder: Within, name: str) -> None:
        self._folder, self._filesystem, self._name = folder, folder.filesystem, name
        self._shape = shape_of(name)
        #: Whether `commit` has to check that the store keeps such a name unchanged.
        self._unsure = self._shape not in ("", *folder.shapes)
        shown = self._unsure and name.isascii() and len(name) < _LONGEST
        self._temp_name = owners.new_name(more=f"-{name}" if shown else "")
        self._temp_file, self._path = folder.path(self._temp_name), folder.path(name)
        self._committed = False
        try:
            super().__init__(self._filesystem.open(self._temp_file, "wb"))
        except BaseException:
            owners.release(self._temp_name)
            raise

    def write(self, block: memoryview) -> None:
        """Append the block."""
        self._file.write(bytes(block))

    def read_back(self) -> FsspecReader:
        """Close what was written, and open it again from the store."""
        self._file.close()
        return FsspecReader(self._filesystem, self._temp_file)

    def commit(self, mtime: float | None) -> None:
        """Rename the file to its real name, and check that the store lists that name."""
        del mtime  # fsspec has no way to set one; the backend refuses preserve_timestamp before anything is submitted.
        self._file.close()
        before = self._folder.names() if self._unsure else {self._temp_name}
        # Before a file is replaced: the store may change the name to that of another file.
        if self._temp_name not in before:
            raise renamed(self._name)
        self._replace()
        self._committed = True
        if self._unsure:
            self._check_name(before)
        elif not _is_there(self._filesystem, self._path):
            raise Fault("ENDPOINT_ERROR", f"{self._name} is missing after its rename; run the transfer again.")

    def _check_name(self, before: set[str]) -> None:
        """Check that the file has its name; ``before`` are the names that were listed before the rename."""
        after = self._folder.names()
        if self._name in after:
            self._folder.shapes.add(self._shape)
            return
        for name in after - before:
            with suppress(Exception):
                self._filesystem.rm_file(self._folder.path(name))
        raise renamed(self._name)

    def _replace(self) -> None:
        """Rename if the filesystem can; else copy within the store, then remove the temporary file."""
        filesystem = self._filesystem
        if type(filesystem).mv is AbstractFileSystem.mv:
            filesystem.cp_file(self._temp_file, self._path)
            filesystem.rm_file(self._temp_file)
        else:
            self._rename()

    def _rename(self) -> None:
        filesystem = self._filesystem
        try:
            moved(filesystem, self._temp_file, self._path)
        except Exception:
            # Not every rename replaces a file, and some filesystems raise a special error, or none.
            if not filesystem.isfile(self._path):
                raise
        else:
            return
        old = owners.aside(self._name, self._folder.now())
        aside = self._folder.path(old)
        try:
            moved(filesystem, self._path, aside)
            try:
                moved(filesystem, self._temp_file, self._path)
            except BaseException:
                moved(filesystem, aside, self._path)
                raise
            filesystem.rm_file(aside)
        finally:
            owners.release(old)

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        owners.release(self._temp_name)
        if self._committed:
            return
        # The error that ended the copy is reported, not one of the cleanup.
        with suppress(Exception):
            # discard() of fsspec's own files does not end them: they upload the rest when garbage-collected.
            buffered = isinstance(self._file, AbstractBufferedFile)
            (self._file.close if buffered else getattr(self._file, "discard", self._file.close))()
        with suppress(Exception):
            self._filesystem.rm_file(self._temp_file)
