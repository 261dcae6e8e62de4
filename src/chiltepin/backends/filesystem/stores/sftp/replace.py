"""Check a file that was written over SFTP, and replace the old file with it."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from chiltepin.backends.filesystem.errors import Fault
from chiltepin.backends.filesystem.stores import owners
from chiltepin.backends.filesystem.stores.sftp.handles import classified, fetched, has_data, opened, opening
from chiltepin.backends.filesystem.stores.sftp.messages import (
    CREATING,
    EXCLUSIVELY,
    NO_SUCH_FILE,
    WRITING,
    Attributes,
    MessageType,
    Request,
    pack_string,
    times,
)
from chiltepin.backends.filesystem.temp_names import taken_away

if TYPE_CHECKING:
    from chiltepin.backends.filesystem.stores.sftp.connection import Connection

__all__ = [
    "mode_kept",
    "moved",
    "refuse_lost_time",
    "refuse_other_size",
    "renaming",
    "server_time",
    "time_set",
    "written",
]


def written(connection: Connection, request: Request) -> None:
    """Check that a write was accepted; an OSError or ``Fault`` if not.

    The error is "no space" if the disk of the server is full, for which SFTP has no code.
    """
    try:
        request.result()
    except Fault:
        if _is_full(connection, request.about):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), request.about) from None
        raise


def _is_full(connection: Connection, path: str) -> bool:
    if "statvfs@openssh.com" not in connection.extensions:
        return False
    above = path.rsplit("/", 1)[0] or "/"
    (asked,) = connection.ask(Request(MessageType.EXTENDED, pack_string("statvfs@openssh.com"), pack_string(above)))
    # Eleven numbers; the fifth is the free blocks for unprivileged users (PROTOCOL of OpenSSH, 4.4).
    return asked.status is None and not int.from_bytes(asked.body[32:40], "big")


def time_set(connection: Connection, temp_file: str, mtime: float, path: str) -> Attributes:
    """Set the modification time of a temporary file by its name, and return its attributes; a ``Fault`` on failure."""
    timed, look = (
        Request(MessageType.SETSTAT, pack_string(temp_file), times(mtime)),
        Request(MessageType.LSTAT, pack_string(temp_file), about=path),
    )
    # One after the other: some servers process requests in any order.
    connection.ask(timed)
    connection.ask(look)
    if timed.status:
        raise Fault(
            "ENDPOINT_ERROR",
            f"The server cannot set modification times ({timed.words()!r} of {path}); remove preserve_timestamp.",
        )
    return Attributes.of(look.result())[0]


def mode_kept(look: Request) -> int | None:
    """Return the permission bits of the file to be replaced; None if there is none.

    Parameters
    ----------
    look : Request
        The LSTAT of the path, with its reply. Setuid and setgid are dropped, as the kernel does on a write.
    """
    there = Attributes.of(look.body)[0] if look.status is None else None
    return there.mode & 0o777 if there is not None and there.kind == "file" and there.mode else None


def refuse_other_size(
    connection: Connection, handle: bytes, facts: Attributes, size: int, path: str, past: Request | None = None
) -> None:
    """Raise a ``Fault`` if a file has another size; if the server does not tell the size, read the end of the file.

    ``past`` is a read after the end: a server may report the size that was set, although it did not truncate the file.
    """
    if facts.size is None:
        block = memoryview(bytearray(2))
        start = max(size - 1, 0)
        right = fetched(connection, handle, start, block) == size - start
    else:
        right = facts.size == size and (past is None or not has_data(past))
    if not right:
        raise Fault("FILE_SIZE_CHANGED", f"{path} was written, but its size differs from the source.")


def refuse_lost_time(mtime: float, facts: Attributes, path: str) -> None:
    """Raise a ``Fault`` if a server has not kept the modification time that was set."""
    kept = facts.mtime if facts.mtime is not None else min(max(mtime, 0), 0xFFFFFFFF)
    if abs(kept - mtime) >= 2:  # noqa: PLR2004 - seconds; FAT stores only even ones
        reason = f"The server cannot keep the modification time of {path}; remove preserve_timestamp."
        raise Fault("ENDPOINT_ERROR", reason)


def renaming(connection: Connection, temp_file: str, path: str) -> Request:
    """Return the request that renames a temporary file, replacing an existing file if the server can."""
    if "posix-rename@openssh.com" in connection.extensions:
        return Request(
            MessageType.EXTENDED,
            pack_string("posix-rename@openssh.com"),
            pack_string(temp_file),
            pack_string(path),
            about=path,
        )
    return Request(MessageType.RENAME, pack_string(temp_file), pack_string(path), about=path)


def server_time(connection: Connection, folder: str) -> float | None:
    """Return the server's time, from the modification time of a new file in a folder; None if unknown."""
    name = owners.new_name()
    path = f"{folder}/{name}"
    try:
        (asked,) = connection.ask(opening(path, WRITING | CREATING | EXCLUSIVELY))
        connection.close_file(opened(connection, asked))
        look, _ = connection.ask(
            Request(MessageType.LSTAT, pack_string(path)), Request(MessageType.REMOVE, pack_string(path))
        )
        return Attributes.of(look.result())[0].mtime
    except (OSError, Fault):
        return None
    finally:
        owners.release(name)


def moved(connection: Connection, temp_file: str, path: str) -> None:
    """Rename a temporary file to its real name, replacing an existing file.

    SFTP's own rename does not replace (draft-ietf-secsh-filexfer-02, 6.5). OpenSSH and most other servers have an
    extension that does. On a server without it, the old file is renamed first, and renamed back if the new file cannot
    be renamed: for a moment neither has the name, but the old file is never lost.
    """
    asked, look = renaming(connection, temp_file, path), Request(MessageType.LSTAT, pack_string(path))
    connection.ask(asked)
    if asked.status == 0:
        return
    ours = Request(MessageType.LSTAT, pack_string(temp_file))
    connection.ask(look, ours)
    if ours.status == NO_SUCH_FILE:
        raise taken_away(temp_file.rpartition("/")[2], path.rpartition("/")[2])
    if look.status is not None:
        asked.result()
    there = Attributes.of(look.result())[0]
    classified(connection, [(path, there)])
    if there.kind == "dir":
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    above, _, name = path.rpartition("/")
    old = owners.aside(name, server_time(connection, above))
    aside = f"{above}/{old}"
    away, placed = _plainly(path, aside), _plainly(temp_file, path)
    try:
        connection.ask(away)
        if away.status:
            asked.result()
        connection.ask(placed)
        if placed.status:
            connection.ask(_plainly(aside, path))
        placed.result()
        connection.ask(Request(MessageType.REMOVE, pack_string(aside)))
    finally:
        owners.release(old)


def _plainly(old: str, new: str) -> Request:
    return Request(MessageType.RENAME, pack_string(old), pack_string(new), about=new)
