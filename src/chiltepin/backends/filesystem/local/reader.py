"""Local files that are open for reading, and small files, which are read at once."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from chiltepin.backends.filesystem.errors import Fault
from chiltepin.backends.filesystem.local import descriptors
from chiltepin.backends.filesystem.local.times import Instant
from chiltepin.backends.filesystem.local.unknown_size import has_unknown_sizes
from chiltepin.backends.filesystem.store import SMALL, Small
from chiltepin.backends.processes import host_id

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["ENTERED", "FILE", "FOLDER", "LocalReader", "OpenFile", "close_quietly", "read_small"]

# O_NONBLOCK: a pipe in place of a file must not block until it is written to.
FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

#: How to open a folder that may be entered but not listed (x without r); 0 if the system has no such flag.
ENTERED = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC if hasattr(os, "O_PATH") else 0


def close_quietly(descriptor: int) -> None:
    """Close a descriptor and ignore errors; it is closed even if the disk reports one (close(2))."""
    try:  # noqa: SIM105 - a tenth of what suppress costs, twice for each small file
        os.close(descriptor)
    except OSError:
        pass


def _is_changed(before: os.stat_result, now: os.stat_result) -> bool:
    """Whether the content of a file may have changed between two calls of fstat.

    A new change time may come only from new rights or a new link, or from content that was rewritten in place before
    the file got its old modification time. A file with fewer links has been removed or replaced, as it was.
    """
    if (now.st_size, now.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
        return True
    return now.st_ctime_ns != before.st_ctime_ns and now.st_nlink >= before.st_nlink


def read_small(origin: int, name: str) -> Small | None:
    """Read a small file of an open folder; None if it has grown, or has just been written to."""
    source = os.open(name, FILE, dir_fd=origin)
    try:
        before = os.fstat(source)
        size = before.st_size
        if size > SMALL or not stat.S_ISREG(before.st_mode):
            return None
        # One byte more than expected, to detect a file that has grown.
        content = os.read(source, size + 1)
        after = os.fstat(source)
    finally:
        close_quietly(source)
    if len(content) != size or _is_changed(before, after):
        return None
    return Small(content, size, before.st_mtime_ns)


class OpenFile:
    """An open descriptor."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        # Write errors were reported earlier (`surface_close_errors`).
        close_quietly(self.descriptor)


class LocalReader(OpenFile):
    """A regular local file, open for reading."""

    parts, pinned, checksum = True, False, ""

    def __init__(self, descriptor: int, name: str) -> None:
        super().__init__(descriptor)
        self.facts = os.fstat(descriptor)
        if not stat.S_ISREG(self.facts.st_mode):
            raise Fault("NOT_A_FILE", f"{name} is neither a file nor a folder.")
        self.size: int | None = None if self._has_unknown_size() else self.facts.st_size
        self.mtime: float | None = Instant.of(self.facts)

    @property
    def content_id(self) -> str:
        """Host, device, inode, size and times of the file; see `Reader.content_id`."""
        # Device and inode numbers of two hosts may be equal. The change time reveals a file that was rewritten in place
        # and given its old modification time.
        facts = self.facts
        numbers = (facts.st_dev, facts.st_ino, self.size, facts.st_mtime_ns, facts.st_ctime_ns)
        return ":".join(map(str, (host_id(), *numbers)))

    def _has_unknown_size(self) -> bool:
        """Whether the kernel's size is not that of the content, which then has to be read to its end."""
        if self.facts.st_blocks:
            return False
        if has_unknown_sizes(self.facts.st_dev):
            return True
        # Some disks over FUSE report 0 for files that are generated while they are read (rclone mount, for documents).
        return not self.facts.st_size and bool(descriptors.pread(self.descriptor, 1, 0))

    @property
    def sparse(self) -> bool:
        """Whether it has holes, if the disk reports them."""
        return self.facts.st_blocks * 512 < self.facts.st_size

    def read_at(self, offset: int, block: memoryview) -> int:
        """Fill the block from an offset; see `Reader.read_at`."""
        return descriptors.read_at(self.descriptor, block, offset)

    def readinto(self, block: memoryview) -> int:
        """Fill the block; see `Reader.readinto`."""
        return descriptors.readv(self.descriptor, [block])

    def changed(self) -> bool:
        """Compare size and times, in nanoseconds, with those at opening, and check for data after the end."""
        if _is_changed(self.facts, os.fstat(self.descriptor)):
            return True
        return self.size is not None and bool(descriptors.pread(self.descriptor, 1, self.size))
