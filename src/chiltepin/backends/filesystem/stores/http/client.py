"""Requests to a web server: credentials, redirects, and the errors for responses that are not a file.

Messages contain no URL, because it may contain a key.
"""

from __future__ import annotations

import errno
import os
import re
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote, urlsplit, urlunsplit

from urllib3.exceptions import (
    HTTPError,
    InvalidHeader,
    LocationValueError,
    NewConnectionError,
    ProtocolError,
    SSLError,
)
from urllib3.exceptions import TimeoutError as UrllibTimeoutError

from chiltepin.backends.filesystem.errors import ConnectionLostError, Fault
from chiltepin.backends.filesystem.stores.http.connections import Connections
from chiltepin.backends.filesystem.stores.http.index_page import absolute
from chiltepin.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import urllib3

    from chiltepin.protocol.paths import Parts

__all__ = ["Answer", "HttpClient", "Page", "UnavailableError", "mtime_of", "time_of", "total_of"]

#: Most redirects in a row; curl's limit is 50, browsers' about 20.
_REDIRECTS = 10

#: Statuses after which a retry may succeed (RFC 9110, 15.5.9; RFC 6585, 4; RFC 8470, 5.2).
_BUSY = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS)

#: Most bytes of a response that are read to the end, so that its connection can be reused.
_SHORT = 1 << 16

#: Characters that a URL may contain unescaped; any other in a redirect is escaped.
_URL = "%/:=&?~#+!$,;'@()*[]"

_TOTAL = re.compile(r"bytes (?:\d+-\d+|\*)/(\d+)")


class Page(NamedTuple):
    """The target of a request."""

    url: str
    #: Its name in messages.
    where: str


class Answer(NamedTuple):
    """A response, its body not read, and its URL after all redirects."""

    answer: urllib3.BaseHTTPResponse
    url: str

    @property
    def is_folder(self) -> bool:
        """Whether its URL ends with a slash."""
        return urlsplit(self.url).path.endswith("/")


class UnavailableError(Fault):
    """The server cannot answer now."""


def mtime_of(answer: urllib3.BaseHTTPResponse) -> float | None:
    """Return the time of last modification from a response, in seconds since 1970 UTC; None if it has none."""
    return time_of(answer, "Last-Modified")


def time_of(answer: urllib3.BaseHTTPResponse, header: str) -> float | None:
    """Return the time in a header, in seconds since 1970 UTC; None if there is none."""
    try:
        return parsedate_to_datetime(answer.headers[header]).timestamp()
    except (KeyError, TypeError, ValueError, OverflowError):
        return None


def total_of(answer: urllib3.BaseHTTPResponse) -> int | None:
    """Return the bytes of the whole file, of which a response may be a part; None if unknown."""
    if answer.status in (HTTPStatus.PARTIAL_CONTENT, HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE):
        found = _TOTAL.fullmatch(answer.headers.get("Content-Range", "").strip())
        return int(found[1]) if found else None
    # The same length may be sent several times (RFC 9110, 8.6).
    told, *more = {length.strip() for length in answer.headers.get("Content-Length", "").split(",")}
    # With both headers, the length must be ignored (RFC 9112, 6.3).
    return int(told) if told.isdecimal() and not more and "Transfer-Encoding" not in answer.headers else None


