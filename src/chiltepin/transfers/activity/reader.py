"""Reading what all processes have written, again and again, each line once."""

from __future__ import annotations

import json
import logging
import os
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from chiltepin.transfers import policy
from chiltepin.transfers.activity.log import SUFFIX
from chiltepin.transfers.activity.records import build_record, parse_line
from chiltepin.transfers.journal.process import ProcessId
from chiltepin.transfers.own_files import open_own

if TYPE_CHECKING:
    from collections.abc import Iterator

    from chiltepin.transfers.activity.records import TransferRecord

__all__ = ["ActivityReader"]

logger = logging.getLogger(__name__)


class ActivityReader:
    """What is known of all tasks whose lines are in a folder.

    Parameters
    ----------
    folder : str
        The folder of the journal; it need not be there.
    since : datetime or None
        Of older files nothing is read, and of older tasks nothing told; None for all.
    """

    def __init__(self, folder: str, *, since: datetime | None = None) -> None:
        self._folder, self._since = folder, since
        self._read: dict[str, int] = {}
        self._known: dict[str, tuple[dict[str, Any], str]] = {}
        self._told: dict[str, bool] = {}

    def news(self) -> list[TransferRecord]:
        """Return every task of which something new is known since the last call, in the order in which they began."""
        changed: set[str] = set()
        for path in self._files():
            for facts in self._said(path):
                if self._take(facts, path):
                    changed.add(facts["id"])
        lives = {path: self._lives(path) for path in {path for _, path in self._known.values()}}
        # Who followed it has gone meanwhile: that is news, too.
        changed |= {
            name
            for name, followed in self._told.items()
            if followed and self._known[name][0]["event"] != "ended" and not lives[self._known[name][1]]
        }
        records = []
        for name in changed:
            facts, path = self._known[name]
            if "kind" not in facts or (self._since and facts["at"] < self._since):
                continue
            self._told[name] = lives[path]
            records.append(build_record(facts, followed=lives[path]))
        return sorted(records, key=lambda record: (record.asked, record.name))

    def _take(self, facts: dict[str, Any], path: str) -> bool:
        """Add what a line says to what is known; return whether that is news."""
        before, _ = self._known.get(facts["id"], ({}, ""))
        if before.get("event") == "ended" and (facts["event"] != "ended" or facts["at"] < before["at"]):
            # What was asked for is told by a first line that was read late.
            if "asked" in facts and facts["asked"] < before.get("asked", before["at"]):
                before["asked"] = facts["asked"]
            return False
        asked = min((one["asked"] for one in (before, facts) if "asked" in one), default=None)
        late = before.get("at", facts["at"]) > facts["at"]
        whole = {**facts, **before} if late else {**before, **facts}
        if asked is not None:
            whole["asked"] = asked
        self._known[facts["id"]] = (whole, path)
        return True

    def _files(self) -> list[str]:
        """Return the files that may tell something new, oldest first."""
        try:
            names = sorted(name for name in os.listdir(self._folder) if name.endswith(SUFFIX))
        except FileNotFoundError:
            return []
        except OSError as error:
            logger.warning("The journal in %s cannot be read: %s.", self._folder, error)
            return []
        return [os.path.join(self._folder, name) for name in names]

    def _said(self, path: str) -> Iterator[dict[str, Any]]:
        """Yield what the lines of a file say that have come since it was last read; what makes no sense is left out."""
        strange = 0
        for line in self._lines(path):
            if (facts := _understood(line)) is None:
                strange += 1
            else:
                yield facts
        if strange:
            logger.info("Skipped %d lines of %s that make no sense to this version.", strange, path)

    def _lines(self, path: str) -> Iterator[bytes]:
        start = self._read.get(path, 0)
        try:
            opened = open_own(path)
        except OSError as error:
            if path not in self._read:
                logger.warning("The journal %s cannot be read: %s.", path, error)
            self._read[path] = start
            return
        if opened is None:
            return
        with opened as file:
            state = os.fstat(file.fileno())
            if state.st_size <= start or self._is_old(state):
                return
            file.seek(start)
            whole = True
            while line := file.readline(policy.ACTIVITY_LINE_LIMIT):
                ends = line.endswith(b"\n")
                if not ends and len(line) < policy.ACTIVITY_LINE_LIMIT:
                    # Its end is still to come.
                    return
                self._read[path] = file.tell()
                if whole and ends:
                    yield line
                whole = ends

    def _is_old(self, state: os.stat_result) -> bool:
        return self._since is not None and state.st_mtime < self._since.timestamp()

    def _lives(self, path: str) -> bool:
        """Whether the process that wrote a file may still see the end of its tasks."""
        owner = ProcessId.from_path(path)
        if owner is None:
            return False
        if owner.host == ProcessId.current().host:
            return owner.is_running()
        try:
            written = datetime.fromtimestamp(os.lstat(path).st_mtime, timezone.utc)
        except (OSError, ValueError, OverflowError):
            return False
        return datetime.now(timezone.utc) - written < policy.ASSUMED_RUNNING


def _understood(line: bytes) -> dict[str, Any] | None:
    """Return what a line says; None if that makes no sense."""
    try:
        return parse_line(json.loads(line))
    except (ValueError, TypeError, LookupError, OverflowError, RecursionError):
        return None
