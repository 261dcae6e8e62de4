"""The files of one database; a folder is what the paths of files have in common."""

from __future__ import annotations

import sqlite3
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

TABLE = "CREATE TABLE IF NOT EXISTS files (path TEXT PRIMARY KEY, content BLOB)"


class Database:
    """Files by their whole paths, such as ``/project/input.csv``."""

    def __init__(self, file: str) -> None:
        self.file = file

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        # A connection belongs to one thread, so that each call has its own; a block
        # is a transaction: a file is there whole, or not at all.
        with (
            closing(sqlite3.connect(self.file, timeout=60)) as connection,
            connection,
        ):
            connection.execute(TABLE)
            yield connection

    def read(self, path: str) -> bytes | None:
        """Return the content of a file; None where there is none."""
        with self._opened() as connection:
            row = connection.execute(
                "SELECT content FROM files WHERE path = ?", (path,)
            ).fetchone()
        return None if row is None else row[0]

    def write(self, path: str, content: bytes) -> None:
        """Write a file anew."""
        with self._opened() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO files VALUES (?, ?)", (path, content)
            )

    def remove(self, path: str) -> None:
        """Remove a file."""
        with self._opened() as connection:
            connection.execute("DELETE FROM files WHERE path = ?", (path,))

    def below(self, folder: str) -> dict[str, int]:
        """Return the files in a folder and in those in it, each with its size."""
        top = folder.rstrip("/") + "/"
        # Not LIKE, to which '%' and '_' are patterns.
        query = "SELECT path, length(content) FROM files WHERE substr(path, 1, ?) = ?"
        with self._opened() as connection:
            return dict(connection.execute(query, (len(top), top)))
