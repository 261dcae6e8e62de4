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
    Ask,
    Attributes,
    Request,
    number,
    text,
    times,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

    from typing_extensions import Self

    from chiltepin.backends.filesystem.stores.sftp.connection import Channel

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
    return Request(Ask.OPEN, text(path), number(flags), NO_ATTRIBUTES, about=path)


class TooManyOpenFault(Fault):
    """The server opened no file while others were open; a later try may find it better."""


def opened(channel: Channel, request: Request) -> bytes:
    """Return the handle of what was opened."""
    if request.failed and channel.handles:
        # SFTP has no word for it.
        reason = f"The server does not open {request.about}; so many at once may be too many for it."
        raise TooManyOpenFault("ENDPOINT_ERROR", reason)
    return request.result()


def classified(channel: Channel, found: Sequence[tuple[str, Attributes]]) -> None:
    """Find out what those files are of which the server does not tell it: links, folders or, as the rest is, files.

    Parameters
    ----------
    channel : Channel
        The connection.
    found : sequence of tuple of str and Attributes
        Their paths, and what is told of each; it gets the kind. Where a server knows nothing of links it stays untold.
    """
    untold = [(path, facts) for path, facts in found if facts.mode is None]
    if not untold:
        return
    links = [Request(Ask.READLINK, text(path)) for path, _ in untold]
    folders = [Request(Ask.OPENDIR, text(path)) for path, _ in untold]
    channel.ask(*links)
    for (_, facts), link, folder in zip(untold, links, folders, strict=True):
        if link.status is None:
            facts.mode = stat.S_IFLNK
        elif link.failed:
            channel.ask(folder)
            if folder.status is None:
                channel.close_file(folder.body)
            if folder.status is None:
                facts.mode = stat.S_IFDIR
            # Of one that may not be opened it is not known either.
            elif folder.status not in _UNCLEAR:
                facts.mode = stat.S_IFREG


def fetched(channel: Channel, handle: bytes, offset: int, block: memoryview) -> int:
    """Fill a block from there; return how many bytes came, fewer only at the end of the file."""
    step = channel.reads
    starts = range(0, len(block), step)
    asked = channel.ask(*(reading(handle, offset + start, block[start : start + step]) for start in starts))
    for start, request in zip(starts, asked, strict=True):
        wanted, count = len(block[start : start + step]), request.count()
        # A server may give less than was asked for, and not only at the end (draft-ietf-secsh-filexfer-02, 6.4).
        while 0 < count < wanted:
            (again,) = channel.ask(reading(handle, offset + start + count, block[start + count : start + wanted]))
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

    def __init__(self, choose: Callable[[], Channel], path: str, flags: int) -> None:
        self._choose, self._path, self._flags = choose, path, flags
        self._lock = threading.Lock()
        self._open: dict[Channel, bytes] = {}
        self.first: Channel | None = None

    def add(self, channel: Channel, handle: bytes) -> None:
        """Take over a handle that was got in another way."""
        self.first = self.first or channel
        self._open[channel] = handle

    def any(self) -> tuple[Channel, bytes]:
        """Return the connection that has the least to do, and the handle of the file there."""
        channel = self._choose()
        with self._lock:
            handle = self._open.get(channel)
            if handle is None:
                if self.first is not None and self.first.broken:
                    # What was seen before may be another file by now; the whole file is another try.
                    raise ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
                (request,) = channel.ask(opening(self._path, self._flags))
                handle = opened(channel, request)
                self.add(channel, handle)
        return channel, handle

    def one(self) -> tuple[Channel, bytes]:
        """Return the first connection, and the handle of the file there."""
        if self.first is None:
            return self.any()
        return self.first, self._open[self.first]

    def closing(self) -> None:
        """Let all handles go, without waiting."""
        with self._lock:
            for channel, handle in self._open.items():
                channel.close_file(handle)
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

    def __init__(self, choose: Callable[[], Channel], path: str) -> None:
        channel = choose()
        looked, asked = channel.ask(Request(Ask.LSTAT, text(path), about=path), opening(path, READING))
        facts, _ = Attributes.of(looked.result())
        classified(channel, [(path, facts)])
        if facts.kind != "file":
            if asked.status is None:
                channel.close_file(asked.body)
            raise _no_file(facts.kind, path)
        handle = opened(channel, asked)
        self._handles = Handles(choose, path, READING)
        self._head = bytearray(min(facts.size or _UNTOLD, channel.reads))
        self._position, self._ahead = 0, memoryview(b"")
        self.parts, self.proof = True, ""
        self._before, self._after = self._first_look(channel, handle)
        self._handles.add(channel, handle)
        self.size: int | None = self._before.size or (0 if self._after is not None else None)
        self.mtime = None if self._before.mtime is None else float(self._before.mtime)
        self.mark = f"{path}:{self._before.size}:{self._before.mtime}"

    def _first_look(self, channel: Channel, handle: bytes) -> tuple[Attributes, Attributes | None]:
        """Look at the file, read its start and look again, in one burst: a small file needs no more than that."""
        look = Request(Ask.FSTAT, handle)
        read, again = reading(handle, 0, memoryview(self._head)), Request(Ask.FSTAT, handle)
        if channel.orderly:
            channel.ask(look, read, again)
        else:
            for request in (look, read, again):
                channel.ask(request)
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
            channel, handle = self._handles.one()
            (look,) = channel.ask(Request(Ask.FSTAT, handle))
            now, _ = Attributes.of(look.result())
        return (now.size, now.mtime) != (self._before.size, self._before.mtime)


