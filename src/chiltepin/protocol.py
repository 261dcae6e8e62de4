"""The contract between Chiltepin and whatever moves the bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from chiltepin.model import Capabilities, DirEntry, ItemOutcome, Request, TaskHandle, TaskStatus

__all__ = ["BatchingBackend", "ClientBackend", "PlacingBackend", "StatBackend", "TransferBackend", "WorkerBackend"]


@runtime_checkable
class TransferBackend(Protocol):
    """Something that moves and deletes data between endpoints.

    A third party need not inherit from this class; it registers its own under the entry point group
    ``chiltepin.backends``. Every method blocks, and may be called from any thread.

    The promise
    -----------
    If `submit` returns, the task exists exactly once, and every later failure is a state, not an exception. If it
    raises, no task was made, or (where the error is ``transient``) repeating it with the same submission id is safe.
    `poll` raises only when the question could not be asked; a task that nobody knows any more is ``LOST``.

    A backend whose ``capabilities.runs_on`` is ``"worker"`` moves the bytes in the process that called `submit`; it
    is a `WorkerBackend`.

    A backend that can be used with several services has an attribute ``service``, the URL of the one that it uses: the
    journal tells their tasks apart by it.

    What leaves a backend is plain: no object of its SDK, no token, and no exception whose ``__context__`` holds one.
    """

    name: str
    capabilities: Capabilities

    @classmethod
    def from_config(cls, endpoints: Mapping[str, Any], options: Mapping[str, Any]) -> TransferBackend:
        """Make a backend from plain data.

        Parameters
        ----------
        endpoints : mapping of str to Any
            For each endpoint, by name, where it is on this backend: what stands under the backend's name in the
            settings of the endpoint, with ``home`` beside it if that is set.
        options : mapping of str to Any
            What stands under the backend's name in the ``data`` section.

        Raises
        ------
        ConfigError
            If a location or an option makes no sense. Nothing is contacted here.
        """
        ...

    def new_submission_id(self) -> str:
        """Return an id for one submission, to be made before it and kept over every repetition of it."""
        ...

    def submit(self, request: Request, submission_id: str) -> TaskHandle:
        """Hand a request in; a repetition with the same ``submission_id`` returns the task that is already there.

        Raises
        ------
        EndpointError
            An endpoint is unknown, or has no place on this backend.
        UnsupportedOptionError
            The capabilities do not claim what is asked for, or `chiltepin.model.contradiction` has an objection.
        PathsInUseError
            A task with the same paths has not ended; no task was made. The request is submitted again after that.
        BackendError
            The request cannot be made; ``transient`` says whether repeating it makes sense.
        """
        ...

    def poll(self, handles: Sequence[TaskHandle]) -> list[TaskStatus]:
        """Return the status of each task, in the same order, at the price of one round trip.

        If the answer about one task cannot be read, its status is ``ACTIVE`` with the code ``chiltepin.model.UNREAD``;
        this task is polled again later, and the others are not affected.

        Raises
        ------
        BackendError
            The question could not be asked.
        """
        ...

    def cancel(self, handle: TaskHandle) -> None:
        """Ask that a task stop: a request, not a fact. `poll` tells what became of it; asking again is harmless."""
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
        """Let go of threads and sockets, never of data; live tasks of a worker backend are asked to stop."""
        ...


@runtime_checkable
class WorkerBackend(TransferBackend, Protocol):
    """A backend that moves the bytes in the process that called `submit`.

    It uses the submission id as the task id, so that a task can be named before it is submitted.
    """

    def wait(self, handle: TaskHandle, seconds: float) -> None:
        """Return as soon as the task has ended, and after some seconds at the latest; `poll` tells which it was."""
        ...


@runtime_checkable
class PlacingBackend(TransferBackend, Protocol):
    """A service backend that can tell which paths are one and the same, whatever endpoint and spelling name them."""

    def place(self, endpoint: str, path: str) -> tuple[str, ...]:
        """Return where a path is: its store, and the names that lead to it from the root of that.

        Nothing is contacted. Where the home folder of an endpoint is not known, the first name is ``~``.

        Raises
        ------
        PermissionDeniedError, ValueError
            If the path leads out of its root, or names nothing.
        """
        ...


@runtime_checkable
class BatchingBackend(TransferBackend, Protocol):
    """A service backend that can tell what became of each item of a task, so that many callers may share one."""

    def outcomes(self, handle: TaskHandle, request: Request) -> list[ItemOutcome | None]:
        """Return what became of each item of a task that has ended, in the order of the request.

        Parameters
        ----------
        handle : TaskHandle
            The task.
        request : TransferRequest or DeleteRequest
            What was submitted.

        Returns
        -------
        list of ItemOutcome or None
            None where the service does not tell: such an item is asked for again.

        Raises
        ------
        BackendError
            The question could not be asked.
        """
        ...


@runtime_checkable
class ClientBackend(TransferBackend, Protocol):
    """A backend that can use a client of the caller's own."""

    def with_client(self, client: Any) -> TransferBackend:
        """Return a backend that uses ``client``; this one stays as it is."""
        ...


@runtime_checkable
class StatBackend(TransferBackend, Protocol):
    """A service backend that can tell whether one path is there.

    A task in which a file is not found is then ended as soon as that is confirmed, and not after ``fault_grace``.
    """

    def exists(self, endpoint: str, path: str) -> bool:
        """Whether anything is at a path.

        Raises
        ------
        EndpointError, BackendError
            The question could not be asked, or the answer does not tell.
        """
        ...
