"""The worker backend: files of this machine, and of every store that fsspec can open."""

from chiltepin.backends.filesystem.backend import FilesystemBackend, LocalBackend

__all__ = ["FilesystemBackend", "LocalBackend"]
