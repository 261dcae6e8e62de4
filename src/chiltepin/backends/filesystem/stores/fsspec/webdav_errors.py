"""Translate responses of a WebDAV server, and errors of httpx, into faults.

Messages contain no URL, because it may contain a key.
"""

from __future__ import annotations

import errno
import os
from contextlib import contextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import httpx

from chiltepin.backends.filesystem.errors import ConnectionLostError, Fault
from chiltepin.backends.filesystem.temp_names import is_temp_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["answered", "translating"]

#: Statuses that end a request, and the sentence about each path.
_REFUSALS = {
    HTTPStatus.UNAUTHORIZED: ("PERMISSION_DENIED", "The WebDAV server denied the login for {}; check the option auth"),
    HTTPStatus.FORBIDDEN: ("PERMISSION_DENIED", "The WebDAV server denied access to {}; check the user's permissions"),
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: ("LIMIT_EXCEEDED", "The WebDAV server accepts no file of this size in {}"),
    HTTPStatus.LOCKED: ("ENDPOINT_ERROR", "The WebDAV server has locked {}; run it again when the lock has ended"),
    HTTPStatus.INSUFFICIENT_STORAGE: ("NO_SPACE_LEFT", "The WebDAV server has no room in {}; make room there"),
}

#: Statuses after which a retry may succeed, as after most from 500 up (RFC 9110, 15.5.9; RFC 6585, 4).
_BUSY = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS)


class UnavailableError(Fault):
    """The server cannot answer now; see `FsspecStore.transient` for ``status``."""

    def __init__(self, status: int, where: str) -> None:
        super().__init__("ENDPOINT_ERROR", f"The WebDAV server cannot serve {where} now (status {status}).")
        self.status = status


def answered(send: Callable[..., httpx.Response], request: httpx.Request, **options: Any) -> httpx.Response:
    """Send a request; a response that refuses it, or none, is our error."""
    with translating(request.url.host):
        response = send(request, **options)
    status = response.status_code
    above, _, name = unquote(request.url.path).rpartition("/")
    where = f"{above}/" if is_temp_name(name) else f"{above}/{name}"
    failure: Fault | None = None
    if status in _REFUSALS:
        code, sentence = _REFUSALS[HTTPStatus(status)]
        failure = Fault(code, f"{sentence.format(where)} (status {status}).")
    elif status in _BUSY or (status >= HTTPStatus.INTERNAL_SERVER_ERROR and status != HTTPStatus.NOT_IMPLEMENTED):
        failure = UnavailableError(status, where)
    if failure is not None:
        response.close()
        raise failure
    return response


@contextmanager
def translating(host: str) -> Iterator[None]:
    """Translate errors of httpx, by raising ours after the ``except`` has ended."""
    try:
        yield
    except (httpx.RequestError, httpx.InvalidURL) as err:
        failure = _failure(err, host)
    else:
        return
    raise failure


def _failure(error: Exception, host: str) -> Exception:
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        reason = (
            f"The certificate of the WebDAV server {host} is not trusted; write verify: with the path of a file of "
            f"certificates that you trust."
        )
        return Fault("CONNECT_FAILED", reason)
    if isinstance(error, httpx.ConnectError):
        # The text is that of the operating system: "[Errno 111] Connection refused".
        words = str(error).rpartition("] ")[2] or "no connection"
        reason = f"the WebDAV server {host} could not be reached ({words}); check base_url, or run the transfer again."
        return ConnectionLostError("CONNECT_FAILED", reason)
    if isinstance(error, httpx.TimeoutException):
        return TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))
    if isinstance(error, httpx.TransportError) and not isinstance(error, httpx.UnsupportedProtocol):
        return ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
    return Fault("ENDPOINT_ERROR", f"The WebDAV server {host} redirects to a URL that cannot be followed.")
