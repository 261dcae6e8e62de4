"""The files of one database; a folder is a common prefix of their paths."""

from __future__ import annotations

import sqlite3
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

TABLE = "CREATE TABLE IF NOT EXISTS files (path TEXT PRIMARY KEY, content BLOB)"


class Database:
    """Files by their full paths, such as ``/project/input.csv``."""

    def __init__(self, file: str) -> None:
        self.file = file

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        # A connection belongs to one thread, so each call opens a new one; a block
        # is a transaction, so no file is stored in part.
        with (
            closing(sqlite3.connect(self.file, timeout=60)) as connection,
            connection,
        ):
            connection.execute(TABLE)
            yield connection

    def read(self, path: str) -> bytes | None:
        """Return the content of a file; None if it does not exist."""
        with self._opened() as connection:
            row = connection.execute(
                "SELECT content FROM files WHERE path = ?", (path,)
            ).fetchone()
        return None if row is None else row[0]

    def write(self, path: str, content: bytes) -> None:
        """Write a file, replacing an existing one."""
        with self._opened() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO files VALUES (?, ?)", (path, content)
            )

    def remove(self, path: str) -> None:
        """Remove a file."""
        with self._opened() as connection:
            connection.execute("DELETE FROM files WHERE path = ?", (path,))

    def below(self, folder: str) -> dict[str, int]:
        """Return all files below a folder, each with its size."""
        top = folder.rstrip("/") + "/"
        # Not LIKE, for which '%' and '_' are wildcards.
        query = "SELECT path, length(content) FROM files WHERE substr(path, 1, ?) = ?"
        with self._opened() as connection:
            return dict(connection.execute(query, (len(top), top)))
