"""A web server as a store that can be read.

A file is got in parts at once where the server gives ranges and tells its contents apart (an ETag, or a time of last
modification): each part is asked for with ``If-Range`` (RFC 9110, 13.1.5), so that parts of two contents are never put
together. From any other server it is got in order. Listings are refused, unless the server sends an index page of the
usual kind. No message names a URL: it may hold a key.
"""

from __future__ import annotations

import errno
import os
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn
from urllib.parse import quote, unquote, urljoin, urlsplit, urlunsplit

import urllib3
from urllib3.exceptions import HTTPError, LocationValueError, NewConnectionError, ProtocolError, SSLError
from urllib3.exceptions import TimeoutError as UrllibTimeoutError

from chiltepin.backends.filesystem.errors import Fault
from chiltepin.backends.filesystem.store import Entry
from chiltepin.backends.filesystem.stores.http.index_page import Listed, absolute, listed
from chiltepin.backends.filesystem.stores.http.reader import HttpReader, mtime_of, total_of
from chiltepin.backends.filesystem.stores.proxies import proxy_for
from chiltepin.backends.filesystem.temp_names import is_draft
from chiltepin.errors import ConfigError, suggest
from chiltepin.paths import joined

if TYPE_CHECKING:
    from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
    from types import TracebackType

    from typing_extensions import Self

    from chiltepin.backends.filesystem.store import Folder, Store, Wish
    from chiltepin.paths import Parts

__all__ = ["Got", "HttpStore", "Page"]

#: Bytes of an index page that is no nonsense.
_PAGE = 64 << 20

#: Redirects in a row after which a server is taken for lost; curl's limit is 50, browsers' about 20.
_REDIRECTS = 10

_KNOWN = ("headers",)

#: Answers that ask for another try (RFC 9110, 15.5.9; RFC 6585, 4; RFC 8470, 5.2).
_BUSY = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS)

#: Bytes of an answer that are read to their end, so that the connection can be used again.
_SHORT = 1 << 16

#: What a URL may hold as it is; anything else in a redirect is escaped.
_URL = "%/:=&?~#+!$,;'@()*[]"


class Page(NamedTuple):
    """What is asked for."""

    url: str
    #: What messages call it.
    where: str


class Got(NamedTuple):
    """An answer, its body not read, and the URL that it came from after all redirects."""

    answer: urllib3.BaseHTTPResponse
    url: str

    @property
    def is_folder(self) -> bool:
        """Whether it came from a URL that ends in a slash."""
        return urlsplit(self.url).path.endswith("/")


class UnavailableError(Fault):
    """The server cannot answer now."""


