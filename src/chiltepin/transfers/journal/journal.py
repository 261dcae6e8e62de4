"""The journal that this process writes."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from chiltepin.backends.file_lock import FileLock
from chiltepin.model import items_of
from chiltepin.transfers import policy
from chiltepin.transfers.background_thread import SystemClock
from chiltepin.transfers.journal.events import NO_WORKFLOW, intent_to_json, workflows_to_json
from chiltepin.transfers.journal.reader import journal_files, prune
from chiltepin.transfers.journal.writer import LineWriter, encode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from chiltepin.model import Request, TaskHandle, TaskState
    from chiltepin.transfers.journal.events import ItemsByWorkflow
    from chiltepin.transfers.journal.process import ProcessId

__all__ = ["Journal"]


class Journal(LineWriter):
    """Records the submissions of this process in a folder; see `LineWriter` for the parameters.

    Notes
    -----
    After 16 MB the journal continues in a new file. As soon as the files after an old one cover 100,000 items, the
    submissions in flight are rewritten, and the old file is removed. Before its first line, a journal removes up to 100
    files to which no process has written for 30 days, if nothing in them is in flight.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        clock: Callable[[], datetime] = SystemClock.now,
        owner: ProcessId | None = None,
    ) -> None:
        super().__init__(
            folder,
            clock=clock,
            owner=owner,
            tidy=lambda: prune(journal_files(self.folder), clock()),
            enough=policy.limits.REMEMBERED_ITEMS,
            loss="Requests submitted now cannot be resumed after a restart.",
        )

    def reset(self) -> None:
        """Start over as a journal that has written nothing; see `LineWriter.reset`."""
        super().reset()
        #: Workflows with lines since their last clean end, abandoned ones, and the lines that record clean ends.
        self._open: set[str] = set()
        self._abandoned: set[str] = set()
        self._settled: dict[str, bytes] = {}
        #: The submissions of this journal that are in flight, and its lines about submissions of other processes.
        self._mine: dict[str, _Flight] = {}
        self._theirs: dict[str, list[bytes]] = {}

    def record_intent(
        self,
        submission_id: str,
        request: Request,
        *,
        backend: str,
        service: str,
        deadline: datetime,
        asked: ItemsByWorkflow = NO_WORKFLOW,
        settings: dict[str, Any] | None = None,
    ) -> None:
        """Record a submission before it is sent; it is on the disk when this returns. See `JournalEntry`."""
        flight = _Flight(self._clock(), request, backend, service, deadline, asked, settings or {})
        self._open.update(asked)
        self.write("intent", flight.facts(submission_id), at=flight.at, holds=len(items_of(request)))
        with self._lock:
            self._mine[submission_id] = flight

    def submitted(self, handle: TaskHandle) -> None:
        """Record the task of a submission."""
        facts = {"submission_id": handle.submission_id, "backend": handle.backend, "task_id": handle.task_id}
        line, _ = self.write("submitted", facts)
        with self._lock:
            if (flight := self._mine.get(handle.submission_id)) is not None:
                flight.task = line
            else:
                self._theirs.setdefault(handle.submission_id, []).append(line)

    def ended(
        self,
        submission_id: str,
        state: TaskState,
        *,
        code: str = "",
        reason: str = "",
        bytes_done: int = 0,
        files_done: int = 0,
        faults: int = 0,
        asked: ItemsByWorkflow = NO_WORKFLOW,
    ) -> None:
        """Record the final state of a submission of this or another process, or that the service refused it.

        ``asked`` tells which workflows of this process requested which items; it is empty for a task of another process
        that none of them joined. The other parameters are as in `TaskStatus`.
        """
        facts = {"state": state.value, "code": code, "reason": reason}
        counts = {"bytes_done": bytes_done, "files_done": files_done, "faults": faults}
        self._open.update(asked)
        line, written = self.write(
            "ended", {"submission_id": submission_id, **facts, **counts, "workflows": workflows_to_json(asked)}
        )
        with self._lock:
            if submission_id not in self._mine:
                self._theirs.setdefault(submission_id, []).append(line)
            elif written:
                del self._mine[submission_id]

    def record_clean_end(self, workflow: str | None = None) -> None:
        """Record the clean end of a workflow: an equal request after it is a new one.

        None stands for all workflows of this process except those that were abandoned. For a workflow without lines
        since its last clean end, nothing is written.
        """
        for name in [workflow] if workflow is not None else sorted(self._open - self._abandoned):
            if name in self._open:
                self._open.discard(name)
                self._settled[name], _ = self.write("settled", {"workflow": name})

    def abandon(self, workflow: str) -> None:
        """Exclude a workflow that has not ended cleanly from `record_clean_end` at the end of the process."""
        self._abandoned.add(workflow)

    # For `OtherProcesses`.

    def turn(self) -> FileLock:
        """Return the lock of the processes that record submissions in the folder."""
        return FileLock(os.path.join(self.folder, "submit.lock"), policy.wait_times.SUBMISSION_TURN)

    def now(self) -> datetime:
        """Return the time of day, in UTC."""
        return self._clock()

    def follows(self, submission_id: str) -> bool:
        """Whether this journal has a line about a submission."""
        with self._lock:
            return submission_id in self._mine or submission_id in self._theirs

    def _lines_to_keep(self) -> Iterator[bytes]:
        long_ago = self._clock() - policy.wait_times.CLOCK_ERROR
        # A task past its deadline has ended at the service, although no process saw it end.
        self._mine = {name: flight for name, flight in self._mine.items() if flight.deadline > long_ago}
        for name, flight in self._mine.items():
            yield encode("intent", flight.at, flight.facts(name))
            if flight.task:
                yield flight.task
        for lines in self._theirs.values():
            yield from lines
        # Some of these lines belong to workflows that have since ended cleanly.
        if self._theirs:
            yield from (line for name, line in self._settled.items() if name not in self._open)


@dataclass(slots=True)
class _Flight:
    """A submission of this journal that is in flight, and the line with its task."""

    at: datetime
    request: Request
    backend: str
    service: str
    deadline: datetime
    asked: ItemsByWorkflow
    settings: dict[str, Any]
    task: bytes = b""

    def facts(self, submission_id: str) -> dict[str, Any]:
        """Return the contents of the intent; its line is not stored, because with 10,000 items it has 700 kB."""
        return intent_to_json(
            submission_id, self.request, self.backend, self.service, self.deadline, self.asked, self.settings
        )
