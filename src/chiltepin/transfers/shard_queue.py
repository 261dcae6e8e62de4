"""Decide the order of the shards of a request, and the number of folders in each."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING

from chiltepin.protocol import Shard
from chiltepin.transfers import policy
from chiltepin.transfers.ranged_files import RangedFiles

if TYPE_CHECKING:
    from chiltepin.protocol import FileRange

__all__ = ["ShardQueue"]


class ShardQueue:
    """The shards that wait for a worker, each with the number of workers that it has lost; the caller locks it.

    Attributes
    ----------
    given_back : bool
        Whether a worker has returned a shard.
    """

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._shards = deque([(Shard(seconds=policy.wait_times.SHARD_FIRST, workers=workers), 0)])
        self._folders: list[tuple[str, ...]] = []
        self._files = RangedFiles()
        self.given_back = False

    def add(self, rest: Shard, losses: int) -> None:
        """Add the shards that a worker has returned; ``losses`` counts the workers that a file in ranges has lost."""
        self.given_back = True
        if rest.range is not None:
            self._files.add(rest.range, losses)
            if rest.range.step == "copy":
                self._shards.append((rest, losses))
        elif rest.parts == 1:
            self._folders += rest.folders
        else:
            seconds = policy.wait_times.SHARD_LONG
            self._shards.append((replace(rest, seconds=seconds, workers=self._workers), 0))

    def again(self, shard: Shard, losses: int) -> None:
        """Add a shard whose worker was lost."""
        if shard.range is not None and shard.range.step in ("copy", "commit"):
            self._follow(self._files.lost(shard.range, losses))
        else:
            self._shards.append((shard, losses))

    def next(self) -> tuple[Shard, int] | None:
        """Return the next shard; None if there is none now."""
        while self._shards and (part := self._shards[0][0].range) is not None and self._files.in_vain(part):
            self._shards.popleft()
            self._follow(self._files.dropped(part))
        if self._shards:
            return self._shards.popleft()
        return (self._some_folders(), 0) if self._folders else None

    def _some_folders(self) -> Shard:
        most = len(self._folders) // (2 * self._workers)
        count = max(1, min(policy.limits.SHARD_FOLDERS, most))
        taken, self._folders = tuple(self._folders[-count:]), self._folders[:-count]
        waits = policy.wait_times
        scarce = len(self._folders) < 2 * self._workers
        return Shard(folders=taken, seconds=waits.SHARD_SHORT if scarce else waits.SHARD_LONG, workers=self._workers)

    # For large files.

    def ended(self, part: FileRange | None, *, done: bool) -> None:
        """Continue with a large file after one of its steps has ended."""
        if part is not None:
            self._follow(self._files.ended(part, done=done))

    def _follow(self, following: tuple[FileRange, int] | None) -> None:
        if following is not None:
            part, losses = following
            self._shards.appendleft((Shard(range=part), losses))

    def removal(self) -> Shard | None:
        """Return the removal of a temporary file that a stopped task would leave; None if there is none."""
        part = self._files.removal()
        return None if part is None else Shard(range=part)

    @property
    def moving(self) -> int:
        """Bytes copied so far of incomplete large files."""
        return self._files.moving