class HttpFolder:
    """What is below one URL."""

    #: A folder has one name here.
    identity = None

    def __init__(self, store: HttpStore, parts: Parts) -> None:
        self._store, self._parts = store, parts
        self._page = Page(store.url(parts, folder=True), joined(parts))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing is held."""

    def entries(self, *, drafts: bool = False) -> Iterator[Entry]:
        """Yield what an index page lists; sizes and times that it does not tell are asked for, file by file."""
        del drafts
        got = self._store.ask("GET", self._page)
        page = self._store.body(got.answer, _PAGE + 1, decode=True)
        headers, where = got.answer.headers, self._page.where
        if len(page) > _PAGE:
            # Half of it would be taken for the whole, and what is not in it for what is not there.
            got.answer.close()
            raise Fault(
                "LIMIT_EXCEEDED", f"The index page of {where} is longer than 64 MiB; name the files one by one."
            )
        # Files are asked for where the index was, since a server may send on the folder alone.
        self._page = self._page._replace(url=urljoin(got.url, "."))
        told = "Content-Encoding" not in headers and ("Content-Length" in headers or "Transfer-Encoding" in headers)
        for line in listed(page, headers, got.url, where, told=told):
            if not is_draft(line.name):
                yield self._listed(line)

    def _listed(self, line: Listed) -> Entry:
        """Return the entry of a line of the index."""
        if line.kind == "dir":
            return Entry(line.name, "dir")
        if line.kind == "other":
            reason = f"The index of {self._page.where} lists {line.name}, which {line.why}; name its file by itself."
            return Entry(line.name, "other", None, fault=Fault("ENDPOINT_ERROR", reason) if line.why else None)
        if line.known:
            return Entry(line.name, "file", line.size, line.mtime)
        try:
            return self._asked(line.name)
        except (Fault, FileNotFoundError):
            # It is listed, and so it is there: opening it tells by itself what is wrong.
            return Entry(line.name, "file", None)

    def _asked(self, name: str) -> Entry:
        """Ask for an entry; what the server sends on to a URL that ends in a slash is a folder."""
        got = self._store.head(self._below(name))
        if got.is_folder:
            return Entry(name, "dir")
        return Entry(name, "file", total_of(got.answer), mtime_of(got.answer))

    def _below(self, name: str) -> Page:
        root = urlsplit(self._page.url)
        path = root.path + quote(name, safe="", errors="surrogateescape")
        return Page(urlunsplit(root._replace(path=path, query=self._store.query)), joined((*self._parts, name)))

    def entry(self, name: str) -> Entry | None:
        """Return one entry, or None."""
        try:
            return self._asked(name)
        except FileNotFoundError:
            return None

    def read(self, name: str) -> HttpReader:
        """Open a file."""
        return HttpReader(self._store, self._below(name))

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
        self.times, self.writable = False, False
        self.width = self.least = 16
        #: What the root's URL has behind its path, such as a signature; every request has it.
        self.query = self._root.query
        self._headers = headers
        #: Connections, by the proxy that they go through.
        self._pools: dict[str | None, urllib3.PoolManager] = {}
        #: Whether HEAD is answered; some servers refuse it, and a signed URL is for one method.
        self._heads = True

    def _pool(self, url: str) -> urllib3.PoolManager:
        """Return the connections, through the proxy that the environment names for the host of a URL."""
        proxy = proxy_for(url)
        if proxy not in self._pools:
            timeout = urllib3.Timeout(connect=30, read=60)
            if proxy is not None and not proxy.startswith(("http://", "https://")):
                raise Fault(
                    "CONNECT_FAILED", "The environment names a proxy that is not an HTTP proxy; use one that is."
                )
            if proxy is None:
                made = urllib3.PoolManager(maxsize=self.width, timeout=timeout)
            else:
                user, at, _ = urlsplit(proxy).netloc.rpartition("@")
                headers = urllib3.make_headers(proxy_basic_auth=unquote(user)) if at else None
                made = urllib3.ProxyManager(proxy, maxsize=self.width, timeout=timeout, proxy_headers=headers)
            self._pools.setdefault(proxy, made)
        return self._pools[proxy]

    def url(self, parts: Parts, *, folder: bool = False) -> str:
        """Return the URL of a place."""
        names = (quote(name, safe="", errors="surrogateescape") for name in parts)
        path = "/".join((self._root.path.rstrip("/"), *names))
        slash = "/" if folder or not parts else ""
        return urlunsplit((self._root.scheme, self._root.netloc, path + slash, self.query, ""))

    def ask(self, method: str, page: Page, headers: Mapping[str, str] | None = None) -> Got:
        """Return the answer, after all redirects.

        Raises
        ------
        OSError, Fault
            For an answer that is none of a file.
        """
        url = page.url
        for _ in range(_REDIRECTS + 1):
            answer = self._once(method, url, headers or {}, page.where)
            location = answer.get_redirect_location()
            if not location:
                return Got(self._good(answer, page.where, ranged=bool(headers)), url)
            if method == "HEAD" or (total_of(answer) or _SHORT + 1) <= _SHORT:
                answer.drain_conn()
            else:
                answer.close()
            url = _sent_on(url, location, page.where)
        raise Fault("ENDPOINT_ERROR", f"Too many redirects from the web server for {page.where}.")

    def _once(self, method: str, url: str, headers: Mapping[str, str], where: str) -> urllib3.BaseHTTPResponse:
        """Send one request; what proves who we are goes to the server of the root only."""
        # Not "gzip": a range, a size and a checksum are of the file as it is.
        given = {"Accept-Encoding": "identity", **headers}
        target = urlsplit(url)
        if (target.scheme, target.netloc) == (self._root.scheme, self._root.netloc):
            given = {**given, **self._headers}
        pool = self._pool(url)
        try:
            return pool.request(method, url, headers=given, retries=False, preload_content=False, redirect=False)
        except HTTPError as err:
            failure = _failure(err, where)
        # Raised here: urllib3's own errors name the URL.
        raise failure

    @staticmethod
    def _good(answer: urllib3.BaseHTTPResponse, where: str, *, ranged: bool) -> urllib3.BaseHTTPResponse:
        """Return an answer that is one of a file; 202 and 204, for instance, are none."""
        good = {HTTPStatus.OK, HTTPStatus.NON_AUTHORITATIVE_INFORMATION}
        if ranged:
            good |= {HTTPStatus.PARTIAL_CONTENT, HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE}
        if answer.status in good:
            return answer
        answer.close()
        raise _refusal(answer.status, where)

    def head(self, page: Page) -> Got:
        """Ask for what is known of a file; by GET where the server refuses HEAD."""
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
        """Read so much of an answer, or what is left; as it is stored, unless it is to be decoded."""
        try:
            data = answer.read(count, decode_content=decode)
            # Short of that at the end only, which has to be seen: an answer may be shorter than it said.
            while 0 < len(data) < count and (more := answer.read(count - len(data), decode_content=decode)):
                data += more
        except HTTPError as err:
            failure = _failure(err, "a file")
        else:
            return data
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

    def holders(self, parts: Parts) -> Collection[Hashable]:
        """Return none: a folder has one name here."""
        del parts
        return ()

    def links(self) -> Collection[tuple[Hashable, str]]:
        """Return none: a link on the way to the root is the server's."""
        return ()


