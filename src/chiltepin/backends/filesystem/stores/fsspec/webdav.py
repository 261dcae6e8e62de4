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


class DavFileSystem(WebdavFileSystem):  # type: ignore[misc] # webdav4 may not be installed
    """The files of a WebDAV server; for options see ``webdav4.fsspec.WebdavFileSystem``."""

    cachable = False

    def __init__(self, base_url: str, **options: Any) -> None:
        super().__init__(base_url, **{"follow_redirects": True, **options})
        # Not left to garbage collection, which may finalize the sockets first, each with a warning.
        weakref.finalize(self, self.client.http.close)
        self.client.propfind = partial(_found, self.client.propfind)

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
        self._asked, self._rest = asked, b""
        response = asked.__enter__()
        if response.status_code != HTTPStatus.OK:
            self.close()
            if response.status_code == HTTPStatus.NOT_FOUND:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
            raise HTTPError(response)
        self._pieces = response.iter_raw(BLOCK)

    def read(self, count: int) -> bytes:
        """Read ``count`` bytes; fewer only at the end."""
        while len(self._rest) < count and (piece := next(self._pieces, b"")):
            self._rest += piece
        data, self._rest = self._rest[:count], self._rest[count:]
        return data

    def close(self) -> None:
        """End the request."""
        self._asked.__exit__(None, None, None)
