"""Parsl's ``File`` for a file on an endpoint: ``chiltepin://hpc-scratch/project/input.csv``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

from parsl.app.futures import DataFuture
from parsl.data_provider.files import File

from chiltepin.errors import TaskCanceledError, TaskFailedError
from chiltepin.model import endpoint_name
from chiltepin.parsl.nested_futures import SCHEME, SCHEMES, futures_in
from chiltepin.parsl.proxy_future import ProxyFuture
from chiltepin.parsl.reading import ReadFuture

if TYPE_CHECKING:
    from collections.abc import Iterable
    from concurrent.futures import Future

__all__ = ["SCHEMES", "FileFuture", "input_futures", "location_of", "url_of"]


def url_of(endpoint: str, path: str) -> str:
    """Return the URL of a file on an endpoint; a relative path counts from the endpoint's home, as everywhere.

    Two files have two URLs: a path below the home folder begins with ``~/``, and an absolute one below a folder that is
    called ``~`` with a slash before it.
    """
    if path.startswith("/"):
        rest = path.lstrip("/")
        rooted = f"/{rest}" if rest.startswith("~") else rest
    else:
        rooted = f"~/{path.removeprefix('~/')}" if path != "~" else "~/"
    return f"{SCHEME}://{_quoted(endpoint, ' ')}/{_quoted(rooted, '/~ ')}"


def _quoted(text: str, safe: str) -> str:
    # A name may hold bytes that are not text (os.fsdecode).
    return quote(text, safe=safe, errors="surrogateescape")


def location_of(file: File) -> tuple[str, str]:
    """Return the endpoint and the path of a ``File``; a file without an endpoint is a ValueError."""
    # Not the parts that Parsl has: they end at '?' and '#', which are letters of a name like any other.
    endpoint, _, rest = file.url.partition("://")[2].partition("/")
    # Parsl's staging by Globus passes paths on as they are.
    path = unquote(rest, errors="surrogateescape") if file.scheme == SCHEME else rest
    if not endpoint or not path.strip("/") or path.endswith("/"):
        raise ValueError(f"{file.url!r} is not a file of an endpoint; write 'chiltepin://ENDPOINT/path/of/the.file'.")
    name = endpoint_name(unquote(endpoint, errors="surrogateescape"))
    return name, path if path.startswith("~/") else f"/{path.lstrip('/')}"


class FileFuture(ReadFuture[File], DataFuture):  # type: ignore[misc] # parsl has no types
    """A future of a ``File`` that exists once a transfer has succeeded, like ``outputs[0]`` of an app."""

    follows_at_once = True

    def parent_callback(self, parent_fu: Future[bool]) -> None:
        """End like the transfer; a transfer with ``check=False`` that did not succeed has moved no file."""
        error = parent_fu.exception()
        if error is None and not parent_fu.result():
            error = TaskFailedError(f"{self.file_obj.url} does not exist: the transfer to it did not succeed.")
        if error is None:
            self.set_result(self.file_obj)
        else:
            self.set_exception(error)


def input_futures(inputs: Iterable[Any]) -> list[Any]:
    """Return the futures that a transfer has to wait for, without files, which Parsl would stage."""
    return [_future_of(future) for value in inputs for future in futures_in("inputs", value, only_waited_for=True)]


def _future_of(value: Any) -> Any:
    # These two end alike; a FileFuture may fail where its transfer does not.
    while type(value) is DataFuture:
        value = value.parent
    if not isinstance(value, DataFuture):
        return value
    proxy = ProxyFuture()
    proxy.follow(value, TaskCanceledError("An input of the transfer was cancelled."))
    return proxy
