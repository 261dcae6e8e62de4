"""Find the outcome of each item of a task in the lists of Globus."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from chiltepin.backends.globus.documents import global_path
from chiltepin.backends.globus.text import one_line, token
from chiltepin.model import DeleteRequest, ItemOutcome, TransferRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from chiltepin.backends.globus.collections import Collection
    from chiltepin.model import Request

__all__ = ["all_skipped_known", "outcomes_of"]

#: The path of a file in the details of an event.
_FILE = re.compile(r"^File: (.+)$", re.MULTILINE)

#: A path that is null on both sides, because the user has no role there (types of the JavaScript SDK).
HIDDEN = "a path that Globus does not report"

_DONE = ItemOutcome(done=True)

#: Source and destination path as Globus reports them; for a deletion, the same path twice.
Pair = tuple[str, str]


def outcomes_of(
    request: Request,
    find: Callable[[str], Collection],
    *,
    whole: bool,
    skipped: Sequence[Mapping[str, Any]],
    moved: Iterable[Mapping[str, Any]],
    errors: Sequence[Mapping[str, Any]],
) -> list[ItemOutcome | None]:
    """Return the outcome of each item of a task that has ended; None if it is unknown.

    Parameters
    ----------
    request : TransferRequest or DeleteRequest
        The request.
    find : callable
        Returns the collection of an endpoint.
    whole : bool
        Whether each item that was not skipped is done: the task succeeded, and the skipped files are known.
    skipped, moved : sequence of mapping
        The files that the service skipped because it could not read them, and the files that it transferred. Either
        path may be null (types of the JavaScript SDK), and other keys are uncertain.
    errors : sequence of mapping
        The error events of the task, newest first; their details name the file.
    """
    if isinstance(request, TransferRequest) and request.accept_skipped and whole:
        return _with_skipped(request, find, skipped)
    failures = _Failures(skipped, errors)
    arrived = {(_path(entry, "source_path"), _path(entry, "destination_path")) for entry in moved}
    pairs = _pairs(request, find)
    found: list[ItemOutcome | None] = []
    for pair in pairs:
        # If a folder was transferred in part, the missing files are unknown.
        files = isinstance(request, TransferRequest) and not request.recursive
        sure = whole or (files and _has_arrived(pair, arrived, pairs))
        failure = failures.of(pair, deep=request.recursive, sure=sure)
        found.append(failure or (_DONE if sure else None))
    return found


def _has_arrived(pair: Pair, arrived: set[tuple[str | None, str | None]], pairs: Sequence[Pair]) -> bool:
    """Whether a file is listed as moved: by both paths or, if one is hidden, by one that no other item has."""
    if pair in arrived:
        return True
    source, destination = pair
    return ((None, destination) in arrived and [one[1] for one in pairs].count(destination) == 1) or (
        (source, None) in arrived and [one[0] for one in pairs].count(source) == 1
    )


def _with_skipped(
    request: TransferRequest, find: Callable[[str], Collection], skipped: Sequence[Mapping[str, Any]]
) -> list[ItemOutcome | None]:
    """Return each item as done, with its skipped paths; a path of no known item is added to all items."""
    pairs = _pairs(request, find)
    found: list[list[str]] = [[] for _ in pairs]
    for entry in skipped:
        sides = _path(entry, "source_path"), _path(entry, "destination_path")
        owners = [paths for paths, pair in zip(found, pairs, strict=True) if any(map(_is_below, sides, pair))]
        told = next((side for side in sides if side is not None), HIDDEN)
        for paths in owners or found:
            paths.append(told)
    return [ItemOutcome(done=True, skipped_paths=tuple(paths)) for paths in found]


def _is_below(path: str | None, top: str) -> bool:
    return path is not None and (path == top or top in _parents(path))


def all_skipped_known(
    request: Request, find: Callable[[str], Collection], skipped: Sequence[Mapping[str, Any]], count: int
) -> bool:
    """Whether all skipped paths of a task are listed, and each belongs to an item of the request."""
    pairs = _pairs(request, find)
    owners = [{pair[side] for pair in pairs} for side in (0, 1)]

    def has_owner(path: str | None, paths: set[str]) -> bool:
        return path is not None and (path in paths or (request.recursive and any(up in paths for up in _parents(path))))

    listed = {(_path(one, "source_path"), _path(one, "destination_path")) for one in skipped}
    return len(listed) >= count and all(any(map(has_owner, sides, owners)) for sides in listed)


def _pairs(request: Request, find: Callable[[str], Collection]) -> list[Pair]:
    if isinstance(request, DeleteRequest):
        place = find(request.endpoint)
        paths = [(path, path) for path in (global_path(path, place) for path in request.paths)]
    else:
        source, destination = find(request.source), find(request.destination)
        paths = [(global_path(one.source, source), global_path(one.destination, destination)) for one in request.items]
    return [(_normalized(first), _normalized(second)) for first, second in paths]


def _normalized(path: str) -> str:
    return "/" + "/".join(name for name in path.split("/") if name not in ("", "."))


def _path(entry: Mapping[str, Any], side: str) -> str | None:
    path = entry.get(side)
    return _normalized(path) if isinstance(path, str) and path else None


def _parents(path: str) -> list[str]:
    names = path.split("/")
    return ["/".join(names[:length]) or "/" for length in range(1, len(names))]


class _Failures:
    def __init__(self, skipped: Sequence[Mapping[str, Any]], errors: Sequence[Mapping[str, Any]]) -> None:
        self._skipped = [
            {path: _skipped(entry) for entry in skipped if (path := _path(entry, side)) is not None}
            for side in ("source_path", "destination_path")
        ]
        self._errors: dict[str, ItemOutcome] = {}
        for event in errors:
            for path in _FILE.findall(str(event.get("details") or "")):
                # The newest event comes first and decides.
                self._errors.setdefault(_normalized(path.strip()), _failed(event))

    def of(self, pair: Pair, *, deep: bool, sure: bool) -> ItemOutcome | None:
        """Return why an item failed; None if no path of it is known to have failed."""
        # The errors of a file that was transferred in the end were overcome.
        known = [*zip(self._skipped, pair, strict=True), *([] if sure else [(self._errors, path) for path in pair])]
        for failures, path in known:
            if path in failures:
                return failures[path]
            if deep:
                below = (failure for one, failure in failures.items() if one.startswith(f"{path.rstrip('/')}/"))
                if (failure := next(below, None)) is not None:
                    return failure
        return None


def _skipped(entry: Mapping[str, Any]) -> ItemOutcome:
    path = entry.get("source_path") or entry.get("destination_path") or HIDDEN
    reason = one_line(f"{path}: {entry.get('error_details') or 'it was left out'}")
    return ItemOutcome(done=False, code=token(entry.get("error_code")) or "SKIPPED", reason=f"{reason}.")


def _failed(event: Mapping[str, Any]) -> ItemOutcome:
    reason = one_line(f"{event.get('description') or ''}: {event.get('details') or ''}")
    return ItemOutcome(done=False, code=token(event.get("code")) or "FAILED", reason=f"{reason}.")
