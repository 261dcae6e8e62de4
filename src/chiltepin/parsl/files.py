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
    """Return the URL of a file on an endpoint; a relative path starts at the endpoint's home, as everywhere.

    Different files have different URLs: a path below the home folder begins with ``~/``, and an absolute path below a
    folder that is called ``~`` begins with ``/~/``.
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
    """Return the endpoint and path of a ``File``; raise a ValueError for a file without an endpoint."""
    # Not Parsl's parts of the URL: they end at '?' and '#', which are valid characters in a file name.
    endpoint, _, rest = file.url.partition("://")[2].partition("/")
    # Parsl's Globus staging does not unquote paths.
    path = unquote(rest, errors="surrogateescape") if file.scheme == SCHEME else rest
    if not endpoint or not path.strip("/") or path.endswith("/"):
        raise ValueError(f"{file.url!r} is not a file of an endpoint; write 'chiltepin://ENDPOINT/path/of/the.file'.")
    name = endpoint_name(unquote(endpoint, errors="surrogateescape"))
    return name, path if path.startswith("~/") else f"/{path.lstrip('/')}"


class FileFuture(ReadFuture[File], DataFuture):  # type: ignore[misc] # parsl has no types
    """A future of a ``File`` that exists once a transfer has succeeded, like ``outputs[0]`` of an app."""

    follows_at_once = True

    def cancel(self) -> bool:
        """Return False: cancel the transfer instead."""
        return False

    def parent_callback(self, parent_fu: Future[bool]) -> None:
        """End as the transfer ends; with ``check=False``, an unsuccessful transfer is an error here, too."""
        error = parent_fu.exception()
        if error is None and not parent_fu.result():
            error = TaskFailedError(f"{self.file_obj.url} does not exist: the transfer to it did not succeed.")
        if error is None:
            self.set_result(self.file_obj)
        else:
            self.set_exception(error)


def input_futures(inputs: Iterable[Any]) -> list[Any]:
    """Return the futures that a transfer has to wait for, but no files, because Parsl would stage them."""
    return [_future_of(future) for value in inputs for future in futures_in("inputs", value, only_waited_for=True)]


def _future_of(value: Any) -> Any:
    # A DataFuture ends as its parent; a FileFuture may fail although its transfer does not.
    while type(value) is DataFuture:
        value = value.parent
    if not isinstance(value, DataFuture):
        return value
    proxy = ProxyFuture()
    proxy.follow(value, TaskCanceledError("An input of the transfer was canceled."))
    return proxy
