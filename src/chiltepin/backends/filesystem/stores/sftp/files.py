"""Files on an SFTP server: how they are opened, read, and given their names."""

from __future__ import annotations

import errno
import os
import stat
import threading
from typing import TYPE_CHECKING

from chiltepin.backends.filesystem.errors import Fault
from chiltepin.backends.filesystem.stores import owners
from chiltepin.backends.filesystem.stores.sftp.connection import reading
from chiltepin.backends.filesystem.stores.sftp.messages import (
    NO_ATTRIBUTES,
    READING,
    Attributes,
    MessageType,
    Request,
    pack_string,
    pack_uint32,
    times,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

    from typing_extensions import Self

    from chiltepin.backends.filesystem.stores.sftp.connection import Connection

__all__ = [
    "PART",
    "Handles",
    "SftpReader",
    "TooManyOpenFault",
    "classified",
    "fetched",
    "moved",
    "opened",
    "opening",
    "refuse_lost_time",
    "refuse_other_size",
    "renaming",
    "time_set",
    "written",
]

#: What a server says of a folder that it does not list, although it is one: no permission, not supported.
_UNCLEAR = (3, 8)

#: Bytes of a part: long enough that the way there and back costs little, short enough for many at once.
PART = 4 << 20


def opening(path: str, flags: int) -> Request:
    """Return the request that opens a file."""
    return Request(MessageType.OPEN, pack_string(path), pack_uint32(flags), NO_ATTRIBUTES, about=path)


class TooManyOpenFault(Fault):
    """The server opened no file while others were open; a later try may find it better."""


def opened(connection: Connection, request: Request) -> bytes:
    """Return the handle of what was opened."""
    if request.failed and connection.handles:
        # SFTP has no word for it.
        reason = f"The server does not open {request.about}; so many at once may be too many for it."
        raise TooManyOpenFault("ENDPOINT_ERROR", reason)
    return request.result()


def classified(connection: Connection, found: Sequence[tuple[str, Attributes]]) -> None:
    """Find out what those files are of which the server does not tell it: links, folders or, as the rest is, files.

    Parameters
    ----------
    connection : Connection
        The connection.
    found : sequence of tuple of str and Attributes
        Their paths, and what is told of each; it gets the kind. Where a server knows nothing of links it stays untold.
    """
    has_unknown_sizes = [(path, facts) for path, facts in found if facts.mode is None]
    if not has_unknown_sizes:
        return
    links = [Request(MessageType.READLINK, pack_string(path)) for path, _ in has_unknown_sizes]
    folders = [Request(MessageType.OPENDIR, pack_string(path)) for path, _ in has_unknown_sizes]
    connection.ask(*links)
    for (_, facts), link, folder in zip(has_unknown_sizes, links, folders, strict=True):
        if link.status is None:
            facts.mode = stat.S_IFLNK
        elif link.failed:
            connection.ask(folder)
            if folder.status is None:
                connection.close_file(folder.body)
            if folder.status is None:
                facts.mode = stat.S_IFDIR
            # Of one that may not be opened it is not known either.
            elif folder.status not in _UNCLEAR:
                facts.mode = stat.S_IFREG


def fetched(connection: Connection, handle: bytes, offset: int, block: memoryview) -> int:
    """Fill a block from there; return how many bytes came, fewer only at the end of the file."""
    step = connection.reads
    starts = range(0, len(block), step)
    asked = connection.ask(*(reading(handle, offset + start, block[start : start + step]) for start in starts))
    for start, request in zip(starts, asked, strict=True):
        wanted, count = len(block[start : start + step]), request.count()
        # A server may give less than was asked for, and not only at the end (draft-ietf-secsh-filexfer-02,
        # 6.4).
        while 0 < count < wanted:
            (again,) = connection.ask(reading(handle, offset + start + count, block[start + count : start + wanted]))
            if not (more := again.count()):
                break
            count += more
        if count < wanted:
            return start + count
    return len(block)


class Handles:
    """One file of the server, opened on each connection that is used for it.

    Parameters
    ----------
    choose : callable
        Returns the connection to use next.
    path : str
        Where it is on the server.
    flags : int
        How it is opened.
    """

    def __init__(self, choose: Callable[[], Connection], path: str, flags: int) -> None:
        self._choose, self._path, self._flags = choose, path, flags
        self._lock = threading.Lock()
        self._open: dict[Connection, bytes] = {}
        self.first: Connection | None = None

    def add(self, connection: Connection, handle: bytes) -> None:
        """Take over a handle that was got in another way."""
        self.first = self.first or connection
        self._open[connection] = handle

    def any(self) -> tuple[Connection, bytes]:
        """Return the connection that has the least to do, and the handle of the file there."""
        connection = self._choose()
        with self._lock:
            handle = self._open.get(connection)
            if handle is None:
                if self.first is not None and self.first.broken:
                    # What was seen before may be another file by now; the whole file is another try.
                    raise ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
                (request,) = connection.ask(opening(self._path, self._flags))
                handle = opened(connection, request)
                self.add(connection, handle)
        return connection, handle

    def one(self) -> tuple[Connection, bytes]:
        """Return the first connection, and the handle of the file there."""
        if self.first is None:
            return self.any()
        return self.first, self._open[self.first]

    def closing(self) -> None:
        """Let all handles go, without waiting."""
        with self._lock:
            for connection, handle in self._open.items():
                connection.close_file(handle)
            self._open.clear()


#: Bytes that are asked for of a file that is said to be empty: a server tells 0 of what is made when it is read, as in
#: /proc. More than one, since some of these give nothing after the first read (Linux, fs/proc/proc_sysctl.c).
_UNTOLD = 1 << 15


class SftpReader:
    """A regular file of the server, open for reading.

    Parameters
    ----------
    choose : callable
        Returns the connection to use next.
    path : str
        Where it is on the server.

    Notes
    -----
    A link is refused, but the look and the opening are two requests: SFTP cannot do both in one.
    """

    def __init__(self, choose: Callable[[], Connection], path: str) -> None:
        connection = choose()
        looked, asked = connection.ask(
            Request(MessageType.LSTAT, pack_string(path), about=path), opening(path, READING)
        )
        facts, _ = Attributes.of(looked.result())
        classified(connection, [(path, facts)])
        if facts.kind != "file":
            if asked.status is None:
                connection.close_file(asked.body)
            raise _no_file(facts.kind, path)
        handle = opened(connection, asked)
        self._handles = Handles(choose, path, READING)
        self._head = bytearray(min(facts.size or _UNTOLD, connection.reads))
        self._position, self._ahead = 0, memoryview(b"")
        self.parts, self.checksum = True, ""
        self._before, self._after = self._first_look(connection, handle)
        self._handles.add(connection, handle)
        self.size: int | None = self._before.size or (0 if self._after is not None else None)
        self.mtime = None if self._before.mtime is None else float(self._before.mtime)
        self.content_id = f"{path}:{self._before.size}:{self._before.mtime}"

    def _first_look(self, connection: Connection, handle: bytes) -> tuple[Attributes, Attributes | None]:
        """Look at the file, read its start and look again, in one burst: a small file needs no more than that."""
        look = Request(MessageType.FSTAT, handle)
        read, again = reading(handle, 0, memoryview(self._head)), Request(MessageType.FSTAT, handle)
        if connection.orderly:
            connection.ask(look, read, again)
        else:
            for request in (look, read, again):
                connection.ask(request)
        before, after = Attributes.of(look.result())[0], Attributes.of(again.result())[0]
        got = read.count()
        whole = got == before.size
        if got < len(self._head):
            self._head = self._head[:got]
        return before, after if whole else None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._handles.closing()

    def read_at(self, offset: int, block: memoryview) -> int:
        """Fill the block from there; see `Reader.read_at`."""
        if offset + len(block) <= len(self._head):
            block[:] = self._head[offset : offset + len(block)]
            return len(block)
        return fetched(*self._handles.any(), offset, block)

    def readinto(self, block: memoryview) -> int:
        """Fill the block, from what is read ahead of it in whole parts."""
        if not self._ahead:
            self._ahead = self._next()
        count = min(len(block), len(self._ahead))
        block[:count] = self._ahead[:count]
        self._ahead = self._ahead[count:]
        return count

    def _next(self) -> memoryview:
        if self._position == 0 and self._head:
            self._position = len(self._head)
            return memoryview(self._head)
        if self._after is not None:
            return memoryview(b"")
        part = memoryview(bytearray(PART))
        count = fetched(*self._handles.one(), self._position, part)
        self._position += count
        return part[:count]

    def changed(self) -> bool:
        """Compare size and modification time, in seconds, with those of the moment it was opened."""
        now = self._after
        if now is None:
            connection, handle = self._handles.one()
            (look,) = connection.ask(Request(MessageType.FSTAT, handle))
            now, _ = Attributes.of(look.result())
        return (now.size, now.mtime) != (self._before.size, self._before.mtime)


def _no_file(kind: str, path: str) -> Exception:
    if kind == "dir":
        return IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    if kind == "link":
        return OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
    return Fault("NOT_A_FILE", f"{path} is neither a file nor a folder.")


def written(connection: Connection, request: Request) -> None:
    """See that a write was taken.

    Raises
    ------
    OSError, Fault
        If not; "no space" if the server's disk says so, since SFTP itself has no word for it.
    """
    try:
        request.result()
    except Fault:
        if _is_full(connection, request.about):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), request.about) from None
        raise


