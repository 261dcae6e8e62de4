"""What starts the worker processes of one node: Parsl's own program, with a queue that survives its readers.

Parsl hands tasks to the workers of a node by a queue of `multiprocessing`. Whoever waits at such a queue holds its
lock, and a process that is killed keeps it for ever: after the death of an idle worker no other one of the node gets a
task, and whoever waits for one hangs. And what is put into such a queue is written by a thread somewhat later: the
result of a worker that is killed in between is lost (docs/decisions/dead-workers.md).

Imported by every worker, before there is a task: nothing here loads Parsl.
"""

from __future__ import annotations

import os
import runpy
import time
from multiprocessing import queues
from multiprocessing.reduction import ForkingPickler as _ForkingPickler
from queue import Empty
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from multiprocessing.synchronize import Lock, Semaphore

__all__ = ["SafeQueue", "main"]

#: Seconds that a reader waits for another one to be done with what it takes.
_TURN = 1.0


class SafeQueue(queues.Queue):  # type: ignore[type-arg]
    """A queue whose readers wait without its lock, and which has what a worker puts into it when `put` returns."""

    _opid: int
    _reader: Connection
    _writer: Connection
    _rlock: Lock
    _wlock: Lock
    _sem: Semaphore

    def get(self, block: bool = True, timeout: float | None = None) -> Any:  # noqa: FBT001, FBT002 - Python's own
        """Take the next; as ``multiprocessing.Queue.get``."""
        end = float("inf") if block and timeout is None else time.monotonic() + (timeout or 0.0)
        while self._reader.poll(None if end == float("inf") else max(0.0, end - time.monotonic())):
            content = self._taken()
            if content:
                return _ForkingPickler.loads(content)
            # A reader that was killed has taken the lock along: whoever waits is to see whether he is still wanted.
            if time.monotonic() >= end:
                break
        raise Empty

    def _taken(self) -> bytes:
        """Return the next message; empty if another reader has taken it, or holds the lock."""
        if not self._rlock.acquire(timeout=_TURN):
            return b""
        try:
            content = self._reader.recv_bytes() if self._reader.poll() else b""
        finally:
            self._rlock.release()
        if content:
            self._sem.release()
        return content

    def put(self, obj: Any, block: bool = True, timeout: float | None = None) -> None:  # noqa: FBT001, FBT002 - as above
        """Put something in; as ``multiprocessing.Queue.put``."""
        if os.getpid() == self._opid:
            # Whoever hands out tasks is not to wait until a worker has taken a large one.
            super().put(obj, block, timeout)
            return
        content = _ForkingPickler.dumps(obj)
        self._sem.acquire()
        with self._wlock:
            self._writer.send_bytes(content)


def main() -> None:
    """Run Parsl's program, which makes its queues of the class that `multiprocessing` has."""
    queues.Queue = SafeQueue  # type: ignore[misc]
    runpy.run_module("parsl.executors.high_throughput.process_worker_pool", run_name="__main__", alter_sys=True)
