"""The backend that moves the bytes itself, in its own process."""

from __future__ import annotations

import os
import threading
import uuid
from collections import OrderedDict
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from chiltepin.backends import forks
from chiltepin.backends.filesystem import operations
from chiltepin.backends.filesystem.errors import Fault
from chiltepin.backends.filesystem.locations import Place, local_places, place_of
from chiltepin.backends.filesystem.mover.retry import in_steps
from chiltepin.backends.filesystem.mover.task import TaskRun
from chiltepin.backends.filesystem.mover.thread_count import AdaptivePool
from chiltepin.backends.filesystem.mover.threads import THREAD_WAIT, MoverThreads
from chiltepin.backends.filesystem.protected_roots import Roots
from chiltepin.errors import (
    BackendError,
    ConfigError,
    EndpointNotFoundError,
    UnsupportedOptionError,
    suggest,
)
from chiltepin.model import (
    CHECKSUMS,
    Capabilities,
    DeleteRequest,
    DirEntry,
    TaskHandle,
    TaskState,
    TaskStatus,
    contradiction,
    unsupported,
)
from chiltepin.protocol import ShardOutcome
from chiltepin.protocol.paths import glob, root_refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from chiltepin.backends.filesystem.location import Location
    from chiltepin.backends.filesystem.mover.shard import ShardRun
    from chiltepin.model import Request, TransferRequest
    from chiltepin.protocol import Shard

__all__ = ["FilesystemBackend", "LocalBackend"]

T = TypeVar("T")

#: Ended tasks that are remembered after their end was read, for `poll` and repeated submissions; about 1 KB each.
MEMORY = 10_000

#: Groups of schemes that may share a root; any other scheme shares roots only with itself.
_KIN = tuple(
    map(frozenset, (("sftp", "ssh"), ("s3", "s3a"), ("az", "abfs", "abfss"), ("gs", "gcs"), ("webdav", "dav")))
)


