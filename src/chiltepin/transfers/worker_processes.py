"""Run the shards of a request in several processes of this machine, without Parsl.

Python runs one thread of a process at a time, so with small files one process uses only one processor. The calling
process is one of the workers: it moves files while the other processes start. Each of these reads the setup and then
one shard after another from its standard input. It stops when that is closed, so it ends with the process that started
it.
"""

from __future__ import annotations

import json
import os
import pickle
import select
import socket
import subprocess
import sys
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from chiltepin.errors import TaskLostError
from chiltepin.model import TaskHandle
from chiltepin.transfers import policy
from chiltepin.transfers.journal.unfinished import UnfinishedRecord
from chiltepin.transfers.outcomes import describe
from chiltepin.transfers.runner import moved_here, open_transfers, result_unless
from chiltepin.transfers.shards import ShardedTask

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from chiltepin.model import Request, TaskStatus
    from chiltepin.protocol import Shard, ShardOutcome

__all__ = ["run", "serve", "start_task"]

#: The program of a worker process, which imports from the same paths as this process.
_PROGRAM = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from chiltepin.transfers.worker_processes import serve; serve()"
)


def start_task(
    setup: str, request: Request, *, workers: int, timeout: float, polling_interval: float, raises: bool
) -> ShardedTask:
    """Start a request on several processes, including this one; see `ShardedTask` for the other parameters."""
    transfers = open_transfers(setup)
    submission_id = str(uuid.uuid4())
    processes = _Processes(setup, workers, polling_interval)
    task = ShardedTask(
        request,
        TaskHandle.at_worker(transfers.backend.name, submission_id),
        workers=workers,
        timeout=timeout,
        start=processes.start,
        task_log=transfers.task_log(submission_id, request),
        unfinished=UnfinishedRecord(setup, request),
        raises=raises,
    )
    task.future.add_done_callback(lambda _: processes.close())
    if request.recursive:
        processes.start_ahead()
    return task.begin()


def run(
    setup: str,
    request: Request,
    *,
    workers: int,
    timeout: float,
    polling_interval: float,
    interrupted: Callable[[], bool] = lambda: False,
) -> TaskStatus:
    """Like `start_task`, but wait for the end; an interrupt stops the request, or ``interrupted`` if it is True."""
    task = start_task(setup, request, workers=workers, timeout=timeout, polling_interval=polling_interval, raises=True)
    stopped = threading.Event()
    try:
        with moved_here(request, lambda: stopped.is_set() or interrupted()):
            return result_unless(interrupted, task.future, request)
    finally:
        stopped.set()
        task.stop()


class _Processes:
    """The calling process and other processes, each started when no process is idle for a shard."""

    def __init__(self, setup: str, workers: int, polling_interval: float) -> None:
        self._setup, self._polling_interval = setup, polling_interval
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="chiltepin-worker")
        self._lock = threading.Lock()
        self._idle: list[_Process] = []
        self._busy_here = self._lost = self._closed = False

    def start_ahead(self) -> None:
        """Start the first process before there is a shard for it.

        At this point it takes 0.5 ms. Beside a busy thread it takes up to 100 ms, because each of its steps waits for
        Python's global interpreter lock.
        """
        # If it cannot be started now, a shard that needs it tries again.
        with suppress(OSError):
            self._idle.append(_Process(self._setup))

    def start(self, request: Request, shard: Shard, seconds: float) -> _Running:
        """Start a shard; see `ShardedTask`."""
        options = {
            "timeout": seconds,
            "polling_interval": self._polling_interval,
            "submission_id": str(uuid.uuid4()),
        }
        running = _Running()
        with self._lock:
            # If a worker process was lost, the same cause could also kill this process.
            here = not self._busy_here and not self._lost
            self._busy_here = self._busy_here or here
        operation = self._here if here else self._elsewhere
        running.future = self._threads.submit(operation, running, request, shard, options)
        return running

    def _here(self, running: _Running, request: Request, shard: Shard, options: dict[str, Any]) -> ShardOutcome:
        try:
            return open_transfers(self._setup).run_shard(request, shard, stopped=running.stopped.is_set, **options)
        finally:
            with self._lock:
                self._busy_here = False

    def _elsewhere(self, running: _Running, request: Request, shard: Shard, options: dict[str, Any]) -> ShardOutcome:
        with self._lock:
            process = self._idle.pop() if self._idle else None
        process = process or _Process(self._setup)
        running.use(process)
        try:
            outcome = process.run(request, shard, options)
        finally:
            stopped = not running.leave()
            with self._lock:
                self._lost = self._lost or not (stopped or process.alive)
                if not stopped and not self._closed and process.alive:
                    self._idle.append(process)
                    process = None
            if process is not None:
                process.end()
        return outcome

    def close(self) -> None:
        """End the idle processes now, and each busy process when its shard has ended."""
        with self._lock:
            self._closed, idle = True, self._idle
        self._threads.shutdown(wait=False)
        for process in idle:
            # An unused process has nothing to finish, and may still be loading.
            (process.stop if process.used else process.kill)()
        for process in idle:
            process.end()


