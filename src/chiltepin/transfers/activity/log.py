"""Write what happens to a task, one line at a time; ``chiltepin activity`` shows it."""

from __future__ import annotations

import contextlib
import json
import os
import time
from typing import TYPE_CHECKING, Any, cast

from chiltepin.model import DeleteRequest, TaskState, items_of
from chiltepin.transfers import policy
from chiltepin.transfers.journal.events import VERSION, format_time
from chiltepin.transfers.journal.writer import LineWriter
from chiltepin.transfers.own_files import is_own

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from chiltepin.model import Request, TaskStatus

__all__ = ["SUFFIX", "ActivityLog", "TaskLog"]

#: Shared by all lines: ``json.dumps`` would make a new encoder for each.
_encode = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode

#: The end of the names of the files; the reader of the journal ignores them.
SUFFIX = ".activity"


class ActivityLog(LineWriter):
    """Writes the lines of one process into the folder of the journal."""

    def __init__(self, folder: str | os.PathLike[str], clock: Callable[[], datetime]) -> None:
        super().__init__(
            folder,
            clock=clock,
            suffix=SUFFIX,
            forced=False,
            tidy=lambda: _remove_old(self.folder),
            enough=policy.ACTIVITY_SIZE,
            loss="'chiltepin activity' will not show what moves now.",
        )
        self.clock = clock

    def write(self, event: str, name: str, facts: dict[str, Any]) -> None:
        """Write one line about a task, which is known by its submission id."""
        whole = {"v": VERSION, "event": event, "id": name, "at": format_time(self.clock()), **facts}
        self.add(_encode(whole).encode() + b"\n")


class TaskLog:
    """Writes the lines of one task.

    Parameters
    ----------
    activity_log : ActivityLog or None
        Where to; None for nowhere.
    name : str
        The submission id.
    request, backend
        The request, and the name of its backend.
    asked : datetime or None
        When the task was requested, in UTC; None if an earlier process has recorded that.
    """

    def __init__(
        self, activity_log: ActivityLog | None, name: str, request: Request, *, backend: str, asked: datetime | None
    ) -> None:
        self._activity_log, self._name, self._request, self._backend = activity_log, name, request, backend
        self._asked, self._task = asked, ""
        self._begun = False
        #: Until when nothing had moved, and since when it has; when the next line is due; what the last one was.
        self._still, self._moving = asked, cast("datetime | None", None)
        self._due = 0.0
        self._start = time.monotonic()
        self._said: tuple[object, ...] = ()

    def began(self, task_id: str = "") -> None:
        """Record that the task has begun, and its id."""
        if self._activity_log is not None:
            self._task, self._begun = task_id, True
            self._activity_log.write("began", self._name, self._facts())

    def seen(self, status: TaskStatus) -> None:
        """Record the status of a poll if it is new, or if the last line is old."""
        if self._activity_log is None or status.state.final:
            return
        said = (status.state, status.code, self._moves(status))
        now = time.monotonic()
        if said == self._said and now < self._due:
            return
        if not self._begun:
            self.began(status.handle.task_id)
        self._said, self._due = said, now + min(max((now - self._start) / 2, policy.ACTIVITY_MIN), policy.ACTIVITY_MAX)
        self._activity_log.write("seen", self._name, self._counts(status))

    def ended(self, status: TaskStatus, *, failed: int = 0) -> None:
        """Record the end of the task, and how many of its items have failed separately."""
        if self._activity_log is None:
            return
        self._task = status.handle.task_id or self._task
        if self._moves(status) or (status.state is TaskState.SUCCEEDED and failed < len(items_of(self._request))):
            self._moving = self._moving or self._still
        self._activity_log.write("ended", self._name, {**self._facts(), **self._counts(status), "failed": failed})

    def _moves(self, status: TaskStatus) -> bool:
        """Whether anything has moved by now; if not, record the time."""
        if self._moving is None and self._activity_log is not None:
            if status.bytes_done or status.bytes_moving or status.files_done:
                self._moving = self._still
            else:
                self._still = self._activity_log.clock()
        return self._moving is not None

    def _facts(self) -> dict[str, Any]:
        request = self._request
        items = items_of(request)
        deletes = isinstance(request, DeleteRequest)
        return {
            "backend": self._backend,
            "task": self._task,
            "kind": "delete" if deletes else "transfer",
            "from": request.endpoint if isinstance(request, DeleteRequest) else request.source,
            "to": "" if isinstance(request, DeleteRequest) else request.destination,
            "items": [
                [item, ""] if isinstance(item, str) else [item.source, item.destination]
                for item in items[: policy.ACTIVITY_ITEMS]
            ],
            "count": len(items),
            "label": request.label,
            **({"asked": format_time(self._asked)} if self._asked else {}),
        }

    def _counts(self, status: TaskStatus) -> dict[str, Any]:
        return {
            "state": status.state.value,
            "code": status.code,
            "reason": status.reason[: policy.ACTIVITY_REASON],
            "bytes": status.bytes_done + (0 if status.state.final else status.bytes_moving),
            "files": status.files_done,
            "skipped": status.files_skipped,
            "faults": status.faults,
            **({"moving": format_time(self._moving)} if self._moving else {}),
        }


def _remove_old(folder: str) -> None:
    limit = time.time() - policy.FILES_KEPT.total_seconds()
    with contextlib.suppress(OSError):
        names = sorted(name for name in os.listdir(folder) if name.endswith(SUFFIX))
        for name in names[: policy.FILES_PRUNED]:
            path = os.path.join(folder, name)
            with contextlib.suppress(OSError):
                if is_own(facts := os.lstat(path)) and facts.st_mtime < limit:
                    os.unlink(path)
