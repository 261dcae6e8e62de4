"""Names of temporary files that identify their writer, for stores without locks.

A name contains the content id, the machine and the process of the writer, and when that process began. On the same
machine it is known whether the writer is running, and one of an earlier boot is not. For a writer on another machine
that is unknown: its temporary file is kept until there was no write to it for a day, by the clock of the store.
"""

from __future__ import annotations

import os
import secrets
import threading
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

import xxhash

from chiltepin.backends import forks
from chiltepin.backends.filesystem.errors import Fault
from chiltepin.backends.filesystem.store import Entry, is_valid_name
from chiltepin.backends.filesystem.temp_names import ABANDONED_AFTER, body_of, temporary
from chiltepin.backends.processes import is_earlier_boot, machine_id, start_time

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    #: Returns the time by the clock of a store, in seconds since 1970; None if it cannot be known.
    Clock = Callable[[], "float | None"]

__all__ = [
    "Clock",
    "Owner",
    "aside",
    "is_abandoned",
    "is_old",
    "left",
    "mark_of",
    "missing",
    "new_name",
    "release",
    "stands_aside",
]

#: How the name of a file begins that made way for another one.
_ASIDE = "old"

#: Fields of such a name: those of each temporary file, when it made way, the mark of its name, and the name in Base64.
_FIELDS = 8

#: Characters of a name in Base64 that fit into another name with all that.
_LONGEST = 150

_ours: set[str] = set()
_lock = threading.Lock()


def _renew() -> None:
    """Begin without temporary files, as in a process made by ``fork``."""
    global _lock  # noqa: PLW0603 - a thread of the parent may hold it
    _lock = threading.Lock()
    _ours.clear()


forks.register(_renew)


class Owner(NamedTuple):
    """What the name of a temporary file tells."""

    content_id: str
    machine: str
    process: int
    began: int

    @classmethod
    def of(cls, name: str) -> Owner | None:
        """Read a name; None for one that is not of this kind."""
        fields = (body_of(name) or "").split("-", 5)
        if len(fields) < 5 or not (fields[2].isdecimal() and fields[3].isdecimal()):  # noqa: PLR2004 - see `begun`
            return None
        return cls(fields[0], fields[1], int(fields[2]), int(fields[3]))

    def lives(self, name: str) -> bool | None:
        """Whether the writer still writes; None if that cannot be known from here."""
        if is_earlier_boot(self.machine):
            return False
        if self.machine != machine_id():
            return None
        if (self.process, self.began) == _process():
            return name in _ours
        began = start_time(self.process)
        return began is not None and abs(began - self.began) < 2  # noqa: PLR2004 - seconds, rounded


def _process() -> tuple[int, int]:
    process = os.getpid()
    return process, _began(process)


@cache
def _began(process: int) -> int:
    return int(start_time(process) or 0)


def mark_of(content_id: str, name: str) -> str:
    """Return a short word for a content under a name; ``0`` where the source does not tell its content apart."""
    return xxhash.xxh3_64_hexdigest(f"{content_id}\0{name}".encode(errors="surrogateescape")) if content_id else "0"


def new_name(content_id: str = "0", more: str = "") -> str:
    """Return a name for a new temporary file of ours, which lives from now on; ``more`` is said at its end."""
    process, began = _process()
    name = temporary(f"{content_id}-{machine_id()}-{process}-{began}-{secrets.token_hex(4)}{more}")
    with _lock:
        _ours.add(name)
    return name


def aside(name: str, now: float | None) -> str:
    """Return a name for a file that makes way for another one of this name, ``now`` by the clock of the store.

    It is in use until its `release`.
    """
    known = urlsafe_b64encode(name.encode(errors="surrogateescape")).decode().rstrip("=")
    told = known if len(known) <= _LONGEST else ""
    return new_name(_ASIDE, f"-{int(time.time() if now is None else now)}-{mark_of(_ASIDE, name)}-{told}")


def stands_aside(temp_file: str) -> bool:
    """Whether a temporary file made way for another one."""
    return (body_of(temp_file) or "").startswith(f"{_ASIDE}-")


def left(listed: Collection[str], now: Clock) -> tuple[list[str], dict[str, str]]:
    """Classify files in a listing that were renamed to be replaced by writers that are gone.

    Return those that are not needed, because the new file has its name, and those that are the only copy, with the name
    that they had; it is empty if unknown.
    """
    spare: list[str] = []
    only: dict[str, str] = {}
    aside = list(filter(stands_aside, listed))
    marks = {mark_of(_ASIDE, name) for name in listed} if aside else ()
    for temp_file in aside:
        owner, fields = Owner.of(temp_file), (body_of(temp_file) or "").split("-", _FIELDS - 1)
        if owner is None or len(fields) < _FIELDS or not fields[5].isdecimal():
            continue
        lives = owner.lives(temp_file)
        # Its time is that of the old file, so the name says when it made way.
        if lives or (lives is None and not is_old(float(fields[5]), now)):
            continue
        if fields[6] in marks:
            spare.append(temp_file)
        else:
            only[temp_file] = _named(fields[7], fields[6])
    return spare, only


def _named(known: str, content_id: str) -> str:
    """Return the name in that of a file that made way; empty if there is none, or a server has made one up."""
    with suppress(ValueError):
        name = urlsafe_b64decode(known + "=" * (-len(known) % 4)).decode(errors="surrogateescape")
        if is_valid_name(name) and mark_of(_ASIDE, name) == content_id:
            return name
    return ""


def missing(listed: Collection[str]) -> Iterator[Entry]:
    """Yield an entry with a fault for each name of a folder that only a file has which made way for it."""
    # Its writer on another machine may be alive, but a listing that leaves the file out would not be complete.
    for temp_file, name in left(listed, lambda: float("inf"))[1].items():
        reason = (
            f"{name or 'A file'} was renamed to {temp_file} to be replaced, in a run that was killed; "
            "transfer a file to its folder, which restores it, or rename it yourself."
        )
        yield Entry(name or temp_file, "other", fault=Fault("FILE_NOT_FOUND", reason))


def release(name: str) -> None:
    """Record that this process no longer writes a temporary file."""
    with _lock:
        _ours.discard(name)


def is_abandoned(name: str, mtime: float | None, now: Clock) -> bool:
    """Whether a temporary file, last written to at ``mtime``, is abandoned."""
    owner = Owner.of(name)
    lives = owner.lives(name) if owner else None
    return is_old(mtime, now) if lives is None else not lives


def is_old(mtime: float | None, now: Clock) -> bool:
    """Whether there was no write since a time of the store for so long that the writer is given up."""
    # Our own clock may differ from that of the store by hours.
    if mtime is None or (moment := now()) is None:
        return False
    return moment - mtime > ABANDONED_AFTER
