"""A web server as a store that can be read.

A file is got in parts at once where the server gives ranges and tells its contents apart (an ETag, or a time of last
modification): each part is asked for with ``If-Range`` (RFC 9110, 13.1.5), so that parts of two contents are never put
together. From any other server it is got in order. Listings are refused, unless the server sends an index page of the
usual kind. No message names a URL: it may hold a key.
"""

from __future__ import annotations

import errno
import os
import re
from html.parser import HTMLParser
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import quote, unquote, urlsplit, urlunsplit
from urllib.request import getproxies, proxy_bypass

import urllib3
from urllib3.exceptions import (
    HTTPError,
    LocationValueError,
    MaxRetryError,
    NewConnectionError,
    ProtocolError,
    SSLError,
)
from urllib3.exceptions import (
    TimeoutError as UrllibTimeoutError,
)

from chiltepin.backends.filesystem.faults import Fault
from chiltepin.backends.filesystem.http_reader import HttpReader, mtime_of
from chiltepin.backends.filesystem.names import is_draft
from chiltepin.backends.filesystem.store import Entry, sound
from chiltepin.errors import ConfigError, suggest
from chiltepin.paths import joined

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from types import TracebackType

    from typing_extensions import Self

    from chiltepin.backends.filesystem.store import Folder, Store, Wish
    from chiltepin.paths import Parts

__all__ = ["HttpStore"]

#: Bytes of an index page that is no nonsense.
_PAGE = 64 << 20

#: Redirects in a row after which a server is taken for lost; curl's limit is 50, browsers' about 20.
_REDIRECTS = 10

_KNOWN = ("headers",)
_INDEX = re.compile(rb"<title>\s*(index of|directory listing for)\b", re.IGNORECASE)


class UnavailableError(Fault):
    """The server cannot answer now."""


class _Links(HTMLParser):
    """The targets of the links of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.targets: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep the target of a link."""
        if tag == "a":
            self.targets += [value for name, value in attrs if name == "href" and value]


