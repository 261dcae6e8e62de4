"""Compare two folders or files by their listings, and by content if the backend can read it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from chiltepin.errors import BackendError, PathNotFoundError, UnsupportedOptionError
from chiltepin.protocol import ContentBackend
from chiltepin.transfers.two_trees import Pair, Report, both_trees, entry_at, is_up_to_date

if TYPE_CHECKING:
    from collections.abc import Iterator

    from chiltepin.model import DirEntry, SyncLevel
    from chiltepin.transfers.runner import Transfers
    from chiltepin.transfers.two_trees import Place

__all__ = ["Comparison", "Difference", "compare"]

#: What each level compares.
_COMPARED = {
    "exists": ("name", "kind"),
    "size": ("name", "kind", "size"),
    "mtime": ("name", "kind", "size", "time"),
    "checksum": ("name", "kind", "size", "content"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A difference at one path.

    Parameters
    ----------
    path : str
        The path relative to the two compared paths; empty for these paths themselves.
    what : str
        ``only in source``, ``only in destination``, or which property differs: ``kind``, ``size``, ``time``,
        ``content``; ``size unknown`` if the sizes cannot be compared.
    source, destination : str, int or None
        The two values, if there are any.
    """

    path: str
    what: str
    source: Any = None
    destination: Any = None


@dataclass(slots=True, kw_only=True)
class Comparison(Report):
    """The result of a comparison.

    Parameters
    ----------
    compared : tuple of str
        The properties that were compared.
    differences : list of Difference
        All differences, in the order of their paths.
    counts : Counter
        How many names of each kind were seen; links are compared by name and kind only.
    problems : list of str
        The folders that could not be listed and the files that could not be read, as sentences.
    """

    compared: tuple[str, ...]
    differences: list[Difference] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)


def compare(transfers: Transfers, source: Place, destination: Place, level: SyncLevel) -> Comparison:
    """Compare two paths.

    Parameters
    ----------
    transfers : Transfers
        The backend.
    source, destination : Place
        The two paths: two folders with all their contents, or two files.
    level : {"exists", "size", "mtime", "checksum"}
        What counts as the same, as in a transfer with this sync level.

    Raises
    ------
    PathNotFoundError, BackendError
        If one of the paths does not exist, or cannot be listed.
    UnsupportedOptionError
        If the backend cannot read contents for ``checksum``.
    """
    if level == "checksum" and not isinstance(transfers.backend, ContentBackend):
        raise UnsupportedOptionError(
            f"Backend {transfers.backend.name!r} reads no files and cannot compare contents; give sync_level='size'.",
            backend=transfers.backend.name,
        )
    found = Comparison(compared=_COMPARED[level])
    for pair in _pairs(transfers, source, destination, found):
        known = [entry for entry in (pair.source, pair.destination) if entry is not None]
        found.counts[known[0].kind] += 1
        try:
            difference = _difference(transfers, source, destination, pair, level)
        except BackendError as err:
            found.note(err)
            continue
        if difference is not None:
            found.differences.append(difference)
    return found


def _pairs(transfers: Transfers, source: Place, destination: Place, found: Comparison) -> Iterator[Pair]:
    here, there = _top(transfers, source), _top(transfers, destination)
    if not here.kind == there.kind == "dir":
        return iter([Pair("", here, there)])
    # Raises here instead of calling `failed`: a path that cannot be listed at all cannot be compared.
    for place in (source, destination):
        transfers.ls(*place)
    return both_trees(transfers, source, destination, enters=_both_have_it, failed=found.note)


def _both_have_it(pair: Pair) -> bool:
    return pair.source is not None and pair.destination is not None and pair.source.kind == pair.destination.kind


def _top(transfers: Transfers, place: Place) -> DirEntry:
    # A link that is named is followed, as in a transfer.
    entry = entry_at(transfers, place, {}, follow=True)
    if entry is None:
        raise PathNotFoundError(
            f"{place.endpoint}:{place.path} does not exist; check the path.",
            backend=transfers.backend.name,
            code="FILE_NOT_FOUND",
        )
    return entry


def _difference(
    transfers: Transfers, source: Place, destination: Place, pair: Pair, level: SyncLevel
) -> Difference | None:
    here, there, path = pair.source, pair.destination, pair.path
    if here is None or there is None:
        return Difference(path=path, what=f"only in {'destination' if here is None else 'source'}")
    if here.kind != there.kind:
        return Difference(path=path, what="kind", source=here.kind, destination=there.kind)
    if here.kind != "file" or level == "exists":
        return None
    if (difference := _other_size(here, there, path, level)) is not None:
        return difference
    if level == "mtime":
        return _older(here, there, path)
    return _changed(transfers, source.below(path), destination.below(path), path) if level == "checksum" else None


def _other_size(here: DirEntry, there: DirEntry, path: str, level: SyncLevel) -> Difference | None:
    known = here.size is not None and there.size is not None
    # For a store without sizes, the content decides.
    if here.size == there.size if known else level == "checksum":
        return None
    return Difference(path=path, what="size" if known else "size unknown", source=here.size, destination=there.size)


def _older(here: DirEntry, there: DirEntry, path: str) -> Difference | None:
    if is_up_to_date("mtime", here, there, coarse=True):
        return None
    times = [entry.modified.isoformat() if entry.modified else None for entry in (here, there)]
    return Difference(path=path, what="time", source=times[0], destination=times[1])


def _changed(transfers: Transfers, source: Place, destination: Place, path: str) -> Difference | None:
    backend = cast("ContentBackend", transfers.backend)
    sums = backend.checksum(*source), backend.checksum(*destination)
    return None if sums[0] == sums[1] else Difference(path=path, what="content", source=sums[0], destination=sums[1])
