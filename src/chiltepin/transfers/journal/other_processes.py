"""Read the journals of other processes: what they have in flight, and what killed processes had done.

A process records the clean end of each workflow. A process that has ended without that record was killed. A
process that makes the same requests now is most likely the same workflow, restarted.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from chiltepin.model import TaskHandle
from chiltepin.transfers import policy
from chiltepin.transfers.journal.events import NO_WORKFLOW, CleanShutdown, Ended, JournalEntry, parse_event
from chiltepin.transfers.journal.reader import NewLines

if TYPE_CHECKING:
    from datetime import datetime

    from chiltepin.transfers.journal.events import ItemsByWorkflow
    from chiltepin.transfers.journal.journal import Journal
    from chiltepin.transfers.journal.process import ProcessId

__all__ = ["KnownSubmission", "OtherProcesses", "Requester"]


@dataclass(frozen=True, slots=True)
class Requester:
    """A workflow of a process that requested an item; ``time`` counts its clean ends before that."""

    owner: ProcessId | None
    workflow: str
    time: int


_Ender = tuple["ProcessId | None", "datetime"]

_Requesters = tuple[tuple[Requester, "frozenset[int] | None"], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownSubmission:
    """A submission of another process that has changed.

    ``began`` and ``saw`` are the requesters with their items when it began, and when its end was seen; None stands for
    all items.
    """

    entry: JournalEntry
    began: _Requesters
    saw: _Requesters = ()

    def askers(self, item: int) -> list[Requester]:
        """Return the requesters of an item: those in the process that saw it end, or else in the one that began it."""
        for asked in (self.saw, self.began):
            if found := [asker for asker, items in asked if items is None or item in items]:
                return found
        return []


class OtherProcesses:
    """Reads what other processes record about one service in the journal folder; each line is read once."""

    def __init__(self, journal: Journal, backend: str, service: str) -> None:
        self._journal, self._service = journal, (backend, service)
        self._begun: dict[str, KnownSubmission] = {}
        #: Submissions that have ended, the oldest first, with the process and the time of the last end. Other lines
        #: about them are ignored, unless `_reopens` is true.
        self._ended: dict[str, _Ender] = {}
        #: The number of clean ends of each workflow, and of each process as a whole.
        self._settled: dict[tuple[ProcessId | None, str], int] = {}
        self._whole: dict[ProcessId | None, int] = {}
        #: The latest time that each process has written; its clock may have been set back.
        self._latest: dict[ProcessId | None, datetime] = {}
        self._lines = NewLines(journal.folder, parse_event, own=journal.wrote)
        self._allowance, self._looked = policy.wait_times.READ_SAVED, float("-inf")

    def read_news(self, *, always: bool = False) -> list[KnownSubmission]:
        """Return each submission that began, became a task, or ended since the last call.

        Ended submissions come first, in the order of their ends, then those in flight, oldest first. The first call
        returns everything except unfinished submissions past their deadline. A call too soon after the last ones
        returns nothing, unless ``always`` is set; see `policy.wait_times.READ_FRACTION`.
        """
        started = time.perf_counter()
        if self._looked == float("-inf"):
            news = self._read()
        else:
            self._allowance = min(
                policy.wait_times.READ_SAVED,
                self._allowance + policy.wait_times.READ_FRACTION * (started - self._looked),
            )
            self._looked = started
            if self._allowance <= 0 and not always:
                return []
            news = self._read()
            self._allowance = max(-policy.wait_times.READ_EXCESS, self._allowance - (time.perf_counter() - started))
        self._looked = started
        return news

    def killed(self, asker: Requester) -> bool:
        """Whether the process of a workflow has ended without a clean end of the workflow."""
        owner = asker.owner
        if owner is None or owner == self._journal.owner or asker != self._asker(owner, asker.workflow):
            return False
        return not owner.is_running()

    def has_stopped(self, news: KnownSubmission, waited: float) -> bool:
        """Whether the process that recorded a submission ``waited`` seconds ago no longer works on it.

        A process on another machine cannot be checked; it counts as stopped after some seconds.
        """
        owners = [asker.owner for asker, _ in news.began if asker.owner is not None]
        lost = waited >= policy.wait_times.INTENT_WAIT
        return all(owner.has_ended() or (lost and not owner.is_running()) for owner in owners)

    def ended_cleanly(self, asker: Requester) -> bool:
        """Whether a workflow has ended cleanly since its request."""
        return asker != self._asker(asker.owner, asker.workflow)

    def _asker(self, owner: ProcessId | None, workflow: str) -> Requester:
        times = self._settled.get((owner, workflow), 0) + self._whole.get(owner, 0)
        return Requester(owner, workflow, times)

    def _asked(self, owner: ProcessId | None, asked: ItemsByWorkflow | None) -> _Requesters:
        # Lines of older versions count for the whole process.
        asked = NO_WORKFLOW if asked is None else asked
        return tuple((self._asker(owner, name), items) for name, items in asked.items())

    def _read(self) -> list[KnownSubmission]:
        changed: set[str] = set()
        tasks: dict[str, TaskHandle] = {}
        ends: dict[str, tuple[Ended, _Requesters]] = {}
        enders: dict[str, _Ender] = {}
        for _, owner, event in self._lines.new():
            if isinstance(event, CleanShutdown):
                self._settle(owner, event)
            elif isinstance(event, TaskHandle):
                tasks[event.submission_id] = event
            elif isinstance(event, Ended):
                self._latest[owner] = at = max(event.at, self._latest.get(owner, event.at))
                end = replace(event, at=at), self._asked(owner, event.asked)
                # The last end counts.
                ends[event.submission_id] = max(ends.get(event.submission_id, end), end, key=_parse_time)
                enders[event.submission_id] = owner, at
            elif self._is_new(event) or self._reopens(event, owner, enders):
                self._begun[event.submission_id] = KnownSubmission(entry=event, began=self._asked(owner, event.asked))
                changed.add(event.submission_id)
        ends = {name: end for name, end in ends.items() if name in enders}
        for name in self._begun.keys() & tasks.keys():
            news = self._begun[name]
            self._begun[name] = replace(news, entry=replace(news.entry, handle=tasks[name]))
            changed.add(name)
        known = [end for name, end in ends.items() if name in self._begun]
        over = [self._over(*end, enders[end[0].submission_id]) for end in sorted(known, key=_parse_time)]
        return over + self._in_flight(changed)

    def _over(self, end: Ended, saw: _Requesters, ender: _Ender) -> KnownSubmission:
        news = self._begun.pop(end.submission_id)
        self._ended[end.submission_id] = ender
        if len(self._ended) > policy.limits.REMEMBERED_ITEMS:
            del self._ended[next(iter(self._ended))]
        return replace(news, entry=replace(news.entry, state=end.state), saw=saw)

    def _in_flight(self, changed: set[str]) -> list[KnownSubmission]:
        if not self._begun:
            return []
        # The service enforces the deadline by its own clock; the clock of this machine may be wrong.
        long_ago = self._journal.now() - policy.wait_times.CLOCK_ERROR
        for name in [name for name, news in self._begun.items() if news.entry.deadline <= long_ago]:
            del self._begun[name]
        found = [news for name, news in self._begun.items() if name in changed and not self._journal.follows(name)]
        return sorted(found, key=lambda news: news.entry.begun)

    def _settle(self, owner: ProcessId | None, event: CleanShutdown) -> None:
        if event.workflow is None:
            self._whole[owner] = self._whole.get(owner, 0) + 1
        else:
            key = owner, event.workflow
            self._settled[key] = self._settled.get(key, 0) + 1

    def _is_new(self, entry: JournalEntry) -> bool:
        known = entry.submission_id in self._begun or entry.submission_id in self._ended
        return (entry.backend, entry.service) == self._service and not known

    def _reopens(self, entry: JournalEntry, owner: ProcessId | None, enders: dict[str, _Ender]) -> bool:
        """Whether a process uses an id again after it has recorded a refusal; if so, forget the refusal."""
        name = entry.submission_id
        ender, at = enders.get(name) or self._ended.get(name, (None, entry.begun))
        # A line that a disk has repeated is older.
        if ender is None or ender != owner or entry.begun <= at:
            return False
        enders.pop(name, None)
        self._ended.pop(name, None)
        return (entry.backend, entry.service) == self._service


def _parse_time(end: tuple[Ended, _Requesters]) -> datetime:
    return end[0].at
