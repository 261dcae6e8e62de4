"""Pairs of endpoints of three kinds, with direct access to their files."""

from __future__ import annotations

import json
import os
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import fsspec

from chiltepin.backends.filesystem import FilesystemBackend, LocalBackend
from chiltepin.backends.filesystem.locations import place_of
from chiltepin.transfers import policy
from chiltepin.transfers.arguments import delete_request, transfer_request
from chiltepin.transfers.runner import Transfers
from chiltepin.transfers.worker_processes import start_task

if TYPE_CHECKING:
    from pathlib import Path

    from chiltepin.model import TaskStatus


@dataclass
class World:
    """Two endpoints, ``laptop`` and ``scratch``, of one backend."""

    transfers: Transfers
    filesystem: Any
    roots: dict[str, str]

    def path(self, endpoint: str, path: str) -> str:
        """The real path for a path of an endpoint."""
        return f"{self.roots[endpoint]}/{path.strip('/')}".rstrip("/")

    def put(self, endpoint: str, path: str, content: bytes = b"data") -> None:
        """Write a file without the backend."""
        place = self.path(endpoint, path)
        self.filesystem.makedirs(place.rsplit("/", 1)[0], exist_ok=True)
        self.filesystem.pipe_file(place, content)

    def get(self, endpoint: str, path: str) -> bytes:
        """Read a file without the backend."""
        return self.filesystem.cat_file(self.path(endpoint, path))

    def files(self, endpoint: str) -> set[str]:
        """All files of an endpoint, including hidden and temporary files."""
        root = self.roots[endpoint]
        if not self.filesystem.exists(root):
            return set()
        return {"/" + name[len(root) :].strip("/") for name in self.filesystem.find(root)}

    def exists(self, endpoint: str, path: str) -> bool:
        """Whether the path exists."""
        return self.filesystem.exists(self.path(endpoint, path))

    def move(self, src_path: str, dst_path: str, timeout: float = 30, **options: Any) -> TaskStatus:
        """Transfer from the laptop to scratch and wait."""
        request = transfer_request(
            **{"src_ep": "laptop", "dst_ep": "scratch", "src_path": src_path, "dst_path": dst_path, **options}
        )
        return self.transfers.run(request, timeout=timeout, polling_interval=1)

    def share(self, src_path: str, dst_path: str, **options: Any) -> TaskStatus:
        """Transfer from the laptop to scratch with two processes, which copy a file of 2 MB or more in ranges."""
        request = transfer_request(src_ep="laptop", dst_ep="scratch", src_path=src_path, dst_path=dst_path, **options)
        places = {name: {"url": f"file://{root}"} for name, root in self.roots.items()}
        setup = json.dumps({"backend": "filesystem", "endpoints": places, "options": {}})
        limits, before = policy.limits, policy.limits.SHARD_RANGE
        limits.SHARD_RANGE = 1_000_000
        try:
            task = start_task(setup, request, workers=2, timeout=60, polling_interval=1, raises=False)
            return task.future.result()
        finally:
            limits.SHARD_RANGE = before

    def remove(self, src_path: str, src_ep: str = "scratch", **options: Any) -> TaskStatus:
        """Delete on scratch and wait."""
        request = delete_request(src_ep=src_ep, src_path=src_path, **options)
        return self.transfers.run(request, timeout=60, polling_interval=1)


def folders(tmp_path: Path, names: tuple[str, ...] = ("laptop", "scratch")) -> dict[str, str]:
    """Make a folder for each endpoint."""
    roots = {name: str(tmp_path / name) for name in names}
    for root in roots.values():
        os.mkdir(root)
    return roots


def local_world(tmp_path: Path) -> World:
    """Endpoints that are folders below one root."""
    roots = folders(tmp_path)
    backend = LocalBackend.from_config({name: {"folder": name} for name in roots}, {"root": str(tmp_path)})
    return World(Transfers(backend), fsspec.filesystem("file"), roots)


def file_world(tmp_path: Path) -> World:
    """Endpoints with ``file:`` URLs, where retries start at once."""
    return world_of(folders(tmp_path))


def world_of(roots: dict[str, str], **doors: dict[str, Any]) -> World:
    """Endpoints like those of `file_world`, in existing folders; ``doors`` are other settings of some."""
    places = {name: place_of(name, doors.get(name, {"url": f"file://{root}"})) for name, root in roots.items()}
    backend = FilesystemBackend(places, pause=lambda *_: None)
    return World(Transfers(backend), fsspec.filesystem("file"), roots)


def memory_world() -> World:
    """Endpoints in memory."""
    top = f"/{uuid.uuid4().hex}"
    roots = {name: f"{top}/{name}" for name in ("laptop", "scratch")}
    filesystem = fsspec.filesystem("memory")
    for root in roots.values():
        filesystem.makedirs(root)
    backend = FilesystemBackend.from_config({name: {"url": f"memory:/{root}"} for name, root in roots.items()}, {})
    return World(Transfers(backend), filesystem, roots)
