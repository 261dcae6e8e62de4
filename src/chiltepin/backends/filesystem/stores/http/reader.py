"""A file of a web server, read in ranges of the same content or in order."""

from __future__ import annotations

import errno
import os
import re
from contextlib import suppress
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import urljoin

from chiltepin.backends.filesystem.errors import Fault, changed_source
from chiltepin.backends.filesystem.stores.http.client import mtime_of, time_of, total_of

if TYPE_CHECKING:
    import urllib3
    from typing_extensions import Self

    from chiltepin.backends.filesystem.stores.http.client import Answer, HttpClient, Page

__all__ = ["HttpReader", "MixedContentsError"]

#: Bytes of the first request: a smaller file needs no second one.
_FIRST = 1 << 20

#: Seconds after which the time of a file identifies its content (RFC 7232, 2.2.2). RFC 9110 requires only one, but
#: Apache compares the time in ``If-Range`` only after these (``ap_condition_if_range``).
_STRONG_AFTER = 60

#: Headers of a body whose end is marked, or whose length HEAD may not report.
_NOT_COUNTED = ("Transfer-Encoding", "Content-Encoding")

_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")


def _validator(answer: urllib3.BaseHTTPResponse) -> str:
    """Return the validator for ``If-Range``: a strong ETag, else the time; empty if there is neither."""
    tag = answer.headers.get("ETag", "")
    if tag.startswith('"'):
        return tag
    # A file may change twice in one second, and both contents then have the same time.
    now, then = time_of(answer, "Date"), mtime_of(answer)
    if now is None or then is None or now - then < _STRONG_AFTER:
        return ""
    return answer.headers["Last-Modified"]


class MixedContentsError(Fault):
    """A range is not of the same content as the first one; the next attempt reads the file in order."""

    def __init__(self, name: str) -> None:
        fault = changed_source(name)
        super().__init__(fault.code, fault.reason)


