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
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Literal

from chiltepin.backends.filesystem.drafts import PART, Drafts, LocalDraft, sweep
from chiltepin.backends.filesystem.faults import Fault
from chiltepin.backends.filesystem.links import LINK_LIMIT, led
from chiltepin.backends.filesystem.names import is_draft
from chiltepin.backends.filesystem.pieces import clonable, clone
from chiltepin.backends.filesystem.reading import FILE, LocalReader, Open
from chiltepin.backends.filesystem.small import SMALL, Small, read_small, write_small
from chiltepin.backends.filesystem.store import Entry

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import TracebackType

    from chiltepin.backends.filesystem.store import Folder, Store, Wish
    from chiltepin.paths import Parts

__all__ = ["LocalStore"]

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def _kind(mode: int) -> Literal["file", "dir", "link", "other"]:
    if stat.S_ISREG(mode):
        return "file"
    if stat.S_ISDIR(mode):
        return "dir"
    return "link" if stat.S_ISLNK(mode) else "other"


def _kind_listed(item: os.DirEntry[str]) -> Literal["file", "dir", "link", "other"]:
    """Return what a listing alone tells of an entry."""
    with suppress(OSError):
        if item.is_symlink():
            return "link"
        if item.is_dir(follow_symlinks=False):
            return "dir"
        if item.is_file(follow_symlinks=False):
            return "file"
    return "other"


