"""One task at work: its progress, its failures, and when it has to stop."""

from __future__ import annotations

import threading
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from chiltepin.backends.filesystem.faults import HOPELESS, Fault, fault_of
from chiltepin.model import TaskHandle, TaskState, TaskStatus

if TYPE_CHECKING:
    from collections.abc import Callable

    from chiltepin.model import Request

__all__ = ["Stopped", "Work"]


class Stopped(BaseException):
    """The task has to end now, done or not. It is no ``Exception``, so that nothing on the way holds it up."""


class Work:
    """The state of one task, written by the thread that does it and read by `poll`.

    Parameters
    ----------
    request : TransferRequest or DeleteRequest
        What is asked for.
    handle : TaskHandle
        The task.
    """

    def __init__(self, request: Request, handle: TaskHandle) -> None:
        self.request, self.handle = request, handle
        self.bytes_done = self.files_done = self.files_skipped = self.faults = 0
        self._state, self._first_fault = TaskState.ACTIVE, Fault("", "")
        self._cancelled = False
        #: Set when the outcome is known.
        self.ended = threading.Event()

    def cancel(self) -> None:
        """Ask the thread to stop at its next block or file."""
        self._cancelled = True

    def check(self) -> None:
        """Raise `Stopped` if the task has to stop; to be called at least once for each block and each entry."""
        if self._cancelled or self._expired():
            raise Stopped

    def _expired(self) -> bool:
        return self.request.deadline is not None and datetime.now(timezone.utc) >= self.request.deadline

    def fail(self, error: Exception, what: str) -> None:
        """Take note of a file or folder that failed; the caller goes on with the next.

        Raises
        ------
        Stopped
            If the next cannot fare better, because the disk is full for instance.
        """
        fault = fault_of(error, what)
        self.faults += 1
        if not self._first_fault.code:
            self._first_fault = fault
        if fault.code in HOPELESS:
            raise Stopped

    def perform(self, deed: Callable[[Work], None]) -> None:
        """Do the work and keep its outcome, whatever it is."""
        state = TaskState.FAILED
        try:
            deed(self)
            state = TaskState.FAILED if self.faults else TaskState.SUCCEEDED
        except Stopped:
            if self._cancelled or self._expired():
                state = TaskState.CANCELED if self._cancelled else TaskState.EXPIRED
                self._first_fault = Fault(state.name, f"The task was {state.value} before it was done.")
        except Exception as err:  # noqa: BLE001 - every failure after submit is a state (protocol.py)
            self.faults += 1
            self._first_fault = fault_of(err, "The task could not go on")
        finally:
            self._state = state
            self.ended.set()

    @property
    def status(self) -> TaskStatus:
        """What is known now."""
        state, fault = self._state, self._first_fault
        more = f" {self.faults - 1} more failed." if self.faults > 1 else ""
        return TaskStatus(
            handle=self.handle,
            state=state,
            code=fault.code,
            reason=fault.reason + more if fault.reason else "",
            bytes_done=self.bytes_done,
            files_done=self.files_done,
            files_skipped=self.files_skipped,
            faults=self.faults,
        )
