"""Stage Parsl ``File`` objects on endpoints: in for the apps that read them, out for the apps that write them."""

from __future__ import annotations

import hashlib
import itertools
import os
import posixpath
import threading
from typing import TYPE_CHECKING, Any

from parsl.app.futures import DataFuture
from parsl.data_provider.staging import Staging
from parsl.utils import RepresentationMixin

from chiltepin.data import data_settings, local_path, transfer_task
from chiltepin.errors import ConfigError
from chiltepin.parsl import kernel
from chiltepin.parsl.files import SCHEMES, location_of
from chiltepin.parsl.shutdown import attached
from chiltepin.protocol import paths
from chiltepin.transfers.resolve import resolve_endpoint
from chiltepin.transfers.worker import WithOutputDir

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from parsl.data_provider.data_manager import DataManager
    from parsl.data_provider.files import File
    from parsl.dataflow.dflow import DataFlowKernel

    from chiltepin.parsl.futures import TransferFuture

__all__ = ["ChiltepinStaging"]

#: Longest file name on most file systems, in bytes.
NAME_MAX = 255

#: Longest suffix that a shortened name keeps, such as ``.grib2``, in bytes.
LONGEST_SUFFIX = 20

#: Time limit for the transfer of one file, in seconds; a Globus task has one day.
STAGING_TIMEOUT = 86400.0


#: A working folder, the endpoint of a file, and the components of its path.
_File = tuple[str, str, paths.Parts]


class _StagedFiles:
    def __init__(self, _: DataFlowKernel) -> None:
        # Re-entrant: Parsl may stage files while it submits a transfer.
        self.lock = threading.RLock()
        #: The copies of each file: the future that each waits for, its transfer, and its path.
        self.copies: dict[_File, list[tuple[Any, TransferFuture, str]]] = {}
        self.places = _StagedPaths()
        #: For each transfer of an output, the working folder that keeps the file, and its local path.
        self.outputs: dict[Any, tuple[str, str]] = {}


class _StagedPaths:
    """The paths of copies in working folders; no path is used twice, nor as both a file and a folder."""

    def __init__(self) -> None:
        self._files: dict[tuple[str, ...], object] = {}
        self._folders: set[tuple[str, ...]] = set()

    def find(self, top: str, file: _File, owner: object) -> str:
        """Return a path for a copy: below ``top``, or ``top-2`` if another owner has that path, and so on."""
        working_dir, endpoint, names = file
        below = [_shortened(_escaped(endpoint)), *map(_shortened, names)]
        for number in itertools.count(1):
            place = [top if number == 1 else f"{top}-{number}", *below]
            # The file system of the working folder may ignore case.
            key = (working_dir, *map(paths.folded, place))
            folders = [key[:length] for length in range(1, len(key))]
            blocked = key in self._folders or not self._files.keys().isdisjoint(folders)
            if self._files.get(key, owner) == owner and not blocked:
                self._files[key] = owner
                self._folders.update(folders)
                return posixpath.join(*place)
        raise AssertionError


