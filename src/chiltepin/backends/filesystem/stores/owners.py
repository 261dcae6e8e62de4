"""Names of temporary files that identify their writer, for stores without locks.

A name contains the content id, the machine and process of the writer, and the start time of that process. So a process
on the same machine knows whether the writer is running; a writer of an earlier boot is not. For a writer on another
machine this is unknown: its temporary file is kept until it had no write for a day, by the clock of the store.
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

    #: Returns the time by the clock of a store, in seconds since 1970; None if unknown.
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

#: Start of the name of a file that was set aside for its replacement.
_ASIDE = "old"

#: Fields of such a name: those of each temporary file, when it was set aside, and the mark and Base64 of its old name.
_FIELDS = 8

#: Most characters of a name in Base64 that fit beside the other fields.
_LONGEST = 150

_ours: set[str] = set()
_lock = threading.Lock()


def _renew() -> None:
    """Start without temporary files, in a process made by ``fork``."""
    global _lock  # noqa: PLW0603 - a thread of the parent may hold it
    _lock = threading.Lock()
    _ours.clear()


forks.register(_renew)


class Owner(NamedTuple):
    """The fields in the name of a temporary file."""

    content_id: str
    machine: str
    process: int
    began: int

    @classmethod
    def of(cls, name: str) -> Owner | None:
        """Parse a name; None if it is not of this kind."""
        fields = (body_of(name) or "").split("-", 5)
        if len(fields) < 5 or not (fields[2].isdecimal() and fields[3].isdecimal()):  # noqa: PLR2004 - see `new_name`
            return None
        return cls(fields[0], fields[1], int(fields[2]), int(fields[3]))

    def lives(self, name: str) -> bool | None:
        """Whether the writer is still writing; None if it is on another machine."""
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
    """Return a short hash of a content id and a name; ``0`` if the source has no content id."""
    return xxhash.xxh3_64_hexdigest(f"{content_id}\0{name}".encode(errors="surrogateescape")) if content_id else "0"


def new_name(content_id: str = "0", more: str = "") -> str:
    """Return a name for a new temporary file, and record it as in use; it ends with ``more``."""
    process, began = _process()
    name = temporary(f"{content_id}-{machine_id()}-{process}-{began}-{secrets.token_hex(4)}{more}")
    with _lock:
        _ours.add(name)
    return name


def aside(name: str, now: float | None) -> str:
    """Return a name to set the file ``name`` aside for its replacement; ``now`` is by the clock of the store.

    It is in use until its `release`.
    """
    known = urlsafe_b64encode(name.encode(errors="surrogateescape")).decode().rstrip("=")
    told = known if len(known) <= _LONGEST else ""
    return new_name(_ASIDE, f"-{int(time.time() if now is None else now)}-{mark_of(_ASIDE, name)}-{told}")


def stands_aside(temp_file: str) -> bool:
    """Whether a temporary file was set aside for its replacement."""
    return (body_of(temp_file) or "").startswith(f"{_ASIDE}-")


def left(listed: Collection[str], now: Clock) -> tuple[list[str], dict[str, str]]:
    """Classify the files in a listing that were set aside by writers that are gone.

    Return those that are not needed, because the new file exists, and those that are the only copy, with their old
    name; it is empty if unknown.
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
        # The file has the old modification time, so its name tells when it was set aside.
        if lives or (lives is None and not is_old(float(fields[5]), now)):
            continue
        if fields[6] in marks:
            spare.append(temp_file)
        else:
            only[temp_file] = _named(fields[7], fields[6])
    return spare, only


def _named(known: str, content_id: str) -> str:
    """Return the old name of a file that was set aside; empty if there is none, or a server forged it."""
    with suppress(ValueError):
        name = urlsafe_b64decode(known + "=" * (-len(known) % 4)).decode(errors="surrogateescape")
        if is_valid_name(name) and mark_of(_ASIDE, name) == content_id:
            return name
    return ""


def missing(listed: Collection[str]) -> Iterator[Entry]:
    """Yield an entry with a fault for each file of a folder that exists only as a file set aside."""
    # Its writer on another machine may be alive, but a listing without the file would be incomplete.
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
    """Whether the last write, at ``mtime``, is so long ago that the file counts as abandoned."""
    # The local clock may differ from that of the store by hours.
    if mtime is None or (moment := now()) is None:
        return False
    return moment - mtime > ABANDONED_AFTER
