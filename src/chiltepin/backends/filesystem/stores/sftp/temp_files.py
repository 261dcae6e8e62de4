"""Files that are being written on an SFTP server."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import xxhash

from chiltepin.backends.filesystem.errors import Fault
from chiltepin.backends.filesystem.stores.sftp.connection import writing
from chiltepin.backends.filesystem.stores.sftp.handles import PART, Handles, fetched, opened, opening, past_end
from chiltepin.backends.filesystem.stores.sftp.messages import (
    CREATING,
    EXCLUSIVELY,
    READING,
    WRITING,
    Attributes,
    MessageType,
    Request,
    length,
    pack_string,
    permissions,
    times,
)
from chiltepin.backends.filesystem.stores.sftp.replace import (
    mode_kept,
    moved,
    refuse_lost_time,
    refuse_other_size,
    time_set,
    written,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Self

    from chiltepin.backends.filesystem.store import Reader
    from chiltepin.backends.filesystem.stores.sftp.connection import Connection

__all__ = ["SftpTempFile", "Written"]

#: Bytes of the digest for each part, stored after the end of a file that is being written.
_DIGEST = 16


class Written:
    """The content of a temporary file, read from its start."""

    def __init__(self, handles: Handles, size: int) -> None:
        self._handles, self._position, self._ahead = handles, 0, memoryview(b"")
        self.size: int | None = size
        self.mtime: float | None = None
        self.parts, self.pinned, self.checksum, self.content_id = True, False, "", ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Leave the handles open for the writer."""

    def read_at(self, offset: int, block: memoryview) -> int:
        """Fill the block from ``offset``."""
        return fetched(*self._handles.any(), offset, block)

    def readinto(self, block: memoryview) -> int:
        """Fill the block from the current position, with data read ahead in whole parts."""
        if not self._ahead:
            part = memoryview(bytearray(min(PART, max((self.size or 0) - self._position, 0))))
            count = fetched(*self._handles.any(), self._position, part) if part else 0
            self._position, self._ahead = self._position + count, part[:count]
        count = min(len(block), len(self._ahead))
        block[:count] = self._ahead[:count]
        self._ahead = self._ahead[count:]
        return count

    def changed(self) -> bool:
        """Return False: no other process writes this file."""
        return False


