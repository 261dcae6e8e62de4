"""Read all entries of a journal."""

from __future__ import annotations

import dataclasses

from chiltepin.model import TaskHandle
from chiltepin.transfers.journal import JournalEntry
from chiltepin.transfers.journal.events import Ended
from chiltepin.transfers.journal.reader import journal_files, read_events


def entries(folder):
    """Return every submission of all processes, with its task and its last end, oldest first."""
    begun, handles, ends = {}, {}, {}
    for event in (event for path in journal_files(str(folder)) for event in read_events(path)):
        if isinstance(event, JournalEntry):
            begun.setdefault(event.submission_id, event)
        elif isinstance(event, TaskHandle):
            handles[event.submission_id] = event
        elif isinstance(event, Ended):
            ends[event.submission_id] = max(ends.get(event.submission_id, event), event, key=lambda end: end.at)
    whole = (
        dataclasses.replace(entry, handle=handles.get(name), state=ends[name].state if name in ends else None)
        for name, entry in begun.items()
    )
    return sorted(whole, key=lambda entry: entry.begun)
