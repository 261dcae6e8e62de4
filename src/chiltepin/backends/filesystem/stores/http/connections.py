"""Connections to web servers, through the proxies of the environment."""

from __future__ import annotations

from http import HTTPStatus
from http.client import HTTPResponse
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ProtocolError

from chiltepin.backends.filesystem.errors import Fault
from chiltepin.backends.filesystem.stores.proxies import proxy_for

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["WIDTH", "Connections"]

#: Most requests in flight at once.
WIDTH = 16

#: Most interim responses before the final one.
_INTERIM = 100


class _FinalResponse(HTTPResponse):
    """A response after all interim ones, such as Early Hints (RFC 9110, 15.2); Python skips only status 100."""

    def begin(self) -> None:
        """Read the status and the headers."""
        super().begin()
        for _ in range(_INTERIM):
            if not HTTPStatus.PROCESSING <= self.status < HTTPStatus.OK:
                break
            # Without headers, the next response is read.
            self.headers = self.msg = None  # type: ignore[assignment]
            super().begin()


class _Connection(HTTPConnection):
    response_class = _FinalResponse


class _SecureConnection(HTTPSConnection):
    response_class = _FinalResponse


class _Pool(urllib3.HTTPConnectionPool):
    ConnectionCls = _Connection


class _SecurePool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _SecureConnection


class Connections:
    """Connections that are kept open between requests; several threads may use them."""

    def __init__(self) -> None:
        #: Connection pools by proxy.
        self._pools: dict[str | None, urllib3.PoolManager] = {}

    def request(self, method: str, url: str, headers: Mapping[str, str]) -> urllib3.BaseHTTPResponse:
        """Return the response to GET or HEAD, without its body; an ``HTTPError`` of urllib3 names the URL."""
        proxy = proxy_for(url)
        if proxy not in self._pools:
            self._pools.setdefault(proxy, _pool(proxy))
        try:
            return _sent(self._pools[proxy], method, url, headers)
        except ProtocolError as err:
            if not isinstance(err.args[-1], ConnectionError):
                raise
        # The server may have closed a kept connection, and any other kept one too (RFC 9112, 9.3.1).
        return _sent(_pool(proxy), method, url, headers)


def _sent(pool: urllib3.PoolManager, method: str, url: str, headers: Mapping[str, str]) -> urllib3.BaseHTTPResponse:
    return pool.request(method, url, headers=headers, retries=False, preload_content=False, redirect=False)


def _pool(proxy: str | None) -> urllib3.PoolManager:
    """Return a new connection pool for a proxy."""
    timeout = urllib3.Timeout(connect=30, read=60)
    if proxy is None:
        made = urllib3.PoolManager(maxsize=WIDTH, timeout=timeout)
    elif not proxy.startswith(("http://", "https://")):
        raise Fault("CONNECT_FAILED", "The environment sets a proxy that is not an HTTP proxy; set an HTTP proxy.")
    else:
        user, at, _ = urlsplit(proxy).netloc.rpartition("@")
        headers = urllib3.make_headers(proxy_basic_auth=unquote(user)) if at else None
        made = urllib3.ProxyManager(proxy, maxsize=WIDTH, timeout=timeout, proxy_headers=headers)
    made.pool_classes_by_scheme = {"http": _Pool, "https": _SecurePool}
    return made
