"""Parsl's executors of worker processes, guarded against the death of any process.

Parsl's ``HighThroughputExecutor`` sends tasks to its workers through a separate process, the interchange. If that is
killed, its tasks never end, and Parsl hangs at the end of the workflow. If the workflow is killed, the interchange and
the workers keep running (docs/decisions/dead-workers.md).
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import pickle
import sys
import threading
import time
from concurrent.futures import InvalidStateError
from pathlib import Path
from typing import TYPE_CHECKING, Any

import zmq
from parsl.app.errors import RemoteExceptionWrapper
from parsl.executors import HighThroughputExecutor, MPIExecutor
from parsl.executors.errors import BadStateException
from parsl.executors.high_throughput.errors import CommandClientBadError, CommandClientTimeoutError
from parsl.jobs.errors import TooManyJobFailuresError
from parsl.providers import LocalProvider, SlurmProvider
from parsl.serialize import deserialize, serialize

from chiltepin.errors import AppFailedError
from chiltepin.parsl.child_processes import WORKFLOW_VARIABLE
from chiltepin.parsl.serialization import describe_failure, headline, unusable_because
from chiltepin.transfers import worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from concurrent.futures import Future

    from parsl.executors.base import ParslExecutor
    from parsl.executors.high_throughput.zmq_pipes import CommandClient

__all__ = ["GuardedHTEX", "GuardedMPIExecutor", "fail_dead", "guard_executors"]

logger = logging.getLogger(__name__)

INTERCHANGE = str(Path(__file__).parent / "interchange")

#: Parsl's program that starts the workers of a node, and ours (`chiltepin.parsl.worker_pool`), which the node's shell
#: prefers where chiltepin is installed.
PARSLS_WORKERS = "process_worker_pool.py"
WORKERS = f"$(command -v chiltepin-workers || echo {PARSLS_WORKERS})"

#: Seconds until a dead worker is noticed and replaced; with Parsl's default, its task would wait for 30 s.
HEARTBEAT = 5

#: Milliseconds between two checks that the interchange is alive while waiting for its reply.
_POLL_MS = 500


#: The task id with which the interchange reports that the whole executor has failed.
_WHOLE_EXECUTOR = -1

#: The priority of a message that withdraws a task: the interchange reads it before all tasks.
_FIRST = float("-inf")

#: Characters that an error quotes from the beginning, and from the end, of the output of failed jobs.
_EXCERPT = 200


class _CommandClient:
    """Parsl's command client, changed to stop waiting if the interchange is dead."""

    def __init__(self, line: CommandClient, dead: Callable[[], bool]) -> None:
        self._line, self._dead = line, dead
        self._lock = threading.Lock()
        self.port, self.close = line.port, line.close

    def run(self, message: Any, max_retries: int = 3, timeout_s: float | None = None) -> Any:
        """Send a command and return the reply; like ``CommandClient.run``."""
        del max_retries  # Parsl ignores it, too.
        polls = float("inf") if timeout_s is None else timeout_s * 1000 / _POLL_MS
        with self._lock:
            self._await(zmq.POLLOUT, polls)
            self._line.zmq_socket.send_pyobj(message)
            self._await(zmq.POLLIN, polls)
            return self._line.zmq_socket.recv_pyobj()

    def _await(self, event: int, polls: float) -> None:
        while not self._line.zmq_socket.poll(_POLL_MS, event):
            polls -= 1
            if self._dead():
                raise CommandClientBadError
            if polls <= 0:
                raise CommandClientTimeoutError("The interchange does not answer.")


def _excerpt(text: str) -> str:
    words = " ".join(text.split())
    return words if len(words) <= 2 * _EXCERPT else f"{words[:_EXCERPT]} ... {words[-_EXCERPT:]}"


class _TaskQueue:
    """Parsl's queue of tasks for an interchange; `put` does not wait for an interchange that has ended.

    Parsl's own queue blocks the only thread that launches tasks: no later task would start or end.
    """

    def __init__(self, executor: HighThroughputExecutor) -> None:
        self._executor, self._tasks = executor, executor.outgoing_q
        self.port, self.close = self._tasks.port, self._tasks.close
        # Any thread may withdraw a task; reentrant, for a signal handler.
        self._lock = threading.RLock()

    def put(self, message: dict[str, Any]) -> None:
        """Send a task; like ``TasksOutgoing.put``."""
        while True:
            try:
                with self._lock:
                    self._tasks.zmq_socket.send_pyobj(message, zmq.NOBLOCK)
            except zmq.Again:  # noqa: PERF203 - it comes rarely
                if _is_dead(self._executor):
                    raise _dead_interchange(self._executor) from None
                with self._lock:
                    self._tasks.zmq_socket.poll(_POLL_MS, zmq.POLLOUT)
            else:
                return