class _Running:
    """A shard on a process; see `RunningShard`."""

    future: Future[ShardOutcome]

    def __init__(self) -> None:
        self.stopped = threading.Event()
        self._process: _Process | None = None
        self._lock = threading.RLock()

    def use(self, process: _Process) -> None:
        """Run on a process; stop the process if the shard was already stopped."""
        with self._lock:
            self._process = process
            if self.stopped.is_set():
                process.stop()

    def leave(self) -> bool:
        """Leave the process; return whether it can be used for another shard."""
        with self._lock:
            self._process = None
            return not self.stopped.is_set()

    def status(self) -> TaskStatus | None:
        """Return None: a shard takes about a second, and is reported at its end."""
        return None

    def stop(self) -> None:
        """Request that the shard and its process stop."""
        with self._lock:
            self.stopped.set()
            if self._process is not None:
                self._process.stop()

    def give_up(self) -> None:
        """Kill the process."""
        with self._lock:
            self.stopped.set()
            if self._process is not None:
                self._process.kill()


class _Process:
    """One worker process, which opens a setup at once; ``used`` tells whether it was given a shard."""

    def __init__(self, setup: str) -> None:
        self.used = False
        # A socket, unlike a pipe, can be shut down while another thread may be writing to it.
        self._to, theirs = socket.socketpair()
        with theirs:
            # In a separate session, so that Ctrl-C reaches only the process that waits for this one.
            self._popen: subprocess.Popen[bytes] = subprocess.Popen(  # noqa: S603 - our own program
                [sys.executable, "-c", _PROGRAM, json.dumps([path for path in sys.path if isinstance(path, str)])],
                stdin=theirs.fileno(),
                stdout=subprocess.PIPE,
                start_new_session=True,
            )
        with suppress(OSError):
            self._to.sendall(pickle.dumps(setup))

    @property
    def alive(self) -> bool:
        """Whether it can run another shard."""
        return self._popen.poll() is None

    def run(self, request: Request, shard: Shard, options: dict[str, Any]) -> ShardOutcome:
        """Run a shard, and wait for it."""
        self.used = True
        try:
            self._to.sendall(pickle.dumps((request, shard, options)))
            back = cast("BinaryIO", self._popen.stdout)
            return cast("ShardOutcome", pickle.load(back))  # noqa: S301 - from our own process
        except (EOFError, OSError, pickle.UnpicklingError):
            code = self.end()
        raise TaskLostError(
            f"{describe(request)} was lost with a process that transferred a part of it (exit code {code}); run it "
            "again."
        )

    def stop(self) -> None:
        """Request that it stop its shard and end; do not wait."""
        with suppress(OSError):
            self._to.shutdown(socket.SHUT_WR)

    def kill(self) -> None:
        """End it now."""
        self._popen.kill()

    def end(self) -> int:
        """Wait for its end, and return its exit code; kill it if it does not end in time."""
        self.stop()
        try:
            code = self._popen.wait(timeout=policy.wait_times.STOP_GRACE)
        except subprocess.TimeoutExpired:
            self.kill()
            code = self._popen.wait()
        cast("BinaryIO", self._popen.stdout).close()
        self._to.close()
        return code


def serve() -> None:
    """Run a worker process: read the setup and then shards from standard input, until that is closed."""
    answers = os.fdopen(os.dup(1), "wb")
    # The output of a store must not mix with the responses.
    os.dup2(2, 1)

    def stopped() -> bool:
        # The next shard comes after the response; until then, only a closed input is readable.
        return bool(select.select([0], [], [], 0)[0])

    def received() -> Any:
        try:
            return pickle.load(sys.stdin.buffer)  # noqa: S301 - from our own process
        except EOFError:
            sys.exit()

    transfers = open_transfers(received())
    while True:
        request, shard, options = received()
        outcome = transfers.run_shard(request, shard, stopped=stopped, **options)
        try:
            pickle.dump(outcome, answers)
            answers.flush()
        except BrokenPipeError:
            os._exit(1)
