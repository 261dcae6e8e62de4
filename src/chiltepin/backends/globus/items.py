"""What became of each item of a task, from the lists that Globus keeps of it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from chiltepin.backends.globus.wire import global_path
from chiltepin.backends.globus.words import one_line
from chiltepin.model import DeleteRequest, ItemOutcome, TransferRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from chiltepin.backends.globus.collections import Collection
    from chiltepin.model import Request

__all__ = ["outcomes_of"]

#: In the details of an event, the file that it is about.
_FILE = re.compile(r"^File: (.+)$", re.MULTILINE)

_DONE = ItemOutcome(done=True)


def outcomes_of(
    request: Request,
    find: Callable[[str], Collection],
    *,
    whole: bool,
    skipped: Sequence[Mapping[str, Any]],
    moved: Iterable[Mapping[str, Any]],
    errors: Sequence[Mapping[str, Any]],
) -> list[ItemOutcome | None]:
    """Return what became of each item of a task that has ended.

    Parameters
    ----------
    request : TransferRequest or DeleteRequest
        What was submitted.
    find : callable
        Gives the collection of an endpoint.
    whole : bool
        Whether the task succeeded: then an item that was not skipped is done.
    skipped, moved : sequence of mapping
        What the service left out because its source could not be read, and the files that it moved.
    errors : sequence of mapping
        Its events that were errors, the newest first; their details name the file.

    Returns
    -------
    list of ItemOutcome or None
        None where nothing is known: the task was stopped before this item's turn.
    """
    if isinstance(request, DeleteRequest):
        place = find(request.endpoint)
        paths = [(global_path(path, place),) * 2 for path in request.paths]
    else:
        source, destination = find(request.source), find(request.destination)
        paths = [
            (global_path(item.source, source), global_path(item.destination, destination)) for item in request.items
        ]
    failures = _Failures(skipped, errors)
    arrived = {(entry["source_path"], entry["destination_path"]) for entry in moved}
    found: list[ItemOutcome | None] = []
    for pair in paths:
        # Of a folder that has arrived in part nobody can tell what is missing.
        sure = whole or (isinstance(request, TransferRequest) and not request.recursive and pair in arrived)
        failure = failures.of(pair, deep=request.recursive, sure=sure)
        found.append(failure or (_DONE if sure else None))
    return found


class _Failures:
    """The paths that something is wrong with."""

    def __init__(self, skipped: Sequence[Mapping[str, Any]], errors: Sequence[Mapping[str, Any]]) -> None:
        self._skipped = {str(entry["source_path"]).rstrip("/"): _skipped(entry) for entry in skipped}
        self._errors: dict[str, ItemOutcome] = {}
        for event in errors:
            for path in _FILE.findall(str(event.get("details") or "")):
                # The newest comes first, and says how it ended.
                self._errors.setdefault(path.strip().rstrip("/"), _failed(event))

    def of(self, pair: tuple[str, str], *, deep: bool, sure: bool) -> ItemOutcome | None:
        """Return why an item was not done; None if no path of it is known to have failed."""
        source, destination = (path.rstrip("/") for path in pair)
        # An error of a file that was done in the end is history.
        known = [(self._skipped, source)] + ([] if sure else [(self._errors, source), (self._errors, destination)])
        for failures, path in known:
            if path in failures:
                return failures[path]
            if deep:
                below = (failure for one, failure in failures.items() if one.startswith(f"{path}/"))
                if (failure := next(below, None)) is not None:
                    return failure
        return None


def _skipped(entry: Mapping[str, Any]) -> ItemOutcome:
    reason = one_line(f"{entry['source_path']}: {entry.get('error_details') or 'it was left out'}")
    return ItemOutcome(done=False, code=str(entry["error_code"]), reason=f"{reason}.")


def _failed(event: Mapping[str, Any]) -> ItemOutcome:
    reason = one_line(f"{event.get('description') or ''}: {event.get('details') or ''}")
    return ItemOutcome(done=False, code=str(event["code"]), reason=f"{reason}.")
