"""Typical uses of the public API, for mypy to check; this code never runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path, PurePosixPath
from typing import Any

import chiltepin
from chiltepin import data
from chiltepin.backends import registry
from chiltepin.model import Capabilities, DirEntry, Request, TaskHandle, TaskStatus
from chiltepin.protocol import TransferBackend
from chiltepin.testing.sandbox import Sandbox


@chiltepin.python_task
def analyze(_staged: bool, path: str) -> int:  # noqa: FBT001
    """Count the characters of a path."""
    return len(path)


@chiltepin.bash_task
def compress(path: str) -> str:
    """Compress a file."""
    return f"gzip {path}"


@chiltepin.join_task
def both() -> list[Any]:
    """Start two transfers."""
    return [move(), move()]


def move() -> chiltepin.TransferFuture:
    """Start a transfer."""
    return chiltepin.transfer_task(
        "my-laptop", "hpc-scratch", "/a", "/b", recursive=True, executor=["local"], include=["*.nc"], inputs=[both()]
    )


def move_with_options() -> chiltepin.TransferFuture:
    """Start a transfer with options of a service, and one with an option that does not exist."""
    chiltepin.transfer_task("a", "b", "/a", "/b", executor="local", encrypt_dat=True)  # type: ignore[call-arg]
    return chiltepin.transfer_task("a", "b", "/a", "/b", executor="local", encrypt_data=True, notify=["failed"])


def move_with_futures(name: Future[str], wrong: Future[int]) -> chiltepin.TransferFuture:
    """Start a transfer with futures as arguments; a value or future of the wrong type is an error."""
    chiltepin.transfer_task("a", "b", "/a", wrong, executor="local")  # type: ignore[arg-type]
    chiltepin.transfer_task("a", "b", "/a", "/b", executor="local", sync_level="sise")  # type: ignore[arg-type]
    chiltepin.delete_task("a", "/a", executor="local", recursive="yes")  # type: ignore[arg-type]
    return chiltepin.transfer_task("a", name, name, "/b", executor="local", sync_level="size", timeout=60)


def look(future: chiltepin.TransferFuture) -> tuple[TaskHandle | None, TaskStatus, bool]:
    """Query and cancel a transfer."""
    return future.task_handle, future.status(), future.cancel()


def checked_and_mirrored() -> tuple[chiltepin.TransferFuture, bool]:
    """Transfer a file with a known checksum, and mirror a folder."""
    return (
        chiltepin.transfer_task("a", "b", "/x", "/y", executor="local", checksum=f"md5:{'0' * 32}"),
        data.transfer("a", "b", "/d", "/e", recursive=True, delete_destination_extra=True),
    )


def here_and_now() -> bool:
    """Transfer and delete without Parsl."""
    return data.transfer("a", "b", "/x", "/y", sync_level="size") and data.delete("a", "/x", ignore_missing=True)


def with_paths(name: Future[str]) -> bool:
    """Give paths as `pathlib` objects; a future is an argument of tasks only."""
    here, there = PurePosixPath("/x"), PurePosixPath("/y")
    chiltepin.transfer_task("a", "b", here, there, executor="local")
    chiltepin.delete_task("b", there, executor="local")
    chiltepin.cleanup_task("b", there, after=[])
    data.transfer("a", "b", here, name)  # type: ignore[arg-type]
    with chiltepin.cleanup("b", there):
        return data.transfer("a", "b", here, there) and data.delete("b", Path(chiltepin.local_path("b", there)))


def in_sandbox(sandbox: Sandbox) -> Path:
    """Use paths as `pathlib` objects in a sandbox."""
    sandbox.put("a", PurePosixPath("/x"), "content")
    return sandbox.path("a", PurePosixPath("/x"))


def pipeline() -> None:
    """Run a workflow."""
    with chiltepin.Workflow("chiltepin.yaml", backend="local") as workflow:
        analyze(move(), chiltepin.local_path("hpc-scratch", "/b"), executor="compute")
        compress("/b", executor="all", stdout="out.txt")
        workflow.dfk.wait_for_current_tasks()
        chiltepin.cleanup_task("hpc-scratch", "/b", after=[move()], globs=True).result()
    with chiltepin.cleanup("hpc-scratch", "/b", label="staged"):
        move()


class Mine:
    """A third-party backend that inherits from no Chiltepin class."""

    name = "mine"
    capabilities = Capabilities(runs_on="worker", durable=False)

    @classmethod
    def from_config(cls, endpoints: Mapping[str, Any], options: Mapping[str, Any]) -> Mine:
        """Create a backend."""
        del endpoints, options
        return cls()

    def new_submission_id(self) -> str:
        """Return an id."""
        return "1"

    def submit(self, request: Request, submission_id: str) -> TaskHandle:
        """Accept a request."""
        del request
        return TaskHandle(backend=self.name, task_id=submission_id, submission_id=submission_id)

    def poll(self, handles: Sequence[TaskHandle]) -> list[TaskStatus]:
        """Return no statuses."""
        del handles
        return []

    def cancel(self, handle: TaskHandle) -> None:
        """Cancel a task."""

    def ls(self, endpoint: str, path: str) -> list[DirEntry]:
        """Return no entries."""
        del endpoint, path
        return []

    def close(self) -> None:
        """Close the backend."""


backend: TransferBackend = Mine()
installed: type[TransferBackend] = registry.load("local")
