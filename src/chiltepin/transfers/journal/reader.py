"""Read the files of all processes, and remove those that are no longer needed."""

from __future__ import annotations

import contextlib
import json
import logging
import os
from dataclasses import replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from chiltepin.model import TaskHandle
from chiltepin.transfers import policy
from chiltepin.transfers.journal.events import CleanShutdown, Ended, JournalEntry, parse_event
from chiltepin.transfers.own_files import exists_own, open_own

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from chiltepin.transfers.journal.events import Event

__all__ = [
    "SUFFIX",
    "journal_files",
    "log_errors",
    "merge",
    "parse_lines",
    "prune",
    "read_events",
    "read_lines",
]

logger = logging.getLogger(__name__)

SUFFIX = ".jsonl"


def journal_files(folder: str) -> list[str]:
    """Return the paths of all files of a journal, oldest first."""
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return []
    except OSError as error:
        logger.warning("The journal in %s cannot be read: %s.", folder, error)
        return []
    return [os.path.join(folder, name) for name in sorted(names) if name.endswith(SUFFIX)]


def merge(paths: list[str], wanted: Callable[[JournalEntry], bool]) -> list[JournalEntry]:
    """Return what files tell together of the submissions that are wanted, oldest first."""
    begun: dict[str, JournalEntry] = {}
    handles: dict[str, TaskHandle] = {}
    ends: dict[str, Ended] = {}
    for event in _events(paths):
        if isinstance(event, CleanShutdown):
            continue
        name = event.submission_id
        if isinstance(event, TaskHandle):
            handles[name] = event
        elif isinstance(event, Ended):
            ends[name] = max(ends.get(name, event), event, key=lambda end: end.at)
        elif wanted(event):
            begun.setdefault(name, event)
    whole = (
        replace(entry, handle=handles.get(name), state=ends[name].state if name in ends else None)
        for name, entry in begun.items()
    )
    return sorted(whole, key=lambda entry: entry.begun)


def _events(paths: list[str]) -> Iterator[Event]:
    """Yield what the lines of files say; a file that cannot be read is left out and logged."""
    for path in paths:
        with log_errors(path):
            yield from read_events(path)


def prune(paths: list[str], now: datetime) -> None:
    """Remove old files that tell of nothing in flight; ``paths`` are oldest first."""
    begun: dict[str, dict[str, datetime]] = {}
    ended: dict[str, set[str]] = {}
    # Those of other users are theirs to remove, also where this user may.
    old = [path for path in paths if _changed(path, now) < now - policy.FILES_KEPT and exists_own(path)]
    for path in old[: policy.FILES_PRUNED]:
        # What cannot be read cannot be judged, and stays.
        with log_errors(path):
            begun[path], ended[path] = _summary(path)
    over = set().union(*ended.values())
    needed: set[str] = set()
    for path, deadlines in begun.items():
        alive = any(deadline > now - policy.CLOCK_ERROR and name not in over for name, deadline in deadlines.items())
        # A file that stays needs the ends of what began in it, or these would be taken for unfinished.
        if alive or ended[path] & needed:
            needed.update(deadlines)
        else:
            with contextlib.suppress(OSError):
                os.unlink(path)


def _summary(path: str) -> tuple[dict[str, datetime], set[str]]:
    """Return the deadlines of what began in a file, by submission id, and the ids of what ended in it."""
    deadlines: dict[str, datetime] = {}
    ended: set[str] = set()
    for event in read_events(path):
        if isinstance(event, JournalEntry):
            deadlines[event.submission_id] = event.deadline
        elif isinstance(event, Ended):
            ended.add(event.submission_id)
    return deadlines, ended


@contextlib.contextmanager
def log_errors(path: str) -> Iterator[None]:
    """Go on, with a warning, if the file cannot be read."""
    try:
        yield
    except OSError as error:
        logger.warning("The journal %s cannot be read: %s.", path, error)


def _changed(path: str, absent: datetime) -> datetime:
    """Return when a file was last written to, in UTC; ``absent`` if it cannot be known."""
    try:
        return datetime.fromtimestamp(os.lstat(path).st_mtime, timezone.utc)
    except (OSError, ValueError, OverflowError):
        return absent


def read_events(path: str) -> Iterator[Event]:
    """Yield what the lines of a file say; a line that cannot be parsed is left out and logged."""
    yield from parse_lines(path, (line for line, _ in read_lines(path, 0)))


def parse_lines(path: str, lines: Iterable[bytes]) -> Iterator[Event]:
    """Yield what lines of a file say; a line that cannot be parsed is left out and logged."""
    strange = 0
    for line in lines:
        if (event := _event(line)) is None:
            strange += 1
        else:
            yield event
    if strange:
        logger.info("Skipped %d lines of the journal %s that make no sense to this version.", strange, path)


def _event(line: bytes) -> Event | None:
    """Return what a line says; None if that makes no sense."""
    try:
        return parse_event(json.loads(line))
    except (ValueError, TypeError, LookupError, OverflowError, RecursionError):
        return None


def read_lines(path: str, start: int) -> Iterator[tuple[bytes, int]]:
    """Yield the lines of a file from a byte on that have an end and are not too long, and where each ends."""
    file = open_own(path)
    if file is None:
        return
    with file:
        file.seek(start)
        whole = True
        while line := file.readline(policy.JOURNAL_LINE_LIMIT):
            ends = line.endswith(b"\n")
            start += len(line)
            if whole and ends:
                yield line, start
            whole = ends
