"""Journal: what the rest of Chiltepin writes to and asks."""

from __future__ import annotations

import json
import logging
import os
import threading
import weakref
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from chiltepin.journal import killed
from chiltepin.journal.lines import VERSION, plain_request, time
from chiltepin.journal.owner import Owner
from chiltepin.journal.reading import files, merged, prune
from chiltepin.journal.writing import OwnFile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from chiltepin.journal.lines import Entry
    from chiltepin.model import Request, TaskHandle, TaskState

__all__ = ["Journal"]

logger = logging.getLogger(__name__)

_journals: weakref.WeakSet[Journal] = weakref.WeakSet()


def _start_anew_after_a_fork() -> None:
    for journal in list(_journals):
        journal._forget()  # noqa: SLF001  (the same module)


os.register_at_fork(after_in_child=_start_anew_after_a_fork)


class Journal:
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
    A file of more than 16 MB is left for a new one. The first line that a journal writes has up to 100 files removed
    that nobody has written to for 30 days, if nothing in them is in flight.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(timezone.utc),
        owner: Owner | None = None,
    ) -> None:
        self._folder, self._clock, self._given = os.path.abspath(folder), clock, owner
        self._pruned = self._warned = False
        self._file: OwnFile | None = None
        self._forget()
        _journals.add(self)

    def _forget(self) -> None:
        """Be a journal that has written nothing; after a fork, also the lock may be held by a thread that is gone."""
        self._lock = threading.Lock()
        self._mine: set[str] = set()
        self._owner = self._given or Owner.this()
        self.close()

    def intend(self, submission_id: str, request: Request, *, backend: str, service: str, deadline: datetime) -> None:
        """Write down what is about to be submitted; it is on the disk when this returns.

        Parameters
        ----------
        submission_id, backend, service, request, deadline
            See `Entry`.
        """
        facts = {"backend": backend, "service": service, "deadline": time(deadline), "request": plain_request(request)}
        self._write("intent", submission_id, facts)

    def submitted(self, handle: TaskHandle) -> None:
        """Write down which task a submission has become."""
        self._write("submitted", handle.submission_id, {"backend": handle.backend, "task_id": handle.task_id})

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
        self._write("ended", submission_id, facts | counts)

    def settle(self) -> None:
        """Write down that all is in order so far: who asks for the same again, after whatever happens, has a new wish.

        A journal that has written nothing stays silent.
        """
        if self._mine:
            self._line("settled", {})

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

        found = merged(files(self._folder), wanted)
        with self._lock:
            return [entry for entry in found if entry.state is None and entry.submission_id not in self._mine]

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

        return killed.ended(files(self._folder), wanted, self._owner)

    def entries(self) -> Iterator[Entry]:
        """Yield all that is known, oldest first."""
        yield from merged(files(self._folder), lambda _: True)

    def close(self) -> None:
        """Let go of the file; a line that is written later begins a new one."""
        with self._lock:
            self._let_go()

    def _write(self, event: str, submission_id: str, facts: dict[str, Any]) -> None:
        with self._lock:
            self._mine.add(submission_id)
        self._line(event, {"submission_id": submission_id, **facts})

    def _line(self, event: str, facts: dict[str, Any]) -> None:
        whole = {"v": VERSION, "event": event, "at": time(self._clock()), **facts}
        line = json.dumps(whole, separators=(",", ":")).encode() + b"\n"
        with self._lock:
            try:
                self._append(line)
            except OSError as error:
                self._give_up(error)
            else:
                self._warned = False

    def _append(self, line: bytes) -> None:
        if self._file is not None and not self._file.has_room(line):
            self._let_go()
        if self._file is None:
            os.makedirs(self._folder, mode=0o700, exist_ok=True)
            if not self._pruned:
                self._pruned = True
                prune(files(self._folder), self._clock())
            self._file = OwnFile(self._folder, self._clock(), self._owner)
        self._file.append(line)

    def _give_up(self, error: OSError) -> None:
        """Do without a line; the next one begins a new file, for this one may end in half a line."""
        if self._file is not None:
            self._file.remove_if_empty()
        self._let_go()
        if not self._warned:
            self._warned = True
            logger.warning(
                "The journal in %s cannot be written: %s. What is submitted now cannot be joined after a restart.",
                self._folder,
                error,
            )

    def _let_go(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            file.close()