def _is_full(connection: Connection, path: str) -> bool:
    if "statvfs@openssh.com" not in connection.extensions:
        return False
    above = path.rsplit("/", 1)[0] or "/"
    (asked,) = connection.ask(Request(MessageType.EXTENDED, pack_string("statvfs@openssh.com"), pack_string(above)))
    # Eleven numbers; the fifth is how many blocks are left for such as we are (PROTOCOL of OpenSSH, 4.4).
    return asked.status is None and not int.from_bytes(asked.body[32:40], "big")


def time_set(connection: Connection, temp_file: str, mtime: float, path: str) -> Attributes:
    """Set the modification time of a temporary file by its name; return what is told of it then.

    Raises
    ------
    Fault
        If the server cannot set it.
    """
    timed, look = (
        Request(MessageType.SETSTAT, pack_string(temp_file), times(mtime)),
        Request(MessageType.LSTAT, pack_string(temp_file), about=path),
    )
    # One after the other: some servers answer in any order.
    connection.ask(timed)
    connection.ask(look)
    if timed.status:
        raise Fault(
            "ENDPOINT_ERROR",
            f"The server cannot set modification times ({timed.words()!r} of {path}); remove preserve_timestamp.",
        )
    return Attributes.of(look.result())[0]


def refuse_other_size(connection: Connection, handle: bytes, facts: Attributes, size: int, path: str) -> None:
    """Raise a ``Fault`` if a file has another size; where the server does not tell it, its end is read."""
    if facts.size is None:
        block = memoryview(bytearray(2))
        start = max(size - 1, 0)
        right = fetched(connection, handle, start, block) == size - start
    else:
        right = facts.size == size
    if not right:
        raise Fault("FILE_SIZE_CHANGED", f"{path} was written, but has not the size of what was sent.")


