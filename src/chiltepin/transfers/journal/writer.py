"""Append lines to a file that only this process writes to."""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import secrets
import threading
import time
import weakref
from collections import deque
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from chiltepin.backends import forks
from chiltepin.transfers import policy
from chiltepin.transfers.journal.events import VERSION
from chiltepin.transfers.journal.process import ProcessId
from chiltepin.transfers.journal.reader import SUFFIX

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

__all__ = ["LineFile", "LineWriter", "encode"]

logger = logging.getLogger(__name__)

#: Shared by all lines: ``json.dumps`` would make a new encoder for each.
_encode = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode

_writers: weakref.WeakSet[LineWriter] = weakref.WeakSet()


def _reset_after_fork() -> None:
    for writer in list(_writers):
        writer.reset()


forks.register(_reset_after_fork)


def encode(event: str, at: datetime, facts: Mapping[str, Any]) -> bytes:
    """Return the line for an event; ``at`` is in UTC."""
    return _encode({"v": VERSION, "event": event, "at": at.isoformat(), **facts}).encode() + b"\n"


class LineWriter:
    """Writes the lines of one process; any number of threads may call at once.

    A child process made by ``fork`` gets a separate file. If a line cannot be written, one warning is logged, and the
    next line begins a new file.

    Parameters
    ----------
    folder : path
        Where the files are; created with mode 0700 for the first line.
    clock : callable
        Returns the time of day in UTC.
    owner : ProcessId or None
        The process; None for this one.
    suffix : str
        The suffix of the files.
    forced : bool
        Whether each line is on the disk before `add` returns.
    tidy : callable
        Called once, before the first file is made.
    enough : int
        An old file is removed as soon as the newer ones hold this much; see ``holds`` of `add`.
    loss : str
        What a lost line means, as a sentence for the warning.

    Attributes
    ----------
    wrote : set of str
        All files that it has written to.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        clock: Callable[[], datetime],
        owner: ProcessId | None = None,
        suffix: str = SUFFIX,
        forced: bool = True,
        tidy: Callable[[], object] = lambda: None,
        enough: int,
        loss: str,
    ) -> None:
        self.folder, self._clock, self._given = os.path.abspath(folder), clock, owner
        self._suffix, self._forced, self._tidy, self._enough, self._loss = suffix, forced, tidy, enough, loss
        self._tidied = self._warned = False
        self._file: LineFile | None = None
        self.wrote: set[str] = set()
        self._began = datetime.min.replace(tzinfo=timezone.utc)
        self.reset()
        _writers.add(self)

    def reset(self) -> None:
        """Start over; after a fork, even the lock may be held by a thread that no longer exists."""
        self._lock = threading.Lock()
        self._waiting: deque[bytes] = deque()
        self.owner = self._given or ProcessId.current()
        self.wrote.clear()
        #: Its earlier files, oldest first, and how much each of them holds.
        self._left: deque[tuple[str, int]] = deque()
        self.close()
        # After a fork, the file belongs to the parent process.
        self._left.clear()

    def write(
        self, event: str, facts: Mapping[str, Any], *, at: datetime | None = None, holds: int = 0
    ) -> tuple[bytes, bool]:
        """Write a line for an event at ``at``, by default now; return it, and whether it was written (see `add`)."""
        line = encode(event, at or self._clock(), facts)
        return line, self.add(line, holds)

    def add(self, line: bytes, holds: int = 0) -> bool:
        """Write a line that ends with a newline; return whether it was written, always True if lines are not forced.

        ``holds`` is how much the line counts towards ``enough``; lines that are not forced count by their bytes.
        """
        if self._forced:
            with self._lock:
                return self._try(line, holds)
        # One thread writes the lines of all threads; waiting here would delay a transfer.
        self._waiting.append(line)
        while self._waiting and self._lock.acquire(blocking=False):
            try:
                lines = b"".join(self._waiting.popleft() for _ in range(len(self._waiting)))
                self._try(lines, len(lines))
            finally:
                self._lock.release()
        return True

    def close(self) -> None:
        """Close the file; the next line begins a new one."""
        with self._lock:
            self._close_file()

    def _lines_to_keep(self) -> Iterator[bytes]:
        """Yield the lines so far that are still needed; the caller holds the lock."""
        return iter(())

    def _try(self, line: bytes, holds: int) -> bool:
        try:
            self._append(line, holds)
        except OSError as error:
            self._give_up(error)
            return False
        self._warned = False
        return True

    def _append(self, line: bytes, holds: int) -> None:
        if self._file is not None and not self._file.has_room(line):
            self._close_file()
            if self._has_superfluous_file():
                self._carry_over()
        file = self._file
        if file is None or not file.has_room(line):
            self._close_file()
            file = self._start_file()
        file.append(line)
        file.holds += holds

    def _start_file(self) -> LineFile:
        os.makedirs(self.folder, mode=0o700, exist_ok=True)
        if not self._tidied:
            self._tidied = True
            self._tidy()
        # Readers process files in the order of their names, even if the clock is set back.
        self._began = max(self._clock(), self._began + timedelta(microseconds=1))
        self._file = LineFile(self.folder, self._began, self.owner, suffix=self._suffix, forced=self._forced)
        self.wrote.add(self._file.path)
        return self._file

    def _has_superfluous_file(self) -> bool:
        return bool(self._left) and sum(holds for _, holds in self._left) - self._left[0][1] >= self._enough

    def _carry_over(self) -> None:
        """Begin a file with the lines that are still needed, and remove the files that are not."""
        file = self._start_file()
        for before in self._lines_to_keep():
            file.append(before)
        while self._has_superfluous_file():
            path, _ = self._left.popleft()
            with contextlib.suppress(OSError):
                os.unlink(path)

    def _give_up(self, error: OSError) -> None:
        """Skip a line; the next one begins a new file, because this file may end in a partial line."""
        if self._file is not None:
            self._file.remove_if_empty()
        self._close_file()
        if not self._warned:
            self._warned = True
            logger.warning("The journal in %s cannot be written: %s. %s", self.folder, error, self._loss)

    def _close_file(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            self._left.append((file.path, file.holds))
            file.close()


class LineFile:
    """A new file in an existing folder; its name contains the time, by which names sort, the host and the process.

    ``holds`` is the sum of what its lines hold; see `LineWriter.add`.
    """

    def __init__(
        self, folder: str, now: datetime, owner: ProcessId, *, suffix: str = SUFFIX, forced: bool = True
    ) -> None:
        name = f"{now:%Y%m%dT%H%M%S.%fZ}-{owner}-{secrets.token_hex(4)}{suffix}"
        self.path, self._forced = os.path.join(folder, name), forced
        self.holds, self._size, self._looked = 0, 0, float("-inf")
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        self._descriptor = os.open(self.path, flags, 0o600)
        if not forced:
            return
        # Forcing the name of a file to the disk needs fsync of its folder (fsync(2)); not every filesystem supports it.
        with contextlib.suppress(OSError):
            above = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(above)
            finally:
                os.close(above)

    def has_room(self, line: bytes) -> bool:
        """Whether the line fits and the file still exists."""
        if self._forced or time.monotonic() > self._looked + policy.wait_times.FILE_CHECK:
            now = os.fstat(self._descriptor)
            self._size, self._looked = now.st_size, time.monotonic()
            if now.st_nlink == 0:
                return False
        return self._size + len(line) <= policy.limits.JOURNAL_FILE_LIMIT

    def append(self, line: bytes) -> None:
        """Write a line, and force it to the disk if required; after an OSError the file may end in a partial line."""
        if len(line) > policy.limits.JOURNAL_LINE_LIMIT:
            raise OSError(errno.EFBIG, f"a line of {len(line)} bytes is too long")
        if os.write(self._descriptor, line) < len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._size += len(line)
        if self._forced:
            os.fsync(self._descriptor)

    def remove_if_empty(self) -> None:
        """Remove the file if it is empty; otherwise a full disk would collect empty files."""
        with contextlib.suppress(OSError):
            if os.fstat(self._descriptor).st_size == 0:
                os.unlink(self.path)

    def close(self) -> None:
        """Close the file."""
        with contextlib.suppress(OSError):
            os.close(self._descriptor)
