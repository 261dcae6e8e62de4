"""A store that raises an unusual exception in one method, as a store's library may."""

from __future__ import annotations

import io

import unpicklable
from fsspec import AbstractFileSystem

SIZE = 1000


class OddFileSystem(AbstractFileSystem):
    """Has one file, ``f``; the method named in the settings raises the error that ``kind`` selects."""

    protocol = "odd"
    cachable = False

    def __init__(self, method="", kind="", **options):
        super().__init__(**options)
        self.method, self.kind = method, kind

    def _at(self, method):
        if method == self.method:
            unpicklable.explode(self.kind)

    def info(self, path, **_):
        """Describe the file."""
        self._at("info")
        path = self._strip_protocol(path).strip("/")
        return {"name": path, "size": SIZE, "type": "file" if path.endswith("f") else "directory"}

    def ls(self, path, detail=True, **_):  # noqa: FBT002 - as fsspec has it
        """List the one file."""
        self._at("ls")
        return [{"name": "f", "size": SIZE, "type": "file"}] if detail else ["f"]

    def _open(self, path, mode="rb", **_):
        self._at("open")
        return OddFile(self)

    def _rm(self, path):
        self._at("rm")


class OddFile(io.BytesIO):
    """The open file."""

    def __init__(self, store):
        super().__init__(bytes(SIZE))
        self.store = store

    def read(self, *size):
        """Read, or raise."""
        self.store._at("read")
        return super().read(*size)
