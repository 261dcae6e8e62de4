"""One SFTP connection, used by many threads at once.

Requests are sent in bursts: requests that do not depend on each other are all sent before the first reply is awaited,
so that a burst takes one round trip. One of the waiting threads, not a separate one, reads for all, and
hands over to the next when it has its replies. So a single thread never waits for another.
"""

from __future__ import annotations

import itertools
import os
import select
import struct
import threading
import time
import weakref
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING

from chiltepin.backends import forks
from chiltepin.backends.filesystem.errors import ConnectionLostError, Fault
from chiltepin.backends.filesystem.stores.sftp.messages import (
    DATA,
    HANDLE,
    MessageType,
    Request,
    extensions,
    pack_string,
    pack_uint32,
)
from chiltepin.backends.filesystem.stores.sftp.pipes import end_process, last_words, open_pipes, wait_ready

if TYPE_CHECKING:
    from chiltepin.backends.filesystem.stores.sftp.openssh import OpenSSH

__all__ = ["MAX_IN_FLIGHT", "Connection"]

#: Most bursts in flight on one connection; further ones wait. With 16 of 800 KB, an OpenSSH server took three times as
#: long for all of them as with 4 (docs/decisions/sftp-client.md).
MAX_IN_FLIGHT = 4

#: Most bytes of a reply, as in OpenSSH (sftp-common.h).
_LARGEST = 256 * 1024 + 1024

#: Bytes of data in one message that every server has to accept (draft-ietf-secsh-filexfer-02, 3).
_SAFE = 32768

#: Seconds within which a sender notices that ssh was killed.
_SEEING = 5.0

#: Buffers that `writev` takes at once, on Linux and elsewhere (POSIX: at least 16).
_VECTOR = min(os.sysconf("SC_IOV_MAX"), 1024) if "SC_IOV_MAX" in os.sysconf_names else 16


class _Burst:
    __slots__ = ("bell", "left")

    def __init__(self, count: int) -> None:
        self.left = count
        # Held until the replies have arrived, or until it is this thread's turn to read.
        self.bell = threading.Lock()
        self.bell.acquire()


