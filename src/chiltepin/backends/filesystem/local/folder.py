"""One local folder, held open."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from contextlib import suppress
from functools import cached_property
from typing import TYPE_CHECKING, Literal, Protocol, cast

from chiltepin.backends.filesystem.local.claims import sweep
from chiltepin.backends.filesystem.local.in_order_files import InOrderTempFile, in_order_only
from chiltepin.backends.filesystem.local.kernel_copy import clonable, clone
from chiltepin.backends.filesystem.local.read_ahead import read_ahead
from chiltepin.backends.filesystem.local.reader import ENTERED, FILE, LocalReader, read_small
from chiltepin.backends.filesystem.local.shared_temp_file import SharedTempFile, begin_shared
from chiltepin.backends.filesystem.local.temp_files import TempFiles
from chiltepin.backends.filesystem.local.unknown_size import has_unknown_sizes
from chiltepin.backends.filesystem.local.writer import PART, LocalTempFile
from chiltepin.backends.filesystem.store import SMALL, Entry, Small
from chiltepin.backends.filesystem.temp_names import is_temp_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from typing_extensions import Self

    from chiltepin.backends.filesystem.local.permissions import Rights
    from chiltepin.backends.filesystem.store import CopyOptions, Folder, Reader
    from chiltepin.protocol import Shard
    from chiltepin.protocol.paths import Parts

__all__ = ["LocalFolder"]


def _kind(mode: int) -> Literal["file", "dir", "link", "other"]:
    if stat.S_ISREG(mode):
        return "file"
    if stat.S_ISDIR(mode):
        return "dir"
    return "link" if stat.S_ISLNK(mode) else "other"


def _kind_listed(item: os.DirEntry[str]) -> Literal["file", "dir", "link", "other"]:
    """Return the kind of an entry from the listing alone."""
    try:
        if item.is_file(follow_symlinks=False):
            return "file"
        if item.is_dir(follow_symlinks=False):
            return "dir"
        return "link" if item.is_symlink() else "other"
    except OSError:
        return "other"


class OwnStore(Protocol):
    """What a folder needs from its store."""

    #: Disks that were found to accept files in order only.
    in_order: set[int]
    #: Folders that were swept, and folders with a temporary file of ours that the disk did not remove.
    swept: set[Parts]
    untidy: set[Parts]


class LocalFolder:
    """One local folder, held open."""

    def __init__(
        self, descriptor: int, store: OwnStore, parts: Parts, *, goal: bool = False, fresh: bool = False
    ) -> None:
        self.descriptor = descriptor
        self._store, self._parts, self._goal, self._fresh = store, parts, goal, fresh
        #: Whether a file that is written here may replace another one.
        self.replaces = not fresh
        self._temp_files: TempFiles | None = None

    @cached_property
    def identity(self) -> tuple[int, int]:
        """Its device and inode numbers, which are the same by all its names."""
        facts = os.fstat(self.descriptor)
        return facts.st_dev, facts.st_ino

    @property
    def device(self) -> int:
        """The device number of its disk."""
        return self.identity[0]

    @cached_property
    def has_unknown_sizes(self) -> bool:
        """Whether the sizes of its files are unknown."""
        return has_unknown_sizes(self.device)

    def kept_time(self, mtime: int) -> int:
        """Return a modification time, in nanoseconds, with the precision of the disk."""
        return mtime // self._unit * self._unit

    @cached_property
    def _unit(self) -> int:
        # For each folder: a disk that is mounted later may get the device number of an earlier one.
        return self.open_temp_files().time_unit()

    def _entry(self, name: str, facts: os.stat_result) -> Entry:
        kind = _kind(facts.st_mode)
        size = None if kind == "file" and self.has_unknown_sizes else facts.st_size
        return Entry(name, kind, size, facts.st_mtime)

    def scan(self) -> os._ScandirIterator[str]:
        """List the folder, to be used in a ``with``."""
        if ENTERED and fcntl.fcntl(self.descriptor, fcntl.F_GETFL) & os.O_PATH:
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
                except FileNotFoundError:  # It vanished between the listing and this call.
                    continue
                except OSError:  # An entry that cannot be examined can still be listed and deleted.
                    yield Entry(item.name, _kind_listed(item))
                    continue
                yield self._entry(item.name, facts)

    def kinds(self, *, temp_files: bool = False) -> Iterator[tuple[str, str]]:
        """Yield the name and kind of all entries from the listing alone, which saves a call for each entry."""
        with self.scan() as found:
            for item in found:
                if temp_files or not is_temp_name(item.name):
                    yield item.name, _kind_listed(item)

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
        """Copy a small file in few calls, and let a large one share its blocks if the disk can."""
        if not entry.fits(SMALL):
            if options.checksum or not isinstance(origin, LocalFolder):
                return None
            return self._clone(origin, entry, name, options)
        return self._write(origin.read_small(entry), name, options)

    def read_small(self, entry: Entry) -> Small | None:
        """Read a small file in few calls; see `Folder.read_small`."""
        return read_small(self.descriptor, entry.name)

    def read_ahead(self, names: Iterable[str]) -> None:
        """Have the disk read the beginnings of files at once, if that helps."""
        read_ahead(self.descriptor, names)

    def take_small(self, origin: LocalFolder, name: str, new_name: str, options: CopyOptions) -> int | None:
        """Copy a small file, of which only the name is known, in few calls."""
        return self._write(read_small(origin.descriptor, name), new_name, options)

    def _write(self, small: Small | None, name: str, options: CopyOptions) -> int | None:
        if small is None or self._in_order:
            return None
        try:
            return self.open_temp_files().write_small(small, name, options)
        except OSError as err:
            if not self._learns(err):
                raise
        return None

    @property
    def _in_order(self) -> bool:
        """Whether the disk is known to accept files in order only."""
        return bool(self._store.in_order) and self.device in self._store.in_order

    def _learns(self, error: OSError) -> bool:
        """Find out whether an error means that the disk accepts files in order only."""
        # Another thread may have found it out since this one began to write.
        if not in_order_only(error, self.open_temp_files(), known=self._in_order):
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
        """Return the `TempFiles` of this folder, which are created when they are first needed."""
        if self._temp_files is None:
            self._temp_files = TempFiles(self.descriptor, fresh=not self.replaces)
        return self._temp_files

    def temp_file(self, name: str, *, size: int | None = None, content_id: str = "") -> LocalTempFile | InOrderTempFile:
        """Begin a file, or continue a file that a dead run has begun."""
        temp_files, continued = self.open_temp_files(), False
        marked = bool(content_id) and size is not None and size > PART
        rights = temp_files.replaced(name)
        try:
            if self._in_order:
                return self._in_order_file(name, rights)
            if marked:
                temp_file, descriptor, continued = temp_files.marked(f"{content_id}/{name}", rights)
            else:
                temp_file, descriptor = temp_files.new(rights)
        except OSError as err:
            if not self._learns(err):
                raise
            return self._in_order_file(name, rights)
        return LocalTempFile(
            temp_files,
            temp_file,
            descriptor,
            name,
            size,
            rights=rights,
            marked=marked,
            continued=continued,
            learns=self._learns,
        )

    def _in_order_file(self, name: str, rights: Rights | None) -> InOrderTempFile:
        # rclone creates an empty file some time after it was closed, even if it has been removed.
        self._store.untidy.add(self._parts)
        return InOrderTempFile(self.open_temp_files(), name, rights)

    def begin_shared(self, reader: Reader, name: str, shard: Shard) -> str | None:
        """Begin a file that several workers write; see `Dividing.begin_shared`."""
        if self._in_order or reader.size is None:
            return None
        return begin_shared(self.open_temp_files(), name, reader.size, shard)

    def shared_temp_file(self, temp_file: str, name: str, size: int) -> SharedTempFile:
        """Open a file that `begin_shared` has created."""
        return SharedTempFile(self.open_temp_files(), temp_file, name, size)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if self._temp_files is not None:
            self._temp_files.close()
        # Not earlier: the file of a dead run may just have been continued. Also if nothing was copied: a run may have
        # been killed after its last file. In a new folder, no run has died.
        self._tidy()
        # Write errors were reported earlier (`TempFiles.finish`).
        with suppress(OSError):
            os.close(self.descriptor)

    def _tidy(self) -> None:
        """Remove the leftovers of dead runs, the first time that the folder is the destination of a copy.

        This process removes its own temporary files at once. If the disk refuses that, they are swept the next time
        that the folder is open, even if only for reading.
        """
        store, parts = self._store, self._parts
        if self._temp_files is not None and self._temp_files.left:
            store.untidy.add(parts)
        elif parts in store.untidy or (self._goal and not self._fresh and parts not in store.swept):
            store.swept.add(parts)
            # A leftover that cannot be removed does not fail the operation.
            with suppress(OSError):
                (store.untidy.discard if sweep(self.descriptor) else store.untidy.add)(parts)

    def remove(self, name: str) -> None:
        """Unlink the entry."""
        os.unlink(name, dir_fd=self.descriptor)

    def remove_all(self, names: Sequence[str]) -> Iterator[tuple[str, Exception]]:
        """Unlink them one by one."""
        unlink, folder = os.unlink, self.descriptor
        for name in names:
            try:
                unlink(name, dir_fd=folder)
            except OSError as err:  # noqa: PERF203 - the others are removed anyway
                yield name, err

    def remove_folder(self, name: str) -> None:
        """Remove an empty folder."""
        os.rmdir(name, dir_fd=self.descriptor)

    def rename(self, name: str, goal: Folder, new_name: str) -> None:
        """Rename an entry; a file gets its new name only if that is free."""
        there = cast("LocalFolder", goal).descriptor
        facts = os.stat(name, dir_fd=self.descriptor, follow_symlinks=False)
        if stat.S_ISREG(facts.st_mode) and self._rename_by_link(name, there, new_name):
            return
        with suppress(FileNotFoundError):
            os.stat(new_name, dir_fd=there, follow_symlinks=False)
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), new_name)
        os.rename(name, new_name, src_dir_fd=self.descriptor, dst_dir_fd=there)

    def _rename_by_link(self, name: str, there: int, new_name: str) -> bool:
        """Rename a file, unless the disk has no hard links.

        rename(2) would replace a file that was created in the meantime; link(2) does not.
        """
        try:
            os.link(name, new_name, src_dir_fd=self.descriptor, dst_dir_fd=there, follow_symlinks=False)
        except OSError as err:
            if err.errno in (errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.EMLINK):
                return False
            # A network disk may report an error although the file has the new name.
            if err.errno != errno.EEXIST:
                self._remove_second(name, there, new_name)
            raise
        try:
            os.unlink(name, dir_fd=self.descriptor)
        except OSError:
            self._remove_second(name, there, new_name)
            raise
        return True

    def _remove_second(self, name: str, there: int, new_name: str) -> None:
        """Remove the new name of a file that a failed rename has left with two names."""
        with suppress(OSError):
            old = os.stat(name, dir_fd=self.descriptor, follow_symlinks=False)
            if os.path.samestat(old, os.stat(new_name, dir_fd=there, follow_symlinks=False)):
                os.unlink(new_name, dir_fd=there)
