"""One task as ``chiltepin activity`` shows it, built from checked lines."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

from chiltepin.model import TaskState
from chiltepin.transfers.journal.events import VERSION

__all__ = ["BAD", "TransferRecord", "build_record", "parse_line"]

#: The states that count as failures; a canceled task does not.
BAD = (TaskState.FAILED, TaskState.EXPIRED, TaskState.LOST)

#: The largest number in a line: the largest integer that JavaScript represents exactly.
_MOST = 2**53 - 1

_EVENTS = ("began", "seen", "ended")
_TEXTS = ("backend", "task", "kind", "from", "to", "label", "code", "reason")
_NUMBERS = ("count", "bytes", "files", "skipped", "faults", "failed")
_TIMES = ("asked", "moving")

#: The facts that change while a task runs.
_UNTIL_NOW = ("state", "code", "reason", "bytes", "files", "skipped", "skipped_paths", "faults", "failed", "moving")


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferRecord:
    """One transfer or deletion; times are UTC.

    Parameters
    ----------
    name, task_id : str
        Its submission id, and its id at the backend, which may be empty.
    source, destination : str
        The endpoints; the destination of a deletion is empty.
    items, count
        The first ten pairs of paths, without a second path for a deletion; and the number of all items.
    label, state, code, reason, bytes, files, skipped, faults
        As in `TransferRequest` and the last known `TaskStatus`.
    skipped_paths : tuple of str
        The first ten of the skipped paths in the status.
    failed : int
        The number of items that failed separately.
    asked, moving, ended, seen : datetime or None
        When it was requested, when the first data moved, when it ended, and the time of the last line. None if that has
        not happened or is unknown.
    followed : bool
        Whether it has ended, or a process is running that will see its end.
    """

    name: str
    backend: str
    task_id: str
    kind: str
    source: str
    destination: str
    items: tuple[tuple[str, str], ...]
    count: int
    label: str
    state: TaskState = TaskState.ACTIVE
    code: str = ""
    reason: str = ""
    bytes: int = 0
    files: int = 0
    skipped: int = 0
    skipped_paths: tuple[str, ...] = ()
    faults: int = 0
    failed: int = 0
    asked: datetime
    moving: datetime | None = None
    ended: datetime | None
    seen: datetime
    followed: bool

    @property
    def bad(self) -> bool:
        """Whether it failed, completely or in part."""
        return self.state in BAD or self.failed > 0

    @property
    def remark(self) -> str:
        """Its reason, and the paths that it has skipped at the source."""
        paths = ", ".join(self.skipped_paths)
        skipped = f"Skipped because it is missing or unreadable: {paths}" if paths else ""
        return f"{self.reason} {skipped}".strip()

    @property
    def shown(self) -> str:
        """Its state in one word; ``unknown`` if no process follows it, ``partial`` if some items failed."""
        if not self.followed:
            return "unknown"
        if self.failed and self.state is TaskState.SUCCEEDED:
            # A Globus task succeeds even if it has skipped all of its items.
            return "partial" if self.failed < self.count else TaskState.FAILED.value
        return self.state.value

    @property
    def waited(self) -> float:
        """Seconds before anything moved."""
        return max(0.0, ((self.moving or self.ended or self.seen) - self.asked).total_seconds())

    @property
    def lasted(self) -> float:
        """Seconds from the request to the end, or to the last line."""
        return max(0.0, ((self.ended or self.seen) - self.asked).total_seconds())

    @property
    def speed(self) -> float | None:
        """Bytes per second while it moved; None if unknown."""
        seconds = ((self.ended or self.seen) - (self.moving or self.asked)).total_seconds()
        return self.bytes / seconds if self.bytes and seconds > 0 else None

    def told(self, arrow: str = "->") -> tuple[str, str]:
        """Return two strings: its endpoints, and its first path with the number of further paths."""
        pair = f"{self.source} {arrow} {self.destination}" if self.destination else f"{self.source} (delete)"
        source, target = self.items[0] if self.items else ("", "")
        what = source if target in ("", source) else f"{source} {arrow} {target}"
        return pair, f"{what} and {self.count - 1:,} more" if self.count > 1 else what

    def plain(self) -> dict[str, Any]:
        """Return it as JSON data."""
        return {
            "id": self.name,
            "backend": self.backend,
            "task_id": self.task_id,
            "kind": self.kind,
            "source": self.source,
            "destination": self.destination or None,
            "items": [{"source": source, "destination": target or None} for source, target in self.items],
            "items_total": self.count,
            "label": self.label,
            "state": self.shown,
            "code": self.code,
            "reason": self.reason,
            "bytes_done": self.bytes,
            "files_done": self.files,
            "files_skipped": self.skipped,
            "skipped_paths": list(self.skipped_paths),
            "items_failed": self.failed,
            "faults": self.faults,
            "asked": self.asked.isoformat(),
            "moving": self.moving.isoformat() if self.moving else None,
            "ended": self.ended.isoformat() if self.ended else None,
            "waited": round(self.waited, 3),
            "seconds": round(self.lasted, 3),
            "speed": None if self.speed is None else round(self.speed, 1),
        }


def parse_line(line: Any) -> dict[str, Any]:
    """Return the checked facts of a line; raise ValueError, TypeError or KeyError if it is invalid."""
    if type(line) is not dict or line["v"] != VERSION or line["event"] not in _EVENTS:
        raise ValueError(line)
    facts: dict[str, Any] = {"event": line["event"], "id": _text(line["id"]), "at": _moment(line["at"])}
    facts |= {key: _text(line[key]) for key in _TEXTS if key in line}
    facts |= {key: _number(line[key]) for key in _NUMBERS if key in line}
    facts |= {key: _moment(line[key]) for key in _TIMES if key in line}
    if "state" in line:
        facts["state"] = TaskState(line["state"])
    if "items" in line:
        facts["items"] = tuple((_text(source), _text(target)) for source, target in line["items"])
    if "skipped_paths" in line:
        facts["skipped_paths"] = tuple(map(_text, line["skipped_paths"]))
    if facts["event"] != "seen":
        [facts[key] for key in ("backend", "kind", "from", "to", "items", "count", "label")]
    if facts["event"] == "ended" and not facts["state"].final:
        raise ValueError(line)
    return facts


def build_record(facts: dict[str, Any], *, followed: bool) -> TransferRecord:
    """Return the task with the facts of all its lines; raise KeyError if the first line is missing."""
    asked, seen = facts.get("asked", facts["at"]), facts["at"]
    over = facts["event"] == "ended"
    return TransferRecord(
        name=facts["id"],
        task_id=facts.get("task", ""),
        source=facts["from"],
        destination=facts["to"],
        asked=asked,
        ended=seen if over else None,
        seen=seen,
        followed=over or followed,
        **{key: facts[key] for key in ("backend", "kind", "items", "count", "label")},
        **{key: facts[key] for key in _UNTIL_NOW if key in facts},
    )


def _text(value: Any) -> str:
    if type(value) is not str:
        raise TypeError(value)
    return value


def _number(value: Any) -> int:
    if type(value) is not int or not 0 <= value <= _MOST:
        raise ValueError(value)
    return value


#: The range of valid times: those near the limits of `datetime` cannot be shown in every time zone.
_FIRST = datetime(1970, 1, 2, tzinfo=timezone.utc)
_LAST = datetime(9999, 1, 1, tzinfo=timezone.utc) - timedelta(days=1)


def _moment(text: Any) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None or not _FIRST <= moment <= _LAST:
        raise ValueError(text)
    return moment.astimezone(timezone.utc)
