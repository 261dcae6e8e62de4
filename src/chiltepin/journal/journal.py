"""Journal: what the rest of Chiltepin writes to and asks."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from chiltepin.journal import killed
from chiltepin.journal.lines import VERSION, plain_request, time
from chiltepin.journal.reading import files, merged, prune
from chiltepin.journal.writing import Lines
from chiltepin.model import items_of

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator

    from chiltepin.journal.lines import Entry
    from chiltepin.journal.owner import Owner
    from chiltepin.model import Request, TaskHandle, TaskState

__all__ = ["Journal"]


class Journal(Lines):
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
    A file of more than 16 MB is left for a new one. As soon as those after it tell of 100,000 items, of which nobody
    would read more (`killed.MOST`), what is in flight is written anew, and the file goes. The first line that a journal
    writes has up to 100 files of others removed that nobody has written to for 30 days, if nothing in them is in
    flight.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(timezone.utc),
        owner: Owner | None = None,
    ) -> None:
        super().__init__(
            folder,
            clock=clock,
            owner=owner,
            tidy=lambda: prune(files(self.folder), clock()),
            enough=killed.MOST,
            loss="What is submitted now cannot be joined after a restart.",
        )

    def forget(self) -> None:
        """Be a journal that has written nothing; see `Lines.forget`."""
        super().forget()
        self._spoke = False
        #: What this journal has written of submissions that are in flight, and, of those of others, its lines.
        self._mine: dict[str, _Flight] = {}
        self._theirs: dict[str, list[bytes]] = {}

    def intend(self, submission_id: str, request: Request, *, backend: str, service: str, deadline: datetime) -> None:
        """Write down what is about to be submitted; it is on the disk when this returns.

        Parameters
        ----------
        submission_id, backend, service, request, deadline
            See `Entry`.
        """
        flight = _Flight(time(self._clock()), request, backend, service, deadline)
        self._write(flight.intent(submission_id), len(items_of(request)))
        with self._lock:
            self._mine[submission_id] = flight

    def submitted(self, handle: TaskHandle) -> None:
        """Write down which task a submission has become."""
        line = _submitted(handle, time(self._clock()))
        self._write(line)
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
        """
        facts = {"state": state.value, "code": code, "reason": reason}
        counts = {"bytes_done": bytes_done, "files_done": files_done, "faults": faults}
        line = _line("ended", time(self._clock()), {"submission_id": submission_id, **facts, **counts})
        written = self._write(line)
        with self._lock:
            if submission_id not in self._mine:
                self._theirs.setdefault(submission_id, []).append(line)
            elif written:
                del self._mine[submission_id]

    def settle(self) -> None:
        """Write down that all is in order so far: who asks for the same again, after whatever happens, has a new wish.

        A journal that has written nothing since the last time stays silent.
        """
        if self._spoke:
            self._write(_line("settled", time(self._clock()), {}))
            self._spoke = False

    def unfinished(self, *, backend: str, service: str) -> list[Entry]:
        """Return what other processes, dead or alive, had submitted to a service and nobody saw the end of.

        Returns
        -------
        list of Entry
            Oldest first. Without what this journal wrote about, and without what the service has given up by now.
        """
        now = self._clock()

        def wanted(entry: Entry) -> bool:
            return (entry.backend, entry.service) == (backend, service) and entry.deadline > now

        found = merged(files(self.folder), wanted)
        with self._lock:
            ours = self._mine.keys() | self._theirs.keys()
        return [entry for entry in found if entry.state is None and entry.submission_id not in ours]

    def ended_lately(self, *, backend: str, service: str) -> list[tuple[Entry, bool]]:
        """Return what has ended at a service since a process was killed; nothing if none was.

        Returns
        -------
        list of tuple of Entry and bool
            In the order in which they ended, and with each, whether the process that saw it end was killed: it did not
            settle, and does not live. Of very many the oldest are left out.
        """

        def wanted(entry: Entry) -> bool:
            return (entry.backend, entry.service) == (backend, service)

        return killed.ended(files(self.folder), wanted, self.owner)

    def entries(self) -> Iterator[Entry]:
        """Yield all that is known, oldest first."""
        yield from merged(files(self.folder), lambda _: True)

    def _carried(self) -> Iterator[bytes]:
        now = self._clock()
        # What the service has given up by now is nobody's any more, though nobody saw its end.
        self._mine = {name: flight for name, flight in self._mine.items() if flight.deadline > now}
        for name, flight in self._mine.items():
            yield flight.intent(name)
            if flight.task:
                yield flight.task
        for lines in self._theirs.values():
            yield from lines

    def _write(self, line: bytes, items: int = 0) -> bool:
        self._spoke = True
        return self.add(line, items)


@dataclass(slots=True)
class _Flight:
    """A submission of this journal that is in flight, with the line that names its task."""

    at: str
    request: Request
    backend: str
    service: str
    deadline: datetime
    task: bytes = b""

    def intent(self, submission_id: str) -> bytes:
        """Return the line of the intent; not kept, for that of 10,000 items has 700 kB."""
        facts = {"backend": self.backend, "service": self.service, "deadline": time(self.deadline)}
        whole = {"submission_id": submission_id, **facts, "request": plain_request(self.request)}
        return _line("intent", self.at, whole)


def _submitted(handle: TaskHandle, at: str) -> bytes:
    facts = {"submission_id": handle.submission_id, "backend": handle.backend, "task_id": handle.task_id}
    return _line("submitted", at, facts)


def _line(event: str, at: str, facts: dict[str, Any]) -> bytes:
    return json.dumps({"v": VERSION, "event": event, "at": at, **facts}, separators=(",", ":")).encode() + b"\n"
