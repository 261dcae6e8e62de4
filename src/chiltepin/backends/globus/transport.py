"""The connection to Globus: responses are limited, and redirects are not followed.

The SDK reads a response of any length, and follows any redirect: after status 307 it sends the body of the request
again, which contains the refresh token in a request for a token (RFC 9110, 15.4.8). Neither Transfer nor Auth
redirects.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from requests.adapters import HTTPAdapter
from requests.exceptions import ConnectionError, Timeout  # noqa: A004 - the errors after which the SDK retries
from urllib3.exceptions import HTTPError, ReadTimeoutError

from chiltepin.backends import forks
from chiltepin.errors import ServiceUnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import globus_sdk
    import requests

__all__ = ["bounded", "replace_connections", "time_limit"]

#: Maximum bytes of a response; a listing of 100,000 names, the limit of Globus, has about 50 MB.
MAX_RESPONSE_BYTES = 256 << 20

#: Maximum seconds for a whole response; the SDK's own limit of 60 applies to each piece of it.
MAX_RESPONSE_SECONDS = 300.0

#: Seconds without a response after which a call that the task manager repeats fails, and the seconds that each item of
#: a submission adds: the call delays all other tasks.
CALL_SECONDS, ITEM_SECONDS = 8.0, 0.005

#: The limit of the current call, in seconds; None for the SDK's limit.
_limit: ContextVar[float | None] = ContextVar("_limit", default=None)

_BLOCK = 1 << 16

Client = TypeVar("Client", bound="globus_sdk.BaseClient")


def bounded(client: Client) -> Client:
    """Limit the responses of an SDK client, which must be ours; a larger one raises `ServiceUnavailableError`."""
    for scheme in ("https://", "http://"):
        client.transport.session.mount(scheme, _BoundedAdapter())
    return client


@contextmanager
def time_limit(items: int = 0) -> Iterator[None]:
    """Limit the wait for each response; without one, a request raises `ServiceUnavailableError`, without a retry.

    Applies to clients of `bounded` that this thread calls inside the block.
    """
    before = _limit.set(CALL_SECONDS + items * ITEM_SECONDS)
    try:
        yield
    finally:
        _limit.reset(before)


def replace_connections(client: globus_sdk.BaseClient) -> None:
    """Give a client new connections in a process made by ``fork``; those of the parent stay open and unused."""
    for adapter in client.transport.session.adapters.values():
        if isinstance(adapter, HTTPAdapter):
            forks.leave(adapter.poolmanager, adapter.proxy_manager)
            # As after pickling, the public way to make an adapter with the same settings and no connections.
            adapter.__setstate__(adapter.__getstate__())


class _BoundedAdapter(HTTPAdapter):
    """Reads and checks responses before the SDK gets them."""

    def send(self, request: requests.PreparedRequest, **given: Any) -> requests.Response:  # type: ignore[override]
        """Send a request; return its response, already read."""
        limit = _limit.get()
        if limit is None:
            return self._send(request, given)
        try:
            return self._send(request, {**given, "timeout": limit})
        except Timeout:
            pass
        # Not an error of requests, after which the SDK would retry.
        raise ServiceUnavailableError(
            f"Globus did not respond within {limit:g} seconds; check that this machine can reach "
            f"{urlsplit(str(request.url)).hostname}, and check HTTPS_PROXY.",
            backend="globus",
            transient=True,
        )

    def _send(self, request: requests.PreparedRequest, given: dict[str, Any]) -> requests.Response:
        answer = super().send(request, **{**given, "stream": True})
        try:
            answer._content = _content(answer)  # noqa: SLF001 - requests has no public way to set it
        except ReadTimeoutError:
            answer.close()
            raise Timeout("The response stopped.", request=request) from None
        except HTTPError:
            pass
        except BaseException:
            answer.close()
            raise
        else:
            return answer
        answer.close()
        # An error of requests, after which the SDK retries.
        raise ConnectionError("The response ended early.", request=request)


def _content(answer: requests.Response) -> bytes:
    if answer.is_redirect:
        raise _out_of_bounds("is a redirect to another address")
    longest = _limit.get() or MAX_RESPONSE_SECONDS
    content, until = bytearray(), time.monotonic() + longest
    # Like `Response.iter_content`, but without waiting for a full block.
    while block := answer.raw.read1(_BLOCK, decode_content=True):
        content += block
        if len(content) > MAX_RESPONSE_BYTES:
            raise _out_of_bounds(f"has more than {MAX_RESPONSE_BYTES >> 20} MiB")
        if time.monotonic() > until:
            raise _out_of_bounds(f"takes longer than {longest:.0f} s")
    answer.raw.release_conn()
    return bytes(content)


def _out_of_bounds(how: str) -> ServiceUnavailableError:
    return ServiceUnavailableError(
        f"The response is not from Globus: it {how}; check for a proxy between this machine and Globus.",
        backend="globus",
        transient=True,
    )
