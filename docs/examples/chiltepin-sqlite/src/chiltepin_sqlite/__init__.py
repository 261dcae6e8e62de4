"""A backend whose endpoints are SQLite databases with a file in each row."""

from chiltepin_sqlite.backend import SqliteBackend

__all__ = ["SqliteBackend"]