class _Results:
    """A replacement for Parsl's queue of results that hands each result to its task, and none to Parsl's thread.

    Parsl's thread ends at the first result that cannot be unpickled, and every later result is lost. It does not
    notice that the interchange is dead and that no more results can arrive.
    """

    def __init__(self, executor: HighThroughputExecutor) -> None:
        self._executor, self._results = executor, executor.incoming_q
        self.port, self.close = self._results.port, self._results.close
        self._next_check, self._seen_dead = 0.0, False

    def get(self, timeout_ms: int | None = None) -> None:
        """Wait for a result, and hand it to its task; called as ``ResultsIncoming.get``."""
        message = self._results.get(timeout_ms=timeout_ms)
        if message is not None:
            _receive(self._executor, pickle.loads(message))  # noqa: S301 - from the executor's own interchange
        elif time.monotonic() >= self._next_check:
            self._next_check = time.monotonic() + _POLL_MS / 1000
            if self._seen_dead:
                fail_dead([self._executor])
            # Acted on at the next check: results that were sent before the end are read first.
            self._seen_dead = _is_dead(self._executor)


def _receive(executor: HighThroughputExecutor, message: dict[str, Any]) -> None:
    failed = "exception" in message
    try:
        answer = deserialize(message["exception" if failed else "result"])
        if isinstance(answer, RemoteExceptionWrapper):
            answer, failed = answer.get_exception(), True
        if failed and (flaw := unusable_because(answer)):
            answer = AppFailedError(describe_failure("", answer, flaw))
    except BaseException as error:  # noqa: BLE001 - unpickling runs user code
        answer, failed = (
            AppFailedError(f"The result of a worker cannot be unpickled here ({headline(error)})."),
            True,
        )
    if message["task_id"] == _WHOLE_EXECUTOR:
        executor.set_bad_state_and_fail_all(answer)
        return
    future = executor.tasks.pop(message["task_id"], None)
    if future is not None:
        # The future may have failed with its executor.
        with contextlib.suppress(InvalidStateError):
            (future.set_exception if failed else future.set_result)(answer)


def _is_dead(executor: HighThroughputExecutor) -> bool:
    process = executor.interchange_proc
    return process is not None and process.poll() is not None


def _dead_interchange(executor: HighThroughputExecutor) -> BadStateException:
    status = executor.interchange_proc.poll()
    interchange = "the interchange, which distributes tasks to its workers,"
    return BadStateException(executor, f"{interchange} ended with status {status}; start the workflow again")


def fail_dead(executors: Iterable[ParslExecutor]) -> None:
    """Fail all present and later tasks of executors whose interchange has ended; Parsl would wait for its reply."""
    for executor in executors:
        if isinstance(executor, HighThroughputExecutor) and _is_dead(executor) and not executor.bad_state_is_set:
            if isinstance(executor, GuardedHTEX):
                # First, so that no worker still moves data after its task has ended.
                executor.stop_blocks()
            error = _dead_interchange(executor)
            logger.error("Executor %r has failed: %s", executor.label, error)
            _give_up(executor, error)


def _give_up(executor: HighThroughputExecutor, error: BadStateException) -> None:
    executor._executor_exception = error  # noqa: SLF001 - Parsl's own method leaves tasks pending
    executor._executor_bad_state.set()  # noqa: SLF001
    _fail_tasks(executor)


def _fail_tasks(executor: HighThroughputExecutor) -> None:
    # Parsl's own method fails if a task has just ended or begun, and leaves all other tasks pending.
    for future in list(executor.tasks.values()):
        with contextlib.suppress(InvalidStateError):
            future.set_exception(executor.executor_exception)