def _no_file(kind: str, path: str) -> Exception:
    if kind == "dir":
        return IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    if kind == "link":
        return OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
    return Fault("NOT_A_FILE", f"{path} is neither a file nor a folder.")


def written(channel: Channel, request: Request) -> None:
    """See that a write was taken.

    Raises
    ------
    OSError, Fault
        If not; "no space" if the server's disk says so, since SFTP itself has no word for it.
    """
    try:
        request.result()
    except Fault:
        if _is_full(channel, request.about):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), request.about) from None
        raise


def _is_full(channel: Channel, path: str) -> bool:
    if "statvfs@openssh.com" not in channel.extensions:
        return False
    above = path.rsplit("/", 1)[0] or "/"
    (asked,) = channel.ask(Request(Ask.EXTENDED, text("statvfs@openssh.com"), text(above)))
    # Eleven numbers; the fifth is how many blocks are left for such as we are (PROTOCOL of OpenSSH, 4.4).
    return asked.status is None and not int.from_bytes(asked.body[32:40], "big")


def time_set(channel: Channel, draft: str, mtime: float, path: str) -> Attributes:
    """Set the modification time of a draft by its name; return what is told of it then.

    Raises
    ------
    Fault
        If the server cannot set it.
    """
    timed, look = Request(Ask.SETSTAT, text(draft), times(mtime)), Request(Ask.LSTAT, text(draft), about=path)
    # One after the other: some servers answer in any order.
    channel.ask(timed)
    channel.ask(look)
    if timed.status:
        raise Fault(
            "ENDPOINT_ERROR",
            f"The server cannot set modification times ({timed.words()!r} of {path}); remove preserve_timestamp.",
        )
    return Attributes.of(look.result())[0]


def refuse_other_size(channel: Channel, handle: bytes, facts: Attributes, size: int, path: str) -> None:
    """Raise a ``Fault`` if a file has another size; where the server does not tell it, its end is read."""
    if facts.size is None:
        block = memoryview(bytearray(2))
        start = max(size - 1, 0)
        right = fetched(channel, handle, start, block) == size - start
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


def renaming(channel: Channel, draft: str, path: str) -> Request:
    """Return the request that renames a draft, in place of what has its name where the server can."""
    if "posix-rename@openssh.com" in channel.extensions:
        return Request(Ask.EXTENDED, text("posix-rename@openssh.com"), text(draft), text(path), about=path)
    return Request(Ask.RENAME, text(draft), text(path), about=path)


def moved(channel: Channel, draft: str, path: str) -> None:
    """Rename a draft in place of what has its name.

    SFTP's own rename does not replace (draft-ietf-secsh-filexfer-02, 6.5). OpenSSH and most others have one that
    does. On a server that has not, the old file is renamed out of the way first, and back if the new one cannot be put
    in its place: for a moment neither has the name, but the old one is never lost.
    """
    asked, look = renaming(channel, draft, path), Request(Ask.LSTAT, text(path))
    channel.ask(asked)
    if asked.status == 0:
        return
    channel.ask(look)
    if look.status is not None:
        asked.result()
    there = Attributes.of(look.result())[0]
    classified(channel, [(path, there)])
    if there.kind == "dir":
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    above, _, name = path.rpartition("/")
    old = owners.aside(name)
    aside = f"{above}/{old}"
    away, placed = _plainly(path, aside), _plainly(draft, path)
    try:
        channel.ask(away)
        if away.status:
            asked.result()
        channel.ask(placed)
        if placed.status:
            channel.ask(_plainly(aside, path))
        placed.result()
        channel.ask(Request(Ask.REMOVE, text(aside)))
    finally:
        owners.ended(old)


def _plainly(old: str, new: str) -> Request:
    return Request(Ask.RENAME, text(old), text(new), about=new)
