"""List two folders side by side and pair the same names, without reading any file."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, NamedTuple

from chiltepin.errors import BackendError, LoginRequiredError, PathNotFoundError, PermissionDeniedError
from chiltepin.model import DirEntry
from chiltepin.protocol import FilesBackend
from chiltepin.transfers.runner import runs_at_service

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from chiltepin.model import SyncLevel
    from chiltepin.transfers.runner import Transfers

__all__ = ["Pair", "Place", "Report", "both_trees", "entry_at", "is_up_to_date"]


@dataclass(slots=True, kw_only=True)
class Report:
    """A result with its ``problems`` as sentences: what is missing, or cannot be listed or read."""

    problems: list[str] = field(default_factory=list)

    def note(self, error: BackendError) -> None:
        """Add a problem; an error about a missing login is raised instead."""
        if isinstance(error, LoginRequiredError):
            raise error
        self.problems.append(str(error))


class Place(NamedTuple):
    """A path on an endpoint."""

    endpoint: str
    path: str

    def below(self, path: str) -> Place:
        """Return the place of a path below this folder."""
        return Place(self.endpoint, posixpath.join(self.path, path) if path else self.path)

    def contains(self, other: Place) -> bool:
        """Whether the other path is this one or is below it; links and other names of the endpoint are not known."""
        mine, theirs = (tuple(filter(None, _plain(place.path).split("/"))) for place in (self, other))
        return self.endpoint == other.endpoint and theirs[: len(mine)] == mine


class Pair(NamedTuple):
    """One name below two folders; None where it is missing. ``path`` is relative to the folders."""

    path: str
    source: DirEntry | None
    destination: DirEntry | None

    @property
    def name(self) -> str:
        """The base name."""
        return posixpath.basename(self.path)


def both_trees(
    transfers: Transfers,
    source: Place,
    destination: Place,
    *,
    enters: Callable[[Pair], bool],
    failed: Callable[[BackendError], object],
    may_be_new: bool = False,
) -> Iterator[Pair]:
    """Yield each name below one or both of two folders, in order; links are not followed.

    ``failed`` gets the error of a folder that cannot be listed; its contents are left out. A folder that ``enters``
    refuses is not listed. ``may_be_new`` tells whether a missing destination counts as empty.
    """
    waiting = [Pair("", _FOLDER, _FOLDER)]
    while waiting:
        folder = waiting.pop()
        if folder.path:
            yield folder
            if not (_is_folder(folder.source) or _is_folder(folder.destination)) or not enters(folder):
                continue
        try:
            here = _listing(transfers, source.below(folder.path), folder.source)
            may_be_missing = may_be_new and not folder.path
            there = _listing(
                transfers, destination.below(folder.path), folder.destination, may_be_missing=may_be_missing
            )
        except BackendError as err:
            failed(err)
            continue
        names = sorted({*here, *there}, reverse=True)
        waiting += [Pair(posixpath.join(folder.path, name), here.get(name), there.get(name)) for name in names]


_FOLDER = DirEntry(name="", kind="dir")


def _is_folder(entry: DirEntry | None) -> bool:
    return entry is not None and entry.kind == "dir"


def _listing(
    transfers: Transfers,
    place: Place,
    entry: DirEntry | None,
    *,
    may_be_missing: bool = False,
) -> Mapping[str, DirEntry]:
    if not _is_folder(entry):
        return {}
    try:
        return {entry.name: entry for entry in transfers.ls(*place)}
    except PathNotFoundError:
        if not may_be_missing:
            raise
        return {}


def _plain(path: str) -> str:
    """Return a path without ``.``, ``..`` and repeated slashes, from the root or from the home folder ``~``."""
    return posixpath.normpath(path if path == "~" or path.startswith(("/", "~/")) else f"~/{path}")


def entry_at(
    transfers: Transfers, place: Place, known: dict[Place, Mapping[str, DirEntry]], *, follow: bool
) -> DirEntry | None:
    """Return the entry of a path, or None if it is missing; the root of an endpoint is a folder called ``/``.

    With ``follow``, a link is followed if the backend can do so. ``known`` caches the listings of folders between
    calls: a service limits requests, and only a listing tells whether a path is a link.
    """
    backend = transfers.backend
    folder, name = posixpath.split(_plain(place.path))
    is_top = name in ("", "~", ".", "..")
    if isinstance(backend, FilesBackend) and not runs_at_service(backend) and (follow or is_top):
        return _stat(backend, place)
    if is_top:
        return DirEntry(name="/", kind="dir")
    above = Place(place.endpoint, folder)
    try:
        if above not in known:
            known[above] = _listing(transfers, above, _FOLDER, may_be_missing=True)
    except PermissionDeniedError:
        if not isinstance(backend, FilesBackend):
            raise
        # The folder may be one that can be entered but not listed.
        return _stat(backend, place)
    entry = known[above].get(name)
    return _FOLDER if follow and entry is not None and entry.kind == "link" and _is_listed(transfers, place) else entry


def _stat(backend: FilesBackend, place: Place) -> DirEntry | None:
    try:
        return backend.stat(*place)
    except PathNotFoundError:
        return None


def _is_listed(transfers: Transfers, place: Place) -> bool:
    try:
        transfers.ls(*place)
    except BackendError:
        return False
    return True


def is_up_to_date(
    level: SyncLevel | None, source: DirEntry, existing: DirEntry | None, *, coarse: bool = False
) -> bool | None:
    """Whether a sync level leaves an existing file alone; None if that depends on its content.

    ``coarse``: whether a time that the destination has cut to its precision counts as that of the source.
    """
    if level is None or existing is None or existing.kind != "file":
        return False
    if level == "exists":
        return True
    if source.size is None or existing.size is None:
        return None if level == "checksum" else False
    if source.size != existing.size:
        return False
    if level == "mtime":
        return _is_as_new(source.modified, existing.modified, coarse=coarse)
    return None if level == "checksum" else True


#: Precisions of disks, in microseconds: exFAT; ext3, HFS+ and others; VFAT.
_PRECISIONS = (10_000, 1_000_000, 2_000_000)


def _is_as_new(source: datetime | None, existing: datetime | None, *, coarse: bool) -> bool:
    if source is None or existing is None:
        return False
    if existing >= source:
        return True
    origin, copy = ((time - _EPOCH) // timedelta(microseconds=1) for time in (source, existing))
    # A source in whole seconds may really be one second newer than its copy.
    precisions = _PRECISIONS if origin % 1_000_000 else ()
    return coarse and any(copy == origin // precision * precision for precision in precisions)


_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