def _sent_on(url: str, location: str, where: str) -> str:
    """Return the URL that a redirect leads to."""
    try:
        # A header is bytes, which Python gives as Latin-1 (RFC 9110, 5.5); those of a URL may be in UTF-8, not escaped.
        url = absolute(url, quote(location.encode("latin-1", "replace"), safe=_URL))
        if urlsplit(url).scheme in ("http", "https") and urlsplit(url).hostname:
            return url
    except ValueError:
        pass
    raise Fault("ENDPOINT_ERROR", f"The web server redirects to what is not a web server, for {where}.")


def _refusal(status: int, where: str) -> Exception:
    """Return what an answer means that is none of a file."""
    if status in (HTTPStatus.NOT_FOUND, HTTPStatus.GONE):
        return FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return Fault("PERMISSION_DENIED", f"The web server does not give {where} to us (status {status}).")
    if status in _BUSY or (status >= HTTPStatus.INTERNAL_SERVER_ERROR and status != HTTPStatus.NOT_IMPLEMENTED):
        return UnavailableError("ENDPOINT_ERROR", f"The web server cannot give {where} now (status {status}).")
    return Fault("ENDPOINT_ERROR", f"The web server answers with status {status} to what asks for {where}.")


def _failure(error: HTTPError, where: str) -> Exception:
    """Return an error of ours for one of urllib3's, without its URL."""
    if isinstance(error, SSLError):
        return Fault("CONNECT_FAILED", f"The certificate of the web server that has {where} is not to be trusted.")
    # In some versions a connection that is refused is a kind of timeout.
    if isinstance(error, UrllibTimeoutError) and not isinstance(error, NewConnectionError):
        return TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))
    if isinstance(error, ProtocolError):
        return ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
    if isinstance(error, LocationValueError):
        return Fault("ENDPOINT_ERROR", f"The web server redirects to what is not a web server, for {where}.")
    return ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
