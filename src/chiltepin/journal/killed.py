"""What processes had done that were killed, so that the next one need not do it again.

A process that ends in order says so in its last line. One whose file has no such line, and that does not live, was
killed, and whoever asks for the same things now is most likely the same workflow, started again.
"""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from chiltepin.journal.lines import Ended, Entry, Settled
from chiltepin.journal.owner import Owner
from chiltepin.journal.reading import logged, said, understood
from chiltepin.model import items_of

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["ended"]

#: Items after which no older file is read: some 6 MB of lines, 0.4 s of a processor and 32 MB of memory.
MOST = 100_000

#: Bytes at the end of a file that have the whole line which says that its process ended in order.
_TAIL = 200

_NEVER = datetime.min.replace(tzinfo=timezone.utc)


def ended(paths: list[str], wanted: Callable[[Entry], bool], reader: Owner) -> list[tuple[Entry, bool]]:
    """Return what has ended since the first process was killed that the files tell of.

    Parameters
    ----------
    paths : list of str
        The files, oldest first. Of those that tell of more than 100,000 items the oldest are left out.
    wanted : callable
        Says of an entry whether it matters.
    reader : Owner
        Who asks; it lives.

    Returns
    -------
    list of tuple of Entry and bool
        With each entry, whether the process that saw its end was killed; in the order in which they ended.
    """
    owners = {path: owner for path in paths if (owner := Owner.of(path)) is not None}
    dead = {owner for owner in set(owners.values()) if owner != reader and not owner.lives()}
    begun: dict[str, Entry] = {}
    ends: dict[str, tuple[Ended, Owner]] = {}
    settled: dict[Owner, datetime] = {}
    counted: set[str] = set()
    count = 0
    for path in reversed(_since_the_first_killed(paths, owners, dead)):
        if path not in owners or count >= MOST:
            continue
        owner = owners[path]
        with logged(path):
            for event in said(path):
                if isinstance(event, Settled):
                    settled[owner] = max(event.at, settled.get(owner, _NEVER))
                elif isinstance(event, Ended):
                    last = ends.get(event.submission_id, (event, owner))
                    ends[event.submission_id] = max(last, (event, owner), key=lambda end: end[0].at)
                elif isinstance(event, Entry):
                    # What is in flight for long is written again, when the file that it is in goes.
                    count += 0 if event.submission_id in counted else len(items_of(event.request))
                    counted.add(event.submission_id)
                    if wanted(event):
                        begun[event.submission_id] = event
    known = sorted(((end, owner) for name, (end, owner) in ends.items() if name in begun), key=lambda end: end[0].at)
    return [
        (
            replace(begun[end.submission_id], state=end.state),
            owner in dead and end.at > settled.get(owner, _NEVER),
        )
        for end, owner in known
    ]


def _since_the_first_killed(paths: list[str], owners: dict[str, Owner], dead: set[Owner]) -> list[str]:
    """Return the files from the first one on that a killed process has left; none, and so nothing is read, mostly."""
    suspects = {owner for owner in dead if not _ends_in_order([path for path in paths if owners.get(path) == owner])}
    first = next((number for number, path in enumerate(paths) if owners.get(path) in suspects), len(paths))
    return paths[first:]


def _ends_in_order(paths: list[str]) -> bool:
    """Whether the last line of the last file of a process says that it ended in order."""
    tail = b""
    with logged(paths[-1]):
        descriptor = os.open(paths[-1], os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            tail = os.pread(descriptor, _TAIL, max(0, os.fstat(descriptor).st_size - _TAIL))
        finally:
            os.close(descriptor)
    *_, last = tail.splitlines(keepends=True) or [b""]
    return last.endswith(b"\n") and isinstance(understood(last), Settled)