class SftpTempFile:
    """A file that is being written under a temporary name.

    Digests of its parts follow its last byte, each written after its part. A process that continues the file after its
    writer died reads each part back and compares; `commit` truncates the digests.

    ``size`` is None if unknown. An ``adopted`` file was left by a dead writer. ``ended`` is called at the end; its
    argument tells whether the temporary file is left, to be continued.
    """

    def __init__(
        self,
        choose: Callable[[], Connection],
        temp_file: str,
        path: str,
        *,
        size: int | None,
        adopted: bool,
        ended: Callable[[bool], None],
    ) -> None:
        self._choose, self._temp_file, self._path, self._size, self._ended = choose, temp_file, path, size, ended
        self._adopted, self._committed, self._end = adopted, False, 0
        self._buffer = bytearray()
        self.part: int | None = PART
        self.verifies_writes = False
        self._handles = Handles(choose, temp_file, READING | WRITING)
        connection = choose()
        flags = READING | WRITING if adopted else READING | WRITING | CREATING | EXCLUSIVELY
        asked, look = connection.ask(opening(temp_file, flags), Request(MessageType.LSTAT, pack_string(path)))
        handle = opened(connection, asked)
        self._handles.add(connection, handle)
        self._mode = mode_kept(look)
        if self._mode is not None:
            # No more readable than the final file, but writable over other connections.
            connection.ask(Request(MessageType.FSETSTAT, handle, permissions(self._mode | 0o600)))
        #: Whether digests follow the content; only if the server can truncate them, which is tried once.
        self._marked = adopted
        if not adopted and (size or 0) > PART:
            if connection.cuts is None:
                (cut,) = connection.ask(Request(MessageType.FSETSTAT, handle, length(0)))
                connection.cuts = cut.status == 0
            self._marked = connection.cuts

    def __enter__(self) -> Self:
        return self

    def _digest_at(self, offset: int) -> int | None:
        """Return the offset of a part's digest; None for a file of one part, which is not worth continuing."""
        if not self._marked or self._size is None or self._size <= PART:
            return None
        return self._size + offset // PART * _DIGEST

    def has_part(self, offset: int, count: int) -> bytes | None:
        """Read the part and its digest back if another writer began the file."""
        where = self._digest_at(offset)
        if not self._adopted or where is None:
            return None
        block, digest = memoryview(bytearray(count)), memoryview(bytearray(_DIGEST))
        connection, handle = self._handles.any()
        if fetched(connection, handle, where, digest) < _DIGEST or fetched(connection, handle, offset, block) < count:
            return None
        if bytes(digest) != xxhash.xxh3_128_digest(block):
            return None
        self._end = max(self._end, offset + count)
        return bytes(digest)

    def copy_compared(self, reader: Reader, offset: int, count: int) -> None:
        """Return None: one request for each step would be slower."""

    def copy_part(self, reader: Reader, offset: int, count: int, *, verify: bool) -> bool:
        """Return False: this store has no faster path."""
        del reader, offset, count, verify
        return False

    def write_at(self, offset: int, block: memoryview) -> None:
        """Write one part, and its digest after the end of the file."""
        connection, handle = self._handles.any()
        step = connection.writes
        asked = [writing(handle, offset + at, block[at : at + step]) for at in range(0, len(block), step)]
        where = self._digest_at(offset)
        if where is not None:
            asked.append(writing(handle, where, memoryview(xxhash.xxh3_128_digest(block))))
        for request in connection.ask(*asked):
            request.about = self._path
            written(connection, request)
        self._end = max(self._end, offset + len(block))

    def write(self, block: memoryview) -> None:
        """Append the block, a part at a time."""
        self._buffer += block
        if len(self._buffer) >= PART:
            self._flush()

    def _flush(self) -> None:
        if self._buffer:
            data, self._buffer = self._buffer, bytearray()
            size, self._size = self._size, None  # in order, without parts to continue
            self.write_at(self._end, memoryview(data))
            self._size = size

    def mark_verified(self, offset: int, digest: bytes) -> None:
        """Do nothing: `write_at` has stored the digest, which saves a burst."""
        del offset, digest

    def read_back(self) -> Written:
        """Read the written data from its start."""
        self._flush()
        return Written(self._handles, self._end)

    def commit(self, mtime: float | None) -> None:
        """Truncate the digests, set the time, and rename the file to its real name, replacing an existing file."""
        self._flush()
        connection, handle = self._handles.one()
        cut, look = (
            Request(MessageType.FSETSTAT, handle, length(self._end), about=self._path),
            Request(MessageType.FSTAT, handle),
        )
        timed, past = Request(MessageType.FSETSTAT, handle, times(mtime or 0)), past_end(handle, self._end)
        if self._mode is not None:
            connection.ask(Request(MessageType.FSETSTAT, handle, permissions(self._mode)))
        connection.ask(*([cut] if self._marked else []), *([timed] if mtime is not None else []), look, past)
        if self._marked:
            cut.result()
        facts = Attributes.of(look.result())[0]
        refuse_other_size(connection, handle, facts, self._end, self._path, past)
        if mtime is not None:
            if timed.status:
                facts = time_set(connection, self._temp_file, mtime, self._path)
            refuse_lost_time(mtime, facts, self._path)
        self._handles.closing()
        moved(connection, self._temp_file, self._path)
        self._committed = True

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._handles.closing()
        # After a lost connection, a large file is left for the next try, which keeps its parts.
        lost = isinstance(error, ConnectionError) and (self._size or 0) > PART
        self._ended(lost and not self._committed)
        if not self._committed and not lost:
            with suppress(OSError, Fault):
                (removal,) = self._choose().ask(Request(MessageType.REMOVE, pack_string(self._temp_file)))
                removal.result()
