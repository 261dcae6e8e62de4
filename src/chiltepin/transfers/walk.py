"""Walk trees of an endpoint, and count their files and bytes."""

from __future__ import annotations

import contextlib
import posixpath
from dataclasses import dataclass
from typing import TYPE_CHECKING

from chiltepin.backends.filters import NameFilter
from chiltepin.errors import BackendError, ChiltepinError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from chiltepin.model import DirEntry, TransferRequest
    from chiltepin.transfers.runner import Transfers

__all__ = ["Amount", "amount_of", "walk"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Amount:
    """The amount to move: the number of files, and their size in bytes."""

    files: int = 0
    bytes: int = 0


def walk(
    transfers: Transfers,
    endpoint: str,
    path: str,
    *,
    failed: Callable[[BackendError], object],
    enters: Callable[[str], bool] = bool,
) -> Iterator[tuple[str, DirEntry]]:
    """Yield the entries of a folder and of all folders below it, in order; links are not followed.

    Each entry has its path relative to the first folder. If that folder cannot be listed, its error is raised;
    ``failed`` gets the error of any folder below it, and the walk continues. A folder whose name ``enters`` refuses is
    not listed.
    """
    waiting = [("", _sorted(transfers, endpoint, path))]
    while waiting:
        folder, entries = waiting[-1]
        entry = next(entries, None)
        if entry is None:
            waiting.pop()
            continue
        below = posixpath.join(folder, entry.name)
        yield below, entry
        if entry.kind == "dir" and enters(entry.name):
            try:
                waiting.append((below, _sorted(transfers, endpoint, posixpath.join(path, below))))
            except BackendError as err:
                failed(err)


def _sorted(transfers: Transfers, endpoint: str, path: str) -> Iterator[DirEntry]:
    return iter(sorted(transfers.ls(endpoint, path), key=lambda entry: entry.name))


def amount_of(
    transfers: Transfers, request: TransferRequest, *, most: int, stopped: Callable[[], bool] = lambda: False
) -> Amount | None:
    """Return how much a request moves, or None if that is unknown.

    It is unknown if a folder cannot be listed, if more than ``most`` folders would be listed (a service limits
    requests), or if ``stopped``, called before each folder, returns True.
    """
    counting = _Counting(transfers, request, most, stopped)
    try:
        parts = [counting.item(item.source) for item in request.items]
    except _UnknownError:
        return None
    return Amount(files=sum(part.files for part in parts), bytes=sum(part.bytes for part in parts))


class _UnknownError(Exception):
    """The amount cannot be determined."""


def _known(size: int | None) -> int:
    if size is None:
        raise _UnknownError
    return size


class _Counting:
    def __init__(self, transfers: Transfers, request: TransferRequest, most: int, stopped: Callable[[], bool]) -> None:
        self._transfers, self._request, self._left, self._stopped = transfers, request, most, stopped
        self._filters = NameFilter(request.filters)
        self._sizes: dict[str, dict[str, int | None]] = {}

    def ls(self, endpoint: str, path: str) -> list[DirEntry]:
        """List a folder, and count the call; `walk` uses this instead of `Transfers.ls`."""
        if self._stopped() or self._left <= 0:
            raise _UnknownError
        self._left -= 1
        with contextlib.suppress(ChiltepinError):
            return self._transfers.ls(endpoint, path)
        # The transfer itself will report the error.
        raise _UnknownError

    def item(self, source: str) -> Amount:
        """Return the amount of one item."""
        if not self._request.recursive:
            return Amount(files=1, bytes=self._size(source))
        found = walk(
            self,  # type: ignore[arg-type] # it has ls
            self._request.source,
            source,
            failed=_unknown,
            enters=self._filters.selects_folder,
        )
        files = (entry for _, entry in found if entry.kind == "file")
        sizes = [_known(entry.size) for entry in files if self._filters.selects_file(entry.name)]
        return Amount(files=len(sizes), bytes=sum(sizes))

    def _size(self, source: str) -> int:
        folder, name = posixpath.split(source.rstrip("/"))
        folder = folder or ("/" if source.startswith("/") else "~")
        if folder not in self._sizes:
            listed = self.ls(self._request.source, folder)
            self._sizes[folder] = {entry.name: entry.size for entry in listed if entry.kind == "file"}
        if name not in self._sizes[folder]:
            raise _UnknownError
        return _known(self._sizes[folder][name])


def _unknown(_: BackendError) -> None:
    raise _UnknownError
