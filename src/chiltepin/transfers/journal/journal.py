"""Journal: what the rest of Chiltepin writes to and asks."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from chiltepin.model import items_of
from chiltepin.transfers import policy
from chiltepin.transfers.journal.events import NO_WORKFLOW, VERSION, format_time, request_to_json, workflows_to_json
from chiltepin.transfers.journal.reader import journal_files, prune
from chiltepin.transfers.journal.writer import LineWriter

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator

    from chiltepin.model import Request, TaskHandle, TaskState
    from chiltepin.transfers.journal.events import ItemsByWorkflow
    from chiltepin.transfers.journal.process import ProcessId

__all__ = ["Journal"]


class Journal(LineWriter):
    """The record of all processes that use one folder; this one writes to a file of its own.

    Any number of threads may call at once. A child made by ``fork`` gets a file of its own.

    Parameters
    ----------
    folder : path
        Where the files are; made, with mode 0700, by the first line that is written. Nothing is touched before.
    clock : callable
        Returns the time of day in UTC; tests give one that is moved by hand.
    owner : Owner or None
        Who writes; None for this process.

    Notes
    -----
    A file of more than 16 MB is left for a new one. As soon as those after it tell of 100,000 items, what is
    in flight is written anew, and the file goes. The first line that a journal writes has up to 100 files of
    others removed that no process has written to for 30 days, if nothing in them is in flight.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(timezone.utc),
        owner: ProcessId | None = None,
    ) -> None:
        super().__init__(
            folder,
            clock=clock,
            owner=owner,
            tidy=lambda: prune(journal_files(self.folder), clock()),
            enough=policy.REMEMBERED_ITEMS,
            loss="What is submitted now cannot be joined after a restart.",
        )

    def reset(self) -> None:
        """Be a journal that has written nothing; see `LineWriter.reset`."""
        super().reset()
        #: Workflows that lines were written for since they settled, those that never will, and the lines of the others.
        self._open: set[str] = set()
        self._abandoned: set[str] = set()
        self._settled: dict[str, bytes] = {}
        #: What this journal has written of submissions that are in flight, and, of those of others, its lines.
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
    ) -> None:
        """Write down what is about to be submitted; it is on the disk when this returns.

        Parameters
        ----------
        submission_id, backend, service, request, deadline, asked
            See `JournalEntry`.
        """
        flight = _Flight(format_time(self._clock()), request, backend, service, deadline, asked)
        self._open.update(asked)
        self.add(flight.intent(submission_id), len(items_of(request)))
        with self._lock:
            self._mine[submission_id] = flight

    def submitted(self, handle: TaskHandle) -> None:
        """Write down which task a submission has become."""
        line = _submitted(handle, format_time(self._clock()))
        self.add(line)
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
        """Write down how a submission ended.

        Parameters
        ----------
        submission_id : str
            The submission, of this process or of an earlier one.
        state : TaskState
            A final state. A submission that the service refused has ended, too.
        code, reason, bytes_done, files_done, faults
            As in `TaskStatus`.
        asked : mapping
            Which workflows of this process have asked for which items; empty if it was none, as for a task that
            another process had begun.
        """
        facts = {"state": state.value, "code": code, "reason": reason}
        counts = {"bytes_done": bytes_done, "files_done": files_done, "faults": faults}
        whole = {"submission_id": submission_id, **facts, **counts, "workflows": workflows_to_json(asked)}
        line = _line("ended", format_time(self._clock()), whole)
        self._open.update(asked)
        written = self.add(line)
        with self._lock:
            if submission_id not in self._mine:
                self._theirs.setdefault(submission_id, []).append(line)
            elif written:
                del self._mine[submission_id]

    def record_clean_end(self, workflow: str | None = None) -> None:
        """Write down that a workflow has ended in order: the same request, made again after it, is a new one.

        Parameters
        ----------
        workflow : str or None
            Its name. None settles all of this process but those that were abandoned. One that nothing was written for
            since it settled last costs no line.
        """
        for name in [workflow] if workflow is not None else sorted(self._open - self._abandoned):
            if name in self._open:
                self._open.discard(name)
                self._settled[name] = line = _line("settled", format_time(self._clock()), {"workflow": name})
                self.add(line)

    def abandon(self, workflow: str) -> None:
        """Take note that a workflow has not ended in order, so that the end of the process does not settle it."""
        self._abandoned.add(workflow)

    # What `OtherProcesses` has to know.

    def now(self) -> datetime:
        """Return the time of day, in UTC."""
        return self._clock()

    def follows(self, submission_id: str) -> bool:
        """Whether this journal has written of a submission."""
        with self._lock:
            return submission_id in self._mine or submission_id in self._theirs

    def _lines_to_keep(self) -> Iterator[bytes]:
        long_ago = self._clock() - policy.CLOCK_ERROR
        # What the service has given up by now is over, although no process saw its end.
        self._mine = {name: flight for name, flight in self._mine.items() if flight.deadline > long_ago}
        for name, flight in self._mine.items():
            yield flight.intent(name)
            if flight.task:
                yield flight.task
        for lines in self._theirs.values():
            yield from lines
        # Some of these ends are of workflows that have settled since.
        if self._theirs:
            yield from (line for name, line in self._settled.items() if name not in self._open)


@dataclass(slots=True)
class _Flight:
    """A submission of this journal that is in flight, with the line that names its task."""

    at: str
    request: Request
    backend: str
    service: str
    deadline: datetime
    asked: ItemsByWorkflow
    task: bytes = b""

    def intent(self, submission_id: str) -> bytes:
        """Return the line of the intent; not kept, for that of 10,000 items has 700 kB."""
        facts = {"backend": self.backend, "service": self.service, "deadline": format_time(self.deadline)}
        whole = {"submission_id": submission_id, **facts, "request": request_to_json(self.request)}
        whole["workflows"] = workflows_to_json(self.asked)
        return _line("intent", self.at, whole)


def _submitted(handle: TaskHandle, at: str) -> bytes:
    facts = {"submission_id": handle.submission_id, "backend": handle.backend, "task_id": handle.task_id}
    return _line("submitted", at, facts)


def _line(event: str, at: str, facts: dict[str, Any]) -> bytes:
    return json.dumps({"v": VERSION, "event": event, "at": at, **facts}, separators=(",", ":")).encode() + b"\n"