class LocalFolder(Open):
    """One folder of this machine, held open."""

    def __init__(self, descriptor: int, store: LocalStore, parts: Parts, *, goal: bool = False) -> None:
        super().__init__(descriptor)
        self._store, self._parts, self._goal = store, parts, goal
        self._drafts: Drafts | None = None
        self._device: int | None = None

    def entries(self, *, drafts: bool = False) -> Iterator[Entry]:
        """Yield all entries."""
        with os.scandir(self.descriptor) as found:
            for item in found:
                if not drafts and is_draft(item.name):
                    continue
                try:
                    facts = item.stat(follow_symlinks=False)
                except FileNotFoundError:  # It vanished between the listing and this look at it.
                    continue
                except OSError:  # One that cannot be looked at is there all the same: to be named, and to be deleted.
                    yield Entry(item.name, _kind_listed(item))
                    continue
                yield Entry(item.name, _kind(facts.st_mode), facts.st_size, facts.st_mtime)

    def entry(self, name: str) -> Entry | None:
        """Return one entry, or None."""
        try:
            facts = os.stat(name, dir_fd=self.descriptor, follow_symlinks=False)
        except FileNotFoundError:
            return None
        return Entry(name, _kind(facts.st_mode), facts.st_size, facts.st_mtime)

    def read(self, name: str) -> LocalReader:
        """Open a regular file; anything else is refused."""
        descriptor = os.open(name, FILE, dir_fd=self.descriptor)
        try:
            return LocalReader(descriptor, name)
        except BaseException:
            os.close(descriptor)
            raise

    def take(self, origin: Folder, entry: Entry, name: str, wish: Wish) -> int | None:
        """Copy a small file in few calls, and let a large one share its blocks where the disk can."""
        if not entry.fits(SMALL):
            if wish.checksum or not isinstance(origin, LocalFolder):
                return None
            return self._clone(origin, entry, name, wish)
        return self._write(origin.at_once(entry), name, wish)

    def at_once(self, entry: Entry) -> Small | None:
        """Read a small file in few calls; see `Folder.at_once`."""
        return read_small(self.descriptor, entry.name)

    def take_small(self, origin: LocalFolder, name: str, new_name: str, wish: Wish) -> int | None:
        """Copy a small file in few calls, of which no more is known than its name."""
        return self._write(read_small(origin.descriptor, name), new_name, wish)

    def _write(self, small: Small | None, name: str, wish: Wish) -> int | None:
        return None if small is None else write_small(small, self.descriptor, name, wish, self.begun())

    def _clone(self, origin: LocalFolder, entry: Entry, name: str, wish: Wish) -> int | None:
        devices = (origin.device, self.device)
        if not clonable(devices):
            return None
        with origin.read(entry.name) as reader, self.draft(name) as draft:
            if not clone(reader.descriptor, draft.descriptor, devices) or reader.changed():
                return None
            draft.commit(reader.mtime if wish.mtime else None)
            return reader.size

    def begun(self) -> Drafts:
        """Return the drafts of this folder, of which there is one more now."""
        if self._drafts is None:
            self._drafts = Drafts(self.descriptor)
        return self._drafts

    @property
    def device(self) -> int:
        """The disk that the folder is on."""
        if self._device is None:
            self._device = os.fstat(self.descriptor).st_dev
        return self._device

    def draft(self, name: str, *, size: int | None = None, mark: str = "") -> LocalDraft:
        """Begin a file, or continue one that a dead run has begun."""
        drafts, continued = self.begun(), False
        if mark and size is not None and size > PART:
            draft, descriptor, continued = drafts.marked(f"{mark}/{name}")
        else:
            draft, descriptor = drafts.new()
        return LocalDraft(drafts, draft, descriptor, name, size, continued=continued)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._drafts is not None:
            self._drafts.close()
        # Not before: what a dead run has begun may just have been continued. And also where nothing was to be done: it
        # may have been killed when all files were whole.
        self._store.tidy(self.descriptor, self._parts, self._drafts, goal=self._goal)
        super().__exit__(kind, error, trace)

    def remove(self, name: str) -> None:
        """Unlink the entry."""
        os.unlink(name, dir_fd=self.descriptor)

    def remove_all(self, names: Sequence[str]) -> Iterator[tuple[str, Exception]]:
        """Unlink them one by one."""
        for name in names:
            try:
                self.remove(name)
            except OSError as err:  # noqa: PERF203 - the others go on
                yield name, err

    def remove_folder(self, name: str) -> None:
        """Remove an empty folder."""
        os.rmdir(name, dir_fd=self.descriptor)


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
        self.root = os.path.realpath(root)
        #: The names that lead from the root of the machine to the root of the endpoint.
        self.names = tuple(name for name in self.root.split("/") if name)
        self._create = create
        #: Folders that were swept, and those where a draft of ours stayed that the disk did not let go.
        self._swept: set[Parts] = set()
        self._untidy: set[Parts] = set()
        self.times, self.writable = True, True
        self.width, self.least = 32, 1

    def transient(self, error: Exception) -> bool:
        """Whether a network disk has lost a file that it will find again; a disk that reads badly does so again."""
        return isinstance(error, OSError) and error.errno in (errno.EAGAIN, errno.ESTALE, errno.ETIMEDOUT)

    def resolve(self, parts: Parts, *, follow: bool) -> Parts:
        """Follow links by hand, inside the root; see `Store.resolve`."""
        for _ in range(LINK_LIMIT):
            place = self._without_first_link(parts, follow=follow)
            if place is None:
                return parts
            parts = place
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))

    def _without_first_link(self, parts: Parts, *, follow: bool) -> Parts | None:
        """Return ``parts`` with the first link on the way replaced by where it leads; None if there is none."""
        try:
            descriptor = os.open(self.root, _FOLDER)
        except FileNotFoundError:
            return None
        for depth, name in enumerate(parts):
            with _closing(descriptor):
                last = depth == len(parts) - 1
                target = None if last and not follow else _link(descriptor, name)
                if target is not None:
                    return (*led(self.root, parts[:depth], target), *parts[depth + 1 :])
                if last:
                    break
                try:
                    descriptor = os.open(name, _FOLDER, dir_fd=descriptor)
                except (FileNotFoundError, NotADirectoryError):
                    break
        else:
            os.close(descriptor)
        return None

    def folder(self, parts: Parts, *, create: bool = False) -> LocalFolder:
        """Open a folder from the root downwards; see the head of this module."""
        descriptor = self._open_root(create=create and self._create)
        for name in parts:
            with _closing(descriptor):
                descriptor = _child(descriptor, name, create=create)
        return LocalFolder(descriptor, self, parts, goal=create)

    def _open_root(self, *, create: bool) -> int:
        try:
            return os.open(self.root, _FOLDER)
        except FileNotFoundError:
            if self._create and not create:
                raise
        if create:
            os.makedirs(self.root, exist_ok=True)
            return os.open(self.root, _FOLDER)
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
        """Compare the real paths of the two places."""
        if not isinstance(other, LocalStore):
            return False
        ours, theirs = (*self.names, *parts), (*other.names, *other_parts)
        return theirs[: len(ours)] == ours

    def tidy(self, folder: int, parts: Parts, drafts: Drafts | None, *, goal: bool) -> None:
        """Remove the leftovers of dead runs from a folder, the first time that it is the ``goal`` of a copy.

        Our own are removed at once, by whoever makes them. Where the disk did not let them go, they are swept the next
        time that the folder is open, written to or not.
        """
        if drafts is not None and drafts.left:
            self._untidy.add(parts)
        elif parts in self._untidy or (goal and parts not in self._swept):
            self._swept.add(parts)
            # What cannot be swept is no failure of what was done here.
            with suppress(OSError):
                (self._untidy.discard if sweep(folder) else self._untidy.add)(parts)


def _link(folder: int, name: str) -> str | None:
    """Return where a link leads, None for what is no link or does not exist."""
    try:
        return os.readlink(name, dir_fd=folder)
    except OSError as err:
        if err.errno in (errno.EINVAL, errno.ENOENT):
            return None
        raise


@contextmanager
def _closing(descriptor: int) -> Iterator[None]:
    try:
        yield
    finally:
        os.close(descriptor)


def _child(folder: int, name: str, *, create: bool) -> int:
    try:
        return os.open(name, _FOLDER, dir_fd=folder)
    except FileNotFoundError:
        if not create:
            raise
    with suppress(FileExistsError):
        os.mkdir(name, dir_fd=folder)
    return os.open(name, _FOLDER, dir_fd=folder)
