"""A file of a web server, in ranges of one content or in order."""

from __future__ import annotations

import errno
import os
import re
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING

from chiltepin.backends.filesystem.faults import Fault
from chiltepin.paths import joined

if TYPE_CHECKING:
    from types import TracebackType

    import urllib3
    from typing_extensions import Self

    from chiltepin.backends.filesystem.http import HttpStore
    from chiltepin.paths import Parts

__all__ = ["HttpReader", "mtime_of"]

#: Bytes that are asked for at first: a smaller file needs no second request.
_FIRST = 1 << 20

_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")


def mtime_of(answer: urllib3.BaseHTTPResponse) -> float | None:
    """Return the time of last modification that an answer tells, in seconds since 1970 UTC; None if it tells none."""
    try:
        return parsedate_to_datetime(answer.headers["Last-Modified"]).timestamp()
    except (KeyError, TypeError, ValueError):
        return None


def _validator(answer: urllib3.BaseHTTPResponse) -> str:
    """Return what names the content for ``If-Range``: a strong ETag, else the time; empty if there is neither."""
    tag = answer.headers.get("ETag", "")
    return tag if tag.startswith('"') else answer.headers.get("Last-Modified", "")


class HttpReader:
    """A file of a web server, open for reading."""

    def __init__(self, store: HttpStore, parts: Parts) -> None:
        self._store, self._place, self._head, self._position = store, parts, b"", 0
        self.proof = ""
        answer = store.ask("GET", parts, {"Range": f"bytes=0-{_FIRST - 1}"})
        self.mtime = mtime_of(answer)
        self._validator = _validator(answer)
        self.size: int | None = None
        self._stream: urllib3.BaseHTTPResponse | None = None
        if answer.status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            self.size = 0
            answer.release_conn()
        elif answer.status == HTTPStatus.PARTIAL_CONTENT:
            self._begin(answer)
        else:
            self._whole(answer)
        self.parts = self._stream is None
        self.mark = f"{joined(parts)}:{self._validator}:{self.size}" if self._validator else ""

    def _begin(self, answer: urllib3.BaseHTTPResponse) -> None:
        """Take the first range; without a name for the content, only a whole file is good."""
        first, total = _range_of(answer)
        self._head = self._store.body(answer, _FIRST)
        self.size = total
        if first or total is None or (len(self._head) < total and not self._validator):
            self._head, self.size = b"", None
            self._whole(self._store.ask("GET", self._place))

    def _whole(self, answer: urllib3.BaseHTTPResponse) -> None:
        """Take the content in order."""
        told = answer.headers.get("Content-Length", "")
        self.size = int(told) if told.isdecimal() else None
        self._stream = answer

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._stream is not None:
            # What was not read is not waited for.
            self._stream.close()

    def read_at(self, offset: int, block: memoryview) -> int:
        """Fill the block from there; see `Reader.read_at`."""
        size = self.size or 0
        block = block[: max(0, size - offset)]
        if not block:
            return 0
        if offset + len(block) <= len(self._head):
            block[:] = self._head[offset : offset + len(block)]
            return len(block)
        headers = {"Range": f"bytes={offset}-{offset + len(block) - 1}", "If-Range": self._validator}
        answer = self._store.ask("GET", self._place, headers)
        if answer.status != HTTPStatus.PARTIAL_CONTENT or _range_of(answer) != (offset, size):
            answer.close()
            raise self._another()
        if _validator(answer) not in ("", self._validator):
            answer.close()
            raise self._another()
        data = self._store.body(answer, len(block))
        if len(data) != len(block):
            raise ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
        block[:] = data
        return len(block)

    def _another(self) -> Fault:
        name = self._place[-1]
        return Fault("FILE_SIZE_CHANGED", f"{name} changed while it was copied; move it again when it is complete.")

    def readinto(self, block: memoryview) -> int:
        """Fill the block; see `Reader.readinto`."""
        if self._stream is None:
            count = self.read_at(self._position, block)
        else:
            data = self._store.body(self._stream, len(block))
            count = len(data)
            block[:count] = data
        self._position += count
        return count

    def changed(self) -> bool:
        """Every part was asked for as one of the same content, or all came in one answer."""
        return False


def _range_of(answer: urllib3.BaseHTTPResponse) -> tuple[int, int | None]:
    """Return where a range begins, and the size of the whole; (-1, None) if that is not told."""
    found = _RANGE.fullmatch(answer.headers.get("Content-Range", "").strip())
    if found is None:
        return -1, None
    return int(found[1]), None if found[3] == "*" else int(found[3])
