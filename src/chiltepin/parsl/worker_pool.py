"""Start the worker processes of one node: Parsl's program, with a queue that survives the death of its users.

Parsl sends tasks to the workers of a node, and receives their results, through `multiprocessing` queues. A process that
waits at such a queue holds its lock, and keeps it when it is killed: after the death of an idle worker no other worker
of the node gets a task. A task is lost if its worker dies after taking it from the queue and before recording that. A
thread writes a result slightly later; the result is lost if the worker dies in between. A result that arrives while the
program ends makes it, and its workers, hang (docs/decisions/dead-workers.md).
"""

from __future__ import annotations

import fcntl
import os
import runpy
import select
import signal
import socket
import struct
import sys
import tempfile
import threading
import time
from contextlib import suppress
from multiprocessing import connection, context, managers, queues
from multiprocessing.reduction import DupFd
from multiprocessing.reduction import ForkingPickler as _ForkingPickler
from queue import Empty, SimpleQueue
from typing import IO, TYPE_CHECKING, Any

from parsl import curvezmq

from chiltepin.parsl import child_processes

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["SafeQueue", "main"]

#: Largest message in bytes that is sent through the socket itself, in which Linux buffers 208 KiB. A larger message is
#: sent as an open file without a name.
_LARGE = 1 << 14

#: The first byte of a message, and the format of a file descriptor.
_HERE, _IN_FILE, _FILE = b"\0", b"\1", struct.Struct("i")


class _Task(dict[str, Any]):
    """A task that stays in its queue until it is read: Parsl's worker records a task before reading any of it."""

    def __init__(self, task: dict[str, Any], take: Callable[[], None]) -> None:
        super().__init__(task)
        self._remove = take

    def __getitem__(self, key: str) -> Any:
        self._remove()
        return super().__getitem__(key)

    def __reduce__(self) -> tuple[type[dict[str, Any]], tuple[dict[str, Any]]]:
        return dict, (dict(self),)


