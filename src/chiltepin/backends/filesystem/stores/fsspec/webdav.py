"""A WebDAV server as a filesystem of fsspec, by webdav4, with changes for stored bytes and a rename that replaces.

webdav4 decodes content encodings, so that a file that is stored compressed gets another size than the server reports;
its ``mv`` copies and deletes, and does not replace; it cannot read an escaped path, which is the only way to write a
name such as ``a%20b``; and it does not follow the redirect of Apache for a folder without a slash.
"""

from __future__ import annotations

import errno
import os
import weakref
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from webdav4.client import HTTPError, MultiStatusError, ResourceAlreadyExists
from webdav4.fsspec import WebdavFileSystem

from chiltepin.backends.filesystem.errors import Fault
from chiltepin.backends.filesystem.store import BLOCK
from chiltepin.backends.filesystem.stores.fsspec.files import renamed
from chiltepin.backends.filesystem.stores.fsspec.option_values import is_number, seconds, tls_context
from chiltepin.backends.filesystem.stores.fsspec.webdav_errors import answered, translating
from chiltepin.backends.filesystem.stores.objects.client import known_options
from chiltepin.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["DavFileSystem"]

#: The options: those of webdav4's client and of httpx that a settings file can hold.
_KNOWN = ("base_url", "auth", "headers", "cookies", "verify", "cert", "trust_env", "proxy", "timeout", "max_redirects")

#: Options that only tune the clients.
_UNUSED = ("follow_redirects", "retry", "chunk_size", "http2", "use_listings_cache", "skip_instance_cache")


class DavFileSystem(WebdavFileSystem):  # type: ignore[misc] # webdav4 may not be installed
    """The files of a WebDAV server; for options see ``webdav4.fsspec.WebdavFileSystem``."""

    cachable = False

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"follow_redirects": True, **_checked(options)})
        # Not left to garbage collection, which may finalize the sockets first, each with a warning.
        weakref.finalize(self, self.client.http.close)
        self.client.http.send = partial(answered, self.client.http.send)
        self.client.propfind = partial(_found, self.client.propfind)
        self.client.request = partial(_done, self.client.request)

    def ls(self, path: str, detail: bool = True, **options: Any) -> list[Any]:  # noqa: FBT001, FBT002 - fsspec's
        """List a folder; an entry outside it is an error, because its name would be used in the folder."""
        found: list[Any] = super().ls(path, detail=True, **options)
        above = unquote(self._strip_protocol(path)).strip("/")
        if any(info["name"].strip("/").rpartition("/")[0] != above for info in found):
            raise Fault("ENDPOINT_ERROR", f"The WebDAV server lists an entry that is not in {above or '/'}.")
        return found if detail else [info["name"] for info in found]

    def open(self, path: str, mode: str = "rb", **options: Any) -> Any:
        """Open a file to read or write it from start to end."""
        return _Download(self.client, path) if mode == "rb" else super().open(path, mode, **options)

    def mv(self, path1: str, path2: str, **options: Any) -> None:
        """Rename, replacing an existing file."""
        del options
        try:
            self.client.move(path1, path2)
        except ResourceAlreadyExists:
            # Some servers truncate the new name, say at a question mark. It may then be another file, which must stay.
            replacing = self.exists(path2)
        else:
            return
        if not replacing:
            raise renamed(unquote(path2.rpartition("/")[2]))
        self.client.move(path1, path2, overwrite=True)


def _checked(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options, checked; a mistake is a ConfigError."""
    known_options("WebDAV", options, _KNOWN, _UNUSED)
    told = {name: value for name, value in options.items() if name not in _UNUSED}
    base, auth = told.get("base_url"), told.get("auth")
    if not isinstance(base, str) or not base.startswith(("http://", "https://")):
        raise ConfigError("WebDAV needs the option base_url, the server's URL; write one such as 'https://host/dav'.")
    if isinstance(auth, list | tuple):
        # A list in the settings.
        if len(auth) != len(("user", "password")):
            raise ConfigError("WebDAV's option auth must be a list of a user name and a password.")
        told["auth"] = tuple(map(str, auth))
    if is_number(told.get("timeout", "")) or isinstance(told.get("timeout"), str):
        told["timeout"] = seconds("WebDAV", told["timeout"])
    if isinstance(told.get("verify"), str):
        told["verify"] = tls_context("WebDAV", told["verify"])
    return told


def _done(request: Callable[..., Any], *asked: Any, **options: Any) -> Any:
    """Send a request; one that is only partly done is a ``Fault``."""
    try:
        return request(*asked, **options)
    except MultiStatusError:
        failure = Fault("ENDPOINT_ERROR", "The WebDAV server did only a part of a request (status 207); run it again.")
    raise failure


def _found(propfind: Callable[..., Any], *asked: Any, **options: Any) -> Any:
    """Return the complete PROPFIND response for a path.

    Raises
    ------
    Fault
        If the server reports that it omits entries (RFC 6578, 3.6; some servers do so for PROPFIND).
    """
    found = propfind(*asked, **{"follow_redirects": True, **options})
    told = [status.text or "" for status in found.tree.findall("{DAV:}response/{DAV:}status")]
    hrefs = {href.text for href in found.tree.findall("{DAV:}response/{DAV:}href")}
    # webdav4 keeps only the last of two entries that it takes for the same.
    if any(" 507 " in f"{status} " for status in told) or len(hrefs) > len(found.responses):
        raise Fault("LIMIT_EXCEEDED", "The WebDAV server lists only a part of a folder; name the files one by one.")
    return found


class _Download:
    def __init__(self, client: Any, path: str) -> None:
        asked = client.http.stream("GET", client.join_url(path), headers={"Accept-Encoding": "identity"})
        self._asked, self._rest, self._host = asked, b"", client.base_url.host
        response = asked.__enter__()
        if response.status_code != HTTPStatus.OK:
            self.close()
            if response.status_code == HTTPStatus.NOT_FOUND:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
            raise HTTPError(response)
        self._pieces = response.iter_raw(BLOCK)

    def read(self, count: int) -> bytes:
        """Read ``count`` bytes; fewer only at the end."""
        with translating(self._host):
            while len(self._rest) < count and (piece := next(self._pieces, b"")):
                self._rest += piece
        data, self._rest = self._rest[:count], self._rest[count:]
        return data

    def close(self) -> None:
        """End the request."""
        self._asked.__exit__(None, None, None)
