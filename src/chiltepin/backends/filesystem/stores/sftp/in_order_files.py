"""Files that are being written on an SFTP server of which little is asked.

Servers over object stores take a file from its start to its end, give nothing back of it before it is closed, and do
what is asked at once in any order (``rclone serve sftp``, and others made of Go's sftp package). So a file is written
in order, closed, read back under its temporary name, and only then given its real one.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from chiltepin.backends.filesystem.defaults import InOrderFile
from chiltepin.backends.filesystem.errors import Fault
from chiltepin.backends.filesystem.stores.sftp.connection import writing
from chiltepin.backends.filesystem.stores.sftp.files import (
    Handles,
    moved,
    opened,
    opening,
    refuse_lost_time,
    refuse_other_size,
    time_set,
    written,
)
from chiltepin.backends.filesystem.stores.sftp.messages import (
    CREATING,
    EMPTYING,
    EXCLUSIVELY,
    READING,
    WRITING,
    Ask,
    Attributes,
    Request,
    text,
)
from chiltepin.backends.filesystem.stores.sftp.temp_files import Written

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from typing_extensions import Self

    from chiltepin.backends.filesystem.stores.sftp.connection import Channel

__all__ = ["PlainDraft"]

#: Bytes that are sent before their answers are awaited.
_PIECE = 1 << 20


class PlainDraft(InOrderFile):
    """A file that is written in order beside its real name.

    Parameters
    ----------
    choose : callable
        Returns the connection to use next.
    draft, path : str
        Where it is written, and where it will be.
    ended : callable
        Called at the end with whether the draft is left there, which it never is.
    """

    def __init__(self, choose: Callable[[], Channel], draft: str, path: str, *, ended: Callable[[bool], None]) -> None:
        self._choose, self._draft, self._path, self._ended = choose, draft, path, ended
        self._buffer, self._end, self._committed = bytearray(), 0, False
        self._channel = channel = choose()
        (asked,) = channel.ask(opening(draft, WRITING | CREATING | EXCLUSIVELY))
        if asked.status:
            # The name is ours by chance alone, too, where the server knows no other way.
            (asked,) = channel.ask(opening(draft, WRITING | CREATING | EMPTYING))
        asked.about = path
        self._handle: bytes | None = opened(channel, asked)
        self._back = Handles(choose, draft, READING)

    def __enter__(self) -> Self:
        return self

    def write(self, block: memoryview) -> None:
        """Append the block, a piece at a time."""
        self._buffer += block
        if len(self._buffer) >= _PIECE:
            self._flush()

    def _flush(self) -> None:
        if not self._buffer or self._handle is None:
            return
        block, self._buffer = memoryview(self._buffer), bytearray()
        step = self._channel.writes
        starts = range(0, len(block), step)
        asked = (writing(self._handle, self._end + at, block[at : at + step]) for at in starts)
        for request in self._channel.ask(*asked):
            request.about = self._path
            written(self._channel, request)
        self._end += len(block)

    def _close(self) -> None:
        """Close what was written: a server that sends it on tells only then whether it is there."""
        self._flush()
        if self._handle is not None:
            closing, self._handle = Request(Ask.CLOSE, self._handle), None
            self._channel.ask(closing)
            closing.about = self._path
            written(self._channel, closing)

    def read_back(self) -> Written:
        """Close what was written, and read it from its start."""
        self._close()
        return Written(self._back, self._end)

    def commit(self, mtime: float | None) -> None:
        """Set the time, and rename it in place of what had its name."""
        self._close()
        channel = self._choose()
        if mtime is None:
            (look,) = channel.ask(Request(Ask.LSTAT, text(self._draft), about=self._path))
            facts = Attributes.of(look.result())[0]
        else:
            facts = time_set(channel, self._draft, mtime, self._path)
            refuse_lost_time(mtime, facts, self._path)
        refuse_other_size(*(self._back.any() if facts.size is None else (channel, b"")), facts, self._end, self._path)
        self._back.closing()
        moved(channel, self._draft, self._path)
        self._committed = True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._back.closing()
        self._ended(False)
        if self._committed:
            return
        with suppress(OSError, Fault):
            if self._handle is not None:
                self._channel.ask(Request(Ask.CLOSE, self._handle))
        with suppress(OSError, Fault):
            self._choose().ask(Request(Ask.REMOVE, text(self._draft)))