class SafeQueue:
    """A queue whose readers and writers may be killed at any time: a message reaches one reader completely, or none.

    Replaces ``multiprocessing.Queue``, with the methods that Parsl uses, for processes with one reading thread each.
    Both parameters are ignored.
    """

    def __init__(self, maxsize: int = 0, *, ctx: context.BaseContext) -> None:  # noqa: ARG002 - Python's own
        self._maker = os.getpid()
        self._reader, self._writer = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        # A POSIX lock of the file: the kernel releases it when its holder dies.
        self._lock_file: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as the queue
        self._reset()

    def _reset(self) -> None:
        self._holds_lock = False
        self._outbox = SimpleQueue["tuple[bytes, IO[bytes] | None] | None"]()
        self._thread: threading.Thread | None = None

    def __getstate__(self) -> tuple[int, socket.socket, socket.socket, Any]:
        context.assert_spawning(self)
        return self._maker, self._reader, self._writer, DupFd(self._lock_file.fileno())

    def __setstate__(self, state: tuple[int, socket.socket, socket.socket, Any]) -> None:
        self._maker, self._reader, self._writer, turn = state
        # This is a worker that receives the queue. It must end even if it ignores SIGTERM, or nothing sends SIGTERM.
        child_processes.end_with_parent(self._maker)
        self._lock_file = open(turn.detach(), "r+b")  # noqa: SIM115 - as above
        self._reset()

    def get(self, block: bool = True, timeout: float | None = None) -> Any:  # noqa: FBT001, FBT002 - Python's own
        """Return the next message; like ``multiprocessing.Queue.get``.

        A task, which is a `dict`, is removed from the queue when an item of it is read, or with the next message. If
        its reader dies before that, another reader receives it.
        """
        self._remove()
        end = float("inf") if block and timeout is None else time.monotonic() + (timeout or 0.0)
        arrival = select.poll()
        arrival.register(self._reader, select.POLLIN)
        while arrival.poll(None if end == float("inf") else max(0.0, end - time.monotonic()) * 1000):
            fcntl.lockf(self._lock_file, fcntl.LOCK_EX)
            self._holds_lock = True
            try:
                message = _ForkingPickler.loads(self._peek())
            except BlockingIOError:
                # Another reader was faster.
                self._unlock()
                continue
            if isinstance(message, dict):
                return _Task(message, self._remove)
            self._remove()
            return message
        raise Empty

    def _peek(self) -> bytes:
        # Not `socket.recv_fds`: it ignores its flags (Python 3.11).
        flags = socket.MSG_PEEK | socket.MSG_DONTWAIT
        content, more, *_ = self._reader.recvmsg(len(_HERE) + _LARGE, socket.CMSG_LEN(_FILE.size), flags)
        if content.startswith(_HERE):
            return content[len(_HERE) :]
        [number] = _FILE.unpack(more[0][-1])
        with open(number, "rb") as file:
            # A reader that has died may have read part of it.
            file.seek(0)
            return file.read()

    def _remove(self) -> None:
        """Remove the last returned message."""
        if self._holds_lock:
            self._reader.recv(1)
            self._unlock()

    def _unlock(self) -> None:
        self._holds_lock = False
        fcntl.lockf(self._lock_file, fcntl.LOCK_UN)

    def put(self, obj: object) -> None:
        """Add a message; in a worker it is in the queue on return."""
        content, file = bytes(_ForkingPickler.dumps(obj)), None
        if len(content) > _LARGE:
            file = tempfile.TemporaryFile()  # noqa: SIM115 - open until it is sent
            file.write(content)
            file.flush()
            content = b""
        if os.getpid() != self._maker:
            self._send(content, file)
            return
        # The thread that distributes tasks must not wait until a worker has taken one.
        self._outbox.put((content, file))
        if not self._thread:
            self._thread = threading.Thread(target=self._send_all, daemon=True)
            self._thread.start()

    def _send_all(self) -> None:
        while message := self._outbox.get():
            with suppress(BrokenPipeError):
                self._send(*message)

    def _send(self, content: bytes, file: IO[bytes] | None) -> None:
        if not file:
            self._writer.send(_HERE + content)
            return
        with file:
            socket.send_fds(self._writer, [_IN_FILE], [file.fileno()])

    def close(self) -> None:
        """Discard the messages that have not been read."""
        self._reader.shutdown(socket.SHUT_RDWR)
        self._outbox.put(None)
        if self._thread:
            self._thread.join()
        for part in (self._reader, self._writer, self._lock_file):
            part.close()

    def qsize(self) -> int:
        """Not supported; Parsl uses the size only in its log."""
        raise NotImplementedError


class _ClientContext(curvezmq.ClientContext):  # type: ignore[misc] # parsl has no types
    """The ZeroMQ context of Parsl's program: all sockets close together, so that no thread sends to a closed one."""

    def __init__(self, cert_dir: str | None) -> None:
        super().__init__(cert_dir)
        self._kept: list[object] = []

    def socket(self, socket_type: int, *args: Any, **kwargs: Any) -> Any:
        """Create a socket and keep it: Parsl drops one end of a pair while a thread may still send to it."""
        self._kept.append(super().socket(socket_type, *args, **kwargs))
        return self._kept[-1]

    def term(self) -> None:
        """Close the sockets and terminate; Parsl calls this when its threads have ended."""
        self.destroy(linger=0)


class _TaskManager(managers.SyncManager):
    """The process in which workers record their tasks; without it no worker gets a task, and no death is noticed."""

    def start(self, *args: Any, **kwargs: Any) -> None:
        """Start the process, and end this one with it, so that the node is declared lost and its tasks end."""
        super().start(*args, **kwargs)
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        connection.wait([self._process.sentinel])  # type: ignore[attr-defined]
        if threading.main_thread().is_alive():
            os.kill(os.getpid(), signal.SIGTERM)


def main() -> None:
    """Run Parsl's program with our queue, context and manager."""
    curvezmq.ClientContext = _ClientContext
    managers.SyncManager = _TaskManager  # type: ignore[misc]
    # On other systems sockets lack message boundaries or MSG_PEEK, and Parsl's own queue is used.
    if sys.platform == "linux":
        queues.Queue = SafeQueue  # type: ignore[assignment,misc]
    child_processes.end_with_workflow()
    try:
        runpy.run_module("parsl.executors.high_throughput.process_worker_pool", run_name="__main__", alter_sys=True)
    finally:
        child_processes.end_descendants(kept=child_processes.multiprocessing_children())
