"""Items that may already be done, and the form in which they are requested again.

A task for which a request had to wait may have done them, or a process that was killed. The journal records that an
item was done, but not that it is still up to date: a restarted workflow may have rewritten its sources before the
transfer. So no item is skipped. Items are requested in a form that does nothing for those that are in place.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from chiltepin.model import DeleteRequest, TaskState, items_of
from chiltepin.transfers import policy
from chiltepin.transfers.service.batch import kind_of

if TYPE_CHECKING:
    from chiltepin.model import Capabilities, Item, Request
    from chiltepin.transfers.journal import KnownSubmission, Requester
    from chiltepin.transfers.recorder import TaskRecorder

__all__ = ["RestartPlan"]


class RestartPlan:
    """The items that may already be done according to the journal."""

    def __init__(self, recorder: TaskRecorder, capabilities: Capabilities) -> None:
        self._recorder, self._compares = recorder, "checksum" in capabilities.sync_levels
        #: By the repeatable form of a request and by item, the last task that did it, and the number of the item there.
        self._done: dict[Request, dict[Item, tuple[KnownSubmission, int]]] = {}
        self._most = policy.limits.REMEMBERED_ITEMS

    def choose_form(self, kind: Request, items: tuple[Item, ...]) -> Request:
        """Return the form in which to request items: unchanged or, if all were done, one that is safe to repeat."""
        if not self._done:
            return kind
        harmless = self.repeatable_form(kind, items)
        if harmless == kind:
            return kind
        known = replace(harmless, deadline=None)
        return harmless if all(self._was_killed(known, item) for item in items) else kind

    def _was_killed(self, kind: Request, item: Item) -> bool:
        """Whether an item was last done for a workflow whose process was killed."""
        others, last = self._recorder.others, self._done.get(kind, {}).get(item)
        return others is not None and last is not None and any(map(others.killed, last[0].askers(last[1])))

    def repeatable_form(self, kind: Request, items: tuple[Item, ...]) -> Request:
        """Return the form that leaves completed items alone; the request unchanged if it has no such form."""
        # A file that a sync level skips is not compared with the caller's checksum, so the two cannot be combined.
        if any(not isinstance(item, str) and item.checksum for item in items):
            return kind
        return self._repeatable_form(kind)

    def add(self, news: KnownSubmission) -> None:
        """Record a task of another process that has ended; with other settings, it did something else."""
        entry = news.entry
        if entry.settings is not None and entry.settings != self._recorder.settings_of(entry.request):
            return
        kind = self._repeatable_form(kind_of(entry.request))
        # If a transfer failed for one item, its other items may be done, and comparing is always safe. A deletion may
        # have failed because a path did not exist, and must fail again.
        counts = entry.state is TaskState.SUCCEEDED or not isinstance(kind, DeleteRequest)
        counts = counts and any(not self._ended_cleanly(asker) for asker, _ in (*news.began, *news.saw))
        known = self._done.setdefault(kind, {})
        # The last requester of an item decides.
        for number, item in enumerate(items_of(entry.request) if counts or known else ()):
            known.pop(item, None)
            if counts:
                known[item] = news, number
        if sum(map(len, self._done.values())) > self._most:
            self._tidy()

    def _ended_cleanly(self, asker: Requester) -> bool:
        return self._recorder.others is None or self._recorder.others.ended_cleanly(asker)

    def _tidy(self) -> None:
        """Drop the items of workflows that have ended cleanly, and the oldest items of very large kinds."""
        for kind, known in self._done.items():
            live = [
                (item, last)
                for item, last in known.items()
                if not all(map(self._ended_cleanly, last[0].askers(last[1])))
            ]
            self._done[kind] = dict(live[-policy.limits.REMEMBERED_ITEMS :])
        self._most = max(policy.limits.REMEMBERED_ITEMS, 2 * sum(map(len, self._done.values())))

    def _repeatable_form(self, kind: Request) -> Request:
        """Like `repeatable_form`, for a request without checksums."""
        if kind.submission_id:
            # The service returns the task that has this id, whatever else the document contains.
            return kind
        if isinstance(kind, DeleteRequest):
            return replace(kind, ignore_missing=True)
        # A skipped file keeps its old modification time. Without verification, a collection may not support checksums,
        # or may have to recall every file from tape to compute them.
        if kind.sync_level is not None or kind.preserve_timestamp or not (kind.verify_checksum and self._compares):
            return kind
        return replace(kind, sync_level="checksum")
