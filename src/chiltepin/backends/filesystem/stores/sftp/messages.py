"""The messages of SFTP version 3, as in OpenSSH (draft-ietf-secsh-filexfer-02, and PROTOCOL of OpenSSH, 4)."""

from __future__ import annotations

import errno
import os
import stat
import struct
from contextlib import suppress
from typing import TYPE_CHECKING

from chiltepin.backends.filesystem.errors import Fault
from chiltepin.backends.filesystem.store import Entry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Literal

__all__ = ["Attributes", "MessageType", "Request", "names", "pack_string"]


class MessageType:
    """Numbers of the requests that we make."""

    INIT, VERSION, OPEN, CLOSE, READ, WRITE, LSTAT, FSTAT, SETSTAT, FSETSTAT = range(1, 11)
    OPENDIR, READDIR, REMOVE, MKDIR, RMDIR, REALPATH, STAT, RENAME, READLINK = range(11, 20)
    EXTENDED = 200


STATUS, HANDLE, DATA, NAME, ATTRS = 101, 102, 103, 104, 105
_OK, EOF, NO_SUCH_FILE, _PERMISSION_DENIED, _FAILURE, _BAD_MESSAGE, _, _, _UNSUPPORTED = range(9)
_NO_CONNECTION, _CONNECTION_LOST = 6, 7
_ERRNO = {
    NO_SUCH_FILE: errno.ENOENT,
    _PERMISSION_DENIED: errno.EACCES,
    _NO_CONNECTION: errno.ECONNRESET,
    _CONNECTION_LOST: errno.ECONNRESET,
    _UNSUPPORTED: errno.EOPNOTSUPP,
    # From later versions (draft-ietf-secsh-filexfer-13, 9.1); some servers send them in version 3, too.
    10: errno.ENOENT,
    11: errno.EEXIST,
    12: errno.EROFS,
    14: errno.ENOSPC,
    15: errno.EDQUOT,
    18: errno.ENOTEMPTY,
    19: errno.ENOTDIR,
    20: errno.EILSEQ,
    21: errno.ELOOP,
    24: errno.EISDIR,
}

#: How a file is opened.
READING, WRITING, CREATING, EMPTYING, EXCLUSIVELY = 0x01, 0x02, 0x08, 0x10, 0x20

#: Which attributes follow.
_SIZE, _OWNER, _MODE, _TIMES, _MORE = 0x1, 0x2, 0x4, 0x8, 0x80000000
NO_ATTRIBUTES = struct.pack(">I", 0)


def pack_string(value: str | bytes) -> bytes:
    """Encode a string of the protocol; a name keeps its bytes, whatever their encoding."""
    raw = value if isinstance(value, bytes) else os.fsencode(value)
    return struct.pack(">I", len(raw)) + raw


def pack_uint32(value: int) -> bytes:
    """Encode a 32-bit number."""
    return struct.pack(">I", value)


