"""Test rigs: direct access to the files of a backend's endpoints, and control of its time."""

from __future__ import annotations

import errno
import os
import threading
from abc import ABC, abstractmethod
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

from chiltepin.protocol import WorkerBackend

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextlib import AbstractContextManager

    from chiltepin.model import TaskHandle, TaskStatus
    from chiltepin.protocol import TransferBackend

__all__ = ["FolderRig", "Rig"]

#: Precision of times on FAT, the coarsest filesystem, in seconds.
_COARSEST = 2.0


class Rig(ABC):
    """A backend under test with two empty endpoints.

    Implement `put`, `get`, `mkdir` and `tree` without using the backend. The other methods are optional: those for time
    are needed if the backend does not use the clock of this machine; some laws need `link`, `modified` or `hold`.
    Every path is absolute and starts at the root of its endpoint.

    Parameters
    ----------
    backend : TransferBackend
        The backend to test.
    endpoints : sequence of str
        Names of two of its endpoints, both empty: the laws transfer files from the first to the second.
    config : (mapping, mapping) or None
        The arguments of `TransferBackend.from_config` for this backend; None skips the laws about it.
    """

    #: Whether the source endpoint is read-only, like a web server; laws that write to it are skipped.
    source_is_read_only: bool = False

    #: Seconds of the backend's time between two polls of a task of a service.
    interval: float = 0.25

    #: Maximum number of polls of a task; the task must end within them.
    looks: int = 240

    #: Number of polls in a row with the same fault after which a live task counts as stuck.
    patience: int = 20

    #: Seconds until a close deadline, in the backend's time.
    soon: float = 0.2

    def __init__(
        self,
        backend: TransferBackend,
        endpoints: Sequence[str],
        *,
        config: tuple[Mapping[str, Any], Mapping[str, Any]] | None = None,
    ) -> None:
        self.backend, self.config = backend, config
        self.source, self.destination = endpoints

    @abstractmethod
    def put(self, endpoint: str, path: str, content: bytes, *, modified: float | None = None) -> None:
        """Write a file, and create the folders on its path.

        Parameters
        ----------
        endpoint, path : str
            The path.
        content : bytes
            The content.
        modified : float or None
            Its modification time in seconds since 1970; None for any. If the store cannot set times, call `lacks`.
        """

    @abstractmethod
    def get(self, endpoint: str, path: str) -> bytes | None:
        """Return the content of a file; None if it does not exist."""

    @abstractmethod
    def mkdir(self, endpoint: str, path: str) -> None:
        """Create a folder and the folders on its path; do nothing in a store without empty folders."""

    @abstractmethod
    def tree(self, endpoint: str) -> set[str]:
        """Return all paths of an endpoint, including hidden ones and leftovers; paths of folders end in ``/``."""

    def home(self, endpoint: str) -> str:
        """Return the home folder, where relative paths start."""
        del endpoint
        return "/"

    def link(self, endpoint: str, path: str, target: str) -> None:  # noqa: ARG002 - for rigs that can
        """Create a symbolic link whose text is ``target``."""
        self.lacks("symbolic links", "link")

    def modified(self, endpoint: str, path: str) -> float:  # noqa: ARG002 - for rigs that can
        """Return the modification time of a file, in seconds since 1970."""
        self.lacks("modification times", "modified")

    def chmod(self, endpoint: str, path: str, mode: int) -> None:  # noqa: ARG002 - for rigs that can
        """Set the permission bits of a file, in a store that keeps them when the file is replaced."""
        self.lacks("permission bits that replaced files keep", "chmod")

    def mode(self, endpoint: str, path: str) -> int:  # noqa: ARG002 - for rigs that can
        """Return the permission bits of a file."""
        self.lacks("permission bits that replaced files keep", "mode")

    def put_untold(self, endpoint: str, path: str, content: bytes) -> None:  # noqa: ARG002 - for rigs that can
        """Write a file whose size the store does not report before it is read."""
        self.lacks("files of unknown size", "put_untold")

    def spoil(self, endpoint: str, folder: str) -> None:  # noqa: ARG002 - for rigs that can
        """Add an entry to a folder that the store cannot list, or can list but not read."""
        self.lacks("entries that cannot be listed or read", "spoil")

    def hold(self) -> AbstractContextManager[None]:
        """Keep every task that is submitted inside the ``with`` block from moving bytes until the block ends."""
        self.lacks("holding tasks", "hold")

    def lacks(self, what: str, hook: str) -> NoReturn:
        """Skip a law that needs something that this rig does not support."""
        pytest.skip(f"This rig does not support {what}; override {type(self).__name__}.{hook} to run this law.")

    def now(self) -> datetime:
        """Return the current time of the backend."""
        return datetime.now(timezone.utc)

    def pass_time(self, seconds: float) -> None:
        """Let time pass for the backend; a rig with a simulated clock advances the clock instead of waiting."""
        threading.Event().wait(seconds)

    def settle(self, handle: TaskHandle) -> TaskStatus:
        """Let time pass until the task is final, and return its last status.

        Returns
        -------
        TaskStatus
            A live status if the task did not end within `looks` polls or keeps the same fault: a service may retry a
            hopeless task for a day (docs.globus.org, "Task Behavior", 3).
        """
        status, code, same = self.backend.poll([handle])[0], "", 0
        for _ in range(self.looks):
            same = same + 1 if status.code and status.code == code else 0
            if status.state.final or same >= self.patience:
                break
            code = status.code
            if isinstance(self.backend, WorkerBackend):
                self.backend.wait(handle, self.interval)
            else:
                self.pass_time(self.interval)
            status = self.backend.poll([handle])[0]
        return status


