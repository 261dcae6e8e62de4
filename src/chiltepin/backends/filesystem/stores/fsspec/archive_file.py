"""Tell whether the file of an open archive has changed since its table of members was read."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Any

__all__ = ["ArchiveFile"]


class ArchiveFile:
    """The file that a filesystem of fsspec has opened to read an archive from."""

    def __init__(self, filesystem: Any) -> None:
        opened = getattr(filesystem, "of", None)
        self._filesystem, self._path = getattr(opened, "fs", None), getattr(opened, "path", "")
        #: The first is the file, and the others decompress it.
        files = getattr(opened, "fobjects", None)
        self._descriptor = _descriptor(files[0]) if files else None
        self._before = self._facts()

    def is_current(self) -> bool:
        """Whether the path still leads to the open file, unchanged; False if the file is on a server."""
        if self._descriptor is None or self.changed():
            return False
        try:
            return os.path.samestat(os.stat(self._path), os.fstat(self._descriptor))
        except OSError:
            return False

    def changed(self) -> bool:
        """Whether the file has changed; a file on a server costs a request."""
        return self._facts() != self._before

    def _facts(self) -> tuple[object, ...]:
        if self._descriptor is not None:
            facts = os.fstat(self._descriptor)
            # A file that was removed or replaced is still open, but has another change time.
            return facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns if facts.st_nlink else None
        if self._filesystem is None:
            return ()
        with suppress(AttributeError):
            self._filesystem.invalidate_cache(self._path)
        info = self._filesystem.info(self._path)
        names = ("size", "mtime", "modified", "LastModified", "last_modified", "ETag", "etag")
        return tuple(info.get(name) for name in names)


def _descriptor(file: Any) -> int | None:
    """Return the descriptor of a local file; None for any other."""
    with suppress(Exception):
        return int(file.fileno())
    return None
