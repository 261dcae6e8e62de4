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
import secrets
import stat
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Literal

from chiltepin.backends.filesystem.faults import Fault
from chiltepin.backends.filesystem.store import DRAFT_PREFIX, Entry
from chiltepin.paths import joined

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import TracebackType

    from typing_extensions import Self

    from chiltepin.backends.filesystem.store import Folder, Reader, Store, Wish
    from chiltepin.paths import Parts

__all__ = ["LocalStore"]

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# O_NONBLOCK: a pipe that was put in place of a file must not hold us until somebody writes to it.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_DRAFT = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC

#: Links in a row after which a path is taken for a loop; the number of Linux (path_resolution(7)).
LINK_LIMIT = 40


def _kind(mode: int) -> Literal["file", "dir", "link", "other"]:
    if stat.S_ISREG(mode):
        return "file"
    if stat.S_ISDIR(mode):
        return "dir"
    return "link" if stat.S_ISLNK(mode) else "other"


class _Open:
    """An open descriptor."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self.descriptor)


class LocalReader(_Open):
    """A regular file of this machine, open for reading."""

    def __init__(self, descriptor: int, name: str) -> None:
        super().__init__(descriptor)
        self._before = os.fstat(descriptor)
        if not stat.S_ISREG(self._before.st_mode):
            raise Fault("NOT_A_FILE", f"{name} is neither a file nor a folder.")
        self.size: int | None = self._before.st_size
        self.mtime: float | None = self._before.st_mtime
        self._file = open(descriptor, "rb", buffering=0, closefd=False)  # noqa: SIM115 - closed with the descriptor
        self.parts, self.proof = True, ""
        facts = self._before
        self.mark = f"{facts.st_dev}:{facts.st_ino}:{facts.st_size}:{facts.st_mtime_ns}"

    def read_at(self, offset: int, block: memoryview) -> int:
        """Fill the block from there; see `Reader.read_at`."""
        count = 0
        while count < len(block) and (got := os.preadv(self.descriptor, [block[count:]], offset + count)):
            count += got
        return count

    def readinto(self, block: memoryview) -> int:
        """Fill the block; see `Reader.readinto`."""
        return self._file.readinto(block)

    def changed(self) -> bool:
        """Compare size and modification time, in nanoseconds, with those of the moment it was opened."""
        now = os.fstat(self.descriptor)
        return (now.st_size, now.st_mtime_ns) != (self._before.st_size, self._before.st_mtime_ns)


class _ReadBack(LocalReader):
    """A draft that is read; its descriptor stays with the draft."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the descriptor open."""


class LocalDraft(_Open):
    """A file that is being written, locked for as long as its writer lives."""

    def __init__(self, folder: int, name: str) -> None:
        self._folder, self._name = folder, name
        self._draft, descriptor = _locked_draft(folder)
        self._committed = False
        self.part: int | None = None
        self.proves = False
        super().__init__(descriptor)

    def kept(self, offset: int, count: int) -> bool:
        """Keep nothing from dead drafts."""
        del offset, count
        return False

    def take(self, reader: Reader, offset: int, count: int) -> bool:
        """Have no means of its own."""
        del reader, offset, count
        return False

    def write_at(self, offset: int, block: memoryview) -> None:
        """Write one part."""
        while block:
            written = os.pwrite(self.descriptor, block, offset)
            offset, block = offset + written, block[written:]

    def write(self, block: memoryview) -> None:
        """Append the block; a disk may take it in pieces."""
        while block:
            block = block[os.write(self.descriptor, block) :]

    def read_back(self) -> LocalReader:
        """Open what was written, from its start."""
        os.lseek(self.descriptor, 0, os.SEEK_SET)
        return _ReadBack(self.descriptor, self._draft)

    def commit(self, mtime: float | None) -> None:
        """Rename the file to its real name, which the kernel does whole or not at all (rename(2))."""
        if mtime is not None:
            os.utime(self.descriptor, (mtime, mtime))
        os.replace(self._draft, self._name, src_dir_fd=self._folder, dst_dir_fd=self._folder)
        self._committed = True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._committed:
            with suppress(FileNotFoundError):
                os.unlink(self._draft, dir_fd=self._folder)
        super().__exit__(kind, error, trace)


def _locked_draft(folder: int) -> tuple[str, int]:
    """Make a file with a new name and lock it, so that nobody takes it for the leftover of a dead run."""
    while True:
        name = f"{DRAFT_PREFIX}{secrets.token_hex(8)}"
        descriptor = os.open(name, _DRAFT, 0o666, dir_fd=folder)
        # Without locks on this disk (ENOLCK, some network disks) nothing is ever swept either.
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        # A sweeper may have come between the two calls; then the file has no name any more.
        if os.fstat(descriptor).st_nlink:
            return name, descriptor
        os.close(descriptor)


