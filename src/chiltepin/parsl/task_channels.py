"""Connect a transfer future to its task, at a Parsl worker or at a service."""

from __future__ import annotations

import logging
import os
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol, cast

from chiltepin.model import NO_TASK, TaskHandle, TaskState, TaskStatus
from chiltepin.transfers import interruptions, policy, status_file
from chiltepin.transfers.own_files import create_own
from chiltepin.transfers.runner import open_transfers

if TYPE_CHECKING:
    from concurrent.futures import Future

    from chiltepin.model import Request
    from chiltepin.transfers.service.manager import TaskManager
    from chiltepin.transfers.worker import AppPayload

__all__ = ["FOLDER", "ServiceChannel", "TaskChannel", "WorkerChannel"]

logger = logging.getLogger(__name__)

#: Folder in the run folder for stop files, and for the status files of workers.
FOLDER = "chiltepin"


class TaskChannel(Protocol):
    """The interface through which the workflow polls and stops a task, before and while it runs.

    Attributes
    ----------
    queues : bool
        Whether the task waits for a worker before it begins.
    executor : Any
        The executors of its parts, as the caller named them; None if the task has no parts that Parsl runs.
    """

    queues: bool
    executor: Any

    @property
    def handle(self) -> TaskHandle | None:
        """The handle of the task; None until it has one."""
        ...

    def status(self) -> TaskStatus | None:
        """Return the last known status of the task; None if it is unknown."""
        ...

    def stop(self) -> None:
        """Request that the task stop, even if it has not begun; return without waiting."""
        ...

    def cleanup(self) -> None:
        """Remove the files and records of the task, which has ended."""
        ...


class WorkerChannel:
    """A task whose bytes a Parsl worker moves, in this process or in another one."""

    queues = True
    executor = None

    def __init__(self, payload: AppPayload, handle: TaskHandle) -> None:
        self._payload, self._begun = payload, time.monotonic()
        self._stopped = self._ended = False
        # Reentrant: a signal handler may stop the task again.
        self._lock = threading.RLock()
        self.handle = handle

    def status(self) -> TaskStatus | None:
        """Return the status of a task in this process, else the content of its status file."""
        status = open_transfers(self._payload.setup).backend.poll([self.handle])[0]
        return status_file.read(self._payload.status_file) if status.state is TaskState.LOST else status

    def stop(self) -> None:
        """Create the stop file of the task; if that fails, only a task in this process is stopped."""
        with self._lock:
            if self._ended:
                return
            self._stopped = True
            try:
                os.makedirs(os.path.dirname(self._payload.stop_file), exist_ok=True)
                os.close(create_own(self._payload.stop_file))
            except OSError as error:
                logger.warning("A task in another process could not be asked to stop: %s.", error)
                open_transfers(self._payload.setup).backend.cancel(self.handle)

    def cleanup(self) -> None:
        """Remove the stop file and the status file, if they may exist."""
        with self._lock:
            self._ended = True
        files = [self._payload.stop_file] if self._stopped else []
        if time.monotonic() - self._begun >= policy.wait_times.STATUS_FILE_INTERVAL:
            files.append(self._payload.status_file)
        for file in files:
            # A file that cannot be removed must not keep the task from ending.
            with suppress(OSError):
                os.remove(file)


class ServiceChannel:
    """A task of a service."""

    queues = False
    executor = None

    def __init__(self, payload: AppPayload, manager: TaskManager) -> None:
        self._key, self._manager = payload.submission_id, manager
        self._handle: TaskHandle | None = None

    def start(self, payload: AppPayload) -> Future[TaskStatus]:
        """Pass the request of a payload to the task manager."""
        return self._manager.start(
            payload.submission_id,
            cast("Request", payload.request),
            timeout=payload.timeout,
            polling_interval=payload.polling_interval,
            grace=payload.fault_grace,
            workflow=payload.workflow,
            raises=True,
        ).future

    @property
    def handle(self) -> TaskHandle | None:
        """The handle of the task at the service; None until it has one."""
        if self._handle is not None:
            return self._handle
        pending = self._manager.find(self._key)
        return pending.handle if pending else None

    def status(self) -> TaskStatus | None:
        """Return the status from the task manager's last poll."""
        pending = self._manager.find(self._key)
        if pending is None or pending.status is not None:
            return pending.status if pending else None
        if pending.handle is not None:
            return TaskStatus(handle=pending.handle, state=TaskState.ACTIVE)
        refused = pending.task.refused if pending.task else ""
        reason = f"It is waiting to be submitted again. {refused}" if refused else "It is waiting to be submitted."
        return TaskStatus(handle=NO_TASK, state=TaskState.ACTIVE, reason=reason)

    def stop(self) -> None:
        """Request that the task manager stop the task."""
        interruptions.call(lambda _: self._manager.stop(self._key), timeout=policy.wait_times.STOP_GRACE)

    def cleanup(self) -> None:
        """Remove the task from the task manager."""
        self._handle = self.handle
        self._manager.forget(self._key)
