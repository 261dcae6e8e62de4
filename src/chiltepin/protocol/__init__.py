"""The contract of a backend."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from chiltepin.protocol.shards import FileRange, Shard, ShardOutcome

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from chiltepin.model import (
        Capabilities,
        DirEntry,
        ItemOutcome,
        Request,
        TaskEvent,
        TaskHandle,
        TaskInfo,
        TaskStatus,
    )

__all__ = [
    "BatchingBackend",
    "ClientBackend",
    "ConfiguredBackend",
    "ContentBackend",
    "FileRange",
    "FilesBackend",
    "PlacingBackend",
    "Shard",
    "ShardOutcome",
    "ShardingBackend",
    "StatBackend",
    "TasksBackend",
    "TransferBackend",
    "WorkerBackend",
]


@runtime_checkable
class TransferBackend(Protocol):
    """An object that moves data between endpoints and deletes it.

    A third-party backend does not need to inherit from this class; its package registers it in the entry point group
    ``chiltepin.backends``. Every method blocks, and may be called from any thread.

    The guarantee
    -------------
    If `submit` returns, the task exists exactly once, and every later failure is a state, not an exception. If it
    raises, no task was created, or (if the error is ``transient``) repeating it with the same submission id is safe.
    `poll` raises only if the request failed; a task that the service no longer knows is ``LOST``.

    A backend whose ``capabilities.runs_on`` is ``"worker"`` moves the bytes in the process that called `submit`; it
    is a `WorkerBackend`.

    A backend for several services has an attribute ``service``, the URL of the service in use; the journal uses it to
    distinguish their tasks.

    Results and exceptions are plain: they contain no object of an SDK and no token, not even in ``__context__``.
    """

    name: str
    capabilities: Capabilities

    @classmethod
    def from_config(cls, endpoints: Mapping[str, Any], options: Mapping[str, Any]) -> TransferBackend:
        """Create a backend from plain data.

        Parameters
        ----------
        endpoints : mapping of str to Any
            The location of each endpoint by name: the value under the backend's name in the endpoint's settings, with
            ``home`` if that is set.
        options : mapping of str to Any
            The value under the backend's name in the ``data`` section.

        Raises
        ------
        ConfigError
            If a location or an option is invalid. This method contacts no service.
        """
        ...

    def new_submission_id(self) -> str:
        """Return an id for one submission; every repetition of the submission uses the same id."""
        ...

    def submit(self, request: Request, submission_id: str) -> TaskHandle:
        """Submit a request; a repetition with the same ``submission_id`` returns the existing task.

        Raises
        ------
        EndpointError
            An endpoint is unknown, or has no location on this backend.
        UnsupportedOptionError
            The capabilities do not include an option, or `chiltepin.model.contradiction` finds a contradiction;
            `chiltepin.model.unsupported` tells which of the ``BACKEND_OPTIONS`` is missing.
        PathsInUseError
            A task with the same paths has not ended; no task was created. Submit the request again after it ends.
        BackendError
            The request failed; ``transient`` is True if it may be repeated.
        """
        ...

    def poll(self, handles: Sequence[TaskHandle]) -> list[TaskStatus]:
        """Return the status of each task, in the same order, in one round trip.

        If the status of one task cannot be parsed, it is ``ACTIVE`` with the code ``chiltepin.model.UNREAD``; this task
        is polled again later, and other tasks are not affected.

        Raises
        ------
        BackendError
            The request failed.
        """
        ...

    def cancel(self, handle: TaskHandle) -> None:
        """Request the cancellation of a task, which `poll` confirms; repeating the request is harmless."""
        ...

    def ls(self, endpoint: str, path: str) -> list[DirEntry]:
        """List a folder, in no particular order.

        Raises
        ------
        EndpointError, BackendError
            As for `submit`; a path that is not a folder is a ``BackendError``.
        """
        ...

    def close(self) -> None:
        """Stop threads and close sockets, but remove no data; a worker backend cancels its running tasks."""
        ...


@runtime_checkable
class WorkerBackend(TransferBackend, Protocol):
    """A backend that moves the bytes in the process that called `submit`.

    It uses the submission id as the task id, so that the id of a task is known before it is submitted.
    """

    def wait(self, handle: TaskHandle, seconds: float) -> None:
        """Return as soon as the task has ended, or after this many seconds; `poll` returns the state."""
        ...


@runtime_checkable
class ShardingBackend(WorkerBackend, Protocol):
    """A worker backend that can divide one request among several workers."""

    def submit_shard(self, request: Request, shard: Shard, submission_id: str) -> TaskHandle:
        """Submit one part of a request with one item; errors as `TransferBackend.submit`."""
        ...

    def shard_outcome(self, handle: TaskHandle) -> ShardOutcome:
        """Return the outcome of a shard that has ended."""
        ...


@runtime_checkable
class PlacingBackend(TransferBackend, Protocol):
    """A service backend that can tell whether two paths, on any endpoints, are the same."""

    def place(self, endpoint: str, path: str) -> tuple[str, ...]:
        """Return the location of a path: its store, and the names from the root of the store to the path.

        This method contacts no service. If the home folder of an endpoint is unknown, the first name is ``~``.

        Raises
        ------
        PermissionDeniedError, ValueError
            If the path leads outside its root, or is invalid.
        """
        ...


@runtime_checkable
class ConfiguredBackend(TransferBackend, Protocol):
    """A service backend for which the same request may mean something else with other settings."""

    def settings_of(self, request: Request) -> dict[str, Any]:
        """Return the settings on which a request depends, as JSON data; this method contacts no service.

        With their ``endpoints`` and ``options``, `from_config` makes a backend with the same places.
        """
        ...


@runtime_checkable
class BatchingBackend(TransferBackend, Protocol):
    """A service backend that knows the outcome of each item of a task, so that many callers may share one task.

    The ``options`` of its capabilities include ``skip_source_errors``.
    """

    def outcomes(self, handle: TaskHandle, request: Request) -> list[ItemOutcome | None]:
        """Return the outcome of each item of a task that has ended, in the order of the request that was submitted.

        None stands for an item that the service does not report; the item is then requested again. A `BackendError`
        means that the question could not be answered.
        """
        ...


@runtime_checkable
class ClientBackend(TransferBackend, Protocol):
    """A backend that can use a client that the caller provides."""

    def with_client(self, client: Any) -> TransferBackend:
        """Return a backend that uses ``client``, without changing this one."""
        ...


@runtime_checkable
class StatBackend(TransferBackend, Protocol):
    """A service backend that can tell whether a path exists.

    A task with a missing source then ends as soon as this is confirmed, not after ``fault_grace``.
    """

    def exists(self, endpoint: str, path: str) -> bool:
        """Whether a path exists.

        Raises
        ------
        EndpointError, BackendError
            The request failed, or the response does not tell whether the path exists.
        """
        ...


@runtime_checkable
class FilesBackend(TransferBackend, Protocol):
    """A backend that can examine a path, create a folder and rename at once, without a task.

    Errors are those of `TransferBackend.ls`; an existing name is a ``BackendError`` with the code ``FILE_EXISTS``.
    """

    def stat(self, endpoint: str, path: str) -> DirEntry:
        """Return the entry at a path; links are followed, and the root of an endpoint is a folder called ``/``."""
        ...

    def mkdir(self, endpoint: str, path: str) -> None:
        """Create a folder in an existing folder."""
        ...

    def rename(self, endpoint: str, path: str, new_path: str) -> None:
        """Rename a file, a folder or a link; an existing entry at the new path is not replaced.

        Raises
        ------
        PermissionDeniedError
            If the path is or contains the root of an endpoint.
        UnsupportedOptionError
            If the store of the endpoint cannot rename.
        """
        ...


@runtime_checkable
class ContentBackend(TransferBackend, Protocol):
    """A backend that can read a file."""

    def checksum(self, endpoint: str, path: str) -> str:
        """Return the checksum of a file, as ``sha256:`` and digits in lower case; errors as `TransferBackend.ls`."""
        ...


@runtime_checkable
class TasksBackend(TransferBackend, Protocol):
    """A service backend that knows all tasks of the user, whatever program or machine submitted them.

    A task that the service does not know, or no longer knows, is a ``PathNotFoundError``; a request that failed is
    another ``BackendError``.
    """

    def tasks(self) -> Iterator[TaskInfo]:
        """Yield the tasks, newest first; the reason of a fault may be missing."""
        ...

    def task(self, task_id: str) -> TaskInfo:
        """Return one task."""
        ...

    def events(self, task_id: str, *, limit: int) -> list[TaskEvent]:
        """Return the last events of a task, newest first."""
        ...
