"""Running requests on a backend: submit, wait, stop in time, and tell how it ended.

This floor knows neither Parsl nor any SDK. A script, the command line and a Parsl worker all come through here.
"""

from __future__ import annotations

import json
import threading
import time
from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast

from chiltepin import registry
from chiltepin.errors import (
    TaskCanceledError,
    TaskError,
    TaskExpiredError,
    TaskFailedError,
    TaskLostError,
    TaskTimeoutError,
)
from chiltepin.model import DeleteRequest, TaskState

if TYPE_CHECKING:
    from collections.abc import Callable

    from chiltepin.model import DirEntry, Request, TaskHandle, TaskStatus
    from chiltepin.protocol import TransferBackend, WorkerBackend

__all__ = ["Transfers", "describe", "error_of", "opened"]

#: Seconds before the first look at a task of a service; none of them ends sooner.
SERVICE_LOOK = 1.0

#: Seconds between two looks at a task of this process. Its end is told at once; a look is for a cancellation that comes
#: from another process, and costs nothing.
WORKER_LOOK = 0.25

#: The next look comes after this share of the time that has gone by: an end is noticed at most a tenth late.
LOOK_SHARE = 0.1

#: Seconds that a task which was told to stop has for stopping, before it is left to itself.
STOP_GRACE = 10.0

_ERRORS: dict[TaskState, tuple[type[TaskError], str]] = {
    TaskState.FAILED: (TaskFailedError, "failed"),
    TaskState.CANCELED: (TaskCanceledError, "was canceled"),
    TaskState.EXPIRED: (TaskExpiredError, "expired"),
    TaskState.LOST: (TaskLostError, "was lost"),
}


def describe(request: Request) -> str:
    """Return the request as the start of a sentence for people."""
    if isinstance(request, DeleteRequest):
        return f"Deletion of {', '.join(request.paths)} on {request.endpoint!r}"
    pairs = ", ".join(f"{item.source} to {item.destination}" for item in request.items)
    return f"Transfer from {request.source!r} to {request.destination!r} of {pairs}"


def error_of(status: TaskStatus, request: Request) -> TaskError | None:
    """Return the error that a final status stands for, None for success."""
    if status.state is TaskState.SUCCEEDED:
        return None
    kind, became = _ERRORS[status.state]
    return kind(f"{describe(request)} {became} ({status.code}): {status.reason}", status=status)


class Transfers:
    """Runs requests on one backend; any number of threads may do so at once.

    Parameters
    ----------
    backend : TransferBackend
        Who moves the bytes.
    clock : module or object
        Has ``monotonic()`` and ``sleep(seconds)``; tests give one that is moved by hand.
    """

    def __init__(self, backend: TransferBackend, *, clock: Any = time) -> None:
        self.backend = backend
        self._clock = clock

    def run(
        self,
        request: Request,
        *,
        timeout: float,
        polling_interval: float,
        submission_id: str | None = None,
        stopped: Callable[[], bool] = lambda: False,
    ) -> TaskStatus:
        """Submit a request and wait for its end.

        Parameters
        ----------
        request : TransferRequest or DeleteRequest
            What is wanted.
        timeout : float
            Seconds from now after which the task is cancelled.
        polling_interval : float
            Longest time between two looks at the task, in seconds; the first looks come sooner.
        submission_id : str or None
            Makes a repetition of this call find the task of the first; None makes a new one.
        stopped : callable
            Asked at every look; True cancels the task.

        Returns
        -------
        TaskStatus
            The final status, whatever it is; see `error_of`.

        Raises
        ------
        TaskTimeoutError
            If the task had not ended in time; it has been told to stop.
        TaskCanceledError
            If it was told to stop by ``stopped`` and has not done so within ten seconds.
        EndpointError, BackendError
            If no task could be made.
        """
        start = self._clock.monotonic()
        handle = self.backend.submit(request, submission_id or self.backend.new_submission_id())
        try:
            status = self._follow(handle, start, timeout, polling_interval, stopped)
        except BaseException:
            # An interrupted wait (Ctrl-C, say) leaves no task behind.
            self.backend.cancel(handle)
            raise
        if status.state.final:
            return status
        return self._stop(handle, request, None if stopped() else timeout)

    def _follow(
        self, handle: TaskHandle, start: float, timeout: float, longest: float, stopped: Callable[[], bool]
    ) -> TaskStatus:
        """Look at the task until it has ended, its time is up or somebody wants it stopped."""
        while True:
            elapsed = self._clock.monotonic() - start
            if self.backend.capabilities.runs_on == "worker":
                pause = min(WORKER_LOOK, longest, timeout - elapsed)
                cast("WorkerBackend", self.backend).wait(handle, max(0.0, pause))
            else:
                pause = min(max(SERVICE_LOOK, elapsed * LOOK_SHARE), longest, timeout - elapsed)
                self._clock.sleep(max(0.0, pause))
            status = self._look(handle)
            if status.state.final or stopped() or self._clock.monotonic() - start >= timeout:
                return status

    def _look(self, handle: TaskHandle) -> TaskStatus:
        return self.backend.poll([handle])[0]

    def _stop(self, handle: TaskHandle, request: Request, timeout: float | None) -> TaskStatus:
        """Cancel the task and wait for its end; ``timeout`` is the time that was up, None for a wish to stop."""
        self.backend.cancel(handle)
        status = self._follow(handle, self._clock.monotonic(), STOP_GRACE, 1.0, lambda: False)
        if timeout is None:
            if status.state.final:
                return status
            raise TaskCanceledError(f"{describe(request)} was told to stop and has not stopped yet.", status=status)
        if status.state is TaskState.SUCCEEDED:
            return status
        raise TaskTimeoutError(
            f"{describe(request)} was not done within {timeout:g} seconds and was stopped; give a longer timeout=.",
            status=status,
        )

    def cancel(self, handle: TaskHandle) -> None:
        """Ask that a task stop; see `TransferBackend.cancel`."""
        self.backend.cancel(handle)

    def ls(self, endpoint: str, path: str) -> list[DirEntry]:
        """List a folder of an endpoint; see `TransferBackend.ls`."""
        return self.backend.ls(endpoint, path)

    def close(self) -> None:
        """Let go of what the backend holds."""
        self.backend.close()


_opening = threading.Lock()


def opened(setup: str) -> Transfers:
    """Return the `Transfers` of a setup, the same one for the same setup, so that a process opens a store once.

    Parameters
    ----------
    setup : str
        JSON with the name of the ``backend``, its ``endpoints`` and its ``options``: `DataSettings.setup`.
    """
    # lru_cache alone would open twice when two threads come at once, and then know half of the tasks in each.
    with _opening:
        return _opened(setup)


@lru_cache(maxsize=64)
def _opened(setup: str) -> Transfers:
    plain = json.loads(setup)
    return Transfers(registry.load(plain["backend"]).from_config(plain["endpoints"], plain["options"]))
