"""The file that one process, and nobody else, writes to."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from typing import TYPE_CHECKING

from chiltepin.journal.reading import LINE_LIMIT, SUFFIX

if TYPE_CHECKING:
    from datetime import datetime

    from chiltepin.journal.owner import Owner

__all__ = ["OwnFile"]

#: Bytes after which a process goes on in a new file.
FILE_LIMIT = 16 * 2**20


class OwnFile:
    """A new file in a folder that is there; its name tells when it began, and on which host in which process.

    Parameters
    ----------
    folder : str
        Where it will be.
    now : datetime
        The time, in UTC. Names sort by it.
    owner : Owner
        The process.
    """

    def __init__(self, folder: str, now: datetime, owner: Owner) -> None:
        name = f"{now:%Y%m%dT%H%M%S.%fZ}-{owner}-{secrets.token_hex(4)}{SUFFIX}"
        self._path = os.path.join(folder, name)
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        self._descriptor = os.open(self._path, flags, 0o600)
        # The name of a file is forced to the disk by its folder (fsync(2)); not every filesystem can.
        with contextlib.suppress(OSError):
            above = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(above)
            finally:
                os.close(above)

    def has_room(self, line: bytes) -> bool:
        """Whether the line should go here; False also if somebody has removed the file."""
        now = os.fstat(self._descriptor)
        return now.st_nlink > 0 and now.st_size + len(line) <= FILE_LIMIT

    def append(self, line: bytes) -> None:
        """Write a line and force it to the disk.

        Raises
        ------
        OSError
            If that was not possible; the line may then be cut, so that no other can follow it in this file.
        """
        if len(line) > LINE_LIMIT:
            raise OSError(errno.EFBIG, f"a line of {len(line)} bytes is too long")
        if os.write(self._descriptor, line) < len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.fsync(self._descriptor)

    def remove_if_empty(self) -> None:
        """Remove the file if nothing was written to it; a full disk would collect empty ones."""
        with contextlib.suppress(OSError):
            if os.fstat(self._descriptor).st_size == 0:
                os.unlink(self._path)

    def close(self) -> None:
        """Let go of the file."""
        with contextlib.suppress(OSError):
            os.close(self._descriptor)
