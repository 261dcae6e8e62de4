"""Mark Chiltepin's run folders, in which Parsl writes the logs of one run each, and remove old ones."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from typing import Any

from chiltepin.backends.processes import has_ended, process_id
from chiltepin.errors import ConfigError
from chiltepin.transfers.own_files import create_own, open_own

__all__ = ["MARK", "checked_path", "mark_ended", "mark_started", "remove_old"]

#: The file that marks a run folder as ours and names the process that uses it; empty after a clean shutdown.
MARK = "chiltepin-run"

#: Folder in a run folder that Parsl keeps for later runs.
_CHECKPOINT = "checkpoint"


def mark_started(folder: str) -> None:
    """Mark a run folder as used by this process; an unmarked folder is never removed."""
    _mark(folder, process_id())


def mark_ended(folder: str) -> None:
    """Mark a run folder as no longer in use."""
    _mark(folder, "")


def _mark(folder: str, content: str) -> None:
    # A full or read-only disk must not stop a run; the folder is then kept.
    with contextlib.suppress(OSError), os.fdopen(create_own(os.path.join(folder, MARK)), "w") as mark:
        mark.write(content)


def remove_old(run_dir: str, keep: int) -> None:
    """Remove the oldest marked run folders, so that ``keep`` remain.

    Folders that a process uses or may use, that hold a checkpoint, or that Chiltepin did not mark, always remain.
    """
    try:
        numbered = [entry.path for entry in os.scandir(run_dir) if entry.name.isdecimal() and entry.name.isascii()]
    except OSError:
        return
    marked = [folder for folder in sorted(numbered, key=_number) if _user(folder) is not None]
    for folder in marked[:-keep]:
        if not _in_use(folder) and not os.path.lexists(os.path.join(folder, _CHECKPOINT)):
            shutil.rmtree(folder, ignore_errors=True)


def _number(folder: str) -> int:
    return int(os.path.basename(folder))


def _user(folder: str) -> str | None:
    """Return the content of a run folder's mark; None if the folder is not ours."""
    with contextlib.suppress(OSError, UnicodeDecodeError):
        facts = os.lstat(folder)
        if stat.S_ISDIR(facts.st_mode) and facts.st_uid == os.geteuid():
            mark = open_own(os.path.join(folder, MARK))
            if mark is not None:
                with mark:
                    return mark.read().decode("ascii")
    return None


def _in_use(folder: str) -> bool:
    user = _user(folder)
    if not user:
        return user is None
    try:
        return not has_ended(user)
    except ValueError:
        return True


def checked_path(name: str, path: Any, kind: str) -> str:
    """Return an argument as the path of a file or folder; raise a TypeError or a ConfigError if it cannot be one."""
    text = os.fspath(path) if isinstance(path, str | os.PathLike) else None
    if not isinstance(text, str):
        raise TypeError(f"{name}={path!r} is of type {type(path).__name__}; give the path of a {kind}.")
    if not text or "\0" in text:
        raise ConfigError(f"{name}={text!r} cannot be the name of a {kind}; name a {kind}, or leave {name} out.")
    return text
