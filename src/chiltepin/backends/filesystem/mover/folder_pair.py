"""A source folder and the destination folder that it is copied to."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from chiltepin.backends.filesystem.errors import Fault
from chiltepin.backends.filesystem.local.folder import LocalFolder
from chiltepin.backends.filesystem.local.store import is_shown_again
from chiltepin.backends.filesystem.store import Batching, KeptByObject

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from typing_extensions import Self

    from chiltepin.backends.filesystem.location import Location
    from chiltepin.backends.filesystem.mover.sync_level import Listing
    from chiltepin.backends.filesystem.store import Folder

__all__ = ["FolderPair", "Top", "close_folder", "into_itself", "open_filled", "refuse_itself", "vanished", "with_pair"]


class Top(NamedTuple):
    """The top folder of a destination: its identity, which is the same by all its names, and its place."""

    identity: Hashable | None
    place: Location


class FolderPair:
    """A folder and its destination, open until its last file is done."""

    def __init__(self, origin: Location, goal: Location, top: Top | None) -> None:
        self.origin, self.goal = origin, goal
        self.here = origin.store.folder(origin.parts)
        try:
            refuse_itself(self.here, top, origin, goal)
            self.there = goal.store.folder(goal.parts, create=True)
        except BaseException:
            close_folder(self.here)
            raise
        #: The entries of the destination, if it was listed before.
        self.listing: Listing | None = None
        # Checking for a protocol takes longer than opening a local folder.
        distant = [end for end in (self.here, self.there) if not isinstance(end, LocalFolder)]
        #: Whether files are copied in batches: all stores that are not local can do so, and there is at least one.
        self.batched = bool(distant) and all(isinstance(end, Batching) for end in distant)
        #: Names that may be one at the destination, and the files that could not be copied.
        self.twins: set[str] = set()
        self.failed: set[str] = set()
        #: Called after the last file if there are such names.
        self.compare_twins: Callable[[], object] | None = None
        self._users, self._lock = 1, threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        with self._lock:
            self._users -= 1
            if self._users:
                return
        try:
            if self.twins and error is None and self.compare_twins is not None:
                self.compare_twins()
        finally:
            close_folder(self.here)
            close_folder(self.there)

    @property
    def new(self) -> bool:
        """Whether nothing at the destination is replaced, because this task created it."""
        return isinstance(self.there, (LocalFolder, KeptByObject)) and not self.there.replaces

    def assume_new(self) -> None:
        """Treat the destination as one that another worker of this task created."""
        if isinstance(self.there, (LocalFolder, KeptByObject)):
            self.there.replaces = False
        self.fills()

    def fills(self) -> None:
        """Make no object that keeps the destination, because it will not be empty."""
        if isinstance(self.there, KeptByObject):
            self.there.fills()

    def shared(self) -> Self:
        """Keep it open for another ``with``."""
        with self._lock:
            self._users += 1
        return self


def open_filled(goal: Location) -> Folder:
    """Open or create a destination folder that this task fills."""
    folder = goal.store.folder(goal.parts, create=True)
    if isinstance(folder, KeptByObject):
        folder.fills()
    return folder


def with_pair(pair: FolderPair, operation: Callable[[], None]) -> None:
    """Run an operation while the two folders are held open."""
    with pair:
        operation()


def close_folder(folder: Folder) -> None:
    """Close a folder that was entered without a ``with``."""
    folder.__exit__(None, None, None)


def vanished(pair: FolderPair, file: Location) -> Fault:
    """Return the fault of a file that was listed but is not found, or whose destination folder is not."""
    with suppress(Exception):
        if pair.here.entry(file.parts[-1]) is not None:
            reason = f"{file} could not be copied because its destination folder was removed; run the transfer again."
            return Fault("FILE_NOT_FOUND", reason)
    return Fault("FILE_NOT_FOUND", f"{file} was removed while its folder was copied; run the transfer again.")


def into_itself(origin: Location, goal: Location) -> Fault:
    """Return the fault of a copy that would never end."""
    reason = f"{origin} would be copied into itself, to {goal}; choose a destination outside of it."
    return Fault("INVALID_PATH_NAME", reason)


def refuse_itself(here: Folder, top: Top | None, origin: Location, goal: Location) -> None:
    """Raise a ``Fault`` if a walk reaches its own destination, which a mount may have put into the source."""
    if top is None or here.identity is None:
        return
    store, parts = top.place.store, top.place.parts
    if here.identity == top.identity or is_shown_again(here, store, parts, written=False):
        raise into_itself(origin, goal)
