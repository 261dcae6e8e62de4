"""The file of this process that ``chiltepin activity`` shows."""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING

from chiltepin.transfers import policy
from chiltepin.transfers.journal.writer import LineWriter
from chiltepin.transfers.own_files import is_own

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

__all__ = ["STOP_SUFFIX", "SUFFIX", "ActivityLog", "stop_file"]

#: The suffix of the files; the reader of the journal ignores them.
SUFFIX = ".activity"

#: The suffix of the files with which another process requests that a task stop.
STOP_SUFFIX = ".stop"


def stop_file(folder: str, name: str) -> str:
    """Return the path of the file that asks the task with this submission id to stop."""
    return os.path.join(folder, f"{name}{STOP_SUFFIX}")


class ActivityLog(LineWriter):
    """Writes the activity log of one process to the folder of the journal."""

    def __init__(self, folder: str | os.PathLike[str], clock: Callable[[], datetime]) -> None:
        super().__init__(
            folder,
            clock=clock,
            suffix=SUFFIX,
            forced=False,
            tidy=lambda: _remove_old(self.folder),
            enough=policy.limits.ACTIVITY_SIZE,
            loss="'chiltepin activity' will not show current transfers.",
        )
        self.clock = clock


def _remove_old(folder: str) -> None:
    limit = time.time() - policy.wait_times.FILES_KEPT.total_seconds()
    with contextlib.suppress(OSError):
        names = sorted(name for name in os.listdir(folder) if name.endswith((SUFFIX, STOP_SUFFIX)))
        for name in names[: policy.limits.FILES_PRUNED]:
            path = os.path.join(folder, name)
            with contextlib.suppress(OSError):
                if is_own(facts := os.lstat(path)) and facts.st_mtime < limit:
                    os.unlink(path)