class Connection:
    """A connection to an SFTP server, through a process of OpenSSH.

    A server that cannot be reached, or rejects the login, raises `ConnectionLostError` or `Fault`.
    """

    def __init__(self, login: OpenSSH) -> None:
        self._login = login
        self._process, self._errors = login.start()
        self._input, self._output = open_pipes(self._process, login.response_timeout)
        self._end = weakref.finalize(self, end_process, self._process, self._output, self._errors)
        forks.register(self._leave)
        self._ids = itertools.count(1)
        self._pending: dict[int, tuple[Request, _Burst]] = {}
        self._sending, self._lock = threading.Lock(), threading.Lock()
        self._waiting: list[_Burst] = []
        # Handles to close when a request can be sent.
        self._left: deque[bytes] = deque()
        self._led = False
        #: Why the connection was lost.
        self._loss = self._told(ConnectionAbortedError())
        self._turns = threading.Semaphore(MAX_IN_FLIGHT)
        #: Seconds of the shortest burst so far: about the round-trip time.
        self.delay = float("inf")
        #: Whether the connection is unusable.
        self.broken = False
        #: Bursts in flight.
        self.load = 0
        #: Files and listings that are open on the server.
        self.handles = 0
        self.extensions = self._greet()
        self.reads, self.writes = self._limits()
        #: Whether a read returns less than requested only at the end of the file: the server has named its limit.
        self.full_reads = self.reads > _SAFE
        #: Whether an open file can be truncated; None if not tried yet.
        self.cuts: bool | None = None
        #: Whether the server processes the requests for one file in order, and lets a file be read while it is written.
        #: The draft of the protocol requires the first (draft-ietf-secsh-filexfer-02, 6.1), but servers over object
        #: stores can do neither. Servers that can do both have an extension for open files.
        self.orderly = "fsync@openssh.com" in self.extensions

    def _leave(self) -> None:
        """Leave the connection to the parent, in a process made by ``fork``."""
        self.broken = True
        self._end.detach()
        forks.leave(self)

    def _greet(self) -> dict[str, bytes]:
        """Agree on version 3."""
        try:
            # If ssh has already exited, its output may say why.
            with suppress(BrokenPipeError):
                self._write([struct.pack(">IBI", 5, MessageType.INIT, 3)])
            head = self._output.read(4)
            size = int.from_bytes(head, "big")
            answer = self._read(size) if 5 <= size <= _LARGEST and len(head) == 4 else head  # noqa: PLR2004 - two numbers
        except OSError:
            answer = b""
        if answer[:5] != struct.pack(">BI", MessageType.VERSION, 3):
            self.broken = True
            # Text that a shell printed; after four bytes or fewer, more may have arrived. The size of a reply begins
            # with 0, and fewer bytes than a size were cut off.
            words = answer if answer[:1] not in (b"\0", bytes([MessageType.VERSION])) else b""
            with suppress(OSError):
                words += self._output.peek() if words else b""
            said = "" if words else last_words(self._process, self._errors)
            self._end()
            if len(answer) > 4 and not words:  # noqa: PLR2004 - the size of a reply
                version = int.from_bytes(answer[1:5], "big")
                raise Fault(
                    "ENDPOINT_ERROR", f"{self._login.host} uses version {version} of SFTP; version 3 is needed."
                )
            raise self._login.failure(said, words)
        return extensions(answer[5:])

    def _limits(self) -> tuple[int, int]:
        if "limits@openssh.com" not in self.extensions:
            return _SAFE, _SAFE
        (request,) = self.ask(Request(MessageType.EXTENDED, pack_string("limits@openssh.com")))
        if request.status is not None or len(request.body) < 32:  # noqa: PLR2004 - four numbers of 64 bits
            return _SAFE, _SAFE
        _, reads, writes, _ = struct.unpack_from(">QQQQ", request.body)
        # 0 means no limit; OpenSSH's own limits then serve.
        largest = _LARGEST - 2048
        return min(reads or largest, largest), min(writes or largest, largest)

    def ask(self, *requests: Request) -> tuple[Request, ...]:
        """Send all requests, and return them with their replies; a ConnectionLostError if a reply is missing."""
        burst = _Burst(len(requests))
        with self._lock:
            self.load += 1
        try:
            with self._turns:
                began = time.monotonic()
                self._send(requests, burst)
                self._await(burst)
                self.delay = min(self.delay, time.monotonic() - began)
        finally:
            with self._lock:
                self.load -= 1
        return requests

    def _send(self, requests: tuple[Request, ...], burst: _Burst) -> None:
        with self._sending:
            if self.broken:
                raise self.lost()
            buffers: list[bytes | memoryview] = []
            for request in requests:
                request_id = next(self._ids) & 0xFFFFFFFF
                self._pending[request_id] = (request, burst)
                buffers.append(request.packet(request_id))
                if len(request.tail):
                    buffers.append(request.tail)
            try:
                self._write(buffers)
            except OSError as err:
                self._break(err)
                raise self.lost() from None
        self._close_left()

    def _write(self, buffers: list[bytes | memoryview]) -> None:
        left, at = [memoryview(buffer) for buffer in buffers], 0
        while at < len(left):
            try:
                count = os.writev(self._input, left[at : at + _VECTOR])
            except BlockingIOError:
                wait_ready(self._input, select.POLLOUT, self._login.response_timeout)
                continue
            while at < len(left) and count >= len(left[at]):
                count -= len(left[at])
                at += 1
            if count:
                left[at] = left[at][count:]

    def _await(self, burst: _Burst) -> None:
        with self._lock:
            if not burst.left:
                return
            turn = not self._led
            self._led = True
            if not turn:
                self._waiting.append(burst)
        if not turn:
            burst.bell.acquire()
            if not burst.left:
                return
        try:
            while burst.left and not self.broken:
                self._receive()
        except (OSError, ValueError, KeyError, struct.error) as err:
            self._break(err)
        finally:
            self._hand_over()
        if burst.left:
            raise self.lost()

    def _receive(self) -> None:
        size, kind, request_id = struct.unpack(">IBI", self._read(9))
        request, burst = self._pending.pop(request_id)
        if not 5 <= size <= _LARGEST:  # noqa: PLR2004 - a kind and a number
            raise ValueError(size)
        if kind == DATA and request.into is not None:
            request.body = self._read(4)
            (count,) = struct.unpack(">I", request.body)
            if count > len(request.into) or count + 9 > size:
                raise ValueError(count)
            if self._output.readinto(request.into[:count]) != count:
                raise ConnectionResetError
            # Later versions append a flag for the end of the file.
            self._read(size - 9 - count)
        else:
            request.body = self._read(size - 5)
            if kind == HANDLE:
                # Some servers append bytes, which must not be sent back with the handle.
                request.body = request.body[: 4 + int.from_bytes(request.body[:4], "big")]
        request.answer = kind
        self.handles += (kind == HANDLE) - (request.kind == MessageType.CLOSE)
        with self._lock:
            burst.left -= 1
            if not burst.left and burst in self._waiting:
                self._waiting.remove(burst)
                burst.bell.release()

    def _read(self, count: int) -> bytes:
        data = self._output.read(count)
        if len(data) < count:
            raise ConnectionResetError
        return data

    def _hand_over(self) -> None:
        """Let the next waiting thread read; if the connection was lost, wake all of them."""
        with self._lock:
            heirs = self._waiting if self.broken else self._waiting[:1]
            self._waiting = self._waiting[len(heirs) :]
            self._led = bool(heirs) and not self.broken
            for heir in heirs:
                heir.bell.release()

    def _break(self, error: Exception) -> None:
        """Give up the connection: kill ssh, which ends the reader."""
        if not self.broken:
            self._loss = self._told(error)
            self.broken = True
        with suppress(OSError):
            self._process.kill()

    def _told(self, error: Exception) -> tuple[str, str]:
        if isinstance(error, TimeoutError):
            silence = f"{self._login.response_timeout:g} s"
            return "TIMEOUT", f"{self._login.host} has not responded for {silence}; run the transfer again."
        if isinstance(error, (ConnectionResetError, BrokenPipeError)):
            said = last_words(self._process, self._errors)
        elif isinstance(error, ConnectionAbortedError):
            said = "it was closed"
        else:
            said = "a reply could not be parsed"
        return "CONNECTION_RESET", f"the connection to {self._login.host} was lost ({said}); run the transfer again."

    @property
    def alive(self) -> bool:
        """Whether a request can be sent; ssh may have exited while the connection was idle."""
        return not self.broken and self._process.poll() is None

    def lost(self) -> ConnectionLostError:
        """Give up the connection, and return the error that says why it was lost."""
        self._break(ConnectionResetError())
        return ConnectionLostError(*self._loss)

    def close(self) -> None:
        """Close the connection; requests in flight fail."""
        self._break(ConnectionAbortedError())
        # The sender notices at once; the lock keeps it from writing to a file that reuses the pipe's descriptor. The
        # wait has a limit, because Ctrl-C just before a `try` may have left the lock taken.
        taken = self._sending.acquire(timeout=_SEEING)
        try:
            self._end()
        finally:
            if taken:
                self._sending.release()

    def close_file(self, handle: bytes) -> None:
        """Close a file or a listing without waiting.

        The garbage collector calls this for an unfinished listing, in any thread. That thread may be sending, and would
        wait for itself. So a request that cannot be sent at once is sent after the next burst.
        """
        self._left.append(handle)
        self._close_left()

    def _close_left(self) -> None:
        while self._left and self._sending.acquire(blocking=False):
            try:
                if self.broken or not self._close_one():
                    return
            finally:
                self._sending.release()

    def _close_one(self) -> bool:
        """Send a request to close a handle; return whether to continue. The next reader drops the reply."""
        request, request_id = Request(MessageType.CLOSE, self._left[0]), next(self._ids) & 0xFFFFFFFF
        packet = request.packet(request_id)
        self._pending[request_id] = (request, _Burst(1))
        try:
            # Never written in part: a handle has at most 256 bytes (draft-ietf-secsh-filexfer-02, 7), and writes of up
            # to PIPE_BUF bytes are atomic (pipe(7)).
            if os.write(self._input, packet) < len(packet):
                raise ConnectionResetError
        except BlockingIOError:
            del self._pending[request_id]
            return False
        except OSError as err:
            self._break(err)
            return False
        self._left.popleft()
        return True


def reading(handle: bytes, offset: int, block: memoryview) -> Request:
    """Return the request that fills a block from ``offset``."""
    return Request(MessageType.READ, handle, struct.pack(">Q", offset), pack_uint32(len(block)), into=block)


def writing(handle: bytes, offset: int, block: memoryview) -> Request:
    """Return the request that writes a block at ``offset``."""
    return Request(MessageType.WRITE, handle, struct.pack(">Q", offset), pack_uint32(len(block)), tail=block)
