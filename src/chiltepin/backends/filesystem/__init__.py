"""The worker backend: local files, and files in every store that fsspec can open."""

from chiltepin.backends.filesystem.backend import FilesystemBackend, LocalBackend

__all__ = ["FilesystemBackend", "LocalBackend"]