class ChiltepinStaging(Staging, RepresentationMixin):  # type: ignore[misc] # parsl has no types
    """Stages the files ``chiltepin://ENDPOINT/path`` in ``inputs`` and ``outputs`` of Parsl apps.

    It also stages ``globus://UUID/path``, the URLs of Parsl's own Globus staging, on every backend.

    `chiltepin.configure.load` adds an instance to every executor. In your own Parsl ``Config``, add one to the
    ``storage_access`` of an executor, with Parsl's (``parsl.data_provider.data_manager.default_staging``).

    A file on the endpoint of the working folder is used in place. Every other file is copied to the folder ``in`` of
    the working folder, or from its folder ``out``; the path of the copy consists of the endpoint's name and the
    file's path.

    Parameters
    ----------
    working_dir : str or None
        A folder that the apps of the executor can access, as ``ENDPOINT:/path``; the endpoint has a mount in the
        settings. None: files on endpoints are rejected.
    timeout : float
        Time limit for the transfer of one file, in seconds; one day by default.
    """

    def __init__(self, working_dir: str | None, timeout: float = STAGING_TIMEOUT) -> None:
        self.working_dir, self.timeout = working_dir, timeout

    def can_stage_in(self, file: File) -> bool:
        """Whether the file is on an endpoint."""
        return file.scheme in SCHEMES

    def can_stage_out(self, file: File) -> bool:
        """Whether the file is on an endpoint."""
        return file.scheme in SCHEMES

    def stage_in(self, dm: DataManager, executor: str, file: File, parent_fut: Future[Any] | None) -> DataFuture | None:
        """Start the transfer of a file that an app reads, unless it is present or being transferred.

        Set the file's path to the one that the app opens. Return the future of the transfer, or None if there is
        nothing to wait for except ``parent_fut``.
        """
        staged = attached(dm.dfk, _StagedFiles)
        with kernel.entered(dm.dfk), staged.lock:
            work, folder = self._working_dir(executor)
            endpoint, path = _location(file)
            if endpoint == work:
                file.local_path = local_path(endpoint, path)
                return None
            written = staged.outputs.get(_root(parent_fut))
            if written and written[0] == self.working_dir:
                file.local_path = written[1]
                return None
            transfer, place = self._copy(staged, executor, (endpoint, path), parent_fut)
            file.local_path = local_path(work, posixpath.join(folder, place))
            return DataFuture(transfer, file, tid=transfer.tid)

    def _copy(
        self, staged: _StagedFiles, executor: str, location: tuple[str, str], parent: Any
    ) -> tuple[TransferFuture, str]:
        work, folder = self._working_dir(executor)
        endpoint, path = location
        file: _File = (str(self.working_dir), endpoint, _names(endpoint, path))
        copies = staged.copies.setdefault(file, [])
        # Parsl has wrapped the user's future.
        origin = None if parent is None else parent.parent
        number = next((index for index, copy in enumerate(copies) if copy[0] is origin), len(copies))
        if number < len(copies) and not _failed(copies[number][1]):
            return copies[number][1:]
        # An app may still be reading an earlier version of the file.
        place = copies[number][2] if number < len(copies) else staged.places.find("in", file, object())
        transfer = transfer_task(
            endpoint,
            work,
            path,
            posixpath.join(folder, place),
            timeout=self.timeout,
            executor=executor,
            inputs=[] if parent is None else [parent],
            check=True,
        )
        copies[number:] = [*copies[number:number], (origin, transfer, place), *copies[number + 1 :]]
        return transfer, place

    def stage_out(self, dm: DataManager, executor: str, file: File, app_fu: Future[Any]) -> Future[Any] | None:
        """Move an output file of an app to the file's endpoint when the app has ended.

        Returns
        -------
        Future or None
            The future of the transfer; None if the app writes the file in place.
        """
        staged = attached(dm.dfk, _StagedFiles)
        with kernel.entered(dm.dfk), staged.lock:
            work, folder = self._working_dir(executor)
            endpoint, path = _location(file)
            if endpoint == work:
                file.local_path = local_path(endpoint, path)
                return None
            written: _File = (str(self.working_dir), endpoint, _names(endpoint, path))
            place = posixpath.join(folder, staged.places.find("out", written, written))
            file.local_path = local_path(work, place)
            transfer = transfer_task(
                work, endpoint, place, path, timeout=self.timeout, executor=executor, inputs=[app_fu], check=True
            )
            staged.outputs[transfer] = str(self.working_dir), file.local_path
            return transfer

    def replace_task_stage_out(
        self, dm: DataManager, executor: str, file: File, func: Callable[..., Any]
    ) -> Callable[..., Any]:
        """Create the folder of the file on the worker, whose disk may not be visible here."""
        del dm, executor
        return WithOutputDir(func, posixpath.dirname(str(file.local_path)))

    def _working_dir(self, executor: str) -> tuple[str, str]:
        if self.working_dir is None:
            raise ConfigError(
                f"Resource {executor!r} has no folder for the files of endpoints; "
                "add 'working_dir: ENDPOINT:/path' below it, with an endpoint whose files its apps see.",
                key=f"{executor}.working_dir",
            )
        endpoint, _, folder = self.working_dir.partition(":/")
        return endpoint, f"/{folder}"


def _location(file: File) -> tuple[str, str]:
    """Return the endpoint of a file, by its name in the settings if that is known, and the path."""
    endpoint, path = location_of(file)
    return data_settings().name_of(endpoint), path


def _root(future: Any) -> Any:
    while isinstance(future, DataFuture):
        future = future.parent
    return future


def _failed(transfer: TransferFuture) -> bool:
    return transfer.done() and transfer.exception() is not None


def _escaped(endpoint: str) -> str:
    """Return a unique folder name for an endpoint."""
    if endpoint in (".", ".."):
        return endpoint.replace(".", "%2E")
    return endpoint.replace("%", "%25").replace("/", "%2F").replace("\0", "%00")


def _shortened(name: str) -> str:
    """Return a name of at most NAME_MAX bytes (limits.h): unchanged, or its beginning and a checksum."""
    whole = os.fsencode(name)
    if len(whole) <= NAME_MAX:
        return name
    suffix = posixpath.splitext(name)[1]
    kept = suffix if len(os.fsencode(suffix)) <= LONGEST_SUFFIX else ""
    return f"{name[:40]}%~{hashlib.sha256(whole).hexdigest()}{kept}"


def _names(endpoint: str, path: str) -> paths.Parts:
    """Return the path components from the root of an endpoint to a file, the same for every spelling of its path."""
    home = resolve_endpoint(data_settings(), endpoint).get("home", "/~")
    return paths.parts(path, home=home, endpoint=endpoint)
