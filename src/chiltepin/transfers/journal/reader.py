"""Read the files of all processes, and remove those that are no longer needed."""

from __future__ import annotations

import contextlib
import json
import logging
import os
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from chiltepin.transfers import policy
from chiltepin.transfers.journal.events import Ended, JournalEntry, parse_event
from chiltepin.transfers.journal.process import ProcessId
from chiltepin.transfers.own_files import exists_own, open_own

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Iterator

    from chiltepin.transfers.journal.events import Event

__all__ = ["SUFFIX", "NewLines", "journal_files", "prune", "read_events"]

logger = logging.getLogger(__name__)

T = TypeVar("T")

#: The suffix of the files of a journal.
SUFFIX = ".jsonl"


def journal_files(folder: str, suffix: str = SUFFIX) -> list[str]:
    """Return the paths of all files of a journal, or of an activity log, oldest first."""
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return []
    except OSError as error:
        logger.warning("The journal in %s cannot be read: %s.", folder, error)
        return []
    return [os.path.join(folder, name) for name in sorted(names) if name.endswith(suffix)]


def prune(paths: list[str], now: datetime) -> None:
    """Remove old files that hold nothing in flight; ``paths`` are oldest first."""
    begun: dict[str, dict[str, datetime]] = {}
    ended: dict[str, set[str]] = {}
    # Files of other users are kept, even if this user could remove them.
    old = [path for path in paths if _changed(path, now) < now - policy.wait_times.FILES_KEPT and exists_own(path)]
    for path in old[: policy.limits.FILES_PRUNED]:
        # A file that cannot be read is kept.
        with log_errors(path):
            begun[path], ended[path] = _summary(path)
    over = set().union(*ended.values())
    needed: set[str] = set()
    for path, deadlines in begun.items():
        alive = any(
            deadline > now - policy.wait_times.CLOCK_ERROR and name not in over for name, deadline in deadlines.items()
        )
        # A kept file needs the ends of the submissions in it; without them, these would seem unfinished.
        if alive or ended[path] & needed:
            needed.update(deadlines)
        else:
            with contextlib.suppress(OSError):
                os.unlink(path)


def _summary(path: str) -> tuple[dict[str, datetime], set[str]]:
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
    """Log a warning and continue if the file cannot be read."""
    try:
        yield
    except OSError as error:
        logger.warning("The journal %s cannot be read: %s.", path, error)


def _changed(path: str, absent: datetime) -> datetime:
    """Return when a file was last written to, in UTC; ``absent`` if that is unknown."""
    try:
        return datetime.fromtimestamp(os.lstat(path).st_mtime, timezone.utc)
    except (OSError, ValueError, OverflowError):
        return absent


def read_events(path: str) -> Iterator[Event]:
    """Yield the events of a file of the journal."""
    lines = (line for line, _ in _read_lines(path, 0, policy.limits.JOURNAL_LINE_LIMIT))
    yield from _parse_lines(path, lines, parse_event)


class NewLines(Generic[T]):
    """The lines of all files in a folder; each line is returned once.

    Parameters
    ----------
    folder : str
        Where the files are; it need not exist.
    parse : callable
        Turns a line, decoded from JSON, into an event; ValueError, TypeError or LookupError skips the line.
    suffix, limit
        The suffix of the files, and the maximum length of a line, in bytes.
    since : float
        Files that were last written to before this time, in seconds since 1970, are skipped.
    own : container of str
        The files of the caller, which are skipped.
    containing : bytes
        Lines without these bytes are skipped before they are parsed, which takes most of the time.
    """

    def __init__(
        self,
        folder: str,
        parse: Callable[[Any], T],
        *,
        suffix: str = SUFFIX,
        limit: int = policy.limits.JOURNAL_LINE_LIMIT,
        since: float = float("-inf"),
        own: Container[str] = (),
        containing: bytes = b"",
    ) -> None:
        self._folder, self._parse, self._own, self._containing = folder, parse, own, containing
        self._suffix, self._limit, self._since = suffix, limit, since
        #: For each file, its identity and size at the last call, and how many bytes have been read.
        self._read: dict[str, tuple[tuple[int, int], int]] = {}
        #: Files to which no process will write anymore.
        self._done: set[str] = set()

    def new(self) -> Iterator[tuple[str, ProcessId | None, T]]:
        """Yield the file, the process and the event of each new line; events of one process are in order."""
        for path in journal_files(self._folder, self._suffix):
            if path not in self._done and path not in self._own:
                with log_errors(path):
                    owner = ProcessId.from_path(path)
                    lines = (line for line in self._since_last(path, owner) if self._containing in line)
                    for event in _parse_lines(path, lines, self._parse):
                        yield path, owner, event

    def _since_last(self, path: str, owner: ProcessId | None) -> Iterator[bytes]:
        facts = os.lstat(path)
        state = facts.st_dev ^ facts.st_ino, facts.st_size
        before, position = self._read.get(path, ((0, 0), 0))
        if state == before or facts.st_mtime < self._since:
            return
        # Checked before the file is read: a process that has ended by now writes no more.
        over = owner is not None and owner.has_ended()
        if state[0] != before[0] or state[1] < position:
            position = 0
        # A file that cannot be read is tried again only when it has changed.
        self._read[path] = state, position
        for line, end in _read_lines(path, position, self._limit):
            # The last line may still be incomplete.
            self._read[path] = state, end
            yield line
        if over:
            self._done.add(path)


def _parse_lines(path: str, lines: Iterable[bytes], parse: Callable[[Any], T]) -> Iterator[T]:
    skipped = 0
    for line in lines:
        if (event := _parsed(line, parse)) is None:
            skipped += 1
        else:
            yield event
    if skipped:
        logger.info("Skipped %d lines of the journal %s that this version cannot parse.", skipped, path)


def _parsed(line: bytes, parse: Callable[[Any], T]) -> T | None:
    try:
        return parse(json.loads(line))
    except (ValueError, TypeError, LookupError, OverflowError, RecursionError):
        return None


def _read_lines(path: str, start: int, limit: int) -> Iterator[tuple[bytes, int]]:
    """Yield the complete lines from byte ``start`` of a file, each with its end; skip lines longer than ``limit``."""
    file = open_own(path)
    if file is None:
        return
    with file:
        file.seek(start)
        whole = True
        while line := file.readline(limit):
            ends = line.endswith(b"\n")
            start += len(line)
            if whole and ends:
                yield line, start
            whole = ends
