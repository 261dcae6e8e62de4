"""The backend that transfers data with Globus."""

from __future__ import annotations

import os
import threading
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar

import globus_sdk

from chiltepin.backends import forks
from chiltepin.backends.globus import auth, documents, responses
from chiltepin.backends.globus.collections import Collections
from chiltepin.backends.globus.credentials import ENVIRONMENT_VARIABLES, LOGIN_VARIABLES
from chiltepin.backends.globus.errors import BACKEND, TOO_MANY_PENDING, call_globus, translate
from chiltepin.backends.globus.file_operations import FileOperations
from chiltepin.backends.globus.options import DEFAULTS, GlobusOptions
from chiltepin.backends.globus.task_reader import TaskReader, known_id
from chiltepin.backends.globus.text import uuid, web_app
from chiltepin.backends.globus.transport import replace_connections, time_limit
from chiltepin.errors import (
    BackendError,
    ConfigError,
    ConsentRequiredError,
    LoginRequiredError,
    PathNotFoundError,
    PathsInUseError,
    UnsupportedOptionError,
)
from chiltepin.model import (
    BACKEND_OPTIONS,
    CHECKSUMS,
    Capabilities,
    DeleteRequest,
    TaskHandle,
    TaskState,
    TaskStatus,
    contradiction,
    items_of,
    unsupported,
)
from chiltepin.protocol.paths import parts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from chiltepin.backends.globus.collections import Collection
    from chiltepin.model import DirEntry, ItemOutcome, Request, TaskEvent, TaskInfo

__all__ = ["GlobusBackend"]

#: Transfers, and also deletions, of one user that Globus runs at a time (docs.globus.org, "Task Behavior", 2).
SLOTS = 3

#: Limit of items in one task. Globus documents none; a submission of this many is a document of about 2 MB.
MAX_ITEMS = 10_000

_SUBMIT: Mapping[str, Callable[[globus_sdk.TransferClient, Any], Any]] = {
    "transfer": lambda client, document: client.submit_transfer(document),
    "deletion": lambda client, document: client.submit_delete(document),
}

T = TypeVar("T")


