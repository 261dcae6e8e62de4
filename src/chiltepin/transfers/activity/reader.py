"""Read the activity logs of all processes, each line once."""

from __future__ import annotations

import json
import os
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from chiltepin.transfers import policy
from chiltepin.transfers.activity.log import SUFFIX
from chiltepin.transfers.activity.records import build_record, parse_line
from chiltepin.transfers.journal.process import ProcessId
from chiltepin.transfers.journal.reader import NewLines

if TYPE_CHECKING:
    from chiltepin.transfers.activity.records import TransferRecord

__all__ = ["ActivityReader"]


class ActivityReader:
    """The tasks of all activity logs in a folder.

    Parameters
    ----------
    folder : str
        The folder of the journal; it need not exist.
    since : datetime or None
        Older files and older tasks are skipped; None for all.
    only : str
        The submission id of the only task to read; all if empty.
    """

    def __init__(self, folder: str, *, since: datetime | None = None, only: str = "") -> None:
        self._since = since
        self._lines = NewLines(
            folder,
            parse_line,
            suffix=SUFFIX,
            limit=policy.limits.ACTIVITY_LINE_LIMIT,
            since=since.timestamp() if since else float("-inf"),
            containing=json.dumps(only).strip('"').encode(),
        )
        self._known: dict[str, tuple[dict[str, Any], str]] = {}
        self._told: dict[str, bool] = {}

    def news(self) -> list[TransferRecord]:
        """Return every task that has changed since the last call, in the order of the requests."""
        changed: set[str] = set()
        for path, _, facts in self._lines.new():
            if self._add(facts, path):
                changed.add(facts["id"])
        lives = {path: _lives(path) for path in {path for _, path in self._known.values()}}
        # A task also changes when the process that follows it ends.
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

    def _add(self, facts: dict[str, Any], path: str) -> bool:
        """Merge a line into the known facts; return whether they changed."""
        before, _ = self._known.get(facts["id"], ({}, ""))
        if before.get("event") == "ended" and (facts["event"] != "ended" or facts["at"] < before["at"]):
            # A first line that is read late still tells when the task was requested.
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


def _lives(path: str) -> bool:
    """Whether the process that wrote a file may still be running."""
    owner = ProcessId.from_path(path)
    if owner is None:
        return False
    if owner.host == ProcessId.current().host:
        return owner.is_running()
    try:
        written = datetime.fromtimestamp(os.lstat(path).st_mtime, timezone.utc)
    except (OSError, ValueError, OverflowError):
        return False
    return datetime.now(timezone.utc) - written < policy.wait_times.ASSUMED_RUNNING
