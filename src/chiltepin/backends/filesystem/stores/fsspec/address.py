"""Where the root of a store of fsspec is: the server and the folder, known without a request to the server."""

from __future__ import annotations

from dataclasses import dataclass
from posixpath import normpath
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from fsspec import get_filesystem_class

from chiltepin.backends.filesystem.stores.fsspec.ftp import FtpFileSystem
from chiltepin.backends.filesystem.stores.same_server import same_host
from chiltepin.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chiltepin.protocol.paths import Parts

__all__ = ["OURS", "Address", "address_of"]

#: Schemes whose filesystems are implemented here.
OURS = ("dav", "ftp", "webdav")

#: The ports that a URL need not name, each stated as 0.
_USUAL = {"ftp": 21, "http": 80, "https": 443, "smb": 445}

#: Options that decide which files of a server are visible.
_LOGIN = ("username", "user", "auth")


#: Filesystems of fsspec that wrap another one: why an endpoint must not use them.
_CACHES = dict.fromkeys(("simplecache", "filecache", "blockcache", "cached"), "keeps old files")
_WRAPPERS = {
    **_CACHES,
    **dict.fromkeys(("dir", "generic", "dask", "asyncwrapper", "async_wrapper", "asynclocal"), "hides where files are"),
}


@dataclass(frozen=True)
class Address:
    """A folder on a server.

    ``kind`` is the class of the filesystem; ``host`` is empty if neither the URL nor an option names it, and then
    ``login`` holds all options.
    """

    kind: Any
    host: str
    port: int
    login: Mapping[str, Any]
    names: Parts

    def contains(self, parts: Parts, other: Address, other_parts: Parts, *, any_login: bool) -> bool:
        """Whether a path below the other folder is a path below this one, or is below it.

        Two logins may see different files at one path. With ``any_login`` they count as one, as do hosts that are not
        known.
        """
        ours, theirs = (*self.names, *parts), (*other.names, *other_parts)
        if self.kind is not other.kind or theirs[: len(ours)] != ours:
            return False
        if not any_login and self.login != other.login:
            return False
        if not self.host or not other.host:
            return any_login or self.host == other.host
        return self.port == other.port and same_host(self.host, other.host)


def _refuse_wrappers(url: str) -> None:
    """Raise ConfigError for a URL of fsspec with a cache, or with another filesystem that hides the real place."""
    for link in url.split("::"):
        scheme = link.partition("://")[0]
        if scheme in _WRAPPERS:
            raise ConfigError(f"{scheme}:: {_WRAPPERS[scheme]}; write the URL of the store without {scheme}::.")


def _kind(scheme: str) -> Any:
    """Return the class of the filesystem for a scheme; if there is none, raise ValueError or ImportError."""
    if scheme == "ftp":
        return FtpFileSystem
    if scheme in OURS:
        # Imported here: webdav4 may not be installed.
        from chiltepin.backends.filesystem.stores.fsspec.webdav import DavFileSystem  # noqa: PLC0415

        return DavFileSystem
    return get_filesystem_class(scheme)


def address_of(url: str, options: Mapping[str, Any]) -> Address:
    """Return the address of a URL of fsspec with these storage options; a cache or wrapper raises ConfigError."""
    _refuse_wrappers(url)
    kind = _kind(urlsplit(url).scheme)
    told = {**kind._get_kwargs_from_urls(url), **options}  # noqa: SLF001 - as url_to_fs does
    path = str(kind._strip_protocol(url))  # noqa: SLF001
    host, port, scheme = told.get("host"), told.get("port"), urlsplit(url).scheme
    if isinstance(base := told.get("base_url"), str):
        # WebDAV: the URL of the server, below which the path is; both may be escaped.
        parts = urlsplit(base)
        host, port, scheme = parts.hostname, parts.port, parts.scheme
        path = unquote(f"{parts.path}/{path}")
    host = host if isinstance(host, str) else ""
    login = {name: told.get(name) for name in _LOGIN} if host else dict(told)
    number = int(str(port)) if str(port).isdecimal() else 0
    names = tuple(name for name in normpath(f"/{path}").split("/") if name)
    return Address(kind, host, 0 if number == _USUAL.get(scheme) else number, login, names)
