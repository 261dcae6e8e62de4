"""Files on an SFTP server, open for reading and being written."""

from __future__ import annotations

import errno
import os
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

import xxhash

from chiltepin.backends.filesystem.channel import reading, writing
from chiltepin.backends.filesystem.faults import Fault
from chiltepin.backends.filesystem.packets import (
    CREATING,
    EXCLUSIVELY,
    NO_ATTRIBUTES,
    READING,
    WRITING,
    Ask,
    Attributes,
    Request,
    length,
    number,
    text,
    times,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from typing_extensions import Self

    from chiltepin.backends.filesystem.channel import Channel
    from chiltepin.backends.filesystem.store import Reader

__all__ = ["PART", "SftpDraft", "SftpReader", "fetched", "moved", "opening", "renaming", "written"]

#: Bytes of a part: long enough that the way there and back costs little, short enough for many at once.
PART = 4 << 20

#: Bytes of the digest that stands behind a file that is being written, for each of its parts.
_DIGEST = 16


def opening(path: str, flags: int) -> Request:
    """Return the request that opens a file."""
    return Request(Ask.OPEN, text(path), number(flags), NO_ATTRIBUTES, about=path)


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


class _Handles:
    """One file of the server, opened on each connection that is used for it."""

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
                handle = request.result()
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
        looked, opened = channel.ask(Request(Ask.LSTAT, text(path), about=path), opening(path, READING))
        facts, _ = Attributes.of(looked.result())
        if facts.kind != "file":
            if opened.status is None:
                channel.close_file(opened.body)
            raise _no_file(facts.kind, path)
        handle = opened.result()
        self._handles = _Handles(choose, path, READING)
        self._head = bytearray(min(facts.size or 0, channel.reads))
        self._position, self._ahead = 0, memoryview(b"")
        self.parts, self.proof = True, ""
        self._before, self._after = self._first_look(channel, handle)
        self._handles.add(channel, handle)
        self.size: int | None = self._before.size
        self.mtime = None if self._before.mtime is None else float(self._before.mtime)
        self.mark = f"{path}:{self._before.size}:{self._before.mtime}"

    def _first_look(self, channel: Channel, handle: bytes) -> tuple[Attributes, Attributes | None]:
        """Look at the file, read its start and look again, in one burst: a small file needs no more than that."""
        look = Request(Ask.FSTAT, handle)
        if not self._head:
            channel.ask(look)
            return Attributes.of(look.result())[0], None
        read, again = reading(handle, 0, memoryview(self._head)), Request(Ask.FSTAT, handle)
        channel.ask(look, read, again)
        before, after = Attributes.of(look.result())[0], Attributes.of(again.result())[0]
        got = read.count()
        whole = got == len(self._head) == before.size
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


class _Written:
    """What is in a draft, read from its start."""

    def __init__(self, handles: _Handles, size: int) -> None:
        self._handles, self._position = handles, 0
        self.size: int | None = size
        self.mtime: float | None = None
        self.parts, self.proof, self.mark = True, "", ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the handles to the draft."""

    def read_at(self, offset: int, block: memoryview) -> int:
        """Fill the block from there."""
        return fetched(*self._handles.any(), offset, block)

    def readinto(self, block: memoryview) -> int:
        """Fill the block from where the last call ended."""
        wanted = block[: max((self.size or 0) - self._position, 0)]
        count = fetched(*self._handles.any(), self._position, wanted) if wanted else 0
        self._position += count
        return count

    def changed(self) -> bool:
        """Have nobody else who writes it."""
        return False


class SftpDraft:
    """A file that is being written beside its real name.

    Behind the end that it will have stand digests of its parts, each written after its part. Whoever continues it
    after its writer died reads a part back and compares; `commit` cuts them off.

    Parameters
    ----------
    choose : callable
        Returns the connection to use next.
    draft, path : str
        Where it is written, and where it will be.
    size : int or None
        The bytes that it will have, if that is known.
    adopted : bool
        Whether it is there already, from a writer who died.
    ended : callable
        Called at the end with whether the draft is left there, to be continued.
    """

    def __init__(
        self,
        choose: Callable[[], Channel],
        draft: str,
        path: str,
        *,
        size: int | None,
        adopted: bool,
        ended: Callable[[bool], None],
    ) -> None:
        self._choose, self._draft, self._path, self._size, self._ended = choose, draft, path, size, ended
        self._adopted, self._committed, self._end = adopted, False, 0
        self._buffer = bytearray()
        self.part: int | None = PART
        self.proves = False
        self.step: int | None = None
        self._handles = _Handles(choose, draft, READING | WRITING)
        channel = choose()
        flags = READING | WRITING if adopted else READING | WRITING | CREATING | EXCLUSIVELY
        (opened,) = channel.ask(opening(draft, flags))
        self._handles.add(channel, opened.result())

    def __enter__(self) -> Self:
        return self

    def _digest_at(self, offset: int) -> int | None:
        """Return where the digest of a part stands; None for a file of one part, which is not worth continuing."""
        if self._size is None or self._size <= PART:
            return None
        return self._size + offset // PART * _DIGEST

    def kept(self, offset: int, count: int) -> bool:
        """Read the part and its digest back, if there was a writer before."""
        where = self._digest_at(offset)
        if not self._adopted or where is None:
            return False
        block, digest = memoryview(bytearray(count)), memoryview(bytearray(_DIGEST))
        channel, handle = self._handles.any()
        if fetched(channel, handle, where, digest) < _DIGEST or fetched(channel, handle, offset, block) < count:
            return False
        whole = bytes(digest) == xxhash.xxh3_128_digest(block)
        if whole:
            self._end = max(self._end, offset + count)
        return whole

    def take(self, reader: Reader, offset: int, count: int, *, verify: bool) -> bool:
        """Have no means of its own."""
        del reader, offset, count, verify
        return False

    def write_at(self, offset: int, block: memoryview) -> None:
        """Write one part, and its digest behind the end of the file."""
        channel, handle = self._handles.any()
        step = channel.writes
        asked = [writing(handle, offset + at, block[at : at + step]) for at in range(0, len(block), step)]
        where = self._digest_at(offset)
        if where is not None:
            asked.append(writing(handle, where, memoryview(xxhash.xxh3_128_digest(block))))
        for request in channel.ask(*asked):
            request.about = self._path
            written(channel, request)
        self._end = max(self._end, offset + len(block))

    def write(self, block: memoryview) -> None:
        """Append the block, a part at a time."""
        self._buffer += block
        if len(self._buffer) >= PART:
            self._flush()

    def _flush(self) -> None:
        if self._buffer:
            data, self._buffer = self._buffer, bytearray()
            size, self._size = self._size, None  # in order, there are no parts to continue
            self.write_at(self._end, memoryview(data))
            self._size = size

    def whole(self, offset: int, digest: bytes) -> None:
        """Have noted a checksum of the part already, with its writing: one burst less."""
        del offset, digest

    def read_back(self) -> _Written:
        """Read what was written, from its start."""
        self._flush()
        return _Written(self._handles, self._end)

    def commit(self, mtime: float | None) -> None:
        """Cut the digests off, set the time, and rename it in place of what had its name."""
        self._flush()
        channel, handle = self._handles.one()
        asked = [Request(Ask.FSETSTAT, handle, length(self._end), about=self._path)]
        if mtime is not None:
            asked.append(Request(Ask.FSETSTAT, handle, times(mtime), about=self._path))
        look = Request(Ask.FSTAT, handle)
        for request in channel.ask(*asked, look):
            request.result()
        if Attributes.of(look.result())[0].size != self._end:
            raise Fault("FILE_SIZE_CHANGED", f"{self._path} was written, but has not the size of what was sent.")
        self._handles.closing()
        moved(channel, self._draft, self._path)
        self._committed = True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._handles.closing()
        # After the end of a connection, a large one is left for the next try, which keeps its parts.
        lost = isinstance(error, ConnectionError) and (self._size or 0) > PART
        self._ended(lost and not self._committed)
        if not self._committed and not lost:
            with suppress(OSError, Fault):
                (removal,) = self._choose().ask(Request(Ask.REMOVE, text(self._draft)))
                removal.result()


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


def renaming(channel: Channel, draft: str, path: str) -> Request:
    """Return the request that renames a draft, in place of what has its name where the server can."""
    if "posix-rename@openssh.com" in channel.extensions:
        return Request(Ask.EXTENDED, text("posix-rename@openssh.com"), text(draft), text(path), about=path)
    return Request(Ask.RENAME, text(draft), text(path), about=path)


def moved(channel: Channel, draft: str, path: str) -> None:
    """Rename a draft in place of what has its name.

    SFTP's own rename does not replace (draft-ietf-secsh-filexfer-02, 6.5). OpenSSH and most others have one that
    does; on a server that has not, the old file goes first, and for a moment there is neither.
    """
    (asked,) = channel.ask(renaming(channel, draft, path))
    if asked.status and _is_folder(channel, path):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    if asked.status and asked.kind == Ask.RENAME:
        asked = renaming(channel, draft, path)
        channel.ask(Request(Ask.REMOVE, text(path)), asked)
    asked.result()


def _is_folder(channel: Channel, path: str) -> bool:
    (look,) = channel.ask(Request(Ask.LSTAT, text(path)))
    return look.status is None and Attributes.of(look.body)[0].kind == "dir"