class FolderRig(Rig):
    """A rig for endpoints that are folders of this machine.

    Parameters
    ----------
    backend, config
        As in `Rig`.
    folders : mapping of str to path
        The folders of two endpoints, by name.
    """

    def __init__(
        self,
        backend: TransferBackend,
        folders: Mapping[str, str | os.PathLike[str]],
        *,
        config: tuple[Mapping[str, Any], Mapping[str, Any]] | None = None,
    ) -> None:
        super().__init__(backend, tuple(folders), config=config)
        self.folders = {name: Path(folder) for name, folder in folders.items()}

    def place(self, endpoint: str, path: str) -> Path:
        """Return the path on this machine of a path on an endpoint."""
        return self.folders[endpoint] / path.strip("/")

    def put(self, endpoint: str, path: str, content: bytes, *, modified: float | None = None) -> None:
        """Write a file; see `Rig.put`."""
        place = self.place(endpoint, path)
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)
        except OSError as err:
            if err.errno not in (errno.EINVAL, errno.EPERM, errno.ENOENT):
                raise
            # FAT raises these for a name with a colon.
            self.lacks(f"a file named {path!r}", "put")
        if modified is not None:
            os.utime(place, (modified, modified))
            if abs(place.stat().st_mtime - modified) >= _COARSEST:
                self.lacks(f"a file with the modification time {modified}", "put")

    def get(self, endpoint: str, path: str) -> bytes | None:
        """Read a file; see `Rig.get`."""
        place = self.place(endpoint, path)
        return place.read_bytes() if place.is_file() else None

    def mkdir(self, endpoint: str, path: str) -> None:
        """Create a folder; see `Rig.mkdir`."""
        self.place(endpoint, path).mkdir(parents=True, exist_ok=True)

    def tree(self, endpoint: str) -> set[str]:
        """Return all paths; see `Rig.tree`. A link does not count as a folder."""
        top = self.folders[endpoint]
        found = set()
        for place in top.rglob("*"):
            slash = "/" if place.is_dir() and not place.is_symlink() else ""
            found.add(f"/{place.relative_to(top).as_posix()}{slash}")
        return found

    def link(self, endpoint: str, path: str, target: str) -> None:
        """Create a symbolic link; see `Rig.link`."""
        place = self.place(endpoint, path)
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            place.symlink_to(target)
        except OSError as err:
            if err.errno not in (errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP):
                raise
            super().link(endpoint, path, target)

    def modified(self, endpoint: str, path: str) -> float:
        """Return the modification time; see `Rig.modified`."""
        return self.place(endpoint, path).stat().st_mtime

    def chmod(self, endpoint: str, path: str, mode: int) -> None:
        """Set the permission bits; see `Rig.chmod`."""
        self.place(endpoint, path).chmod(mode)
        if self.mode(endpoint, path) != mode:
            super().chmod(endpoint, path, mode)

    def mode(self, endpoint: str, path: str) -> int:
        """Return the permission bits; see `Rig.mode`."""
        return self.place(endpoint, path).stat().st_mode & 0o7777

    def spoil(self, endpoint: str, folder: str) -> None:
        """Add a file that cannot be read; see `Rig.spoil`."""
        if not os.geteuid():
            self.lacks("files that root cannot read", "spoil")
        self.put(endpoint, f"{folder}/closed", b"closed")
        self.chmod(endpoint, f"{folder}/closed", 0)
