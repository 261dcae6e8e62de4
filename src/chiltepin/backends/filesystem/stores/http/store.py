"""A web server as a read-only store.

A file is read in parallel parts if the server supports ranges and identifies its contents (an ETag, or a time of last
modification): each part is requested with ``If-Range`` (RFC 9110, 13.1.5), so that parts of two contents are never
mixed. From any other server it is read in order. Listings are refused, unless the server sends a usual index page.
Messages contain no URL, because it may contain a key.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urljoin, urlsplit, urlunsplit

from chiltepin.backends.filesystem.defaults import LinkFreeStore, ReadOnlyFolder, read_only
from chiltepin.backends.filesystem.errors import Fault
from chiltepin.backends.filesystem.store import Entry
from chiltepin.backends.filesystem.stores.http.client import (
    HttpClient,
    Page,
    UnavailableError,
    mtime_of,
    total_of,
)
from chiltepin.backends.filesystem.stores.http.connections import WIDTH
from chiltepin.backends.filesystem.stores.http.index_page import Listed, listed
from chiltepin.backends.filesystem.stores.http.reader import HttpReader, MixedContentsError
from chiltepin.backends.filesystem.temp_names import is_temp_name
from chiltepin.errors import ConfigError, suggest
from chiltepin.protocol.paths import joined

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from chiltepin.backends.filesystem.store import Store
    from chiltepin.protocol.paths import Parts

__all__ = ["HttpStore"]

#: Most bytes of an index page.
_PAGE = 64 << 20

_KNOWN = ("headers",)

#: Where the files are, in messages.
_PLACE = "on a web server"


class HttpFolder(ReadOnlyFolder):
    """The files below one URL."""

    place = _PLACE

    def __init__(self, client: HttpClient, parts: Parts) -> None:
        self._client, self._parts = client, parts
        self._page = Page(client.url(parts, folder=True), joined(parts))

    def entries(self, *, temp_files: bool = False) -> Iterator[Entry]:
        """Yield the entries of an index page; each size or time that it omits takes a request."""
        del temp_files
        got = self._client.ask("GET", self._page)
        page = self._client.body(got.answer, _PAGE + 1, decode=True)
        headers, where = got.answer.headers, self._page.where
        if len(page) > _PAGE:
            # A truncated page would pass for a complete list, and the files missing from it for deleted files.
            got.answer.close()
            raise Fault(
                "LIMIT_EXCEEDED", f"The index page of {where} is longer than 64 MiB; name the files one by one."
            )
        # Request files below the final URL of the index, since a server may redirect only the folder.
        self._page = self._page._replace(url=urljoin(got.url, "."))
        told = "Content-Encoding" not in headers and ("Content-Length" in headers or "Transfer-Encoding" in headers)
        for line in listed(page, headers, got.url, where, told=told):
            if not is_temp_name(line.name):
                yield self._listed(line)

    def _listed(self, line: Listed) -> Entry:
        if line.kind == "dir":
            return Entry(line.name, "dir")
        if line.kind == "other":
            reason = f"The index of {self._page.where} lists {line.name}, which {line.why}; transfer that file by name."
            return Entry(line.name, "other", None, fault=Fault("ENDPOINT_ERROR", reason) if line.why else None)
        if line.known:
            return Entry(line.name, "file", line.size, line.mtime)
        try:
            asked = self._asked(line.name)
        except (Fault, FileNotFoundError):
            # The file is listed, so it exists: opening it raises the error.
            return Entry(line.name, "file", None)
        if line.both and asked.kind == "file":
            reason = f"The index of {self._page.where} lists {line.name} as a file and as a folder; rename one."
            return Entry(line.name, "other", None, fault=Fault("INVALID_PATH_NAME", reason))
        return asked

    def _asked(self, name: str) -> Entry:
        """Request an entry; a redirect to a URL that ends with a slash means a folder."""
        got = self._client.head(self._below(name))
        if got.is_folder:
            return Entry(name, "dir")
        return Entry(name, "file", total_of(got.answer), mtime_of(got.answer))

    def _below(self, name: str) -> Page:
        root = urlsplit(self._page.url)
        path = root.path + quote(name, safe="", errors="surrogateescape")
        return Page(urlunsplit(root._replace(path=path, query=self._client.query)), joined((*self._parts, name)))

    def entry(self, name: str) -> Entry | None:
        """Return one entry, or None."""
        try:
            return self._asked(name)
        except FileNotFoundError:
            return None

    def read(self, name: str) -> HttpReader:
        """Open a file."""
        return HttpReader(self._client, self._below(name))


class HttpStore(LinkFreeStore[HttpFolder]):
    """The files below a URL of a web server, ``https://host/path``.

    The option ``headers``, such as ``Authorization``, is sent only to this server. An unknown option, or a password in
    the URL, raises ConfigError.
    """

    def __init__(self, url: str, options: Mapping[str, Any]) -> None:
        for option in options:
            if option not in _KNOWN:
                raise ConfigError(f"A web server has no option {option!r}; {suggest(option, _KNOWN)}")
        headers = {str(name): str(value) for name, value in options.get("headers", {}).items()}
        self.client = HttpClient(url, headers)
        self.times, self.writable = False, False
        self.width = self.least = WIDTH

    def transient(self, error: Exception) -> bool:
        """See `Store.transient`."""
        return isinstance(error, ConnectionError | TimeoutError | UnavailableError | MixedContentsError)

    def folder(self, parts: Parts, *, create: bool = False) -> HttpFolder:
        """Return the folder at a URL, whether or not it exists."""
        if create:
            raise read_only(joined(parts), _PLACE)
        return HttpFolder(self.client, parts)

    def contains(self, parts: Parts, other: Store, other_parts: Parts) -> bool:
        """Compare the two URLs."""
        if not isinstance(other, HttpStore):
            return False
        return other.client.url(other_parts, folder=True).startswith(self.client.url(parts, folder=True))