class HttpReader:
    """A file of a web server, open for reading."""

    def __init__(self, client: HttpClient, page: Page) -> None:
        self._client, self._page, self._head, self._position = client, page, b"", 0
        self.checksum = ""
        got = client.ask("GET", page, None if page.url in client.in_order else {"Range": f"bytes=0-{_FIRST - 1}"})
        #: Where the ranges are requested: each redirect may lead to another mirror, with other validators.
        self._url = got.url
        answer = got.answer
        if got.is_folder:
            answer.close()
            # Its index page is not its content.
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        self.mtime = mtime_of(answer)
        self._validator, self._coding = _validator(answer), answer.headers.get("Content-Encoding")
        # The time is not enough: a new file may have that of the old one, as after ``cp -p``.
        self.pinned = self._validator.startswith('"')
        self.size: int | None = None
        self._stream: urllib3.BaseHTTPResponse | None = None
        if answer.status == HTTPStatus.PARTIAL_CONTENT:
            self._begin(got)
        elif answer.status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            # Either the file is empty, or the server does not serve ranges of it.
            answer.close()
            self._whole(client.ask("GET", page).answer)
        else:
            self._whole(answer)
        self.parts = self._stream is None
        self.content_id = f"{page.url}:{self._validator}:{self.size}" if self.parts and self._validator else ""

    def _begin(self, got: Answer) -> None:
        """Read the first range; unless the others can be read as safely, read the whole file anew."""
        first, last, total = _range_of(got.answer)
        self._head = self._client.body(got.answer, _FIRST)
        self.size = total
        count = len(self._head)
        right = not first and last + 1 == count <= total
        if not right or (count < total and not (self._validator and self._serves_conditions())):
            got.answer.close()
            self._head, self.size = b"", None
            self._whole(self._client.ask("GET", self._page).answer)

    def _whole(self, answer: urllib3.BaseHTTPResponse) -> None:
        self.size, self.mtime = total_of(answer), mtime_of(answer)
        self._stream = answer

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if self._stream is not None:
            # This does not wait for the unread rest.
            self._stream.close()

    def read_at(self, offset: int, block: memoryview) -> int:
        """Fill the block from ``offset``; see `Reader.read_at`."""
        size = self.size or 0
        block = block[: max(0, size - offset)]
        if not block:
            return 0
        if offset + len(block) <= len(self._head):
            block[:] = self._head[offset : offset + len(block)]
            return len(block)
        answer = self._range(offset, len(block))
        if not self._is_range(answer, offset, len(block)):
            answer.close()
            self._client.in_order.add(self._page.url)
            raise MixedContentsError(self._page.where)
        data = self._client.body(answer, len(block))
        if len(data) != len(block):
            raise ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
        block[:] = data
        return len(block)

    def _range(self, offset: int, count: int) -> urllib3.BaseHTTPResponse:
        """Request a range of the same content."""
        headers = {"Range": f"bytes={offset}-{offset + count - 1}", "If-Range": self._validator}
        if self._url != self._page.url:
            # The target of a redirect may be valid for some minutes only.
            with suppress(Fault, FileNotFoundError):
                return self._client.ask("GET", self._page._replace(url=self._url), headers).answer
        got = self._client.ask("GET", self._page, headers)
        self._url = got.url
        return got.answer

    def _is_range(self, answer: urllib3.BaseHTTPResponse, offset: int, count: int) -> bool:
        """Whether a response is a range of the same content; it may have no validator."""
        return (
            answer.status == HTTPStatus.PARTIAL_CONTENT
            and _range_of(answer) == (offset, offset + count - 1, self.size)
            and answer.headers.get("Content-Encoding") == self._coding
            and self._told(answer) in ("", self._validator)
        )

    def _told(self, answer: urllib3.BaseHTTPResponse) -> str:
        """Return the validator of a response, of the kind of the first one: a weak ETag may have become strong."""
        return _validator(answer) if self.pinned else answer.headers.get("Last-Modified", "")

    def _serves_conditions(self) -> bool:
        """Whether the server serves a range on condition that the content is the same; one request for each folder."""
        # Not one for each server: it may run several programs.
        known, folder = self._client.serves_conditions, urljoin(self._url, ".")
        if folder in known:
            return known[folder]
        answer = self._range(0, 1)
        answer.close()
        served = self._is_range(answer, 0, 1)
        if served or (answer.status == HTTPStatus.OK and self._told(answer) == self._validator):
            known[folder] = served
        # Otherwise the file has just changed, or another server with other validators has answered.
        return served

    def readinto(self, block: memoryview) -> int:
        """Fill the block; see `Reader.readinto`."""
        if self._stream is None:
            count = self.read_at(self._position, block)
        else:
            data = self._client.body(self._stream, len(block))
            count = len(data)
            block[:count] = data
            if block and not count and self._ends_early(self._stream):
                raise ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
        self._position += count
        return count

    def _ends_early(self, answer: urllib3.BaseHTTPResponse) -> bool:
        """Whether a body that ends with its connection (RFC 9112, 6.3) has fewer bytes than HEAD reports."""
        if self.size is not None or any(name in answer.headers for name in _NOT_COUNTED):
            return False
        told = self._client.head(self._page).answer
        # The length that HEAD reports may be that before or after compression, or 0 where a program makes the file.
        return "Content-Encoding" not in told.headers and (total_of(told) or 0) > self._position

    def changed(self) -> bool:
        """Return False: every part was requested of the same content, or all came in one response."""
        return False


def _range_of(answer: urllib3.BaseHTTPResponse) -> tuple[int, int, int]:
    """Return the first and last byte of a range, and the size of the whole file; -1 each if unknown."""
    found = _RANGE.fullmatch(answer.headers.get("Content-Range", "").strip())
    return (int(found[1]), int(found[2]), int(found[3])) if found else (-1, -1, -1)
