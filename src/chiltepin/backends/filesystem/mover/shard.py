"""The part of a tree that one worker processes: where it starts, when it returns the rest, how it divides a folder.

A worker walks from the folders of its shard for some time and returns the folders that it has not begun. So the tree
need not be listed beforehand, and a shard takes as long on a slow store as on a fast one.
"""

from __future__ import annotations

import time
from itertools import islice
from typing import TYPE_CHECKING

import xxhash

from chiltepin.protocol import Shard
from chiltepin.protocol.paths import folded

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
    from typing import Any, Protocol

    from chiltepin.protocol.paths import Parts

    class Counted(Protocol):
        """A listing that counts its entries."""

        count: int


__all__ = ["ShardRun", "fewest", "folder_key"]

#: Files of a folder that one worker copies by itself. More are divided by name: twice as many take a second on a store
#: with latency, and the folder is listed once more for each part.
LARGE_FOLDER = 1000

#: The same if one side is an object store: a process takes some tenths of a second to open it, while another process
#: copies 1,000 small objects.
LARGE_PREFIX = 3000

#: Maximum parts of a folder for each worker: small parts limit the delay by a slow worker.
PARTS = 2


def folder_key(parts: Parts) -> int:
    """Return a number for a folder, which is the same in every process."""
    return xxhash.xxh3_64_intdigest("\0".join(parts).encode(errors="surrogateescape"))


def fewest(listed: Mapping[int, int], parts: Parts) -> int | None:
    """Return how many entries a folder must still have; None if it was not listed when it was copied."""
    copied = listed.get(folder_key(parts))
    return None if copied is None else max(copied, listed.get(_divided_key(parts), 0))


def _divided_key(parts: Parts) -> int:
    # The name of a folder never contains a slash.
    return folder_key((*parts, "/"))


class ShardRun:
    """A shard that is being processed; several threads may use it."""

    def __init__(self, shard: Shard) -> None:
        self.shard = shard
        #: The shards for other workers.
        self.rest: list[Shard] = []
        #: How many entries each source folder had.
        self.listed: dict[int, int] = dict(shard.listed)
        self.began = time.monotonic()
        self._visited = False

    def enough(self) -> bool:
        """Whether no other folder should be started; the first one always is."""
        if not self._visited:
            self._visited, self.began = True, time.monotonic()
            return False
        return self.shard.seconds is not None and time.monotonic() - self.began >= self.shard.seconds

    def give_back(self, folders: Iterable[Parts]) -> None:
        """Return folders for other workers."""
        if folders := tuple(folders):
            self.rest.append(Shard(folders=folders))

    def mine(self, parts: Parts) -> Callable[[str], bool] | None:
        """Return a function that selects the names in a folder that belong to this shard; None for all."""
        part, of = self.shard.part, self.shard.parts
        if of == 1 or parts != self.shard.folders[0]:
            return None
        # Names that a disk may consider equal have to be compared with each other, so they stay together.
        return lambda name: xxhash.xxh3_64_intdigest(folded(name).encode(errors="surrogateescape")) % of == part

    def is_new(self, parts: Parts) -> bool:
        """Whether another worker of this task created a folder at the destination."""
        return self.shard.new and parts == self.shard.folders[0]

    def undivided(
        self,
        parts: Parts,
        found: Counted,
        batches: Generator[list[Any], None, None],
        *,
        local: bool,
        objects: bool,
        new: bool,
    ) -> Iterator[list[Any]] | None:
        """Return the batches of a folder, or None if it is large and its parts were given back instead.

        ``local`` tells whether the source is local: it is then listed further, to find the number of parts. ``objects``
        tells whether one side is an object store, and ``new`` whether this worker has created the destination folder.
        """
        if self.shard.workers == 1 or self.shard.seconds is None or self.mine(parts) is not None:
            return batches
        begun: list[list[Any]] = []
        most = LARGE_PREFIX if objects else LARGE_FOLDER
        while found.count <= most and (more := list(islice(batches, 1))):
            begun += more
        if found.count <= most:
            return iter(begun)
        of = self.shard.workers
        if local:
            while found.count <= LARGE_FOLDER * PARTS * of and next(batches, None) is not None:
                pass
            of = min(-(-found.count // LARGE_FOLDER), PARTS * of)
        batches.close()
        # Each part lists the folder again, after this listing.
        self.listed[_divided_key(parts)] = found.count
        self.rest += [Shard(folders=(parts,), part=part, parts=of, new=new) for part in range(of)]
        return None