class HttpFolder:
    """What is below one URL."""

    def __init__(self, store: HttpStore, parts: Parts) -> None:
        self._store, self._parts = store, parts

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing is held."""

    def entries(self, *, drafts: bool = False) -> Iterator[Entry]:
        """Yield what an index page lists; sizes and times are asked for, file by file."""
        del drafts
        answer = self._store.ask("GET", self._parts, folder=True)
        page = self._store.body(answer, _PAGE + 1)
        if len(page) > _PAGE:
            # Half of it would be taken for the whole, and what is not in it for what is not there.
            answer.close()
            where = joined(self._parts)
            raise Fault(
                "LIMIT_EXCEEDED", f"The index page of {where} is longer than 64 MiB; name the files one by one."
            )
        if "html" not in answer.headers.get("Content-Type", "") or not _INDEX.search(page[:4096]):
            where = joined(self._parts)
            raise Fault("ENDPOINT_ERROR", f"The web server sends no index of {where}; name the files one by one.")
        links = _Links()
        links.feed(page.decode(errors="replace"))
        here = urlsplit(self._store.url(self._parts, folder=True)).path
        for name, is_folder in sorted({link for target in links.targets if (link := _child(target, here))}):
            entry = Entry(name, "dir") if is_folder else self.entry(name)
            if entry is not None:
                yield entry

    def entry(self, name: str) -> Entry | None:
        """Return one entry, or None; what the server sends on to a URL that ends in a slash is a folder."""
        parts = (*self._parts, name)
        try:
            answer = self._store.ask("HEAD", parts)
        except FileNotFoundError:
            return None
        answer.release_conn()
        told = answer.headers.get("Content-Length", "")
        path = urlsplit(answer.geturl() or "").path
        if path.endswith("/"):
            return Entry(name, "dir")
        return Entry(name, "file", int(told) if told.isdecimal() else 0, mtime_of(answer))

    def read(self, name: str) -> HttpReader:
        """Open a file."""
        return HttpReader(self._store, (*self._parts, name))

    def take(self, origin: Folder, entry: Entry, name: str, wish: Wish) -> NoReturn:
        """Refuse."""
        del origin, entry, wish
        raise _read_only(name)

    def at_once(self, entry: Entry) -> None:
        """Have no shorter way."""
        del entry

    def draft(self, name: str, *, size: int | None = None, mark: str = "") -> NoReturn:
        """Refuse."""
        del size, mark
        raise _read_only(name)

    def remove(self, name: str) -> NoReturn:
        """Refuse."""
        raise _read_only(name)

    def remove_all(self, names: Sequence[str]) -> Iterator[tuple[str, Exception]]:
        """Refuse each of them."""
        return ((name, _read_only(name)) for name in names)

    def remove_folder(self, name: str) -> NoReturn:
        """Refuse."""
        raise _read_only(name)


def _read_only(name: str) -> Fault:
    return Fault("PERMISSION_DENIED", f"{name} is on a web server, which can only be read; write to another endpoint.")


def _child(target: str, here: str) -> tuple[str, bool] | None:
    """Return the name that a link of an index page gives to something right below it, and whether that is a folder."""
    parts = urlsplit(target)
    if parts.scheme or parts.netloc or parts.query:
        return None
    path = parts.path.removeprefix(here) if parts.path.startswith("/") else parts.path.removeprefix("./")
    name = unquote(path.removesuffix("/"))
    if not sound(name) or is_draft(name):
        return None
    return name, path.endswith("/")


class HttpStore:
    """The files below a URL of a web server.

    Parameters
    ----------
    url : str
        ``https://host/path``.
    options : mapping
        ``headers``: what is sent with every request to this server, such as ``Authorization``; not sent elsewhere
        when the server sends us on.

    Raises
    ------
    ConfigError
        For an option that is not known, or a password in the URL.
    """

    def __init__(self, url: str, options: Mapping[str, Any]) -> None:
        for option in options:
            if option not in _KNOWN:
                raise ConfigError(f"A web server has no option {option!r}; {suggest(option, _KNOWN)}")
        self._root = urlsplit(url)
        if self._root.username or self._root.password:
            raise ConfigError("A URL takes no password here; give headers: {Authorization: {env: NAME}} as an option.")
        headers = {str(name): str(value) for name, value in options.get("headers", {}).items()}
        retries = urllib3.Retry(
            total=None,
            connect=0,
            read=0,
            status=0,
            other=0,
            redirect=_REDIRECTS,
            remove_headers_on_redirect=frozenset(headers) | urllib3.Retry.DEFAULT_REMOVE_HEADERS_ON_REDIRECT,
        )
        self.times, self.writable = False, False
        self.width = self.least = 16
        # Not "gzip": a range, a size and a checksum are of the file as it is.
        headers.setdefault("Accept-Encoding", "identity")
        self._headers, self._retries = headers, retries
        self._pool = self._manager()

    def _manager(self) -> urllib3.PoolManager:
        """Return the connections, through the proxy that the environment names for this host."""
        timeout = urllib3.Timeout(connect=30, read=60)
        proxy = getproxies().get(self._root.scheme)
        if proxy and not proxy_bypass(self._root.hostname or ""):
            return urllib3.ProxyManager(proxy, maxsize=self.width, timeout=timeout)
        return urllib3.PoolManager(maxsize=self.width, timeout=timeout)

    def url(self, parts: Parts, *, folder: bool = False) -> str:
        """Return the URL of a place."""
        path = "/".join((self._root.path.rstrip("/"), *(quote(name, safe="") for name in parts)))
        slash = "/" if folder or not parts else ""
        return urlunsplit((self._root.scheme, self._root.netloc, path + slash, self._root.query, ""))

    def ask(
        self, method: str, parts: Parts, headers: Mapping[str, str] | None = None, *, folder: bool = False
    ) -> urllib3.BaseHTTPResponse:
        """Return the answer, its body not read.

        Raises
        ------
        OSError, Fault
            For an answer that is none of a file.
        """
        try:
            answer = self._pool.request(
                method,
                self.url(parts, folder=folder),
                headers={**self._headers, **(headers or {})},
                retries=self._retries,
                preload_content=False,
                redirect=True,
            )
        except (HTTPError, LocationValueError) as err:
            failure = _failure(err, joined(parts))
        else:
            status = answer.status
            if status < 300 or (status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and headers):  # noqa: PLR2004 - 2xx
                return answer
            answer.close()
            failure = _refusal(status, joined(parts))
        # Raised here: urllib3's own errors name the URL.
        raise failure

    def body(self, answer: urllib3.BaseHTTPResponse, count: int) -> bytes:
        """Read so much of an answer, or what is left."""
        try:
            return answer.read(count)
        except HTTPError as err:
            failure = _failure(err, "a file")
        raise failure

    def transient(self, error: Exception) -> bool:
        """See `Store.transient`."""
        return isinstance(error, ConnectionError | TimeoutError | UnavailableError)

    def resolve(self, parts: Parts, *, follow: bool) -> Parts:
        """Return the same place: there are no links that we could see."""
        del follow
        return parts

    def folder(self, parts: Parts, *, create: bool = False) -> HttpFolder:
        """Return what is below a URL, whether anything is there or not."""
        if create:
            raise _read_only(joined(parts))
        return HttpFolder(self, parts)

    def enter(self, parts: Parts, *, create: bool = False) -> tuple[Parts, HttpFolder]:
        """See `Store.enter`."""
        return parts, self.folder(parts, create=create)

    def contains(self, parts: Parts, other: Store, other_parts: Parts) -> bool:
        """Compare the two URLs."""
        if not isinstance(other, HttpStore):
            return False
        return other.url(other_parts, folder=True).startswith(self.url(parts, folder=True))


def _refusal(status: int, where: str) -> Exception:
    """Return what an answer means that is none of a file."""
    if status in (HTTPStatus.NOT_FOUND, HTTPStatus.GONE):
        return FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return Fault("PERMISSION_DENIED", f"The web server does not give {where} to us (status {status}).")
    busy = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS)
    if status in busy or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return UnavailableError("ENDPOINT_ERROR", f"The web server cannot give {where} now (status {status}).")
    return Fault("ENDPOINT_ERROR", f"The web server answers with status {status} to what asks for {where}.")


def _failure(error: Exception, where: str) -> Exception:
    """Return an error of ours for one of urllib3's, without its URL."""
    reason = error.reason if isinstance(error, MaxRetryError) else error
    if isinstance(reason, SSLError):
        return Fault("CONNECT_FAILED", f"The certificate of the web server that has {where} is not to be trusted.")
    # In some versions a connection that is refused is a kind of timeout.
    if isinstance(reason, UrllibTimeoutError) and not isinstance(reason, NewConnectionError):
        return TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))
    if isinstance(reason, ProtocolError):
        return ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
    if isinstance(error, LocationValueError) or isinstance(reason, LocationValueError):
        return Fault("ENDPOINT_ERROR", f"The web server sends on to what is no web server, for {where}.")
    if isinstance(error, MaxRetryError) and "redirect" in str(reason):
        return Fault("ENDPOINT_ERROR", f"The web server sends on and on, for {where}.")
    return ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
