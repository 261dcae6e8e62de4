"""Files that are being written on an SFTP server over an object store.

Such a server accepts a file only from start to end, returns none of it before it is closed, and processes concurrent
requests in any order (``rclone serve sftp``, and other servers that use Go's sftp package). So a file is written in
order, closed, read back under its temporary name, and only then renamed to its real one.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from chiltepin.backends.filesystem.defaults import InOrderFile
from chiltepin.backends.filesystem.errors import Fault
from chiltepin.backends.filesystem.stores.sftp.connection import writing
from chiltepin.backends.filesystem.stores.sftp.handles import Handles, opened, opening
from chiltepin.backends.filesystem.stores.sftp.messages import (
    CREATING,
    EMPTYING,
    EXCLUSIVELY,
    READING,
    WRITING,
    Attributes,
    MessageType,
    Request,
    pack_string,
    permissions,
)
from chiltepin.backends.filesystem.stores.sftp.replace import (
    mode_kept,
    moved,
    refuse_lost_time,
    refuse_other_size,
    time_set,
    written,
)
from chiltepin.backends.filesystem.stores.sftp.temp_files import Written

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Self

    from chiltepin.backends.filesystem.stores.sftp.connection import Connection

__all__ = ["SftpInOrderFile"]

#: Bytes that are sent before their replies are awaited.
_PIECE = 1 << 20


class SftpInOrderFile(InOrderFile):
    """A file that is written in order beside its real name.

    ``ended`` is called at the end, with False, because the temporary file is never left.
    """

    def __init__(
        self, choose: Callable[[], Connection], temp_file: str, path: str, *, ended: Callable[[bool], None]
    ) -> None:
        self._choose, self._temp_file, self._path, self._ended = choose, temp_file, path, ended
        self._buffer, self._end, self._committed = bytearray(), 0, False
        self._connection = connection = choose()
        asked, look = connection.ask(
            opening(temp_file, WRITING | CREATING | EXCLUSIVELY), Request(MessageType.LSTAT, pack_string(path))
        )
        self._mode = mode_kept(look)
        if asked.status:
            # For servers that cannot open exclusively; the random name is ours anyway.
            (asked,) = connection.ask(opening(temp_file, WRITING | CREATING | EMPTYING))
        asked.about = path
        self._handle: bytes | None = opened(connection, asked)
        self._set_mode(0o600)
        self._back = Handles(choose, temp_file, READING)

    def __enter__(self) -> Self:
        return self

    def _set_mode(self, more: int = 0) -> None:
        """Set the permission bits of the file that it replaces, plus ``more``; some servers cannot."""
        if self._mode is not None:
            asked = Request(MessageType.SETSTAT, pack_string(self._temp_file), permissions(self._mode | more))
            self._choose().ask(asked)

    def write(self, block: memoryview) -> None:
        """Append the block, a piece at a time."""
        self._buffer += block
        if len(self._buffer) >= _PIECE:
            self._flush()

    def _flush(self) -> None:
        if not self._buffer or self._handle is None:
            return
        block, self._buffer = memoryview(self._buffer), bytearray()
        step = self._connection.writes
        starts = range(0, len(block), step)
        asked = (writing(self._handle, self._end + at, block[at : at + step]) for at in starts)
        for request in self._connection.ask(*asked):
            request.about = self._path
            written(self._connection, request)
        self._end += len(block)

    def _close(self) -> None:
        """Close the file: only then does a server over an object store report whether it was stored."""
        self._flush()
        if self._handle is not None:
            closing, self._handle = Request(MessageType.CLOSE, self._handle), None
            self._connection.ask(closing)
            closing.about = self._path
            written(self._connection, closing)

    def read_back(self) -> Written:
        """Close the file, and read it from its start."""
        self._close()
        return Written(self._back, self._end)

    def commit(self, mtime: float | None) -> None:
        """Set the time, and rename the file to its real name, replacing an existing file."""
        self._close()
        self._set_mode()
        connection = self._choose()
        if mtime is None:
            (look,) = connection.ask(Request(MessageType.LSTAT, pack_string(self._temp_file), about=self._path))
            facts = Attributes.of(look.result())[0]
        else:
            facts = time_set(connection, self._temp_file, mtime, self._path)
            refuse_lost_time(mtime, facts, self._path)
        refuse_other_size(
            *(self._back.any() if facts.size is None else (connection, b"")), facts, self._end, self._path
        )
        self._back.closing()
        moved(connection, self._temp_file, self._path)
        self._committed = True

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._back.closing()
        self._ended(False)
        if self._committed:
            return
        with suppress(OSError, Fault):
            if self._handle is not None:
                self._connection.ask(Request(MessageType.CLOSE, self._handle))
        with suppress(OSError, Fault):
            self._choose().ask(Request(MessageType.REMOVE, pack_string(self._temp_file)))