def refuse_lost_time(mtime: float, facts: Attributes, path: str) -> None:
    """Raise a ``Fault`` if a server has not kept the modification time that was set."""
    kept = facts.mtime if facts.mtime is not None else min(max(mtime, 0), 0xFFFFFFFF)
    if abs(kept - mtime) >= 2:  # noqa: PLR2004 - seconds; FAT has only the even ones
        reason = f"The server cannot keep the modification time of {path}; remove preserve_timestamp."
        raise Fault("ENDPOINT_ERROR", reason)


def renaming(connection: Connection, temp_file: str, path: str) -> Request:
    """Return the request that renames a temporary file, in place of what has its name where the server can."""
    if "posix-rename@openssh.com" in connection.extensions:
        return Request(
            MessageType.EXTENDED,
            pack_string("posix-rename@openssh.com"),
            pack_string(temp_file),
            pack_string(path),
            about=path,
        )
    return Request(MessageType.RENAME, pack_string(temp_file), pack_string(path), about=path)


def moved(connection: Connection, temp_file: str, path: str) -> None:
    """Rename a temporary file in place of what has its name.

    SFTP's own rename does not replace (draft-ietf-secsh-filexfer-02, 6.5). OpenSSH and most others have one
    that does. On a server that has not, the old file is renamed out of the way first, and back if the new one cannot
    be put in its place: for a moment neither has the name, but the old one is never lost.
    """
    asked, look = renaming(connection, temp_file, path), Request(MessageType.LSTAT, pack_string(path))
    connection.ask(asked)
    if asked.status == 0:
        return
    connection.ask(look)
    if look.status is not None:
        asked.result()
    there = Attributes.of(look.result())[0]
    classified(connection, [(path, there)])
    if there.kind == "dir":
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    above, _, name = path.rpartition("/")
    old = owners.aside(name)
    aside = f"{above}/{old}"
    away, placed = _plainly(path, aside), _plainly(temp_file, path)
    try:
        connection.ask(away)
        if away.status:
            asked.result()
        connection.ask(placed)
        if placed.status:
            connection.ask(_plainly(aside, path))
        placed.result()
        connection.ask(Request(MessageType.REMOVE, pack_string(aside)))
    finally:
        owners.release(old)


def _plainly(old: str, new: str) -> Request:
    return Request(MessageType.RENAME, pack_string(old), pack_string(new), about=new)
