"""Give each attempt at a shard an id, and record the attempts whose temporary files must be removed."""

from __future__ import annotations

import secrets
from dataclasses import replace
from typing import TYPE_CHECKING

from chiltepin.backends import processes
from chiltepin.transfers import policy

if TYPE_CHECKING:
    from chiltepin.protocol import Shard

__all__ = ["Attempts"]

#: Random bytes that identify a task, and as many an attempt at one of its shards.
_TOKEN = 8

#: Attempts, and whole tasks, of this process; see `Shard.abandoned`.
_abandoned: list[str] = []


class Attempts:
    """The attempts at the shards of one task."""

    def __init__(self) -> None:
        self._task = secrets.token_hex(_TOKEN)

    def begin(self, shard: Shard) -> Shard:
        """Return a shard with the id of a new attempt."""
        attempt = self._task + secrets.token_hex(_TOKEN)
        return replace(shard, owner=processes.process_id(), attempt=attempt, abandoned=tuple(_abandoned))

    def abandon(self, shard: Shard) -> None:
        """Record that the worker of an attempt was lost."""
        self._record(shard.attempt)

    def abandon_all(self) -> None:
        """Record that the task ends without success."""
        self._record(self._task)

    def _record(self, attempt: str) -> None:
        _abandoned.append(attempt)
        del _abandoned[: -policy.limits.ABANDONED_ATTEMPTS]
