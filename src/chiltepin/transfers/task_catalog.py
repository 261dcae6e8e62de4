"""Find tasks by id, whichever program submitted them: at a service, or in the activity log of this machine."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Protocol

from chiltepin.errors import BackendError, PathNotFoundError, UnsupportedOptionError
from chiltepin.model import UUID, TaskEvent, TaskHandle, TaskInfo, TaskState, TaskStatus
from chiltepin.protocol import TasksBackend
from chiltepin.transfers.activity.log import stop_file
from chiltepin.transfers.activity.reader import ActivityReader
from chiltepin.transfers.own_files import create_own
from chiltepin.transfers.runner import runs_at_service

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from chiltepin.protocol import TransferBackend
    from chiltepin.transfers.activity.records import TransferRecord

__all__ = ["TaskCatalog", "open_catalog", "wait_for"]


class TaskCatalog(Protocol):
    """The tasks that a user has submitted with one backend; an unknown task raises ``PathNotFoundError``."""

    def tasks(self) -> Iterable[TaskInfo]:
        """Return the tasks, the newest first."""

    def task(self, task_id: str) -> TaskInfo:
        """Return one task."""

    def events(self, task_id: str, *, limit: int) -> list[TaskEvent]:
        """Return the last events of a task, the newest first."""

    def cancel(self, task_id: str) -> bool:
        """Request that a task stop; return False if it has already ended."""


def open_catalog(backend: TransferBackend, journal: str) -> TaskCatalog:
    """Return the tasks of a backend.

    Parameters
    ----------
    backend : TransferBackend
        Where the tasks are.
    journal : str
        The folder of the activity log, for a backend whose tasks no service knows.

    Raises
    ------
    UnsupportedOptionError
        If neither the backend nor a log lists them.
    """
    if isinstance(backend, TasksBackend):
        return _AtService(backend)
    if runs_at_service(backend):
        raise UnsupportedOptionError(
            f"Backend {backend.name!r} cannot find tasks by id; use the tools of its service.",
            backend=backend.name,
        )
    if not journal:
        raise UnsupportedOptionError(
            f"Tasks of backend {backend.name!r} are known from the journal, and 'journal: false' is set; remove it.",
            backend=backend.name,
        )
    return _InLog(backend, journal)


def wait_for(
    catalog: TaskCatalog,
    task_id: str,
    *,
    timeout: float | None,
    interval: float,
    waiting: Callable[[], object],
) -> TaskInfo:
    """Return a task when it has ended, or as it is after ``timeout`` seconds.

    ``waiting`` is called after each poll that finds it unfinished; ``interval`` is the time between polls, in seconds.
    """
    start = time.monotonic()
    while not (info := catalog.task(task_id)).status.state.final:
        waiting()
        left = interval if timeout is None else min(interval, start + timeout - time.monotonic())
        if left <= 0:
            return info
        time.sleep(left)
    return info


class _AtService:
    def __init__(self, backend: TasksBackend) -> None:
        self._backend = backend
        self.tasks, self.task, self.events = backend.tasks, backend.task, backend.events

    def cancel(self, task_id: str) -> bool:
        if self._backend.task(task_id).status.state.final:
            return False
        self._backend.cancel(TaskHandle(backend=self._backend.name, task_id=task_id, submission_id=""))
        return True


class _InLog:
    """The tasks of a worker backend, from the logs of their processes."""

    def __init__(self, backend: TransferBackend, journal: str) -> None:
        self._backend, self._journal = backend.name, journal
        #: For each task that was asked for, the reader of its lines, and what they say.
        self._readers: dict[str, tuple[ActivityReader, dict[str, TransferRecord]]] = {}

    def _read(self, task_id: str = "") -> dict[str, TransferRecord]:
        """Return one task, or all tasks, by id."""
        if task_id not in self._readers:
            self._readers[task_id] = ActivityReader(self._journal, only=task_id), {}
        reader, records = self._readers[task_id]
        records.update({record.name: record for record in reader.news() if record.backend == self._backend})
        return records

    def tasks(self) -> Iterable[TaskInfo]:
        records = sorted(self._read().values(), key=lambda record: record.asked, reverse=True)
        return map(self._info, records)

    def task(self, task_id: str) -> TaskInfo:
        return self._info(self._record(task_id))

    def events(self, task_id: str, *, limit: int) -> list[TaskEvent]:
        record = self._record(task_id)
        info = self._info(record)
        found = [TaskEvent(time=record.asked, code="STARTED", is_error=False, details="The task was started.")]
        status = info.status
        if record.ended or status.code:
            bad = status.state is not TaskState.SUCCEEDED
            code = status.state.name if not status.code else status.code
            files = f"{status.files_done} files, {status.bytes_done} bytes"
            found.append(TaskEvent(time=record.seen, code=code, is_error=bad, details=status.reason or files))
        return found[::-1][:limit]

    def cancel(self, task_id: str) -> bool:
        record = self._record(task_id)
        if self._info(record).status.state.final:
            return False
        # The name comes from a file; if it is not an id, it could be a path outside the folder.
        if not UUID.fullmatch(record.name):
            raise BackendError(f"{record.name!r} is not the id of a task that can be stopped.", backend=self._backend)
        try:
            os.close(create_own(stop_file(self._journal, record.name)))
        except OSError as err:
            why = os.strerror(err.errno or 0)
        else:
            return True
        raise BackendError(f"Cannot ask task {task_id} to stop, in {self._journal}: {why}.", backend=self._backend)

    def _record(self, task_id: str) -> TransferRecord:
        record = self._read(task_id).get(task_id)
        if record is None:
            raise PathNotFoundError(
                f"No task {task_id} of backend {self._backend!r} is in the journal; it keeps 30 days.",
                backend=self._backend,
                code="ClientError.NotFound",
            )
        return record

    def _info(self, record: TransferRecord) -> TaskInfo:
        lost = record.ended is None and not record.followed
        state, code, reason = record.state, record.code, record.reason
        if lost:
            state, code, reason = TaskState.LOST, "LOST", "The process that ran it ended without a result."
        elif record.ended is not None and record.failed and state is TaskState.SUCCEEDED:
            state, code = TaskState.FAILED, code or "FAILED"
        status = TaskStatus(
            handle=TaskHandle.at_worker(record.backend, record.name),
            state=state,
            code=code,
            reason=reason,
            bytes_done=record.bytes,
            files_done=record.files,
            files_skipped=record.skipped,
            faults=record.faults,
        )
        return TaskInfo(
            status=status,
            kind="delete" if record.kind == "delete" else "transfer",
            source=record.source,
            destination=record.destination,
            label=record.label,
            asked=record.asked,
            ended=record.ended or (record.seen if lost else None),
        )
