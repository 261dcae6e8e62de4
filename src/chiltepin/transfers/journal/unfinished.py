"""Detect that an earlier process was killed while several workers ran the same request.

Files that it has moved are then compared with the source, and not moved again. The files of this record are empty:
their names identify the request and the process.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import xxhash

from chiltepin.transfers import policy
from chiltepin.transfers.journal.events import request_to_json
from chiltepin.transfers.journal.process import ProcessId
from chiltepin.transfers.own_files import create_own, exists_own

if TYPE_CHECKING:
    from chiltepin.model import Request

__all__ = ["UnfinishedRecord"]

logger = logging.getLogger(__name__)

_SUFFIX = ".unfinished"


class UnfinishedRecord:
    """The record of one request of this process, in the folder of the journal; without a folder, nothing is recorded.

    ``setup`` is `DataSettings.setup`.
    """

    def __init__(self, setup: str, request: Request) -> None:
        self._folder: str = json.loads(setup).get("journal") or ""
        # Calls that differ only in label or deadline move the same data.
        facts = {**request_to_json(request), "label": "", "deadline": None}
        self._key = xxhash.xxh3_128_hexdigest(json.dumps([setup, facts], sort_keys=True).encode())
        self._recursive, self._file = request.recursive, ""

    def begin(self) -> bool:
        """Write the record for a tree; return whether a process that has ended left a record of the same request.

        A single file is copied in one step, unless a worker divides it into ranges (`write`).
        """
        earlier = self._earlier()
        if earlier or self._recursive:
            self.write()
        for path in earlier:
            with suppress(OSError):
                os.unlink(path)
        return bool(earlier)

    def write(self) -> None:
        """Write the record, unless that is done already."""
        if not self._folder or self._file:
            return
        try:
            os.makedirs(self._folder, mode=0o700, exist_ok=True)
            name = f"{self._key}-{ProcessId.current()}-{secrets.token_hex(4)}{_SUFFIX}"
            self._file = os.path.join(self._folder, name)
            os.close(create_own(self._file))
        except OSError as err:
            logger.warning("A transfer that is killed will restart from the beginning: %s.", err)

    def _earlier(self) -> list[str]:
        """Return the records of this request by processes that have ended; remove old ones of other requests."""
        found, limit = [], time.time() - policy.wait_times.FILES_KEPT.total_seconds()
        names: list[str] = []
        with suppress(OSError):
            names = os.listdir(self._folder) if self._folder else []
        for name in names:
            path = os.path.join(self._folder, name)
            process = ProcessId.from_path(path) if name.endswith(_SUFFIX) else None
            if process is None or process.is_running() or not exists_own(path):
                continue
            if name.startswith(f"{self._key}-"):
                found.append(path)
                continue
            with suppress(OSError):
                if os.stat(path).st_mtime < limit:
                    os.unlink(path)
        return found

    def end(self) -> None:
        """Remove the record, whatever the outcome of the request."""
        if self._file:
            with suppress(OSError):
                os.unlink(self._file)
