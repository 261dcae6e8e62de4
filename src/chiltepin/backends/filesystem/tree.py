"""Copying a tree of files from one store to another."""

from __future__ import annotations

import threading
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from chiltepin.backends.filesystem.copy import Copier, is_missing
from chiltepin.backends.filesystem.decide import Listing, chooser, in_place
from chiltepin.backends.filesystem.extra import remove_extra
from chiltepin.backends.filesystem.faults import Fault
from chiltepin.backends.filesystem.local import LocalFolder
from chiltepin.backends.filesystem.retry import patiently
from chiltepin.backends.filesystem.walk import walk

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import TracebackType

    from typing_extensions import Self

    from chiltepin.backends.filesystem.crew import Shift
    from chiltepin.backends.filesystem.store import Entry, Folder, Spot
    from chiltepin.backends.filesystem.walk import Node
    from chiltepin.backends.filesystem.work import Work
    from chiltepin.model import SyncLevel, TransferRequest

__all__ = ["copy_tree"]


def copy_tree(work: Work, request: TransferRequest, origin: Spot, goal: Spot, roots: Sequence[Spot] = ()) -> None:
    """Copy what is in a folder into another folder, making the latter if need be.

    Links inside the tree are skipped, as Globus does (globus transfer --help, "Symbolic links"); so are devices, pipes
    and sockets. A file that fails does not keep the others from being copied, but then nothing is removed. ``roots``
    are the places that are never removed.
    """
    origin, goal = origin.resolved(follow=True), goal.resolved(follow=True)
    if origin.contains(goal):
        raise Fault("INVALID_PATH_NAME", f"{origin} would be copied into itself, to {goal}.")
    entry = origin.entry()
    if entry is None:
        raise is_missing(origin)
    if entry.kind != "dir":
        raise Fault("NOT_A_DIRECTORY", f"{origin} is a file; give recursive=False to move it.")
    if request.delete_destination_extra and goal.contains(origin):
        raise Fault("INVALID_PATH_NAME", f"{origin} lies in {goal}, and would be removed with what is too much there.")
    tree = _Tree(work, request, origin, goal)
    walk(work, tree.copy)
    if request.delete_destination_extra and not work.failures:
        walk(work, partial(tree.mirror, roots=roots))


class _Pair:
    """A folder and the one that it is copied to, open until the last file of it is done."""

    def __init__(self, origin: Spot, goal: Spot) -> None:
        self.here = origin.store.folder(origin.parts)
        try:
            self.there = goal.store.folder(goal.parts, create=True)
        except BaseException:
            _close(self.here)
            raise
        #: Where the entries of the destination are asked for.
        self.existing: Folder | Listing = self.there
        self._users, self._lock = 1, threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._users -= 1
            if self._users:
                return
        _close(self.here)
        _close(self.there)

    def shared(self) -> Self:
        """Keep it open for another ``with``."""
        with self._lock:
            self._users += 1
        return self


def _close(folder: Folder) -> None:
    folder.__exit__(None, None, None)


class _Tree:
    """The tree below one folder, on its way to another."""

    def __init__(self, work: Work, request: TransferRequest, origin: Spot, goal: Spot) -> None:
        self._work, self._request, self._origin, self._goal = work, request, origin, goal
        self._level, self._stores = request.sync_level, (origin.store, goal.store)
        self._wanted = chooser(request.filters)
        # One for each thread, because it holds the block that it copies with.
        self._copiers = threading.local()

    def copy(self, node: Node, shift: Shift) -> list[str]:
        """Copy the files of one folder, and make it if there are none; return the names of the folders in it."""
        source, target = (top.below(*node.parts) for top in (self._origin, self._goal))
        folders: list[str] = []
        try:
            with patiently(self._work, partial(self._open, source, target), *self._stores) as pair:
                for entry in self._entries(pair.here):
                    if entry.kind == "dir":
                        folders.append(entry.name)
                    elif entry.kind != "file" or not self._wanted(entry.name):
                        self._work.count(skipped=1)
                    elif shift.free():
                        self._hand(shift, pair, entry, source)
                    else:
                        self._file(pair, entry, source)
        except Exception as err:  # noqa: BLE001 - the other folders go on
            self._work.fail(err, f"Copying folder {source} to {target}")
        return folders

    def _open(self, source: Spot, target: Spot) -> _Pair:
        pair = _Pair(source, target)
        # A file of this machine is asked for at no more than its line in a listing costs; elsewhere that is a request.
        if self._level and not isinstance(pair.there, LocalFolder):
            pair.existing = Listing(pair.there)
        return pair

    def _entries(self, folder: Folder) -> Iterator[Entry]:
        for entry in folder.entries():
            self._work.check()
            yield entry

    def _hand(self, shift: Shift, pair: _Pair, entry: Entry, source: Spot) -> None:
        """Have somebody else copy one file."""
        deed = partial(self._shared_file, pair.shared(), entry, source)
        if not shift.offer(deed):
            deed()

    def _shared_file(self, pair: _Pair, entry: Entry, source: Spot) -> None:
        with pair:
            self._file(pair, entry, source)

    def _file(self, pair: _Pair, entry: Entry, source: Spot) -> None:
        """Copy one file; one that fails does not keep the others."""
        try:
            patiently(self._work, partial(self._move, pair, entry), *self._stores)
        except Exception as err:  # noqa: BLE001 - the other files go on
            self._work.fail(err, f"Copying {source.below(entry.name)}")

    def _move(self, pair: _Pair, entry: Entry) -> None:
        level = self._level
        if level is None or not in_place(level, entry, pair.existing.entry(entry.name)):
            level = None
        elif level != "checksum":
            self._work.count(skipped=1)
            return
        self._copier(level).file(pair.here, entry, pair.there, entry.name)

    def _copier(self, level: SyncLevel | None) -> Copier:
        """Return the copier of this thread: one that compares first, or one that does not look."""
        copiers: dict[SyncLevel | None, Copier] = self._copiers.__dict__.setdefault("of", {})
        if level not in copiers:
            copiers[level] = Copier(self._work, replace(self._request, sync_level=level))
        return copiers[level]

    def mirror(self, node: Node, shift: Shift, *, roots: Sequence[Spot]) -> list[str]:
        """Remove from one destination folder what its source does not hold; return the folders of the latter."""
        del shift
        source, target = (top.below(*node.parts) for top in (self._origin, self._goal))
        names: set[str] = set()
        folders: list[str] = []
        try:
            with patiently(self._work, partial(source.store.folder, source.parts), source.store) as here:
                for entry in self._entries(here):
                    names.add(entry.name)
                    if entry.kind == "dir":
                        folders.append(entry.name)
        except Exception as err:  # noqa: BLE001 - what was not listed whole removes nothing
            self._work.fail(err, f"Listing {source} to see what is too much in {target}")
            return []
        remove_extra(self._work, target, names, wanted=self._wanted, roots=roots)
        return folders