def _sweep(folder: int) -> None:
    """Remove the drafts of writers that are dead: the kernel has let go of their locks."""
    with os.scandir(folder) as found:
        drafts = [entry.name for entry in found if entry.name.startswith(DRAFT_PREFIX)]
    for name in drafts:
        with suppress(OSError):
            descriptor = os.open(name, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.unlink(name, dir_fd=folder)
            finally:
                os.close(descriptor)


class LocalFolder(_Open):
    """One folder of this machine, held open."""

    def __init__(self, descriptor: int, store: LocalStore, parts: Parts) -> None:
        super().__init__(descriptor)
        self._store, self._parts = store, parts

    def entries(self, *, drafts: bool = False) -> Iterator[Entry]:
        """Yield all entries."""
        with os.scandir(self.descriptor) as found:
            for item in found:
                if item.name.startswith(DRAFT_PREFIX) and not drafts:
                    continue
                # A file may vanish between the listing and this look at it.
                with suppress(FileNotFoundError):
                    facts = item.stat(follow_symlinks=False)
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
        descriptor = os.open(name, _FILE, dir_fd=self.descriptor)
        try:
            return LocalReader(descriptor, name)
        except BaseException:
            os.close(descriptor)
            raise

    def take(self, origin: Folder, entry: Entry, name: str, wish: Wish) -> int | None:
        """Have no shorter way."""
        del origin, entry, name, wish
        return None

    def draft(self, name: str, *, size: int | None = None, mark: str = "") -> LocalDraft:
        """Begin a file; the first time in a folder, what dead runs left there is removed."""
        del size, mark
        self._store.sweep_once(self.descriptor, self._parts)
        return LocalDraft(self.descriptor, name)

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
        self._swept: set[Parts] = set()
        self.times, self.writable = True, True
        self.width = 32

    def transient(self, error: Exception) -> bool:
        """See `Store.transient`."""
        return isinstance(error, OSError) and error.errno in (errno.EINTR, errno.EAGAIN, errno.EIO, errno.ESTALE)

    def resolve(self, parts: Parts, *, follow: bool) -> Parts:
        """Follow links by hand, inside the root; see `Store.resolve`."""
        for _ in range(LINK_LIMIT):
            place = self._without_first_link(parts, follow=follow)
            if place == parts:
                return place
            parts = place
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))

    def _without_first_link(self, parts: Parts, *, follow: bool) -> Parts:
        """Return ``parts`` with the first link on the way replaced by where it leads."""
        try:
            descriptor = os.open(self.root, _FOLDER)
        except FileNotFoundError:
            return parts
        for depth, name in enumerate(parts):
            with _closing(descriptor):
                last = depth == len(parts) - 1
                target = None if last and not follow else _link(descriptor, name)
                if target is not None:
                    return (*self._led(parts[:depth], target), *parts[depth + 1 :])
                if last:
                    break
                try:
                    descriptor = os.open(name, _FOLDER, dir_fd=descriptor)
                except (FileNotFoundError, NotADirectoryError):
                    break
        else:
            os.close(descriptor)
        return parts

    def _led(self, folder: Parts, target: str) -> Parts:
        """Return where a link of a folder leads, ``folder`` itself being free of links."""
        if target.startswith("/"):
            root = self.root.rstrip("/") + "/"
            if not f"{target.rstrip('/')}/".startswith(root):
                raise _leads_out(folder, target)
            folder, target = (), target[len(root) :]
        place = list(folder)
        for name in target.split("/"):
            if name == ".." and not place:
                raise _leads_out(folder, target)
            if name == "..":
                place.pop()
            elif name not in ("", "."):
                place.append(name)
        return tuple(place)

    def folder(self, parts: Parts, *, create: bool = False) -> LocalFolder:
        """Open a folder from the root downwards; see the head of this module."""
        descriptor = self._open_root(create=create and self._create)
        for name in parts:
            with _closing(descriptor):
                descriptor = _child(descriptor, name, create=create)
        return LocalFolder(descriptor, self, parts)

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

    def sweep_once(self, folder: int, parts: Parts) -> None:
        """Remove the leftovers of dead runs from a folder, the first time that this store writes there."""
        if parts not in self._swept:
            self._swept.add(parts)
            _sweep(folder)


def _leads_out(folder: Parts, target: str) -> Fault:
    return Fault("PERMISSION_DENIED", f"A link in {joined(folder)} leads out of the root of the endpoint, to {target}.")


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
