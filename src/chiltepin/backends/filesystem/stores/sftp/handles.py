"""Open and read files on an SFTP server."""

from __future__ import annotations

import stat
import threading
from typing import TYPE_CHECKING

from chiltepin.backends.filesystem.errors import Fault
from chiltepin.backends.filesystem.stores.sftp.connection import reading
from chiltepin.backends.filesystem.stores.sftp.messages import (
    NO_ATTRIBUTES,
    Attributes,
    MessageType,
    Request,
    pack_string,
    pack_uint32,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from chiltepin.backends.filesystem.stores.sftp.connection import Connection

__all__ = ["PART", "Handles", "TooManyOpenFault", "classified", "fetched", "has_data", "opened", "opening", "past_end"]

#: Status codes that a server may return for a folder that it does not list: no permission, not supported.
_UNCLEAR = (3, 8)

#: Bytes of a part: large enough that the round trip costs little, small enough for many at once.
PART = 4 << 20


def opening(path: str, flags: int) -> Request:
    """Return the request that opens a file."""
    return Request(MessageType.OPEN, pack_string(path), pack_uint32(flags), NO_ATTRIBUTES, about=path)


class TooManyOpenFault(Fault):
    """The server could not open a file while other files were open; a later try may succeed."""


def opened(connection: Connection, request: Request) -> bytes:
    """Return the handle of an opened file or listing."""
    if request.failed and connection.handles:
        # SFTP has no code for too many open files.
        reason = f"The server could not open {request.about}; it may limit the number of open files."
        raise TooManyOpenFault("ENDPOINT_ERROR", reason)
    return request.result()


def classified(connection: Connection, found: Sequence[tuple[str, Attributes]]) -> None:
    """Find out which entries are links, folders or files, if their attributes do not tell.

    The kind is added to the attributes. It stays unknown if a server does not support links.
    """
    of_unknown_kind = [(path, facts) for path, facts in found if facts.mode is None]
    if not of_unknown_kind:
        return
    links = [Request(MessageType.READLINK, pack_string(path)) for path, _ in of_unknown_kind]
    folders = [Request(MessageType.OPENDIR, pack_string(path)) for path, _ in of_unknown_kind]
    connection.ask(*links)
    for (_, facts), link, folder in zip(of_unknown_kind, links, folders, strict=True):
        if link.status is None:
            facts.mode = stat.S_IFLNK
        elif link.failed:
            connection.ask(folder)
            if folder.status is None:
                connection.close_file(folder.body)
                facts.mode = stat.S_IFDIR
            # If permission is denied, the kind stays unknown.
            elif folder.status not in _UNCLEAR:
                facts.mode = stat.S_IFREG


def past_end(handle: bytes, size: int) -> Request:
    """Return the request for the byte after the last; a server may report a smaller size than a file has."""
    return reading(handle, size, memoryview(bytearray(1)))


def has_data(request: Request) -> bool:
    """Whether the reply to a read has data; an error after the end of a file says no more than the end itself."""
    return request.status is None and request.count() > 0


def fetched(connection: Connection, handle: bytes, offset: int, block: memoryview) -> int:
    """Fill a block from ``offset``; return how many bytes were read, fewer only at the end of the file."""
    step = connection.reads
    starts = range(0, len(block), step)
    asked = connection.ask(*(reading(handle, offset + start, block[start : start + step]) for start in starts))
    for start, request in zip(starts, asked, strict=True):
        wanted, count = len(block[start : start + step]), request.count()
        # A server may return fewer bytes than requested, not only at the end (draft-ietf-secsh-filexfer-02, 6.4).
        while 0 < count < wanted:
            (again,) = connection.ask(reading(handle, offset + start + count, block[start + count : start + wanted]))
            if not (more := again.count()):
                break
            count += more
        if count < wanted:
            return start + count
    return len(block)


class Handles:
    """One file of the server, opened with ``flags`` on each connection in use; ``choose`` returns the next one."""

    def __init__(self, choose: Callable[[], Connection], path: str, flags: int) -> None:
        self._choose, self._path, self._flags = choose, path, flags
        self._lock = threading.Lock()
        self._open: dict[Connection, bytes] = {}
        self.first: Connection | None = None

    def add(self, connection: Connection, handle: bytes) -> None:
        """Add a handle that was opened elsewhere."""
        self.first = self.first or connection
        self._open[connection] = handle

    def any(self) -> tuple[Connection, bytes]:
        """Return the least busy connection, and the handle of the file on it."""
        connection = self._choose()
        with self._lock:
            handle = self._open.get(connection)
            if handle is None:
                if self.first is not None and not self.first.alive:
                    # The path may name another file by now, so the whole file has to be retried.
                    raise self.first.lost()
                (request,) = connection.ask(opening(self._path, self._flags))
                handle = opened(connection, request)
                self.add(connection, handle)
        return connection, handle

    def one(self) -> tuple[Connection, bytes]:
        """Return the first connection, and the handle of the file on it."""
        if self.first is None:
            return self.any()
        return self.first, self._open[self.first]

    def closing(self) -> None:
        """Close all handles without waiting."""
        with self._lock:
            for connection, handle in self._open.items():
                connection.close_file(handle)
            self._open.clear()
