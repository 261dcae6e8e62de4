"""A store for any process; it opens one file at once, and blocks when another is opened."""

from __future__ import annotations

import io
import socket
from typing import ClassVar

import fsspec
from fsspec import AbstractFileSystem

from chiltepin import python_task

SIZE = 1_000_000
FILES = {f"folder/{name}": {"name": f"folder/{name}", "size": SIZE, "type": "file"} for name in "abc"}


class HeldFileSystem(AbstractFileSystem):
    """A folder of three files; the first opens at once, the rest after a local port closes the connection."""

    protocol = "held"
    given: ClassVar[list[str]] = []

    def __init__(self, port, **options):
        super().__init__(**options)
        self.port = port

    def info(self, path, **_):
        """Describe the folder or a file."""
        path = self._strip_protocol(path).strip("/")
        return {"name": path, "size": 0, "type": "directory"} if path == "folder" else FILES[path]

    def ls(self, path, detail=True, **_):  # noqa: FBT002 - as fsspec has it
        """List the folder."""
        return list(FILES.values()) if detail else list(FILES)

    def _open(self, path, mode="rb", **_):
        if path not in (self.given or [path]):
            with socket.create_connection(("127.0.0.1", self.port), timeout=60) as gate:
                gate.recv(1)
        self.given.append(path)
        return io.BytesIO(bytes(SIZE))


@python_task
def register():
    """Register the store in the process that runs this."""
    import blocking_store

    fsspec.register_implementation("held", blocking_store.HeldFileSystem)
