"""Translate errors of the operating system and of fsspec into faults of a task.

The codes are event codes of Globus, so that a workflow need not know which backend moved its data.
"""

from __future__ import annotations

import errno
import os

from chiltepin.errors import printable

__all__ = ["FATAL_CODES", "ConnectionLostError", "Fault", "changed_source", "fault_of"]

_CODES = {
    errno.ENOENT: "FILE_NOT_FOUND",
    errno.EACCES: "PERMISSION_DENIED",
    errno.EPERM: "PERMISSION_DENIED",
    errno.EROFS: "PERMISSION_DENIED",
    errno.EISDIR: "IS_A_DIRECTORY",
    errno.ENOTDIR: "NOT_A_DIRECTORY",
    errno.ENOTEMPTY: "NOT_EMPTY",
    errno.ENOSPC: "NO_SPACE_LEFT",
    errno.EDQUOT: "QUOTA_EXCEEDED",
    errno.EFBIG: "LIMIT_EXCEEDED",
    errno.EMFILE: "LIMIT_EXCEEDED",
    errno.ENFILE: "LIMIT_EXCEEDED",
    errno.ENAMETOOLONG: "INVALID_PATH_NAME",
    errno.EILSEQ: "INVALID_PATH_NAME",
    errno.ELOOP: "INVALID_SYMLINK",
    errno.ETIMEDOUT: "TIMEOUT",
    errno.ECONNREFUSED: "CONNECT_FAILED",
    errno.EHOSTUNREACH: "CONNECT_FAILED",
    errno.ENETUNREACH: "CONNECT_FAILED",
    errno.ECONNRESET: "CONNECTION_RESET",
    errno.EPIPE: "CONNECTION_RESET",
}

#: Codes after which every other file of the task would fail, too.
FATAL_CODES = frozenset({"NO_SPACE_LEFT", "QUOTA_EXCEEDED"})

_RENAME = "the disk does not accept this name; rename it"
_ROOM = "make room there, then run it again"

#: What to do about an error; docs/concepts/bad-disks.md has the table.
_HINTS = {
    errno.EACCES: "check the permissions of the user running the transfer",
    errno.EPERM: "check the permissions of the user running the transfer",
    errno.EROFS: "ask for the disk to be mounted read-write",
    errno.ENOSPC: _ROOM,
    errno.EDQUOT: _ROOM,
    errno.EFBIG: "the disk or a limit of this user (ulimit -f) does not allow a file of that size",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.ENAMETOOLONG: _RENAME,
    errno.EILSEQ: _RENAME,
    errno.ELOOP: "the links form a circle; name the file itself",
    errno.ENOTDIR: "a part of one of the paths is a file; name a path whose parents are folders",
    errno.EIO: "the disk is damaged or was removed; ask its operators",
    errno.EXDEV: "the paths are on different disks; use a transfer, then delete the old path",
    errno.EBUSY: "it is a mount point or in use; unmount it, or choose another path",
    errno.ESTALE: "the network disk changed or was unmounted; run the transfer again",
}

_BY_CLASS: tuple[tuple[type[BaseException], str], ...] = (
    (FileNotFoundError, "FILE_NOT_FOUND"),
    (PermissionError, "PERMISSION_DENIED"),
    (IsADirectoryError, "IS_A_DIRECTORY"),
    (NotADirectoryError, "NOT_A_DIRECTORY"),
    (FileExistsError, "FILE_EXISTS"),
    (TimeoutError, "TIMEOUT"),
    (OSError, "ENDPOINT_ERROR"),
)


class Fault(Exception):  # noqa: N818 - the glossary's word
    """Why one file or folder could not be moved or removed: an event code of Globus, and a sentence.

    Characters that are not printable are escaped in the sentence.
    """

    def __init__(self, code: str, reason: str) -> None:
        self.code, self.reason = code, printable(reason)
        super().__init__(self.reason)


class ConnectionLostError(ConnectionError):
    """A connection was lost, or could not be opened; a later attempt may succeed.

    ``reason`` is shown unchanged, and holds no secret.
    """

    def __init__(self, code: str, reason: str) -> None:
        self.code, self.reason = code, reason
        super().__init__(reason)


def changed_source(name: str) -> Fault:
    """Return the fault of a file that changed while it was copied."""
    return Fault("FILE_SIZE_CHANGED", f"{name} changed during the copy; transfer it again when it is complete.")


def fault_of(error: BaseException, what: str) -> Fault:
    """Return the fault for an exception of a store; ``what``, the operation and its path, begins the sentence."""
    if isinstance(error, Fault):
        return error
    if isinstance(error, ConnectionLostError):
        return Fault(error.code, f"{what}: {error.reason}")
    number = meant = error.errno if isinstance(error, OSError) else None
    # EINVAL from a call with a name means that the name is invalid: VFAT, for example, does not allow some characters.
    if number == errno.EINVAL and isinstance(error, OSError) and isinstance(error.filename, (str, bytes)):
        meant = errno.EILSEQ
    by_class = (code for kind, code in _BY_CLASS if isinstance(error, kind))
    code = _CODES.get(meant or 0) or next(by_class, "INTERNAL_ERROR")
    # The text of another library's error may contain a URL with a key; strerror and the class name cannot.
    if number:
        cure = _HINTS.get(meant or 0)
        return Fault(code, f"{what}: {os.strerror(number)}{f'; {cure}' if cure else ''}.")
    if isinstance(error, OSError):
        return Fault(code, f"{what}: {code.replace('_', ' ').lower()}.")
    return Fault(code, f"{what}: {type(error).__name__}.")
