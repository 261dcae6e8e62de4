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

from webdav4.client import HTTPError, ResourceAlreadyExists
from webdav4.fsspec import WebdavFileSystem

from chiltepin.backends.filesystem.errors import Fault
from chiltepin.backends.filesystem.store import BLOCK
from chiltepin.backends.filesystem.stores.fsspec.files import renamed

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["DavFileSystem"]


class DavFileSystem(WebdavFileSystem):  # type: ignore[misc] # webdav4 need not be there
    """The files of a WebDAV server; for options see ``webdav4.fsspec.WebdavFileSystem``."""

    cachable = False

    def __init__(self, base_url: str, **options: Any) -> None:
        super().__init__(base_url, **{"follow_redirects": True, **options})
        # Not left to the collector, which may finalize the sockets first, each with a warning.
        weakref.finalize(self, self.client.http.close)
        self.client.propfind = partial(_found, self.client.propfind)

    def ls(self, path: str, detail: bool = True, **options: Any) -> list[Any]:  # noqa: FBT001, FBT002 - fsspec's
        """List a folder; an entry that is not directly in it is an error, as its name would be read in it."""
        found: list[Any] = super().ls(path, detail=True, **options)
        above = unquote(self._strip_protocol(path)).strip("/")
        if any(info["name"].strip("/").rpartition("/")[0] != above for info in found):
            raise Fault("ENDPOINT_ERROR", f"The WebDAV server lists an entry that is not in {above or '/'}.")
        return found if detail else [info["name"] for info in found]

    def open(self, path: str, mode: str = "rb", **options: Any) -> Any:
        """Open a file, to be read or written from its start to its end."""
        return _Download(self.client, path) if mode == "rb" else super().open(path, mode, **options)

    def mv(self, path1: str, path2: str, **options: Any) -> None:
        """Rename, in place of what has the name."""
        del options
        try:
            self.client.move(path1, path2)
        except ResourceAlreadyExists:
            # Some servers cut the new name, say at a question mark: that may be another file, which is not replaced.
            replacing = self.exists(path2)
        else:
            return
        if not replacing:
            raise renamed(unquote(path2.rpartition("/")[2]))
        self.client.move(path1, path2, overwrite=True)


def _found(propfind: Callable[..., Any], *asked: Any, **options: Any) -> Any:
    """Return what a server knows of a path, all of it.

    Raises
    ------
    Fault
        If it says that it leaves something out (RFC 6578, 3.6, and the servers that do so for PROPFIND).
    """
    found = propfind(*asked, **{"follow_redirects": True, **options})
    told = [status.text or "" for status in found.tree.findall("{DAV:}response/{DAV:}status")]
    hrefs = {href.text for href in found.tree.findall("{DAV:}response/{DAV:}href")}
    # Of two that webdav4 takes for one it keeps the last.
    if any(" 507 " in f"{status} " for status in told) or len(hrefs) > len(found.responses):
        raise Fault("LIMIT_EXCEEDED", "The WebDAV server lists only a part of a folder; name the files one by one.")
    return found


class _Download:
    def __init__(self, client: Any, path: str) -> None:
        asked = client.http.stream("GET", client.join_url(path), headers={"Accept-Encoding": "identity"})
        self._asked, self._rest = asked, b""
        response = asked.__enter__()
        if response.status_code != HTTPStatus.OK:
            self.close()
            if response.status_code == HTTPStatus.NOT_FOUND:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
            raise HTTPError(response)
        self._pieces = response.iter_raw(BLOCK)

    def read(self, count: int) -> bytes:
        """Read so many bytes; fewer only at the end."""
        while len(self._rest) < count and (piece := next(self._pieces, b"")):
            self._rest += piece
        data, self._rest = self._rest[:count], self._rest[count:]
        return data

    def close(self) -> None:
        """End the request."""
        self._asked.__exit__(None, None, None)
