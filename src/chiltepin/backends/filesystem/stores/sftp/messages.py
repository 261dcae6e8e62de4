"""The messages of SFTP, version 3, as OpenSSH speaks it (draft-ietf-secsh-filexfer-02, and PROTOCOL of OpenSSH, 4)."""

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
    # Of later versions (draft-ietf-secsh-filexfer-13, 9.1); some servers send them in version 3, too.
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
    """Return a string of the protocol; a name of any bytes stays what it is on a POSIX server."""
    raw = value if isinstance(value, bytes) else os.fsencode(value)
    return struct.pack(">I", len(raw)) + raw


def pack_uint32(value: int) -> bytes:
    """Return a number of 32 bits."""
    return struct.pack(">I", value)


def times(mtime: float) -> bytes:
    """Return attributes that set the modification time.

    SFTP has whole seconds. The next one is taken, not the last: a copy that seems older than its source would be copied
    again by every run with ``sync_level="mtime"``.
    """
    seconds = min(max(-int(-mtime // 1), 0), 0xFFFFFFFF)
    return struct.pack(">III", _TIMES, seconds, seconds)


def permissions(mode: int) -> bytes:
    """Return attributes that set the permission bits."""
    return struct.pack(">II", _MODE, mode)


def length(size: int) -> bytes:
    """Return attributes that cut a file."""
    return struct.pack(">IQ", _SIZE, size)


def told_time(mtime: int | None) -> float | None:
    """Return the modification time that a file's attributes tell; None if they tell none.

    Raises
    ------
    Fault
        From 2038 on: OpenSSH sends a time before 1970 as if it were one of these (sftp-common.c, stat_to_attrib).
    """
    if mtime is not None and mtime >= 1 << 31:
        reason = (
            "SFTP cannot distinguish times before 1970 from times after 2038, and a file has such a time; remove "
            "preserve_timestamp."
        )
        raise Fault("ENDPOINT_ERROR", reason)
    return None if mtime is None else float(mtime)


class Request:
    """One request, and its answer when it has come.

    ``fields`` and ``tail``, which is not copied, are encoded. The data of an answer goes into ``into``.
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
        #: The path that it is about, for messages.
        self.about = about
        self.answer, self.body = 0, b""

    def packet(self, request_id: int) -> bytes:
        """Return the request as it is sent, without its tail."""
        body = struct.pack(">BI", self.kind, request_id) + self.fields
        return struct.pack(">I", len(body) + len(self.tail)) + body

    @property
    def status(self) -> int | None:
        """The code of a status; None for any other answer."""
        return struct.unpack_from(">I", self.body)[0] if self.answer == STATUS else None

    @property
    def failed(self) -> bool:
        """Whether the server says that it failed, and not why."""
        return self.answer == STATUS and self.status not in (_OK, EOF, *_ERRNO)

    def result(self) -> bytes:
        """Return the body of the answer; an OSError or ``Fault`` if the server has reported an error."""
        code = self.status
        if code is None or code == _OK:
            return self.body
        if code in _ERRNO:
            raise OSError(_ERRNO[code], os.strerror(_ERRNO[code]), self.about)
        raise Fault("ENDPOINT_ERROR", f"The server says {self.words()!r} of {self.about or 'a file'} without a reason.")

    def words(self) -> str:
        """Return what the server wrote for people."""
        count = struct.unpack_from(">I", self.body, 4)[0] if len(self.body) >= 8 else 0  # noqa: PLR2004 - two numbers
        return self.body[8 : 8 + count].decode(errors="replace")[:200] or "failure"

    def count(self) -> int:
        """Return how many bytes a read got; 0 at the end of the file."""
        if self.status == EOF:
            return 0
        body = self.result()
        return int(struct.unpack(">I", body)[0])


class Attributes:
    """What the server tells of a file; what it does not tell is None."""

    __slots__ = ("mode", "mtime", "size")

    def __init__(self, size: int | None, mode: int | None, mtime: int | None) -> None:
        self.size, self.mode, self.mtime = size, mode, mtime

    @property
    def kind(self) -> Literal["file", "dir", "link", "other"]:
        """What kind of entry it is; ``other`` also where the server does not tell."""
        mode = self.mode or 0
        if stat.S_ISREG(mode):
            return "file"
        if stat.S_ISDIR(mode):
            return "dir"
        return "link" if stat.S_ISLNK(mode) else "other"

    @property
    def incomplete(self) -> bool:
        """Whether the server does not tell all that is asked of a file."""
        return self.mode is None or self.mtime is None or (self.size is None and self.kind == "file")

    def fill(self, other: Attributes) -> None:
        """Take over what is not known yet."""
        for name in self.__slots__:
            if getattr(self, name) is None:
                setattr(self, name, getattr(other, name))

    def entry(self, name: str) -> Entry:
        """Return it as an entry of a folder."""
        fault, size = None, self.size if self.kind == "file" else self.size or 0
        if self.mode is None:
            fault = Fault("ENDPOINT_ERROR", f"The server does not report whether {name} is a file, a folder or a link.")
        return Entry(name, self.kind, size, None if self.mtime is None else float(self.mtime), fault)

    @classmethod
    def of(cls, body: bytes, offset: int = 0) -> tuple[Attributes, int]:
        """Decode attributes; return them, and where they end."""
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
    """Yield the names of a listing, or of a path or link that was looked up, with what is told of each."""
    (count,) = struct.unpack_from(">I", body)
    offset = 4
    for _ in range(count):
        name, offset = _text(body, offset)
        _, offset = _text(body, offset)
        facts, offset = Attributes.of(body, offset)
        yield os.fsdecode(name), facts


def extensions(body: bytes) -> dict[str, bytes]:
    """Return the extensions that the server announces in its first answer."""
    found, offset = {}, 0
    # The rest, if it is not a pair of texts, is not an extension.
    with suppress(struct.error):
        while offset < len(body):
            name, offset = _text(body, offset)
            found[name.decode(errors="replace")], offset = _text(body, offset)
    return found
