"""A file of an SFTP server, read in parts."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from chiltepin.backends.filesystem.errors import Fault
from chiltepin.backends.filesystem.stores.sftp.connection import reading
from chiltepin.backends.filesystem.stores.sftp.handles import (
    PART,
    Handles,
    classified,
    fetched,
    has_data,
    opened,
    opening,
    past_end,
)
from chiltepin.backends.filesystem.stores.sftp.messages import (
    READING,
    Attributes,
    MessageType,
    Request,
    pack_string,
    told_time,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Self

    from chiltepin.backends.filesystem.stores.sftp.connection import Connection

__all__ = ["SftpReader"]

#: Bytes requested from a file of size 0: a server reports 0 for content generated on read, as in /proc. More than one,
#: since some of these files return nothing after the first read (Linux, fs/proc/proc_sysctl.c).
_FIRST_READ = 1 << 15


class SftpReader:
    """A regular file of the server, open for reading; ``choose`` returns the connection to use next.

    Notes
    -----
    A link is refused, but the check and the opening are two requests: SFTP cannot do both in one.
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
        # One byte more than the server reports: it may report too small a size.
        self._head = bytearray(min(facts.size + 1 if facts.size else _FIRST_READ, connection.reads))
        self._position, self._ahead = 0, memoryview(b"")
        self.parts, self.pinned, self.checksum = True, False, ""
        self._before, self._after = self._first_look(connection, handle)
        self._handles.add(connection, handle)
        self.size: int | None = self._before.size or (0 if self._after is not None else None)
        self.content_id = f"{path}:{self._before.size}:{self._before.mtime}"

    @property
    def mtime(self) -> float | None:
        """See `Reader.mtime`."""
        return told_time(self._before.mtime)

    def _first_look(self, connection: Connection, handle: bytes) -> tuple[Attributes, Attributes | None]:
        """Read attributes, the start of the file and attributes again, in one burst: enough for a small file."""
        look = Request(MessageType.FSTAT, handle)
        read, again = reading(handle, 0, memoryview(self._head)), Request(MessageType.FSTAT, handle)
        past = [] if connection.full_reads else [past_end(handle, len(self._head) - 1)]
        if connection.orderly:
            connection.ask(look, read, *past, again)
        else:
            for requests in ((look,), (read, *past), (again,)):
                connection.ask(*requests)
        before, after = Attributes.of(look.result())[0], Attributes.of(again.result())[0]
        got = read.count()
        whole = got == before.size and got < len(self._head) and not any(map(has_data, past))
        self._head = self._head[: min(got, before.size or got)]
        return before, after if whole else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._handles.closing()

    def read_at(self, offset: int, block: memoryview) -> int:
        """Fill the block from ``offset``; see `Reader.read_at`."""
        if offset + len(block) <= len(self._head):
            block[:] = self._head[offset : offset + len(block)]
            return len(block)
        return fetched(*self._handles.any(), offset, block)

    def readinto(self, block: memoryview) -> int:
        """Fill the block from data read ahead in whole parts."""
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
        """Compare size and time, in seconds, with those when the file was opened, and check for data after the end."""
        now = self._after
        if now is None:
            connection, handle = self._handles.one()
            look = Request(MessageType.FSTAT, handle)
            past = [] if self.size is None else [past_end(handle, self.size)]
            connection.ask(look, *past)
            if any(map(has_data, past)):
                return True
            now, _ = Attributes.of(look.result())
        return (now.size, now.mtime) != (self._before.size, self._before.mtime)


def _no_file(kind: str, path: str) -> Exception:
    if kind == "dir":
        return IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    if kind == "link":
        return OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
    return Fault("NOT_A_FILE", f"{path} is neither a file nor a folder.")
