"""A folder of this machine as a store, confined to its root.

Confinement does not rest on looking at a path and then using it: between the two, a link could be put in the way.
Every folder is opened from the root downwards, one name at a time, each relative to the open descriptor before it and
with ``O_NOFOLLOW``. A link is read and followed by us, inside the root, before that; one that is swapped in afterwards
makes the open fail. (fsspec's own ``DirFileSystem`` lets a link lead out of its folder, so it does not serve here.)
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from typing import TYPE_CHECKING

from chiltepin.backends.filesystem.confinement import LINK_LIMIT, resolved
from chiltepin.backends.filesystem.errors import Fault
from chiltepin.backends.filesystem.local.claims import sweep
from chiltepin.backends.filesystem.local.folder import LocalFolder
from chiltepin.backends.filesystem.local.opening import (
    closing,
    identity_of,
    open_child,
    open_folder,
    steps_of,
    target_of,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Hashable

    from chiltepin.backends.filesystem.local.temp_files import TempFiles
    from chiltepin.backends.filesystem.store import Store
    from chiltepin.paths import Parts

__all__ = ["LocalStore"]


class LocalStore:
    """The tree below a folder of this machine.

    Parameters
    ----------
    root : str
        Absolute path of the folder. Links on the way to it are the business of whoever configured it.
    create : bool
        Make the folder when something is written to it. Without, a missing folder is an error: it may be a disk that
        is not mounted, and what would be written in its place would fill another one.
    """

    def __init__(self, root: str, *, create: bool = False) -> None:
        self._given = root
        self.root = os.path.realpath(root)
        #: The names that lead from the root of the machine to the root of the endpoint.
        self.names = tuple(name for name in self.root.split("/") if name)
        self._create = create
        #: Folders that were swept, and those where a temporary file of ours stayed that the disk did not let go.
        self._swept: set[Parts] = set()
        self._untidy: set[Parts] = set()
        #: The disks that take files in order only, by their numbers.
        self.in_order: set[int] = set()
        self.times, self.writable = True, True
        self.width, self.least = 32, 1

    def transient(self, error: Exception) -> bool:
        """Whether a network disk has lost a file that it will find again; a disk that reads badly does so again."""
        return isinstance(error, OSError) and error.errno in (errno.EAGAIN, errno.ESTALE, errno.ETIMEDOUT)

    def resolve(self, parts: Parts, *, follow: bool) -> Parts:
        """Follow links by hand, inside the root; see `Store.resolve`."""
        return resolved(parts, follow=follow, roots=(self.root, self._given), first_link=self._first_link)

    def _first_link(self, parts: Parts, *, follow: bool, folder: bool) -> tuple[int, str] | None:
        try:
            descriptor = open_folder(self.root)
        except FileNotFoundError:
            return None
        for depth, name in enumerate(parts):
            with closing(descriptor):
                last = depth == len(parts) - 1
                target = None if last and not follow else target_of(descriptor, name)
                if target is not None:
                    return depth, target
                if last and not folder:
                    break
                try:
                    descriptor = open_folder(name, descriptor)
                except (FileNotFoundError, NotADirectoryError):
                    if folder:
                        raise
                    break
        else:
            os.close(descriptor)
        return None

    def folder(self, parts: Parts, *, create: bool = False) -> LocalFolder:
        """Open a folder from the root downwards; see the head of this module."""
        descriptor = self._open_root(create=create and self._create)
        made = False
        for name in parts:
            with closing(descriptor):
                descriptor, made = open_child(descriptor, name, create=create)
        return LocalFolder(descriptor, self, parts, goal=create, fresh=made)

    def _open_root(self, *, create: bool) -> int:
        try:
            return open_folder(self.root)
        except FileNotFoundError:
            if self._create and not create:
                raise
        if create:
            os.makedirs(self.root, exist_ok=True)
            return open_folder(self.root)
        raise Fault("FILE_NOT_FOUND", f"The root of the endpoint, {self.root}, is not there; mount or make it first.")

    def enter(self, parts: Parts, *, create: bool = False) -> tuple[Parts, LocalFolder]:
        """Open the folder as if there were no link on the way, and look for one only if that fails."""
        try:
            return parts, self.folder(parts, create=create)
        except OSError as err:
            # What Linux and macOS say of a link that may not be followed.
            if err.errno not in (errno.ENOTDIR, errno.ELOOP):
                raise
            real = self.resolve(parts, follow=True)
            if real == parts:
                raise
        return real, self.folder(real, create=create)

    def contains(self, parts: Parts, other: Store, other_parts: Parts) -> bool:
        """Compare the folders themselves, which a bind mount or another mount of a disk gives other names."""
        return isinstance(other, LocalStore) and self._way(parts)[-1] in other.identities(other_parts)

    def identities(self, parts: Parts) -> Collection[Hashable]:
        """Return the identities of all folders on the way; see `Store.holders`."""
        return self._way(parts)

    def _way(self, parts: Parts) -> list[tuple[int | str, ...]]:
        """Return what each step from ``/`` on is: a folder itself, or the last folder and the names below it."""
        found: list[tuple[int | str, ...]] = [identity_of("/")]
        path, there = "", True
        for name in (*self.names, *parts):
            path += f"/{name}"
            facts = None
            if there:
                with suppress(OSError):
                    facts = os.lstat(path)
            there = facts is not None and stat.S_ISDIR(facts.st_mode)
            found.append((facts.st_dev, facts.st_ino) if facts is not None and there else (*found[-1], name))
        return found

    def links(self) -> Collection[tuple[Hashable, str]]:
        """Follow the root as it is configured from link to link; see `Store.links`."""
        found: list[tuple[Hashable, str]] = []
        place, rest = "/", steps_of(self._given)
        while rest and len(found) < LINK_LIMIT:
            name = rest.pop()
            if name == "..":
                place = os.path.dirname(place)
                continue
            try:
                target = os.readlink(os.path.join(place, name))
            except OSError:
                place = os.path.join(place, name)
                continue
            with suppress(OSError):
                found.append((identity_of(place), name))
            place = "/" if target.startswith("/") else place
            rest += steps_of(target)
        return found

    def renewed(self) -> LocalStore | None:
        """Return itself unless the root, as it is configured, is another folder now: a link on the way was changed."""
        try:
            facts = os.stat(self._given)
            same = self._given == self.root or os.path.samestat(facts, os.stat(self.root))
        except OSError:
            same = os.path.realpath(self._given) == self.root
        return self if same else None

    def tidy(self, folder: int, parts: Parts, temp_files: TempFiles | None, *, goal: bool) -> None:
        """Remove the leftovers of dead runs from a folder, the first time that it is the ``goal`` of a copy.

        Our own are removed at once, by whoever makes them. Where the disk did not let them go, they are swept the next
        time that the folder is open, written to or not.
        """
        if temp_files is not None and temp_files.left:
            self._untidy.add(parts)
        elif parts in self._untidy or (goal and parts not in self._swept):
            self._swept.add(parts)
            # What cannot be swept is no failure of what was done here.
            with suppress(OSError):
                (self._untidy.discard if sweep(folder) else self._untidy.add)(parts)