def guard_executors(executors: Iterable[ParslExecutor]) -> None:
    """Make started executors of worker processes survive every result and fail if their interchange ends.

    Other executors are not changed.
    """
    for executor in executors:
        if isinstance(executor, HighThroughputExecutor) and not isinstance(executor.incoming_q, _Results):
            executor.incoming_q = _Results(executor)
            executor.outgoing_q = _TaskQueue(executor)
            if not isinstance(executor.command_client, _CommandClient):
                executor.command_client = _CommandClient(executor.command_client, functools.partial(_is_dead, executor))


class GuardedHTEX(HighThroughputExecutor):  # type: ignore[misc] # parsl has no types
    """An executor of worker processes; its arguments are those of ``HighThroughputExecutor``."""

    command_client: Any
    launch_cmd: str

    def _start_local_interchange_process(self) -> None:
        # Not in __init__: the process may be forked before the executor starts.
        batch_system = ["slurm"] if isinstance(self.provider, SlurmProvider) else []
        self.interchange_launch_cmd = [sys.executable, INTERCHANGE, str(os.getpid()), *batch_system]
        workers = WORKERS
        if isinstance(self.provider, LocalProvider):
            workers = f"{WORKFLOW_VARIABLE}={os.getpid()} {WORKERS}"
        self.launch_cmd = self.launch_cmd.replace(PARSLS_WORKERS, workers, 1)
        self.command_client = _CommandClient(self.command_client, functools.partial(_is_dead, self))
        # Before the first result can arrive.
        guard_executors([self])
        super()._start_local_interchange_process()

    def poll_facade(self) -> None:
        """Poll the jobs, unless the interchange is dead; Parsl calls this at each tick of its strategy."""
        if self.bad_state_is_set:
            # Tasks that were being submitted when the executor failed.
            _fail_tasks(self)
        elif not _is_dead(self):
            super().poll_facade()

    def withdraw(self, future: Future[Any], error: Exception) -> None:
        """End a task with an error if no worker has received it; otherwise do nothing."""
        number = getattr(future, "parsl_executor_task_id", None)
        # The tasks of a dead interchange end with it.
        if number in self.tasks and not _is_dead(self):
            context = {"resource_spec": {"priority": _FIRST}}
            with contextlib.suppress(BadStateException):
                self.outgoing_q.put({"task_id": number, "context": context, "buffer": b"", "error": serialize(error)})

    def stop_blocks(self) -> None:
        """Stop all workers by canceling their jobs, without the interchange."""
        _, jobs = self._get_block_and_job_ids()
        try:
            self.provider.cancel(jobs)
        except Exception:
            # They end by themselves after two minutes without a message from the interchange.
            logger.exception("The workers of executor %r could not be stopped.", self.label)

    def set_bad_state_and_fail_all(self, exception: Exception) -> None:
        """Fail all tasks, now and in the future."""
        logger.error("Executor %r has failed: %s", self.label, exception)
        if isinstance(exception, TooManyJobFailuresError):
            # Its text is the complete output of the jobs, which is also in the log.
            exception = TooManyJobFailuresError(_excerpt(str(exception)))
        known = isinstance(exception, BadStateException)
        _give_up(self, exception if known else BadStateException(self, exception))

    def scale_in(self, blocks: int, max_idletime: float | None = None) -> list[str]:
        """Stop blocks of workers; as in Parsl, but also if the interchange is dead."""
        try:
            stopped: list[str] = super().scale_in(blocks, max_idletime)
        except CommandClientBadError:
            fail_dead([self])
            return []
        return stopped

    def shutdown(self, timeout: float = 10.0) -> None:
        """Shut down, and stop the workers of a failed executor, which Parsl leaves running."""
        if self.bad_state_is_set:
            self.stop_blocks()
        super().shutdown(timeout)


class GuardedMPIExecutor(GuardedHTEX, MPIExecutor):  # type: ignore[misc] # parsl has no types
    """An executor of MPI programs; its arguments are those of ``MPIExecutor``.

    A transfer or deletion without a resource specification gets one node of a job.
    """

    def submit(
        self, func: Callable[..., Any], resource_specification: dict[str, Any], *args: Any, **kwargs: Any
    ) -> Any:
        """Submit a task; like ``HighThroughputExecutor.submit``."""
        if not resource_specification and func.__module__ == worker.__name__:
            resource_specification = {"num_nodes": 1, "ranks_per_node": 1}
        return super().submit(func, resource_specification, *args, **kwargs)
