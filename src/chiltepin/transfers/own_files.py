"""Read files that only this user can have written; any other file is ignored.

The journal, the activity log, the status file of a worker and its stop file may be in a folder that other users can
write to: a project folder, or ``/tmp``. A file that another user creates there must not decide what a transfer does.
"""

from __future__ import annotations

import logging
import os
import stat
from contextlib import suppress
from typing import BinaryIO

__all__ = ["create_own", "exists_own", "is_own", "open_own"]

logger = logging.getLogger(__name__)

#: Folders for which a warning about an ignored file was logged.
_told: set[str] = set()


def is_own(facts: os.stat_result) -> bool:
    """Whether a file belongs to this user, is writable by no other user, and has only one name.

    A hard link keeps the owner of a file and puts it under a name that another user has chosen (link(2)).
    """
    return (
        stat.S_ISREG(facts.st_mode)
        and facts.st_uid == os.geteuid()
        and not facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
        and facts.st_nlink <= 1
    )


def open_own(path: str) -> BinaryIO | None:
    """Open a file for reading; None, with one warning per folder, if another user may have written it.

    A symbolic link, or a file that cannot be opened, raises an OSError.
    """
    # Non-blocking: a pipe of that name would make the reader wait for a writer.
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        # Checks the open file, because the name may already refer to another file.
        facts = os.fstat(descriptor)
        if is_own(facts):
            return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise
    os.close(descriptor)
    folder = os.path.dirname(path)
    if folder not in _told:
        _told.add(folder)
        logger.warning(
            "Skipped %s: its owner is user %d, its mode is %o, and its hard link count is %d. Chiltepin reads only "
            "regular files with one hard link that you own and that no one else can write to. Other such files in %s "
            "are skipped without a warning.",
            *(path, facts.st_uid, stat.S_IMODE(facts.st_mode), facts.st_nlink, folder),
        )
    return None


def exists_own(path: str) -> bool:
    """Whether a file exists that only this user can have created."""
    try:
        return is_own(os.lstat(path))
    except (OSError, ValueError):
        return False


def create_own(path: str) -> int:
    """Create a file that only this user can read and write, and return its descriptor; replace an existing file.

    A link that another user has created there is never followed.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with suppress(FileExistsError):
        return os.open(path, flags, 0o600)
    with suppress(FileNotFoundError):
        os.unlink(path)
    return os.open(path, flags, 0o600)
