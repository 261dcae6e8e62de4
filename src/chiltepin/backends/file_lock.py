"""Make the processes of one host take turns, with a lock on a file (``flock``).

Whether a process on another host also waits depends on the disk and how it is mounted; some disks have no locks.
"""

from __future__ import annotations

import fcntl
import os
import random
import time
from contextlib import suppress

__all__ = ["FileLock", "pause"]

#: Longest pause between two attempts, in seconds; each pause is random, so that two processes do not keep in step.
_PAUSE = 0.02

#: After a vain wait, the next waits last only a fraction of the timeout, for some multiple of the timeout: a process
#: that was stopped with the lock would delay every block.
_BRIEF, _MISTRUST = 0.01, 12.0


class FileLock:
    """Locks a file, which is created if necessary with its folder, for a ``with`` block.

    The value of the block is False if another process has kept the lock for ``timeout`` seconds, or more briefly soon
    after that. It is True without a lock if the disk has none, or if the file cannot be opened or belongs to another
    user.
    """

    def __init__(self, path: str, timeout: float) -> None:
        self._path, self._timeout = path, timeout
        self._descriptor: int | None = None
        #: Until when the holder of the lock is assumed to be stopped.
        self._stopped_until = float("-inf")

    def __enter__(self) -> bool:
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        with suppress(OSError):
            os.makedirs(os.path.dirname(self._path), mode=0o700, exist_ok=True)
            self._descriptor = os.open(self._path, flags, 0o600)
            if os.fstat(self._descriptor).st_uid == os.geteuid():
                return self._wait(self._descriptor)
        return True

    def _wait(self, descriptor: int) -> bool:
        now = time.monotonic()
        patient = now >= self._stopped_until
        deadline = now + self._timeout * (1.0 if patient else _BRIEF)
        while time.monotonic() < deadline:
            with suppress(BlockingIOError):
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._stopped_until = float("-inf")
                return True
            pause()
        if patient:
            self._stopped_until = deadline + self._timeout * _MISTRUST
        return False

    def __exit__(self, *_: object) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is None:
            return
        with suppress(OSError):
            # A child process made by `fork` meanwhile also has the descriptor, so closing it does not release the lock.
            fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)


def pause() -> None:
    """Wait for a moment before the next attempt."""
    time.sleep(random.uniform(0, _PAUSE))  # noqa: S311 - not a secret