def times(mtime: float) -> bytes:
    """Return attributes that set the modification time.

    SFTP has whole seconds. The time is rounded up: every run with ``sync_level="mtime"`` would copy a file again if its
    copy seemed older.
    """
    seconds = min(max(-int(-mtime // 1), 0), 0xFFFFFFFF)
    return struct.pack(">III", _TIMES, seconds, seconds)


def permissions(mode: int) -> bytes:
    """Return attributes that set the permission bits."""
    return struct.pack(">II", _MODE, mode)


def length(size: int) -> bytes:
    """Return attributes that truncate a file."""
    return struct.pack(">IQ", _SIZE, size)


def told_time(mtime: int | None) -> float | None:
    """Return the modification time from a file's attributes; None if they have none.

    Raises
    ------
    Fault
        For a time from 2038 on: OpenSSH also sends times before 1970 as such (sftp-common.c, stat_to_attrib).
    """
    if mtime is not None and mtime >= 1 << 31:
        reason = (
            "SFTP cannot distinguish times before 1970 from times after 2038, and a file has such a time; remove "
            "preserve_timestamp."
        )
        raise Fault("ENDPOINT_ERROR", reason)
    return None if mtime is None else float(mtime)


class Request:
    """One request, and its reply once it has arrived.

    ``fields`` and ``tail``, which is not copied, are encoded. The data of a reply is written to ``into``.
    """

    __slots__ = ("about", "answer", "body", "fields", "into", "kind", "tail")

    def __init__(
        self,
        kind: int,
        *fields: bytes,
        tail: memoryview | bytes = b"",
        into: memoryview | None = None,
        about: str = "",
    ) -> None:
        self.kind, self.fields, self.tail, self.into = kind, b"".join(fields), tail, into
        #: The path of the request, for messages.
        self.about = about
        self.answer, self.body = 0, b""

    def packet(self, request_id: int) -> bytes:
        """Return the request as it is sent, without its tail."""
        body = struct.pack(">BI", self.kind, request_id) + self.fields
        return struct.pack(">I", len(body) + len(self.tail)) + body

    @property
    def status(self) -> int | None:
        """The code of a status reply; None for any other reply."""
        return struct.unpack_from(">I", self.body)[0] if self.answer == STATUS else None

    @property
    def failed(self) -> bool:
        """Whether the server reports a failure without a reason."""
        return self.answer == STATUS and self.status not in (_OK, EOF, *_ERRNO)

    def result(self) -> bytes:
        """Return the body of the reply; an OSError or ``Fault`` if the server reported an error."""
        code = self.status
        if code is None or code == _OK:
            return self.body
        if code in _ERRNO:
            raise OSError(_ERRNO[code], os.strerror(_ERRNO[code]), self.about)
        raise Fault("ENDPOINT_ERROR", f"The server says {self.words()!r} of {self.about or 'a file'} without a reason.")

    def words(self) -> str:
        """Return the server's message."""
        count = struct.unpack_from(">I", self.body, 4)[0] if len(self.body) >= 8 else 0  # noqa: PLR2004 - two numbers
        return self.body[8 : 8 + count].decode(errors="replace")[:200] or "failure"

    def count(self) -> int:
        """Return how many bytes were read; 0 at the end of the file."""
        if self.status == EOF:
            return 0
        body = self.result()
        return int(struct.unpack(">I", body)[0])


class Attributes:
    """The attributes of a file; None for those that the server omits."""

    __slots__ = ("mode", "mtime", "size")

    def __init__(self, size: int | None, mode: int | None, mtime: int | None) -> None:
        self.size, self.mode, self.mtime = size, mode, mtime

    @property
    def kind(self) -> Literal["file", "dir", "link", "other"]:
        """The kind of entry; ``other`` also if the server does not tell."""
        mode = self.mode or 0
        if stat.S_ISREG(mode):
            return "file"
        if stat.S_ISDIR(mode):
            return "dir"
        return "link" if stat.S_ISLNK(mode) else "other"

    @property
    def incomplete(self) -> bool:
        """Whether the kind, time or size of the file is missing."""
        return self.mode is None or self.mtime is None or (self.size is None and self.kind == "file")

    def fill(self, other: Attributes) -> None:
        """Copy the missing attributes from ``other``."""
        for name in self.__slots__:
            if getattr(self, name) is None:
                setattr(self, name, getattr(other, name))

    def entry(self, name: str) -> Entry:
        """Return the attributes as an entry of a folder."""
        fault, size = None, self.size if self.kind == "file" else self.size or 0
        if self.mode is None:
            fault = Fault("ENDPOINT_ERROR", f"The server does not report whether {name} is a file, a folder or a link.")
        return Entry(name, self.kind, size, None if self.mtime is None else float(self.mtime), fault)

    @classmethod
    def of(cls, body: bytes, offset: int = 0) -> tuple[Attributes, int]:
        """Decode attributes; return them and the offset of their end."""
        (flags,) = struct.unpack_from(">I", body, offset)
        offset += 4
        size = mode = mtime = None
        if flags & _SIZE:
            (size,) = struct.unpack_from(">Q", body, offset)
            offset += 8
        if flags & _OWNER:
            offset += 8
        if flags & _MODE:
            (mode,) = struct.unpack_from(">I", body, offset)
            offset += 4
        if flags & _TIMES:
            _, mtime = struct.unpack_from(">II", body, offset)
            offset += 8
        if flags & _MORE:
            (count,) = struct.unpack_from(">I", body, offset)
            offset += 4
            for _ in range(2 * count):
                _, offset = _text(body, offset)
        return cls(size, mode, mtime), offset


def _text(body: bytes, offset: int) -> tuple[bytes, int]:
    (count,) = struct.unpack_from(">I", body, offset)
    offset += 4
    return body[offset : offset + count], offset + count


def names(body: bytes) -> Iterator[tuple[str, Attributes]]:
    """Yield the names in a reply to READDIR, REALPATH or READLINK, with their attributes."""
    (count,) = struct.unpack_from(">I", body)
    offset = 4
    for _ in range(count):
        name, offset = _text(body, offset)
        _, offset = _text(body, offset)
        facts, offset = Attributes.of(body, offset)
        yield os.fsdecode(name), facts


def extensions(body: bytes) -> dict[str, bytes]:
    """Return the extensions that the server announces in its first reply."""
    found, offset = {}, 0
    # A rest that is not a pair of strings is not an extension.
    with suppress(struct.error):
        while offset < len(body):
            name, offset = _text(body, offset)
            found[name.decode(errors="replace")], offset = _text(body, offset)
    return found
