"""The backend: requests in, tasks out."""

from __future__ import annotations

import os
import threading
import uuid
from concurrent.futures import Future, ThreadPoolExecutor, wait
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, ClassVar

from chiltepin.errors import (
    BackendError,
    ConfigError,
    EndpointNotFoundError,
    PathNotFoundError,
    PermissionDeniedError,
    UnsupportedOptionError,
    suggest,
)
from chiltepin.model import (
    Capabilities,
    DeleteRequest,
    DirEntry,
    TaskHandle,
    TaskState,
    TaskStatus,
    contradiction,
    unsupported,
)
from chiltepin.protocol.paths import joined, parts
from chiltepin_sqlite.database import Database

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from chiltepin.model import Request, TransferRequest

    #: Does one part of a task; returns its numbers of files and bytes.
    Step = Callable[[], tuple[int, int]]


class Failure(Exception):  # noqa: N818 - it never leaves this module
    """The fault of one path: a Globus fault code and a sentence."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(code, reason)
        self.code, self.reason = code, reason


class Task:
    """One request that is being processed."""

    def __init__(self, handle: TaskHandle, request: Request) -> None:
        self.handle, self.request = handle, request
        self.cancelled = threading.Event()
        self.state, self.files, self.bytes = TaskState.ACTIVE, 0, 0
        self.failures: list[Failure] = []

    def run(self, steps: Sequence[Step]) -> None:
        """Run all steps, even if one fails, until the task has to stop."""
        state = TaskState.SUCCEEDED
        for step in steps:
            if stopped := self._stopped():
                state = stopped
                self.failures = [Failure(state.name, f"The task was {state.value}.")]
                break
            try:
                files, size = step()
            except Failure as failure:
                self.failures.append(failure)
            except Exception as error:  # noqa: BLE001 - status reports it
                self.failures.append(Failure("INTERNAL_ERROR", f"{error}."))
            else:
                self.files, self.bytes = self.files + files, self.bytes + size
        failed = self.failures and state is TaskState.SUCCEEDED
        self.state = TaskState.FAILED if failed else state

    def _stopped(self) -> TaskState | None:
        if self.cancelled.is_set():
            return TaskState.CANCELED
        deadline = self.request.deadline
        late = deadline is not None and datetime.now(timezone.utc) >= deadline
        return TaskState.EXPIRED if late else None

    @property
    def status(self) -> TaskStatus:
        """The current status."""
        # The state first: once it is final, the other values are final too.
        state, failures = self.state, list(self.failures)
        return TaskStatus(
            handle=self.handle,
            state=state,
            code=failures[0].code if failures else "",
            reason=" ".join(failure.reason for failure in failures),
            bytes_done=self.bytes,
            files_done=self.files,
            faults=len(failures),
        )


class SqliteBackend:
    """Moves files between SQLite databases, in the calling process."""

    name = "sqlite"
    capabilities: ClassVar[Capabilities] = Capabilities(
        runs_on="worker", durable=False, sync_levels=(), filters=False
    )

    def __init__(self, files: Mapping[str, str], homes: Mapping[str, str]) -> None:
        self._databases = {name: Database(file) for name, file in files.items()}
        self._homes = dict(homes)
        self._tasks: dict[str, tuple[Task, Future[None]]] = {}
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(2, thread_name_prefix="chiltepin-sqlite")

    @classmethod
    def from_config(
        cls, endpoints: Mapping[str, Any], options: Mapping[str, Any]
    ) -> SqliteBackend:
        """Make a backend from the section ``sqlite:`` of the settings."""
        for option in options:
            raise ConfigError(
                f"Backend 'sqlite' has no option {option!r}; remove it."
            )
        for name, place in endpoints.items():
            if unknown := set(place) - {"location", "home"}:
                raise ConfigError(
                    f"Endpoint {name!r} has {sorted(unknown)} below 'sqlite:'; "
                    "write the file of its database, such as 'sqlite: ~/data.db'."
                )
        return cls(
            {
                name: os.path.expanduser(place["location"])
                for name, place in endpoints.items()
            },
            {name: place.get("home", "/") for name, place in endpoints.items()},
        )

    def new_submission_id(self) -> str:
        """Return a random UUID."""
        return str(uuid.uuid4())

    def submit(self, request: Request, submission_id: str) -> TaskHandle:
        """Check the request, and process it in a thread."""
        if why := unsupported(request, self.capabilities):
            raise UnsupportedOptionError(why, backend=self.name)
        steps = self._steps(request)
        handle = TaskHandle(
            backend=self.name, task_id=submission_id, submission_id=submission_id
        )
        with self._lock:
            if submission_id not in self._tasks:
                task = Task(handle, request)
                future = self._pool.submit(task.run, steps)
                self._tasks[submission_id] = task, future
        return handle

    def wait(self, handle: TaskHandle, seconds: float) -> None:
        """Return when the task has ended, or after ``seconds`` at the latest."""
        if handle.task_id in self._tasks:
            wait([self._tasks[handle.task_id][1]], timeout=seconds)

    def poll(self, handles: Sequence[TaskHandle]) -> list[TaskStatus]:
        """Return the states of tasks of this process; other processes do not share theirs."""
        return [self._status(handle) for handle in handles]

    def _status(self, handle: TaskHandle) -> TaskStatus:
        if handle.task_id in self._tasks:
            return self._tasks[handle.task_id][0].status
        reason = "This process does not know the task."
        return TaskStatus(
            handle=handle, state=TaskState.LOST, code="LOST", reason=reason
        )

    def cancel(self, handle: TaskHandle) -> None:
        """Ask the task to stop before its next file."""
        if handle.task_id in self._tasks:
            self._tasks[handle.task_id][0].cancelled.set()

    def ls(self, endpoint: str, path: str) -> list[DirEntry]:
        """List a folder."""
        database, folder = self._place(endpoint, path)
        found = database.below(folder)
        if not found and folder != "/":
            if database.read(folder) is not None:
                raise BackendError(
                    f"{folder} on {endpoint!r} is a file; list the folder it is in.",
                    backend=self.name,
                    code="NOT_A_DIRECTORY",
                )
            raise PathNotFoundError(
                f"There is no {folder} on endpoint {endpoint!r}.", backend=self.name
            )
        entries = {}
        for file, size in found.items():
            name, inner, _ = file[len(folder.rstrip("/")) + 1 :].partition("/")
            kind, length = ("dir", 0) if inner else ("file", size)
            entries[name] = DirEntry(name=name, kind=kind, size=length, modified=None)
        return list(entries.values())

    def close(self) -> None:
        """Ask running tasks to stop, without waiting for their threads."""
        for task, _ in list(self._tasks.values()):
            task.cancelled.set()
        self._pool.shutdown(wait=False)

    def _place(self, endpoint: str, path: str) -> tuple[Database, str]:
        if endpoint not in self._databases:
            raise EndpointNotFoundError(
                f"No endpoint {endpoint!r} on backend {self.name!r}; "
                + suggest(endpoint, self._databases),
                endpoint=endpoint,
            )
        names = parts(path, home=self._homes[endpoint], endpoint=endpoint)
        return self._databases[endpoint], joined(names)

    def _steps(self, request: Request) -> list[Step]:
        if isinstance(request, DeleteRequest):
            return self._deletions(request)
        return self._copies(request)

    def _copies(self, request: TransferRequest) -> list[Step]:
        """Refuse options not in the capabilities; return a step for each item."""
        can_not = {
            "sync_level": request.sync_level,
            "include and exclude": request.filters,
            "checksum": any(item.checksum for item in request.items),
            "delete_destination_extra": request.delete_destination_extra,
            "preserve_timestamp": request.preserve_timestamp,
            "skip_source_errors": request.skip_source_errors,
        }
        wanted = [option for option, value in can_not.items() if value]
        if wanted or contradiction(request):
            raise UnsupportedOptionError(
                contradiction(request)
                or f"Backend 'sqlite' has no {wanted[0]}; leave it out.",
                backend=self.name,
            )
        copy = copy_folder if request.recursive else copy_file
        return [
            _step(
                copy,
                self._place(request.source, item.source),
                self._place(request.destination, item.destination),
            )
            for item in request.items
        ]

    def _deletions(self, request: DeleteRequest) -> list[Step]:
        places = [self._place(request.endpoint, path) for path in request.paths]
        for _, path in places:
            if path == "/":
                raise PermissionDeniedError(
                    f"{path} on {request.endpoint!r} is a root, which is never deleted; "
                    "name what is to go.",
                    backend=self.name,
                    code="PERMISSION_DENIED",
                )
        return [_step(remove, place, request) for place in places]


def _step(deed: Callable[..., tuple[int, int]], *arguments: object) -> Step:
    return lambda: deed(*arguments)


def copy_file(
    origin: tuple[Database, str], goal: tuple[Database, str]
) -> tuple[int, int]:
    """Copy one file to its full new path."""
    (source, path), (target, new_path) = origin, goal
    content = source.read(path)
    if content is None:
        if path == "/" or source.below(path):
            raise Failure(
                "IS_A_DIRECTORY", f"{path} is a folder; give recursive=True."
            )
        raise Failure("FILE_NOT_FOUND", f"There is no {path}.")
    if new_path == "/" or target.below(new_path):
        raise Failure("IS_A_DIRECTORY", f"{new_path} is a folder; name the new file.")
    above = new_path.rpartition("/")[0]
    while above:
        if target.read(above) is not None:
            raise Failure("NOT_A_DIRECTORY", f"{above} is a file, and no folder.")
        above = above.rpartition("/")[0]
    target.write(new_path, content)
    if target.read(new_path) != content:
        raise Failure("VERIFY_CHECKSUM", f"{new_path} is not what was sent.")
    return 1, len(content)


def copy_folder(
    origin: tuple[Database, str], goal: tuple[Database, str]
) -> tuple[int, int]:
    """Copy the content of a folder into another folder."""
    (source, folder), (target, new_folder) = origin, goal
    if source.read(folder) is not None:
        raise Failure("NOT_A_DIRECTORY", f"{folder} is a file; give recursive=False.")
    found = source.below(folder)
    if not found and folder != "/":
        raise Failure("FILE_NOT_FOUND", f"There is no {folder}.")
    inside = f"{new_folder.rstrip('/')}/".startswith(f"{folder.rstrip('/')}/")
    if source is target and inside:
        raise Failure("INVALID_PATH_NAME", f"{folder} would be copied into itself.")
    total, failures = 0, []
    for path, size in found.items():
        new_path = new_folder.rstrip("/") + path[len(folder.rstrip("/")) :]
        try:
            copy_file((source, path), (target, new_path))
            total += size
        except Failure as failure:
            failures.append(failure)
    if failures:
        raise failures[0]
    return len(found), total


def remove(place: tuple[Database, str], request: DeleteRequest) -> tuple[int, int]:
    """Remove a file, or a folder and its content."""
    database, path = place
    doomed = [path] if database.read(path) is not None else list(database.below(path))
    if not doomed and not request.ignore_missing:
        raise Failure("FILE_NOT_FOUND", f"There is no {path}.")
    if doomed not in ([], [path]) and not request.recursive:
        raise Failure("IS_A_DIRECTORY", f"{path} is a folder; give recursive=True.")
    for file in doomed:
        database.remove(file)
    return len(doomed), 0
