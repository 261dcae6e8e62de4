"""Records of our multipart uploads, to find those whose writer is gone.

S3 does not tell which process began an upload, or whether it is running. So each upload is recorded in a file of the
user's state folder, which its writer keeps locked. The kernel releases the lock when the process ends: an upload whose
record can be locked is continued or aborted; one that is locked or not recorded is left alone.

Hosts may share that folder but not its locks. So the record names the host, and a record of another host is left alone
until no part was sent for a day, by the clock of the folder's disk.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import secrets
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

import platformdirs

from chiltepin.backends.filesystem.local.claims import time_of
from chiltepin.backends.filesystem.temp_names import ABANDONED_AFTER
from chiltepin.backends.processes import host_id

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Record", "begin", "dead"]


class Record(NamedTuple):
    """An unfinished upload of ours, its record locked: object, upload id and part size in bytes.

    It is ``old`` if no part was sent for a day. Until then, a transfer to the same object continues it; after that, the
    next transfer to its bucket aborts it, because S3 bills its parts.
    """

    key: str
    upload: str
    part: int
    old: bool
    path: str
    descriptor: int

    def touch(self) -> None:
        """Record that a part was sent just now."""
        with suppress(OSError):
            os.utime(self.descriptor)

    def release(self) -> None:
        """Leave the upload to the process that continues it."""
        os.close(self.descriptor)

    def remove(self) -> None:
        """Delete the record of a completed or aborted upload."""
        with suppress(FileNotFoundError):
            os.unlink(self.path)
        self.release()


def _folder(place: str) -> str:
    name = hashlib.sha256(place.encode()).hexdigest()[:16]
    return os.path.join(platformdirs.user_state_dir("chiltepin"), "uploads", name)


def begin(place: str, key: str, upload: str, part: int) -> Record | None:
    """Record a new upload; ``place`` identifies the server and bucket.

    None if the record cannot be written or locked: then the upload is neither continued nor aborted after a kill.
    """
    folder = _folder(place)
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        path = os.path.join(folder, secrets.token_hex(8))
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        os.write(descriptor, json.dumps({"key": key, "upload": upload, "part": part, "host": host_id()}).encode())
    except OSError:
        os.close(descriptor)
        os.unlink(path)
        return None
    return Record(key, upload, part, old=False, path=path, descriptor=descriptor)


def dead(place: str, key: str | None = None) -> Iterator[Record]:
    """Yield the uploads to a bucket, or to one object in it, whose writers are gone, each locked for the caller."""
    folder = _folder(place)
    for name, now in _records(folder):
        record = _locked(os.path.join(folder, name), now)
        if record is not None and key in (None, record.key):
            yield record
        elif record is not None:
            record.release()


def _records(folder: str) -> list[tuple[str, float]]:
    """Return the names of all records, each with the current time by the clock of their disk."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return []
    try:
        names = os.listdir(descriptor)
        now = time_of(descriptor) if names else 0.0
        return [(name, now) for name in names]
    except OSError:
        return []
    finally:
        os.close(descriptor)


def _locked(path: str, now: float) -> Record | None:
    """Lock and return a record; None if its writer may be running."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        facts = os.fstat(descriptor)
        if facts.st_nlink:
            said = json.loads(os.read(descriptor, 1 << 16))
            old = now - facts.st_mtime > ABANDONED_AFTER
            # Earlier versions did not record the host.
            if old or said.get("host") == host_id():
                return Record(said["key"], said["upload"], said["part"], old, path, descriptor)
    except (OSError, ValueError, LookupError, AttributeError):
        pass
    os.close(descriptor)
    return None
