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
from chiltepin.model import DeleteRequest, TaskState, items_of

if TYPE_CHECKING:
    from chiltepin.model import Capabilities, Item, Request
    from chiltepin.record import Record

__all__ = ["Repeats"]


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
        #: By what an item and its harmless form have in common; None as long as nobody has looked.
        self._done: set[tuple[Request, Item]] | None = None

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
        if self._done is None:
            self._done = self._look()
        known = replace(harmless, deadline=None)
        return harmless if all((known, item) in self._done for item in items) else kind

    def harmless(self, kind: Request, items: tuple[Item, ...]) -> Request:
        """Return the form that does nothing where items are done already; as it was said, where there is none."""
        # What a sync level leaves alone is not compared with a checksum from outside, so the two exclude each other.
        if any(not isinstance(item, str) and item.checksum for item in items):
            return kind
        return self._harmless(kind)

    def _look(self) -> set[tuple[Request, Item]]:
        done: set[tuple[Request, Item]] = set()
        for entry, killed in self._record.ended_lately():
            kind = self._harmless(kind_of(entry.request))
            keys = {(kind, item) for item in items_of(entry.request)}
            # Of a transfer that failed for one item the others may be done, and to compare is never wrong. A deletion
            # that failed may have failed because nothing was there, and shall do so again.
            if killed and (entry.state is TaskState.SUCCEEDED or not isinstance(kind, DeleteRequest)):
                done |= keys
            else:
                # The last one who asked for it decides.
                done -= keys
        return done

    def _harmless(self, kind: Request) -> Request:
        """Return the form of a request that does nothing where it is done; the same, if it is one or there is none."""
        if isinstance(kind, DeleteRequest):
            return replace(kind, ignore_missing=True)
        # A file that is left alone keeps its old time. And who wants nothing verified may have collections that know no
        # checksums, or tapes that would all be read.
        if kind.sync_level is not None or kind.preserve_timestamp or not (kind.verify_checksum and self._compares):
            return kind
        return replace(kind, sync_level="checksum")
