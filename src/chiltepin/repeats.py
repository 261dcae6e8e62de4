"""What may have been done already, and the form in which it is asked for again.

That is what a task did for which a request had to wait, and what a killed process had done. The journal says that it
was done, but not that it still holds: the workflow that is started again may have made its sources anew before it comes
to the transfer. So nothing is left out. It is asked for in a form that does nothing where all is as it should be, and
everything where it is not.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from chiltepin.batch import kind_of
from chiltepin.journal import REMEMBERED
from chiltepin.model import DeleteRequest, TaskState, items_of

if TYPE_CHECKING:
    from chiltepin.journal import Asker, News
    from chiltepin.model import Capabilities, Item, Request
    from chiltepin.record import Record

__all__ = ["Repeats"]

#: Items that were done, of which none are sorted out before there are so many.
LIMIT = 1000


class Repeats:
    """What may have been done already.

    Parameters
    ----------
    record : Record
        Tells what has ended.
    capabilities : Capabilities
        What the service can do.
    """

    def __init__(self, record: Record, capabilities: Capabilities) -> None:
        self._record, self._compares = record, "checksum" in capabilities.sync_levels
        #: Who asked for what was done last, by what an item and its harmless form have in common.
        self._done: dict[tuple[Request, Item], list[Asker]] = {}
        self._most = LIMIT

    def form(self, kind: Request, items: tuple[Item, ...]) -> Request:
        """Return in which form to ask for items: as it was said, or, if all were done, the one that does no harm.

        Parameters
        ----------
        kind : TransferRequest or DeleteRequest
            What was said, without its items: `kind_of`.
        items : tuple of Item
            The items.
        """
        harmless = self.harmless(kind, items)
        if harmless == kind:
            return kind
        known = replace(harmless, deadline=None)
        return harmless if all(self._killed(known, item) for item in items) else kind

    def _killed(self, kind: Request, item: Item) -> bool:
        """Whether an item was done last for a workflow whose process was killed."""
        others, askers = self._record.others, self._done.get((kind, item), ())
        return others is not None and any(others.killed(asker) for asker in askers)

    def harmless(self, kind: Request, items: tuple[Item, ...]) -> Request:
        """Return the form that does nothing where items are done already; as it was said, where there is none."""
        # What a sync level leaves alone is not compared with a checksum from outside, so the two exclude each other.
        if any(not isinstance(item, str) and item.checksum for item in items):
            return kind
        return self._harmless(kind)

    def take(self, news: News) -> None:
        """Take note of a task of another process that has ended."""
        kind = self._harmless(kind_of(news.entry.request))
        # Of a transfer that failed for one item the others may be done, and to compare is never wrong. A deletion that
        # failed may have failed because nothing was there, and is to do so again.
        counts = news.entry.state is TaskState.SUCCEEDED or not isinstance(kind, DeleteRequest)
        for number, item in enumerate(items_of(news.entry.request)):
            # The last one who asked for it decides.
            self._done.pop((kind, item), None)
            if counts and (askers := news.askers(number)):
                self._done[kind, item] = askers
        if len(self._done) > self._most:
            self._tidy()

    def _tidy(self) -> None:
        """Drop what was done for workflows that have ended in order, and of very many the oldest."""
        others = self._record.others
        live = [(key, askers) for key, askers in self._done.items() if others and not all(map(others.settled, askers))]
        self._done = dict(live[-REMEMBERED:])
        self._most = max(LIMIT, 2 * len(self._done))

    def _harmless(self, kind: Request) -> Request:
        """Return the form of a request that does nothing where it is done; the same, if it is one or there is none."""
        if isinstance(kind, DeleteRequest):
            return replace(kind, ignore_missing=True)
        # A file that is left alone keeps its old time. And who wants nothing verified may have collections that know no
        # checksums, or tapes that would all be read.
        if kind.sync_level is not None or kind.preserve_timestamp or not (kind.verify_checksum and self._compares):
            return kind
        return replace(kind, sync_level="checksum")
