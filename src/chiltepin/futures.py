"""The future of a transfer or a deletion that runs as a Parsl task."""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from parsl.dataflow.futures import AppFuture

from chiltepin import kernel
from chiltepin.errors import TaskCanceledError, TaskError
from chiltepin.model import TaskHandle, TaskState, TaskStatus
from chiltepin.transfers import opened

if TYPE_CHECKING:
    from chiltepin.worker import Call

__all__ = ["TransferFuture"]


class TransferFuture(AppFuture):  # type: ignore[misc] # parsl has no types
    """The future of a transfer or a deletion: an ``AppFuture`` that can be cancelled and asked.

    Its result is ``True``; a task that did not succeed raises its error, or gives ``False`` where ``check`` is off.
    Other Parsl apps may take it as an argument or among their ``inputs``, and do not run if it fails.

    Attributes
    ----------
    task_handle : TaskHandle
        The name of the task at its backend.
    """

    def __init__(self, app_future: AppFuture, call: Call, handle: TaskHandle, what: str) -> None:
        super().__init__(app_future.task_record)
        self.task_handle = handle
        self._call, self._what = call, what
        self._status: TaskStatus | None = None
        self._given_up = ""
        self._ending = threading.Lock()
        self._forget = kernel.on_end(app_future.task_record["dfk"], self._give_up)
        app_future.add_done_callback(self._settle)

    def cancel(self) -> bool:
        """Ask that the task stop.

        It is a request: a task that is just ending may still succeed. One that waits for other tasks ends at once, one
        that runs within about a second; then ``result()`` raises `TaskCanceledError`.

        Returns
        -------
        bool
            False if the task has ended already.
        """
        if self.done():
            return False
        self._stop()
        if self.task_record["status"].name == "pending":
            self._end(None, TaskCanceledError(f"{self._what} was cancelled before it began."))
        return True

    def cancelled(self) -> bool:
        """Whether the task has ended because it was cancelled."""
        return self.done() and isinstance(self.exception(), TaskCanceledError)

    def status(self) -> TaskStatus:
        """Return what is known of the task now.

        Bytes and files are counted while the task runs in this process; of a task on another one only its beginning
        and its end are known here.
        """
        if self._status is not None:
            return self._status
        status = opened(self._call.setup).backend.poll([self.task_handle])[0]
        if status.state is not TaskState.LOST:
            return status
        reason = f"Parsl says {self.task_status()!r}; it runs on executor {self.task_record['executor']!r}."
        return TaskStatus(handle=self.task_handle, state=TaskState.ACTIVE, reason=reason)

    def _stop(self) -> None:
        os.makedirs(os.path.dirname(self._call.stop_file), exist_ok=True)
        with open(self._call.stop_file, "wb"):
            pass

    def _give_up(self, reason: str) -> None:
        self._given_up = reason
        self._stop()

    def _settle(self, app_future: AppFuture) -> None:
        """End as Parsl's own future has ended."""
        self._forget()
        with suppress(FileNotFoundError):
            os.remove(self._call.stop_file)
        error = app_future.exception()
        if error is None:
            self._end(app_future.result(), None)
            return
        if self._given_up and isinstance(error, TaskCanceledError):
            error = TaskCanceledError(f"{self._what} was given up: {self._given_up}.", status=error.status)
        self._end(error.status if isinstance(error, TaskError) else None, error)

    def _end(self, status: TaskStatus | None, error: BaseException | None) -> None:
        with self._ending:
            if self.done():
                return
            state = TaskState.CANCELED if isinstance(error, TaskCanceledError) else TaskState.FAILED
            self._status = status or TaskStatus(handle=self.task_handle, state=state, reason=str(error or ""))
            if error is None:
                self.set_result(self._status.state is TaskState.SUCCEEDED)
            else:
                self.set_exception(error)