class GlobusBackend:
    """Submits tasks to the Globus transfer service, polls and cancels them.

    It contacts no service, and needs no login, before the first request.

    Parameters
    ----------
    places : mapping
        For each declared endpoint, the UUID of its ``collection`` (or ``this-machine``), and ``home`` and
        ``local_user`` if set.
    options : GlobusOptions
        The options of the settings.
    client : globus_sdk.TransferClient or None
        The caller's client, with its login; None: a client with the stored login.
    """

    name = BACKEND
    capabilities: ClassVar[Capabilities] = Capabilities(
        runs_on="service",
        durable=True,
        checksums=tuple(CHECKSUMS),
        deletes_extra=True,
        finds_endpoints=True,
        batches=True,
        slots=SLOTS,
        max_items=MAX_ITEMS,
        options=BACKEND_OPTIONS,
    )

    def __init__(
        self,
        places: Mapping[str, Mapping[str, Any]],
        *,
        options: GlobusOptions = DEFAULTS,
        client: globus_sdk.TransferClient | None = None,
    ) -> None:
        self._options, self._plain_options = options, options.plain()
        self._owns_client = client is None
        self._shared_client = client
        self._places = places
        self._reset()
        forks.register(self._reset_after_fork)

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._environment = _environment()
        self._collections = Collections(self._places, self._ask)
        #: The places of endpoints, determined without a request to Globus.
        self._known: dict[str, dict[str, str]] = {}
        self._consented: set[str] = set()
        self._tasks = TaskReader(self._ask, self._collections.find)
        self._files = FileOperations(self._ask, self._open_collection)

    def _reset_after_fork(self) -> None:
        """Leave the connections to the parent in a process made by ``fork``: two processes must not share a socket."""
        forks.leave(self._shared_client)
        if self._owns_client:
            self._shared_client = None
        elif self._shared_client is not None:
            replace_connections(self._shared_client)
        self._reset()

    def __reduce__(self) -> Any:
        raise TypeError("A Globus backend cannot be sent to another process; send its settings, and open it there.")

    @classmethod
    def from_config(cls, endpoints: Mapping[str, Any], options: Mapping[str, Any]) -> GlobusBackend:
        """Make the backend from plain data; see `TransferBackend.from_config`.

        Endpoints have ``collection`` and optionally ``home`` and ``local_user``; ``mount`` is not used. The options are
        those of `GlobusOptions`.
        """
        checked = GlobusOptions.checked(options)
        for name, place in endpoints.items():
            if not isinstance(place, dict) or not isinstance(place.get("collection"), str):
                raise ConfigError(
                    f"Endpoint {name!r} has no collection; write 'globus: UUID' below it.",
                    key=f"data.endpoints.{name}.globus",
                )
        return cls(endpoints, options=checked)

    def with_client(self, client: Any) -> GlobusBackend:
        """Return a backend for the same endpoints that uses the ``globus_sdk.TransferClient`` of the caller."""
        if not isinstance(client, globus_sdk.TransferClient):
            raise TypeError(f"client={client!r} is of type {type(client).__name__}; give a globus_sdk.TransferClient.")
        return type(self)(self._places, options=self._options, client=client)

    def _client(self) -> globus_sdk.TransferClient:
        """Return the client of this process, which is created from the stored login when it is first needed.

        Threads share it: 640 requests from 16 threads through one client all succeeded, and its login is thread-safe
        (`auth.transfer_client`).
        """
        self._forget_if_environment_changed()
        with self._lock:
            if self._shared_client is None:
                self._shared_client = auth.transfer_client(self._options.client_id)
            return self._shared_client

    def _forget_if_environment_changed(self) -> None:
        """Clear the caches if the environment now names another Globus deployment or another login."""
        with self._lock:
            if self._owns_client and self._environment != (environment := _environment()):
                self._environment, self._shared_client = environment, None
                self._collections.forget()
                self._consented.clear()
                self._tasks.forget()

    def _ask(self, what: str, call: Callable[[globus_sdk.TransferClient], T]) -> T:
        client = self._client()
        callers = None if self._owns_client else client
        try:
            return call(client)
        except Exception as err:  # noqa: BLE001 - as in `call_globus`
            failure = translate(err, what, callers)
        if isinstance(failure, LoginRequiredError) and not isinstance(failure, ConsentRequiredError):
            # The SDK renews an expired token only at the first failure of a request: after a 502 it returns the 401
            # (globus_sdk 4.9, check_expired_authorization, RUN_ONCE).
            return call_globus(partial(call, client), what, callers)
        raise failure

    @property
    def service(self) -> str:
        """The Globus deployment that the environment names, by address or name: several may share a journal."""
        address, environment = "GLOBUS_SDK_SERVICE_URL_TRANSFER", "GLOBUS_SDK_ENVIRONMENT"
        return os.environ.get(address) or os.environ.get(environment) or "production"

    @time_limit()
    def new_submission_id(self) -> str:
        """Fetch an id from Globus, which accepts only ids that it issued."""
        return self._ask("Requesting a submission id", lambda client: uuid(client.get_submission_id()["value"]))

    @time_limit()
    def submit(self, request: Request, submission_id: str) -> TaskHandle:
        """Submit the request to Globus; see `TransferBackend.submit`.

        Raises
        ------
        PathsInUseError
            If an unfinished Globus task of Chiltepin has the same paths; the error names it.
        ConsentRequiredError
            If a collection requires a consent that the login lacks. This is checked before the first task is submitted:
            Globus would accept the task and then refuse access to the data.
        """
        document, submit = self._prepare(request, submission_id)
        if request.submission_id and not documents.fingerprint(document):
            raise UnsupportedOptionError(
                f"label={request.label!r} is too long together with the mark that submission_id adds; shorten it.",
                backend=self.name,
            )
        # Twice, because the conflicting task may have ended before it was looked up.
        for _ in range(2):
            try:
                task_id, code = self._ask(
                    f"Submitting the {submit}", lambda client: _submit(client, document, _SUBMIT[submit])
                )
            except BackendError as err:
                conflict = err
            else:
                if code == "Duplicate" and request.submission_id:
                    self._tasks.require_same(task_id, document)
                return TaskHandle(backend=self.name, task_id=task_id, submission_id=submission_id)
            # Raised after the except clause has ended, so that it has no __context__.
            if not _is_identical(conflict):
                raise conflict
            if (twin := self._tasks.find_duplicate(document)) is not None:
                raise self._in_use(twin, conflict)
        raise BackendError(
            "Globus already has an active task with identical paths, which another program submitted; "
            f"wait for it, or cancel it{web_app(' at', 'activity')}.",
            backend=self.name,
            code=conflict.code,
            request_id=conflict.request_id,
        )

    def place(self, endpoint: str, path: str) -> tuple[str, ...]:
        """Return the location of a path; see `PlacingBackend.place`."""
        place = self._known_place(endpoint)
        home = place.get("home")
        there = () if home is not None or path.startswith("/") else ("~",)
        return (place["collection"], *there, *parts(path, home=home or "/", endpoint=endpoint))

    def settings_of(self, request: Request) -> dict[str, Any]:
        """Return the endpoints of a request, the options, and the login; see `ConfiguredBackend.settings_of`."""
        names = [request.endpoint] if isinstance(request, DeleteRequest) else [request.source, request.destination]
        return {
            "endpoints": {name: self._known_place(name) for name in names},
            "options": self._plain_options,
            "login": self._login(),
        }

    def _known_place(self, endpoint: str) -> dict[str, str]:
        if endpoint not in self._known:
            self._known[endpoint] = self._collections.known(endpoint)
        return self._known[endpoint]

    def _login(self) -> list[str]:
        """Return what tells this login from others."""
        return [os.environ.get(name, "") for name in LOGIN_VARIABLES] if self._owns_client else ["client"]

    def _prepare(
        self, request: Request, submission_id: str
    ) -> tuple[globus_sdk.TransferData | globus_sdk.DeleteData, Literal["transfer", "deletion"]]:
        self._forget_if_environment_changed()
        count = len(items_of(request))
        if count > MAX_ITEMS:
            raise UnsupportedOptionError(
                f"{count:,} items exceed the limit of one task; give at most {MAX_ITEMS:,}.", backend=self.name
            )
        if why := unsupported(request, self.capabilities, self.name):
            raise UnsupportedOptionError(why, backend=self.name)
        if isinstance(request, DeleteRequest):
            place = self._collections.find(request.endpoint)
            deletion = documents.delete_document(request, place, submission_id=submission_id, options=self._options)
            self._require_consent(place)
            return deletion, "deletion"
        source, destination = self._collections.find(request.source), self._collections.find(request.destination)
        if why := contradiction(request) or documents.unsupported_reason(request, source, destination):
            raise UnsupportedOptionError(why, backend=self.name)
        transfer = documents.transfer_document(
            request, source, destination, submission_id=submission_id, options=self._options
        )
        self._require_consent(source, destination)
        return transfer, "transfer"

    def _require_consent(self, *places: Collection) -> None:
        """Check, once for each collection, that the login has the consent to its data."""
        new = [place for place in places if place.id not in self._consented]
        if not new:
            return
        auth.require_data_access(
            self._client(), {place.id: place.name for place in new if self._collections.needs_consent(place)}
        )
        self._consented.update(place.id for place in new)

    def _in_use(self, task_id: str, conflict: BackendError) -> PathsInUseError:
        reason = f"Globus already has an active task {task_id} with identical paths"
        handle = TaskHandle(backend=self.name, task_id=task_id, submission_id="")
        return PathsInUseError(
            f"{reason}; wait for it, or cancel it{web_app(' at', 'activity')}.",
            status=TaskStatus(handle=handle, state=TaskState.ACTIVE, code=conflict.code, reason=f"{reason}."),
            backend=self.name,
            code=conflict.code,
            request_id=conflict.request_id,
        )

    @time_limit()
    def poll(self, handles: Sequence[TaskHandle]) -> list[TaskStatus]:
        """Return the status of each task, with one request for up to 50 tasks, and one more for each new fault."""
        return call_globus(partial(self._tasks.poll, handles), "Polling tasks")

    def outcomes(self, handle: TaskHandle, request: Request) -> list[ItemOutcome | None]:
        """Return the outcome of each item; see `BatchingBackend.outcomes`.

        This takes one request for a task that succeeded and skipped nothing, and one more for each 1,000 entries of the
        lists of transferred and skipped files.
        """
        return call_globus(
            partial(self._tasks.outcomes, handle, request), f"Reading the items of task {handle.task_id}"
        )

    def tasks(self) -> Iterator[TaskInfo]:
        """Yield all tasks of the user, newest first; see `TasksBackend.tasks`."""
        return self._tasks.tasks()

    def task(self, task_id: str) -> TaskInfo:
        """Return one task; see `TasksBackend.task`."""
        return call_globus(partial(self._tasks.task, task_id), f"Reading task {task_id}")

    def events(self, task_id: str, *, limit: int) -> list[TaskEvent]:
        """Return the last events of a task; see `TasksBackend.events`."""
        return call_globus(partial(self._tasks.events, task_id, limit=limit), f"Reading the events of task {task_id}")

    @time_limit()
    def cancel(self, handle: TaskHandle) -> None:
        """Ask Globus to cancel the task; a task that has ended, or is unknown, is not an error."""
        try:
            self._ask(
                f"Canceling task {handle.task_id}",
                lambda client: responses.result_code(client.cancel_task(known_id(handle.task_id))),
            )
        except PathNotFoundError:
            return

    def ls(self, endpoint: str, path: str) -> list[DirEntry]:
        """List a folder of any size; see `TransferBackend.ls`."""
        return self._files.ls(endpoint, path)

    def exists(self, endpoint: str, path: str) -> bool:
        """Whether a path exists; see `StatBackend.exists`."""
        return self._files.exists(endpoint, path)

    def stat(self, endpoint: str, path: str) -> DirEntry:
        """Return the entry at a path; see `FilesBackend.stat`."""
        return self._files.stat(endpoint, path)

    def mkdir(self, endpoint: str, path: str) -> None:
        """Make one folder; see `FilesBackend.mkdir`."""
        self._files.mkdir(endpoint, path)

    def rename(self, endpoint: str, path: str, new_path: str) -> None:
        """Rename a file or a folder; see `FilesBackend.rename`."""
        self._files.rename(endpoint, path, new_path)

    def _open_collection(self, endpoint: str) -> Collection:
        """Return the collection of an endpoint, once the login has the consent to its data."""
        self._forget_if_environment_changed()
        place = self._collections.find(endpoint)
        self._require_consent(place)
        return place

    def close(self) -> None:
        """Close the connections; tasks continue at Globus."""
        with self._lock:
            if self._owns_client and self._shared_client is not None:
                self._shared_client.close()
                self._shared_client = None


def _submit(client: globus_sdk.TransferClient, document: Any, call: Callable[..., Any]) -> tuple[str, str]:
    """Return the id of the task that a submission created or found, and the response code."""
    with time_limit(len(document["DATA"])):
        answer = call(client, document)
    return uuid(answer["task_id"]), str(answer.get("code", ""))


def _environment() -> tuple[str | None, ...]:
    """Return the values of the variables that select the Globus deployment and the login; they include a secret."""
    return tuple(map(os.environ.get, ENVIRONMENT_VARIABLES))


def _is_identical(err: BackendError) -> bool:
    """Whether the service refused a task because a running task has the same paths."""
    return err.code.endswith("Conflict") and err.code != TOO_MANY_PENDING
