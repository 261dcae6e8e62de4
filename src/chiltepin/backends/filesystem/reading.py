"""Files of this machine that are open for reading."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from chiltepin.backends.filesystem.faults import Fault

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

__all__ = ["FILE", "LocalReader", "Open", "let_go"]

# O_NONBLOCK: a pipe that was put in place of a file must not hold us until somebody writes to it.
FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def let_go(descriptor: int) -> None:
    """Close a descriptor of which nothing more is to be heard; it goes whatever the disk says (close(2))."""
    try:  # noqa: SIM105 - a tenth of what suppress costs, twice for each small file
        os.close(descriptor)
    except OSError:
        pass


class Open:
    """An open descriptor."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # What was written has been heard of before (`drafts.settled`).
        let_go(self.descriptor)


class LocalReader(Open):
    """A regular file of this machine, open for reading."""

    parts, proof = True, ""

    def __init__(self, descriptor: int, name: str) -> None:
        super().__init__(descriptor)
        self.facts = os.fstat(descriptor)
        if not stat.S_ISREG(self.facts.st_mode):
            raise Fault("NOT_A_FILE", f"{name} is neither a file nor a folder.")
        self.size: int | None = self.facts.st_size
        self.mtime: float | None = self.facts.st_mtime
        self.mark = ":".join(map(str, (self.facts.st_dev, self.facts.st_ino, self.size, self.facts.st_mtime_ns)))

    @property
    def sparse(self) -> bool:
        """Whether there are holes in it, as far as the disk tells."""
        return self.facts.st_blocks * 512 < self.facts.st_size

    def read_at(self, offset: int, block: memoryview) -> int:
        """Fill the block from there; see `Reader.read_at`."""
        count = 0
        while count < len(block) and (got := os.preadv(self.descriptor, [block[count:]], offset + count)):
            count += got
        return count

    def readinto(self, block: memoryview) -> int:
        """Fill the block; see `Reader.readinto`."""
        return os.readv(self.descriptor, [block])

    def changed(self) -> bool:
        """Compare size and modification time, in nanoseconds, with those of the moment it was opened."""
        now = os.fstat(self.descriptor)
        return (now.st_size, now.st_mtime_ns) != (self.facts.st_size, self.facts.st_mtime_ns)
