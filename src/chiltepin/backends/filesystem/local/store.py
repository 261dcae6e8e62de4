"""A local folder as a store, confined to its root.

Confinement does not rely on checking a path and then using it: in between, a link could be put in its place. Every
folder is opened from the root downwards, one name at a time, relative to the open descriptor before it and with
``O_NOFOLLOW``. Chiltepin reads and follows links before that, inside the root; a link that is swapped in afterwards
makes the open fail. (fsspec's own ``DirFileSystem`` lets a link lead out of its folder, so it cannot be used here.)
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from chiltepin.backends.fake_files import fake_os
from chiltepin.backends.filesystem.confinement import LINK_LIMIT, resolved
from chiltepin.backends.filesystem.errors import Fault
from chiltepin.backends.filesystem.local.folder import LocalFolder
from chiltepin.backends.filesystem.local.mounts import is_same_folder
from chiltepin.backends.filesystem.local.reader import ENTERED, FOLDER

if TYPE_CHECKING:
    from collections.abc import Collection, Hashable, Iterator

    from chiltepin.backends.filesystem.store import Folder, Store
    from chiltepin.protocol.paths import Parts

__all__ = ["LocalStore", "is_shown_again"]


class LocalStore:
    """The tree below a local folder; links on the absolute path ``root`` are followed.

    Without ``create`` a missing folder is an error: its disk may not be mounted, so that data would fill another disk.
    """

    def __init__(self, root: str, *, create: bool = False) -> None:
        self._given = root
        self.root = os.path.realpath(root)
        #: The names that lead from the root of the machine to the root of the endpoint.
        self.names = tuple(name for name in self.root.split("/") if name)
        self._create = create
        #: Folders that were swept, and folders with a temporary file of ours that the disk did not remove.
        self.swept: set[Parts] = set()
        self.untidy: set[Parts] = set()
        #: Device numbers of the disks that accept files in order only.
        self.in_order: set[int] = set()
        self.times, self.writable = True, True
        # Two threads that use the fake files of pyfakefs at the same time disturb each other.
        self.width, self.least = 32 if fake_os() is None else 1, 1

    def transient(self, error: Exception) -> bool:
        """Whether a network disk lost a file that it may find again; a retry does not help against a read error."""
        return isinstance(error, OSError) and error.errno in (errno.EAGAIN, errno.ESTALE, errno.ETIMEDOUT)

    def resolve(self, parts: Parts, *, follow: bool) -> Parts:
        """Follow links without the kernel, inside the root; see `Store.resolve`."""
        return resolved(parts, follow=follow, roots=(self.root, self._given), first_link=self._first_link)

    def _first_link(self, parts: Parts, *, follow: bool, folder: bool) -> tuple[int, str] | None:
        try:
            descriptor = _open_folder(self.root)
        except FileNotFoundError:
            return None
        for depth, name in enumerate(parts):
            with _closing(descriptor):
                last = depth == len(parts) - 1
                target = None if last and not follow else _target_of(descriptor, name)
                if target is not None:
                    return depth, target
                if last and not folder:
                    break
                try:
                    descriptor = _open_folder(name, descriptor)
                except (FileNotFoundError, NotADirectoryError):
                    if folder:
                        raise
                    break
        else:
            os.close(descriptor)
        return None

    def folder(self, parts: Parts, *, create: bool = False) -> LocalFolder:
        """Open a folder from the root downwards; see the docstring of this module."""
        descriptor = self._open_root(create=create and self._create)
        made = False
        for name in parts:
            with _closing(descriptor):
                descriptor, made = _open_child(descriptor, name, create=create)
        return LocalFolder(descriptor, self, parts, goal=create, fresh=made)

    def _open_root(self, *, create: bool) -> int:
        try:
            return _open_folder(self.root)
        except FileNotFoundError:
            if self._create and not create:
                raise
        if create:
            os.makedirs(self.root, exist_ok=True)
            return _open_folder(self.root)
        raise Fault(
            "FILE_NOT_FOUND", f"The root of the endpoint, {self.root}, does not exist; mount or create it first."
        )

    def enter(self, parts: Parts, *, create: bool = False) -> tuple[Parts, LocalFolder]:
        """Open the folder as if its path had no link, and look for one only if that fails."""
        try:
            return parts, self.folder(parts, create=create)
        except OSError as err:
            # The errors of Linux and macOS for a link that must not be followed.
            if err.errno not in (errno.ENOTDIR, errno.ELOOP):
                raise
            real = self.resolve(parts, follow=True)
            if real == parts:
                raise
        return real, self.folder(real, create=create)

    def contains(self, parts: Parts, other: Store, other_parts: Parts) -> bool:
        """Compare the folders themselves: a bind mount or another mount of a disk gives them other names."""
        if not isinstance(other, LocalStore):
            return False
        mine, names = (*self.names, *parts), (*other.names, *other_parts)
        ours, theirs = _facts(mine), _facts(names)
        if _identities(ours, mine)[-1] in _identities(theirs, names):
            return True
        return len(ours) > len(mine) and any(is_same_folder(ours[-1], facts) for facts in theirs)

    def identities(self, parts: Parts) -> Collection[Hashable]:
        """Return the identities of all folders on the path; see `Store.identities`."""
        names = (*self.names, *parts)
        return _identities(_facts(names), names)

    def facts(self, parts: Parts) -> os.stat_result | None:
        """Return what the kernel knows about a folder; None if it does not exist."""
        try:
            return os.lstat("/".join(("", *self.names, *parts)) or "/")
        except OSError:
            return None

    def links(self) -> Collection[tuple[Hashable, str]]:
        """Follow the configured root from link to link; see `Store.links`."""
        found: list[tuple[Hashable, str]] = []
        place, rest = "/", _steps_of(self._given)
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
                found.append((_identity_of(place), name))
            place = "/" if target.startswith("/") else place
            rest += _steps_of(target)
        return found

    def renewed(self) -> LocalStore | None:
        """Return itself; None if the configured root is now another folder, because a link on its path was changed."""
        try:
            facts = os.stat(self._given)
            same = self._given == self.root or os.path.samestat(facts, os.stat(self.root))
        except OSError:
            same = os.path.realpath(self._given) == self.root
        return self if same else None


def _target_of(folder: int, name: str) -> str | None:
    """Return the target of a link; None if it is not a link or does not exist."""
    try:
        return os.readlink(name, dir_fd=folder)
    except OSError as err:
        if err.errno in (errno.EINVAL, errno.ENOENT):
            return None
        raise


@contextmanager
def _closing(descriptor: int) -> Iterator[None]:
    """Close a descriptor at the end of a ``with``."""
    try:
        yield
    finally:
        os.close(descriptor)


def _facts(names: Parts) -> list[os.stat_result]:
    """Return what the kernel knows about each folder of a path from ``/`` on, up to the last one that exists."""
    found, path = [os.stat("/")], ""
    for name in names:
        path += f"/{name}"
        try:
            facts = os.lstat(path)
        except OSError:
            break
        if not stat.S_ISDIR(facts.st_mode):
            break
        found.append(facts)
    return found


def _identities(facts: list[os.stat_result], names: Parts) -> list[tuple[int | str, ...]]:
    """Return the identity of each step of a path: a folder, or the last folder and the names below it."""
    found: list[tuple[int | str, ...]] = [(one.st_dev, one.st_ino) for one in facts]
    for name in names[len(facts) - 1 :]:
        found.append((*found[-1], name))
    return found


def is_shown_again(folder: Folder, store: Store, parts: Parts, *, written: bool) -> bool:
    """Whether an open local folder is the folder at a path on another mount, with another device number.

    If only a new file can tell, it is made for a moment in the open folder if that is to be ``written``, else at the
    path.
    """
    if not (isinstance(folder, LocalFolder) and isinstance(store, LocalStore)):
        return False
    facts = store.facts(parts)
    if facts is None or facts.st_dev == folder.device:
        return False
    same = is_same_folder(os.fstat(folder.descriptor), facts)
    if same is None:
        with store.folder(parts) as other:
            return _shows(folder, other) if written else _shows(other, folder)
    return same


def _shows(changed: LocalFolder, other: LocalFolder) -> bool:
    """Whether a new file in one folder is seen in the other, too; True if none can be made."""
    temp_files = changed.open_temp_files()
    try:
        name, descriptor = temp_files.new()
    except OSError:
        return True
    try:
        return other.entry(name) is not None
    finally:
        temp_files.give_up(name)
        os.close(descriptor)


def _identity_of(path: str) -> tuple[int, int]:
    """Return the device and inode numbers of a folder."""
    facts = os.stat(path)
    return facts.st_dev, facts.st_ino


def _steps_of(path: str) -> list[str]:
    """Return the names in a path, the last one first."""
    return [name for name in reversed(path.split("/")) if name not in ("", ".")]


def _open_folder(name: str, folder: int | None = None) -> int:
    """Open a folder, or only enter it if it may not be listed."""
    try:
        return os.open(name, FOLDER, dir_fd=folder)
    except PermissionError:
        if not ENTERED:
            raise
    return os.open(name, ENTERED, dir_fd=folder)


def _open_child(folder: int, name: str, *, create: bool) -> tuple[int, bool]:
    """Open a folder in another one; return its descriptor, and whether it was created."""
    try:
        return _open_folder(name, folder), False
    except FileNotFoundError:
        if not create:
            raise
    made = False
    with suppress(FileExistsError):
        os.mkdir(name, dir_fd=folder)
        made = True
    return _open_folder(name, folder), made
