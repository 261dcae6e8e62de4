"""Endpoints with latency, with reads that fail, or with folders that vanish."""

from __future__ import annotations

import os
import threading
import uuid
from pathlib import Path
from typing import Any

import fsspec
from fsspec.implementations.memory import MemoryFileSystem
from worlds import World, folders

from chiltepin.backends.filesystem import FilesystemBackend
from chiltepin.backends.filesystem.local.folder import LocalFolder
from chiltepin.backends.filesystem.local.store import LocalStore
from chiltepin.backends.filesystem.locations import Place
from chiltepin.transfers.runner import Transfers

#: Never set, so that a wait always lasts for its full timeout.
NEVER = threading.Event()

#: Seconds that an operation takes on a disk with latency.
LATENCY = 0.03


class SlowFolder(LocalFolder):
    """A folder with latency, which records the threads that write to it."""

    workers: set[int]

    def read(self, name: str) -> Any:
        """Open a file, slowly."""
        NEVER.wait(LATENCY)
        return super().read(name)

    def take_small(self, *arguments: Any) -> Any:
        """Copy a small file, slowly."""
        self.workers.add(threading.get_ident())
        NEVER.wait(LATENCY)
        return super().take_small(*arguments)

    def temp_file(self, *arguments: Any, **options: Any) -> Any:
        """Create a temporary file, slowly."""
        self.workers.add(threading.get_ident())
        NEVER.wait(LATENCY)
        return super().temp_file(*arguments, **options)


class SlowStore(LocalStore):
    """A store whose folders have latency."""

    def __init__(self, root: str, workers: set[int]) -> None:
        super().__init__(root)
        self._workers = workers

    def folder(self, *arguments: Any, **options: Any) -> Any:
        """Open a folder and make it slow."""
        folder = super().folder(*arguments, **options)
        folder.__class__ = SlowFolder
        folder.workers = self._workers
        return folder


def slow_world(tmp_path: Path | str) -> tuple[World, set[int]]:
    """Two endpoints with latency, and the ids of the threads that have written there."""
    workers: set[int] = set()
    roots = folders(Path(tmp_path))

    def place(name: str) -> Place:
        return Place(name, "file", "/", lambda: SlowStore(roots[name], workers))

    backend = FilesystemBackend({name: place(name) for name in roots})
    return World(Transfers(backend), fsspec.filesystem("file"), roots), workers


class Flaky(MemoryFileSystem):
    """A filesystem in memory that raises each error in ``trouble`` once when it opens a file to read."""

    protocol = "flaky"
    store: dict[str, Any] = {}  # noqa: RUF012 - fsspec's way
    pseudo_dirs = [""]  # noqa: RUF012 - fsspec's way
    trouble: list[Exception] = []  # noqa: RUF012 - one for all instances, as the store is
    asked: list[str] = []  # noqa: RUF012 - the same

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return super()._strip_protocol(path.removeprefix("flaky:"))

    def open(self, path: str, mode: str = "rb", **options: Any) -> Any:
        """Open a file, or fail."""
        if mode == "rb" and self.trouble:
            raise self.trouble.pop()
        return super().open(path, mode, **options)

    def info(self, path: str, **options: Any) -> Any:
        """Query a file, and record its name."""
        self.asked.append(os.path.basename(path))
        return super().info(path, **options)


class Vanishing(Flaky):
    """A filesystem in memory whose source folders are listed once and then appear empty."""

    protocol = "vanishing"
    listed: set[str] = set()  # noqa: RUF012 - one for all instances, as the store is

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return super()._strip_protocol(path.removeprefix("vanishing:"))

    def ls(self, path: str, detail: bool = True, **options: Any) -> Any:  # noqa: FBT001, FBT002 - fsspec's signature
        """List a folder; a source folder is empty after the first time."""
        if "/laptop/" not in path:
            return super().ls(path, detail=detail, **options)
        gone = path in self.listed
        self.listed.add(path)
        return [] if gone else super().ls(path, detail=detail, **options)


def vanishing_world() -> World:
    """Two endpoints; the folders of ``laptop`` appear empty after their first listing."""
    fsspec.register_implementation("vanishing", Vanishing, clobber=True)
    top = f"/{uuid.uuid4().hex}"
    roots = {name: f"{top}/{name}" for name in ("laptop", "scratch")}
    for root in roots.values():
        Vanishing().makedirs(root)
    endpoints = {name: {"url": f"vanishing:/{root}"} for name, root in roots.items()}
    return World(Transfers(FilesystemBackend.from_config(endpoints, {})), Vanishing(), roots)
