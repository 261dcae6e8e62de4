"""A folder of this machine as a store, confined to its root.

Confinement does not rest on looking at a path and then using it: between the two, a link could be put in the way.
Every folder is opened from the root downwards, one name at a time, each relative to the open descriptor before it and
with ``O_NOFOLLOW``. A link is read and followed by us, inside the root, before that; one that is swapped in afterwards
makes the open fail. (fsspec's own ``DirFileSystem`` lets a link lead out of its folder, so it does not serve here.)
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from contextlib import contextmanager, suppress
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from chiltepin.backends.filesystem.errors import Fault
from chiltepin.backends.filesystem.links import LINK_LIMIT, resolved
from chiltepin.backends.filesystem.local.in_order_files import InOrderTempFile, in_order_only
from chiltepin.backends.filesystem.local.kernel_copy import clonable, clone
from chiltepin.backends.filesystem.local.reader import FILE, LocalReader, OpenFile
from chiltepin.backends.filesystem.local.small_files import read_small, write_small
from chiltepin.backends.filesystem.local.temp_files import PART, LocalTempFile, TempFiles, sweep
from chiltepin.backends.filesystem.local.unknown_size import has_unknown_sizes
from chiltepin.backends.filesystem.store import SMALL, Entry, Small
from chiltepin.backends.filesystem.temp_names import is_temp_name

if TYPE_CHECKING:
    from collections.abc import Collection, Hashable, Iterator, Sequence
    from types import TracebackType

    from chiltepin.backends.filesystem.store import CopyOptions, Folder, Store
    from chiltepin.paths import Parts

__all__ = ["LocalStore"]

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

#: How a folder is opened that may be entered and not listed (x without r); 0 where there is no such way.
_ENTERED = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC if hasattr(os, "O_PATH") else 0


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


class LocalFolder(OpenFile):
    """One folder of this machine, held open."""

    def __init__(
        self, descriptor: int, store: LocalStore, parts: Parts, *, goal: bool = False, fresh: bool = False
    ) -> None:
        super().__init__(descriptor)
        self._store, self._parts, self._goal, self._fresh = store, parts, goal, fresh
        self._temp_files: TempFiles | None = None

    @cached_property
    def identity(self) -> tuple[int, int]:
        """The numbers of its disk and of itself there, which are the same by all its names."""
        facts = os.fstat(self.descriptor)
        return facts.st_dev, facts.st_ino

    @property
    def device(self) -> int:
        """The disk that the folder is on."""
        return self.identity[0]

    @cached_property
    def has_unknown_sizes(self) -> bool:
        """Whether the sizes of its files are untold."""
        return has_unknown_sizes(self.device)

    def kept_time(self, mtime: int) -> int:
        """Return what the disk keeps of a modification time in nanoseconds."""
        return mtime // self._unit * self._unit

    @cached_property
    def _unit(self) -> int:
        # For each folder: a disk that is mounted later may get the number of an earlier one.
        return self.open_temp_files().time_unit()

    def _entry(self, name: str, facts: os.stat_result) -> Entry:
        kind = _kind(facts.st_mode)
        size = None if kind == "file" and self.has_unknown_sizes else facts.st_size
        return Entry(name, kind, size, facts.st_mtime)

    def scan(self) -> os._ScandirIterator[str]:
        """List the folder, to be used in a ``with``."""
        if _ENTERED and fcntl.fcntl(self.descriptor, fcntl.F_GETFL) & os.O_PATH:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return os.scandir(self.descriptor)

    def entries(self, *, temp_files: bool = False) -> Iterator[Entry]:
        """Yield all entries."""
        with self.scan() as found:
            for item in found:
                if not temp_files and is_temp_name(item.name):
                    continue
                try:
                    facts = item.stat(follow_symlinks=False)
                except FileNotFoundError:  # It vanished between the listing and this look at it.
                    continue
                except OSError:  # One that cannot be looked at is there all the same: to be named, and to be deleted.
                    yield Entry(item.name, _kind_listed(item))
                    continue
                yield self._entry(item.name, facts)

    def entry(self, name: str) -> Entry | None:
        """Return one entry, or None."""
        try:
            facts = os.stat(name, dir_fd=self.descriptor, follow_symlinks=False)
        except FileNotFoundError:
            return None
        return self._entry(name, facts)

    def read(self, name: str) -> LocalReader:
        """Open a regular file; anything else is refused."""
        descriptor = os.open(name, FILE, dir_fd=self.descriptor)
        try:
            return LocalReader(descriptor, name)
        except BaseException:
            os.close(descriptor)
            raise

    def copy_from(self, origin: Folder, entry: Entry, name: str, options: CopyOptions) -> int | None:
        """Copy a small file in few calls, and let a large one share its blocks where the disk can."""
        if not entry.fits(SMALL):
            if options.checksum or not isinstance(origin, LocalFolder):
                return None
            return self._clone(origin, entry, name, options)
        return self._write(origin.read_small(entry), name, options)

    def read_small(self, entry: Entry) -> Small | None:
        """Read a small file in few calls; see `Folder.read_small`."""
        return read_small(self.descriptor, entry.name)

    def take_small(self, origin: LocalFolder, name: str, new_name: str, options: CopyOptions) -> int | None:
        """Copy a small file in few calls, of which no more is known than its name."""
        return self._write(read_small(origin.descriptor, name), new_name, options)

    def _write(self, small: Small | None, name: str, options: CopyOptions) -> int | None:
        if small is None or self._in_order:
            return None
        try:
            return write_small(small, self.descriptor, name, options, self.open_temp_files())
        except OSError as err:
            if not self._learns(err):
                raise
        return None

    @property
    def _in_order(self) -> bool:
        """Whether the disk is known to take files in order only."""
        return bool(self._store.in_order) and self.device in self._store.in_order

    def _learns(self, error: OSError) -> bool:
        """Find out whether the disk takes files in order only, which what it refused may be due to."""
        if self._in_order or not in_order_only(error, self.open_temp_files()):
            return False
        self._store.in_order.add(self.device)
        return True

    def _clone(self, origin: LocalFolder, entry: Entry, name: str, options: CopyOptions) -> int | None:
        devices = (origin.device, self.device)
        if not clonable(devices):
            return None
        with origin.read(entry.name) as reader, self.temp_file(name) as temp_file:
            if (
                not isinstance(temp_file, LocalTempFile)
                or not clone(reader.descriptor, temp_file.descriptor, devices)
                or reader.changed()
            ):
                return None
            temp_file.commit(reader.mtime if options.mtime else None)
            return reader.size

    def open_temp_files(self) -> TempFiles:
        """Return the temporary files of this folder, of which there is one more now."""
        if self._temp_files is None:
            self._temp_files = TempFiles(self.descriptor, fresh=self._fresh)
        return self._temp_files

    def temp_file(self, name: str, *, size: int | None = None, content_id: str = "") -> LocalTempFile | InOrderTempFile:
        """Begin a file, or continue one that a dead run has begun."""
        temp_files, continued = self.open_temp_files(), False
        rights = temp_files.replaced(name)
        try:
            if self._in_order:
                return InOrderTempFile(temp_files, name, rights)
            if content_id and size is not None and size > PART:
                temp_file, descriptor, continued = temp_files.marked(f"{content_id}/{name}", rights)
            else:
                temp_file, descriptor = temp_files.new(rights)
        except OSError as err:
            if not self._learns(err):
                raise
            return InOrderTempFile(temp_files, name, rights)
        return LocalTempFile(
            temp_files, temp_file, descriptor, name, size, rights=rights, continued=continued, learns=self._learns
        )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._temp_files is not None:
            self._temp_files.close()
        # Not before: what a dead run has begun may just have been continued. And also where nothing was to be done: it
        # may have been killed when all files were whole. In a folder that was made just now no run has died.
        self._store.tidy(self.descriptor, self._parts, self._temp_files, goal=self._goal and not self._fresh)
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
        """Find the first link on a way; see `links.resolved`."""
        try:
            descriptor = _opened(self.root)
        except FileNotFoundError:
            return None
        for depth, name in enumerate(parts):
            with _closing(descriptor):
                last = depth == len(parts) - 1
                target = None if last and not follow else _link(descriptor, name)
                if target is not None:
                    return depth, target
                if last and not folder:
                    break
                try:
                    descriptor = _opened(name, descriptor)
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
            with _closing(descriptor):
                descriptor, made = _child(descriptor, name, create=create)
        return LocalFolder(descriptor, self, parts, goal=create, fresh=made)

    def _open_root(self, *, create: bool) -> int:
        try:
            return _opened(self.root)
        except FileNotFoundError:
            if self._create and not create:
                raise
        if create:
            os.makedirs(self.root, exist_ok=True)
            return _opened(self.root)
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
        found: list[tuple[int | str, ...]] = [_identity("/")]
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
        place, rest = "/", _steps(self._given)
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
                found.append((_identity(place), name))
            place = "/" if target.startswith("/") else place
            rest += _steps(target)
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


def _identity(path: str) -> tuple[int, int]:
    facts = os.stat(path)
    return facts.st_dev, facts.st_ino


def _steps(path: str) -> list[str]:
    """Return the names in a path, the last one first."""
    return [name for name in reversed(path.split("/")) if name not in ("", ".")]


def _opened(name: str, folder: int | None = None) -> int:
    """Open a folder, or only enter it where it may not be listed."""
    try:
        return os.open(name, _FOLDER, dir_fd=folder)
    except PermissionError:
        if not _ENTERED:
            raise
    return os.open(name, _ENTERED, dir_fd=folder)


def _child(folder: int, name: str, *, create: bool) -> tuple[int, bool]:
    """Open a folder in another one; return its descriptor, and whether it was made for that."""
    try:
        return _opened(name, folder), False
    except FileNotFoundError:
        if not create:
            raise
    made = False
    with suppress(FileExistsError):
        os.mkdir(name, dir_fd=folder)
        made = True
    return _opened(name, folder), made