class HttpClient:
    """Requests below one URL of a web server, ``https://host/path``.

    The headers are sent only to this server, also after a redirect. A password in the URL raises ConfigError.
    """

    def __init__(self, url: str, headers: Mapping[str, str]) -> None:
        self._root, self._headers = urlsplit(url), headers
        if self._root.username or self._root.password:
            raise ConfigError(
                "A URL must not contain a password here; write headers: {Authorization: {env: NAME}} as an option."
            )
        #: Whether ranges are served on condition that the content is the same, by the folder's URL after redirects.
        self.serves_conditions: dict[str, bool] = {}
        #: The URLs of files to read in order, since their ranges were of several contents.
        self.in_order: set[str] = set()
        #: The query of the root's URL, such as a signature; every request has it.
        self.query = self._root.query
        self._connections = Connections()
        #: Whether the server accepts HEAD; some refuse it, and a signed URL is for one method.
        self._heads = True

    def url(self, parts: Parts, *, folder: bool = False) -> str:
        """Return the URL of a place."""
        names = (quote(name, safe="", errors="surrogateescape") for name in parts)
        path = "/".join((self._root.path.rstrip("/"), *names))
        slash = "/" if folder or not parts else ""
        return urlunsplit((self._root.scheme, self._root.netloc, path + slash, self.query, ""))

    def ask(self, method: str, page: Page, headers: Mapping[str, str] | None = None) -> Answer:
        """Return the response after all redirects; an OSError or ``Fault`` for a response that is not a file."""
        url = page.url
        for _ in range(_REDIRECTS + 1):
            answer = self._once(method, url, headers or {}, page.where)
            location = answer.get_redirect_location()
            if not location:
                return Answer(self._good(answer, page.where, ranged=bool(headers)), url)
            if method == "HEAD" or (total_of(answer) or _SHORT + 1) <= _SHORT:
                answer.drain_conn()
            else:
                answer.close()
            url = _sent_on(url, location, page.where)
        raise Fault("ENDPOINT_ERROR", f"Too many redirects from the web server for {page.where}.")

    def _once(self, method: str, url: str, headers: Mapping[str, str], where: str) -> urllib3.BaseHTTPResponse:
        """Send one request; only the server of the root gets the credentials."""
        # Not "gzip": ranges, sizes and checksums refer to the file as stored.
        given = {"Accept-Encoding": "identity", **headers}
        target = urlsplit(url)
        if (target.scheme, target.netloc) == (self._root.scheme, self._root.netloc):
            given = {**given, **self._headers}
        try:
            return self._connections.request(method, url, given)
        except HTTPError as err:
            failure = _failure(err, where)
        # Raised here: urllib3's own errors name the URL.
        raise failure

    @staticmethod
    def _good(answer: urllib3.BaseHTTPResponse, where: str, *, ranged: bool) -> urllib3.BaseHTTPResponse:
        """Return the response if it is a file; one with status 202 or 204, for instance, is not."""
        good = {HTTPStatus.OK, HTTPStatus.NON_AUTHORITATIVE_INFORMATION}
        if ranged:
            good |= {HTTPStatus.PARTIAL_CONTENT, HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE}
        if answer.status in good:
            return answer
        answer.close()
        raise _refusal(answer.status, where)

    def head(self, page: Page) -> Answer:
        """Request the headers of a file, with GET if the server refuses HEAD."""
        refused = False
        if self._heads:
            try:
                got = self.ask("HEAD", page)
            except (Fault, FileNotFoundError) as err:
                # A server that is only busy will answer HEAD again.
                refused = not isinstance(err, UnavailableError)
            else:
                got.answer.release_conn()
                return got
        got = self.ask("GET", page, {"Range": "bytes=0-0"})
        # Not read: a server without ranges sends the whole file.
        got.answer.close()
        if refused:
            self._heads = False
        return got

    def body(self, answer: urllib3.BaseHTTPResponse, count: int, *, decode: bool = False) -> bytes:
        """Read ``count`` bytes of a response, or the rest; as stored, unless ``decode`` is set."""
        try:
            data = answer.read(count, decode_content=decode)
            # Read until the end is reached, where urllib3 detects a body shorter than its Content-Length.
            while 0 < len(data) < count and (more := answer.read(count - len(data), decode_content=decode)):
                data += more
        except HTTPError as err:
            failure = _failure(err, "a file")
        else:
            return data
        raise failure


def _sent_on(url: str, location: str, where: str) -> str:
    """Return the URL that a redirect leads to."""
    try:
        # Python decodes the bytes of a header as Latin-1 (RFC 9110, 5.5); a URL in it may be unescaped UTF-8.
        url = absolute(url, quote(location.encode("latin-1", "replace"), safe=_URL))
        if urlsplit(url).scheme in ("http", "https") and urlsplit(url).hostname:
            return url
    except ValueError:
        pass
    raise Fault("ENDPOINT_ERROR", f"The web server redirects {where} to a URL that is not HTTP.")


def _refusal(status: int, where: str) -> Exception:
    if status in (HTTPStatus.NOT_FOUND, HTTPStatus.GONE):
        return FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return Fault("PERMISSION_DENIED", f"The web server denied access to {where} (status {status}).")
    if status in _BUSY or (status >= HTTPStatus.INTERNAL_SERVER_ERROR and status != HTTPStatus.NOT_IMPLEMENTED):
        return UnavailableError("ENDPOINT_ERROR", f"The web server cannot serve {where} now (status {status}).")
    return Fault("ENDPOINT_ERROR", f"The web server answered with status {status} to a request for {where}.")


def _failure(error: HTTPError, where: str) -> Exception:
    """Return our error for one of urllib3, without its URL."""
    if isinstance(error, SSLError):
        return Fault("CONNECT_FAILED", f"The certificate of the web server for {where} is not trusted.")
    # In some versions of urllib3, a refused connection is a kind of timeout.
    if isinstance(error, UrllibTimeoutError) and not isinstance(error, NewConnectionError):
        return TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))
    if isinstance(error, ProtocolError):
        return ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
    if isinstance(error, InvalidHeader):
        reason = f"The web server sends contradictory lengths for {where}; ask its operators to correct that."
        return Fault("ENDPOINT_ERROR", reason)
    if isinstance(error, LocationValueError):
        return Fault("ENDPOINT_ERROR", f"The web server redirects {where} to a URL that is not HTTP.")
    cause = error.__cause__
    # A failed name lookup has other error numbers (socket.gaierror).
    words = cause.strerror if isinstance(cause, OSError) and cause.strerror else "no connection"
    return ConnectionLostError(
        "CONNECT_FAILED", f"the web server for {where} could not be reached ({words}); run the transfer again."
    )