class FilesystemBackend:
    """Moves files between local folders and any store that fsspec opens.

    The tasks run in separate threads, which end soon after them.

    Parameters
    ----------
    places : mapping of str to Place
        The location of each endpoint.
    pause : callable
        Waits for some seconds, or until an event is set, before a retry; tests replace it to control the time.
    """

    name = "filesystem"
    capabilities: ClassVar[Capabilities] = Capabilities(
        runs_on="worker",
        durable=False,
        checksums=tuple(CHECKSUMS),
        deletes_extra=True,
        options=("globs", "skip_source_errors"),
    )

    def __init__(
        self, places: Mapping[str, Place], *, pause: Callable[[threading.Event, float], object] = threading.Event.wait
    ) -> None:
        self._places, self._pause = dict(places), pause
        self._movers = MoverThreads()
        self._renew()
        forks.register(self._renew)
        #: Called for each file that arrives, for tests; see `TaskRun.arrived`.
        self.witness: Callable[[tuple[str, str], tuple[str, str]], object] | None = None

    def _renew(self) -> None:
        """Start with no tasks and no open stores, as in a process made by ``fork``."""
        # The tasks whose end was not read yet, and the others, ordered by when their end was read. A signal handler
        # would wait forever for a lock. So there is none, and each step is one operation of a dictionary.
        self._tasks: dict[str, TaskRun] = {}
        self._read: OrderedDict[str, TaskRun] = OrderedDict()
        self._movers.renew()
        for place in self._places.values():
            place.renew()

    @classmethod
    def from_config(cls, endpoints: Mapping[str, Any], options: Mapping[str, Any]) -> FilesystemBackend:
        """Make the backend from plain data; see `TransferBackend.from_config`.

        Parameters
        ----------
        endpoints : mapping of str to mapping
            ``url`` (an absolute path or any fsspec URL), and optionally ``options`` (fsspec's storage options; a value
            ``{"env": NAME}`` stands for the environment variable) and ``home``.
        options : mapping
            Must be empty.
        """
        _refuse_unknown(cls.name, options, known=())
        return cls({name: place_of(name, settings) for name, settings in endpoints.items()})

    def new_submission_id(self) -> str:
        """Return a random UUID."""
        return str(uuid.uuid4())

    def submit(self, request: Request, submission_id: str) -> TaskHandle:
        """Pass the task to a thread; see `TransferBackend.submit`."""
        return self._submit(request, submission_id, None)

    def submit_shard(self, request: Request, shard: Shard, submission_id: str) -> TaskHandle:
        """Pass a part of a task to a thread; see `ShardingBackend.submit_shard`."""
        from chiltepin.backends.filesystem.mover.shard import ShardRun  # noqa: PLC0415 - most tasks are whole

        if any(place.scheme == "memory" for place in self._ends(request)):
            # Another worker may not share this memory.
            shard = replace(shard, seconds=None, workers=1)
        return self._submit(request, submission_id, ShardRun(shard))

    def shard_outcome(self, handle: TaskHandle) -> ShardOutcome:
        """Return the outcome of a shard; see `ShardingBackend.shard_outcome`."""
        run = self._run(handle)
        outcome = run.shard_outcome if run is not None else ShardOutcome(status=self._status(handle))
        if run is not None and outcome.status.state.final:
            self._was_read(run)
        return outcome

    def _submit(self, request: Request, submission_id: str, shard: ShardRun | None) -> TaskHandle:
        if why := unsupported(request, self.capabilities, self.name):
            raise UnsupportedOptionError(why, backend=self.name)
        if isinstance(request, DeleteRequest):
            operation = self._deletion(request, shard)
        else:
            operation = self._transfer(request, shard)
        handle = TaskHandle.at_worker(self.name, submission_id)
        if self._run(handle) is not None:
            return handle
        run = TaskRun(request, handle, partial(self._pool, request), self._pause, shard)
        run.witness = self.witness
        if self._tasks.setdefault(submission_id, run) is not run:
            return handle
        try:
            self._movers.put(run, operation)
        except BaseException:
            # A task whose submission failed must not run later.
            run.cancel()
            self._tasks.pop(submission_id, None)
            raise
        return handle

    def wait(self, handle: TaskHandle, seconds: float) -> None:
        """Wait until the task has ended, at most for ``seconds``; see `WorkerBackend.wait`."""
        run = self._run(handle)
        patience = min(seconds, THREAD_WAIT)
        if run is not None and not run.ended.wait(patience):
            self._movers.add_if_starved()
            run.ended.wait(seconds - patience)

    def _run(self, handle: TaskHandle) -> TaskRun | None:
        # In this order, because a task is added to the second before it is removed from the first.
        return self._tasks.get(handle.task_id) or self._read.get(handle.task_id)

    def _was_read(self, run: TaskRun) -> None:
        """Forget the oldest task whose end was read, if there are too many."""
        self._read[run.handle.task_id] = run
        self._tasks.pop(run.handle.task_id, None)
        if len(self._read) > MEMORY:
            with suppress(KeyError):
                self._read.popitem(last=False)

    def _ends(self, request: Request) -> list[Place]:
        ends = (request.endpoint,) if isinstance(request, DeleteRequest) else (request.source, request.destination)
        return [self._place(name) for name in ends]

    def _pool(self, request: Request) -> AdaptivePool:
        """Return a pool with as many threads as the stores of a request can use; the narrower store limits them."""
        stores = [place.opened for place in self._ends(request)]
        return AdaptivePool(
            self._movers, width=min(store.width for store in stores), least=max(store.least for store in stores)
        )

    def _transfer(self, request: TransferRequest, shard: ShardRun | None) -> Callable[[TaskRun], None]:
        from chiltepin.backends.filesystem.mover.file import copy_file  # noqa: PLC0415 - a listing moves nothing
        from chiltepin.backends.filesystem.mover.ranges import copy_range  # noqa: PLC0415
        from chiltepin.backends.filesystem.mover.source_errors import failed_copy, or_skip  # noqa: PLC0415
        from chiltepin.backends.filesystem.mover.tree import copy_tree  # noqa: PLC0415

        origins = self._place(request.source).locations([item.source for item in request.items])
        goals = self._place(request.destination).locations([item.destination for item in request.items])
        pairs = list(zip(origins, goals, strict=True))
        if why := contradiction(request):
            raise UnsupportedOptionError(why, backend=self.name)
        if not all(goal.store.writable for _, goal in pairs):
            raise self._read_only(request.destination)
        if request.preserve_timestamp and not all(goal.store.times for _, goal in pairs):
            raise UnsupportedOptionError(
                f"Endpoint {request.destination!r} cannot keep modification times; remove preserve_timestamp.",
                backend=self.name,
            )
        roots = Roots(partial(self._roots, request.destination))
        copies: list[Callable[..., None]]
        if shard is not None and shard.shard.range is not None:
            copies = [partial(copy_range, shard=shard)] * len(pairs)
        elif request.recursive:
            copies = [partial(copy_tree, roots=roots, shard=shard)] * len(pairs)
        else:
            copies = [partial(copy_file, roots=roots, checksum=item.checksum) for item in request.items]
        if request.skip_source_errors:
            copies = [or_skip(copy) for copy in copies]
        return in_steps(
            [
                (
                    partial(failed_copy, origin, goal, folder=request.recursive),
                    partial(copy, request=request, origin=origin, goal=goal),
                    (origin, goal),
                )
                for copy, (origin, goal) in zip(copies, pairs, strict=True)
            ]
        )

    def _deletion(self, request: DeleteRequest, shard: ShardRun | None) -> Callable[[TaskRun], None]:
        from chiltepin.backends.filesystem.mover.delete import (  # noqa: PLC0415 - a listing deletes nothing
            delete,
            delete_matching,
            failed_deletion,
        )

        doomed = self._place(request.endpoint).locations(request.paths)
        if not all(location.store.writable for location in doomed):
            raise self._read_only(request.endpoint)
        for path, location in zip(request.paths, doomed, strict=True):
            if not location.parts:
                raise root_refusal(path, endpoint=request.endpoint, backend=self.name)
        roots = Roots(partial(self._roots, request.endpoint))
        if request.globs:
            removals = [partial(delete_matching, matches=glob(location.parts[-1])) for location in doomed]
        else:
            removals = [partial(delete, shard=shard)] * len(doomed)
        return in_steps(
            [
                (
                    partial(failed_deletion, location),
                    partial(removal, request=request, location=location, roots=roots),
                    (location,),
                )
                for removal, location in zip(removals, doomed, strict=True)
            ]
        )

    def _roots(self, endpoint: str) -> list[Location]:
        """Return the roots of endpoints that a task on this endpoint must never remove."""
        own = self._place(endpoint).scheme
        schemes = next((kin for kin in _KIN if own in kin), {own})
        roots: list[Location] = []
        for place in self._places.values():
            if place.scheme in schemes:
                # No request is sent: a deletion must not depend on the server of another endpoint. An endpoint without
                # its secret here may be on another server, and must not fail this deletion.
                with suppress(ConfigError, BackendError, Fault, ValueError):
                    roots.append(place.root())
        return roots

    def _read_only(self, endpoint: str) -> UnsupportedOptionError:
        return UnsupportedOptionError(
            f"Endpoint {endpoint!r} is read-only; choose another endpoint to write to or delete from.",
            backend=self.name,
        )

    def _place(self, endpoint: str) -> Place:
        place = self._places.get(endpoint)
        if place is None:
            raise EndpointNotFoundError(
                f"No endpoint {endpoint!r} on backend {self.name!r}; {suggest(endpoint, self._places)}",
                endpoint=endpoint,
            )
        return place

    def poll(self, handles: Sequence[TaskHandle]) -> list[TaskStatus]:
        """Return the status of each task; a task that another process ran is ``LOST``."""
        if self._movers.waiting:
            self._movers.add_if_starved()
        return [self._status(handle) for handle in handles]

    def _status(self, handle: TaskHandle) -> TaskStatus:
        run = self._run(handle)
        if run is not None:
            status = run.status
            # The end of a shard is read with its outcome.
            if status.state.final and run.shard is None:
                self._was_read(run)
            return status
        reason = "This process does not know the task: it ran in another process, or ended long ago."
        return TaskStatus(handle=handle, state=TaskState.LOST, code="LOST", reason=reason)

    def cancel(self, handle: TaskHandle) -> None:
        """Stop the task's threads at their next block or file."""
        run = self._run(handle)
        if run is not None:
            run.cancel()

    def ls(self, endpoint: str, path: str) -> list[DirEntry]:
        """List a folder; see `TransferBackend.ls`."""
        return [operations.dir_entry(entry) for entry in self._at_once(operations.entries, endpoint, path, "Listing")]

    def stat(self, endpoint: str, path: str) -> DirEntry:
        """Return the entry at a path; see `FilesBackend.stat`."""
        entry = operations.dir_entry(self._at_once(operations.stat, endpoint, path, "Looking at"))
        (location,) = self._place(endpoint).locations([path])
        return replace(entry, name=location.parts[-1] if location.parts else "/")

    def mkdir(self, endpoint: str, path: str) -> None:
        """Make one folder; see `FilesBackend.mkdir`."""
        self._refuse_read_only(endpoint)
        self._at_once(operations.make_folder, endpoint, path, "Making folder")

    def rename(self, endpoint: str, path: str, new_path: str) -> None:
        """Rename a file or a folder; see `FilesBackend.rename`."""
        self._refuse_read_only(endpoint)
        (new,) = self._place(endpoint).locations([new_path])
        roots = Roots(partial(self._roots, endpoint))
        self._at_once(partial(operations.rename, new=new, roots=roots), endpoint, path, "Renaming")

    def checksum(self, endpoint: str, path: str) -> str:
        """Return the checksum of a file; see `ContentBackend.checksum`."""
        return self._at_once(operations.checksum, endpoint, path, "Reading")

    def _at_once(self, operation: Callable[[Location], T], endpoint: str, path: str, what: str) -> T:
        (location,) = self._place(endpoint).locations([path])
        return operations.at_once(operation, location, what, self.name)

    def _refuse_read_only(self, endpoint: str) -> None:
        (root,) = self._place(endpoint).locations(["/"])
        if not root.store.writable:
            raise self._read_only(endpoint)

    def close(self) -> None:
        """Cancel the running tasks; their threads end by themselves."""
        for run in list(self._tasks.values()):
            run.cancel()


def _refuse_unknown(backend: str, options: Mapping[str, Any], *, known: Sequence[str]) -> None:
    for option in options:
        if option not in known:
            raise ConfigError(
                f"Backend {backend!r} has no option {option!r}; remove it from {backend}: in the data section.",
                key=f"data.{backend}.{option}",
            )


class LocalBackend(FilesystemBackend):
    """The filesystem backend in one folder: each endpoint is a subfolder, which is created when it is first used."""

    name = "local"

    @classmethod
    def from_config(cls, endpoints: Mapping[str, Any], options: Mapping[str, Any]) -> LocalBackend:
        """Make the backend from plain data; see `TransferBackend.from_config`.

        Parameters
        ----------
        endpoints : mapping of str to mapping
            ``folder`` (its path below the root), and optionally ``home``.
        options : mapping
            ``root``: the absolute path of the folder that holds all endpoints.
        """
        _refuse_unknown(cls.name, options, known=("root",))
        root = os.fspath(options["root"])
        return cls(local_places(root, endpoints))
