"""Write the status of a task to a file that the workflow's process reads: Parsl has no message for it.

The worker of a task may be a process on another node, which shares only the run folder with the workflow.
"""

from __future__ import annotations

import json
import logging
import os
import time
from contextlib import suppress
from dataclasses import asdict, replace
from typing import Any

from chiltepin.model import TaskHandle, TaskState, TaskStatus
from chiltepin.transfers import policy
from chiltepin.transfers.own_files import create_own, open_own

__all__ = ["StatusFile", "read"]

logger = logging.getLogger(__name__)


class StatusFile:
    """Writes the last status of a live task to a file; with an empty name it does nothing.

    The folder of the file is created if its parent exists; if not, no workflow on this machine will read the file.
    """

    def __init__(self, file: str, clock: Any = None) -> None:
        self._file, self._clock = file, clock or time
        self._due = self._clock.monotonic() + policy.wait_times.STATUS_FILE_INTERVAL
        self._last: TaskStatus | None = None

    def update(self, status: TaskStatus) -> None:
        """Write a status if it is new and due; a failed write does not affect the task."""
        now = self._clock.monotonic()
        # The final status is not written here: it is the result of Parsl's task.
        if not self._file or now < self._due or status == self._last or status.state.final:
            return
        self._due, self._last = now + policy.wait_times.STATUS_FILE_INTERVAL, status
        try:
            _write(self._file, status)
        except (OSError, TypeError, ValueError) as error:
            # A third-party backend may report values that JSON cannot represent.
            logger.debug("Could not record the status of a task: %s.", error)


def _write(file: str, status: TaskStatus) -> None:
    with suppress(FileExistsError):
        os.mkdir(os.path.dirname(file))
    temp_file = f"{file}.tmp"
    try:
        # Other users may be able to write to the run folder, and create a link there.
        with os.fdopen(create_own(temp_file), "w", encoding="utf-8") as note:
            # The reader needs the numbers only; the paths are in the final status.
            json.dump({**asdict(replace(status, skipped_paths=())), "state": status.state.value}, note)
        # A reader sees either the old file or the complete new one.
        os.replace(temp_file, file)
    except BaseException:
        with suppress(OSError):
            os.remove(temp_file)
        raise


def read(file: str) -> TaskStatus | None:
    """Return the status in the file; None if it is missing or cannot be read now."""
    try:
        opened = open_own(file)
        if opened is None:
            return None
        with opened as note:
            plain = json.loads(note.read(policy.limits.STATUS_FILE_LIMIT))
        plain |= {"handle": TaskHandle(**plain["handle"]), "state": TaskState(plain["state"]), "skipped_paths": ()}
        return TaskStatus(**plain)
    except (KeyError, OSError, RecursionError, TypeError, ValueError):
        # The worker may have another version of this package.
        return None
