"""Files of this machine that are being written: their names, and how they get their real ones."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import threading
from contextlib import suppress
from itertools import count
from types import ModuleType
from typing import TYPE_CHECKING

from chiltepin.backends.filesystem.checksums import not_what_was_sent, verify_content
from chiltepin.backends.filesystem.errors import Fault
from chiltepin.backends.filesystem.local import descriptors
from chiltepin.backends.filesystem.local.claims import MARKED, NEW, OPEN, open_locked
from chiltepin.backends.filesystem.local.permissions import give_rights, rights_of
from chiltepin.backends.filesystem.local.reader import close_quietly
from chiltepin.backends.filesystem.local.times import keep_time, unit_of
from chiltepin.backends.filesystem.temp_names import body_of, new_claim, of_this_host, taken_away, temporary

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from chiltepin.backends.filesystem.local.permissions import Rights
    from chiltepin.backends.filesystem.store import CopyOptions, Small

__all__ = ["TempFiles", "give_name", "surface_close_errors"]

#: The mode of a new file, of which the kernel takes the umask.
_NEW_MODE = 0o666

#: Modes in which everybody may read: nothing is told early by a file that begins with them.
_OPEN_TO_ALL = 0o044


def give_name(folder: int, temp_file: str, name: str) -> None:
    """Rename a file to its real name, in place of an existing one, atomically (rename(2)).

    A disk that cannot rename is a ``Fault``, and so is a temporary file that is not there any more.
    """
    try:
        os.replace(temp_file, name, src_dir_fd=folder, dst_dir_fd=folder)
    except OSError as err:
        if err.errno == errno.ENOENT:
            raise taken_away(temp_file, name) from None
        if err.errno in (errno.ENOSYS, errno.EOPNOTSUPP):
            reason = "The disk cannot rename files, so an incomplete copy could be seen; use another disk."
            raise Fault("ENDPOINT_ERROR", reason) from None
        if err.errno != errno.EEXIST:
            raise
        # Some disks over FUSE do not replace what has the name: for a moment there is neither, as on some SFTP servers.
        os.unlink(name, dir_fd=folder)
        os.replace(temp_file, name, src_dir_fd=folder, dst_dir_fd=folder)


def surface_close_errors(descriptor: int) -> None:
    """Have the disk say now what it else says when a file is closed, and that is after it got its name.

    NFS, and other disks that keep what is written for a while, tell of a full disk or a quota only then (close(2)).
    """
    os.close(os.dup(descriptor))


def _create_mode(rights: Rights | None) -> int:
    """Return the mode with which to begin a file, which is not more readable than the one that it replaces."""
    if rights is None:
        return _NEW_MODE
    open_to_all = rights.acl is None and rights.mode & _OPEN_TO_ALL == _OPEN_TO_ALL
    return rights.mode | 0o600 if open_to_all else 0o600


class TempFiles:
    """The temporary files that are written into one open folder; `close` when the last of them has ended.

    A ``fresh`` folder was just made, so that no file in it is replaced.
    """

    def __init__(self, folder: int, *, fresh: bool = False) -> None:
        self.folder = folder
        self._fresh = fresh
        #: Whether the disk did not let one be removed, which is left to the next sweep then.
        self.left = False
        self._lock, self._count = threading.Lock(), count()
        self._claim: tuple[str, int] | None = None
        #: What the names of all that share the claim begin with; empty before there is one.
        self._shared: str | None = ""
        #: The one that is its own claim, and names that may be used again since their files have got their real ones.
        self._first, self._free = "", list[str]()

    def replaced(self, name: str) -> Rights | None:
        """Return the rights of the file that one of this name will replace."""
        return None if self._fresh else rights_of(self.folder, name)

    def new(self, rights: Rights | None = None) -> tuple[str, int]:
        """Return name and descriptor of an empty temporary file: the first is its own claim, the others share one."""
        mode = _create_mode(rights)
        try:
            name = self._free.pop()
        except IndexError:
            number = next(self._count)
            if not number:
                self._first, descriptor = self._claimed(mode)
                return self._first, descriptor
            name = temporary(f"{self._share()}-{number}")
        try:
            return name, os.open(name, NEW, mode, dir_fd=self.folder)
        except OSError:
            # A disk that fails just after it has made a file (NFS: when it is to get its mode) has made it.
            self.give_up(name)
            raise

    def _share(self) -> str | None:
        """Return what the names of all that share the claim begin with; the first of them makes it."""
        if not self._shared:
            with self._lock:
                self._claim = self._claim or self._claimed()
                self._shared = body_of(self._claim[0])
        return self._shared

    def finish(self, temp_file: str, descriptor: int, name: str) -> None:
        """Close a file of `new` and give it its real name; if that fails, it is removed."""
        try:
            if temp_file == self._first:
                # Its lock is its claim, which has to last until it has its name.
                try:
                    surface_close_errors(descriptor)
                    give_name(self.folder, temp_file, name)
                finally:
                    with suppress(OSError):
                        os.close(descriptor)
            else:
                os.close(descriptor)
                give_name(self.folder, temp_file, name)
                self._free.append(temp_file)
        except BaseException:
            self.give_up(temp_file)
            raise

    def write_small(self, small: Small, name: str, options: CopyOptions) -> int:
        """Write a small file, whole or not at all, and return its bytes.

        Of a file of 4 KiB, most of what a copy costs is the system calls (benchmarks/README.md), so the content is
        written and read back at once, and compared byte by byte: at that size a checksum would cost more.
        """
        if options.checksum:
            verify_content(options.checksum, small.content, name)
        rights = self.replaced(name)
        temp_file, target = self.new(rights)
        try:
            _write(target, small.content, name, verify=options.verify)
            if options.mtime:
                keep_time(target, small.mtime)
            if rights is not None:
                give_rights(target, rights)
        except BaseException:
            self.give_up(temp_file)
            close_quietly(target)
            raise
        self.finish(temp_file, target, name)
        return small.size

    def ordered(self, rights: Rights | None) -> tuple[str, int]:
        """Return name and descriptor of a temporary file that is its own claim, and is open for writing only."""
        return self._claimed(_create_mode(rights), os.O_WRONLY | NEW & ~os.O_RDWR)

    def _claimed(self, mode: int = 0o600, flags: int = NEW) -> tuple[str, int]:
        """Make a file with a new name, and lock it."""
        while True:
            name = new_claim()
            try:
                descriptor = open_locked(self.folder, name, flags, 0, mode)
            except OSError:
                self.give_up(name)
                raise
            if descriptor is not None:
                return name, descriptor

    def marked(self, content_id: str, rights: Rights | None) -> tuple[str, int, bool]:
        """Return name and descriptor of the file of that mark, and whether a dead writer has left something in it."""
        name = of_this_host(hashlib.sha256(content_id.encode(errors="surrogateescape")).hexdigest()[:MARKED])
        # Made before it is looked for: a disk without locks gives only a new file. Twice: a disk that fails once has
        # perhaps made the file before, which would stay.
        mode = _create_mode(rights)
        ways = (NEW, OPEN, NEW, OPEN)
        found = next(filter(None, (self._kept(name, way, mode) for way in ways)), None)
        return found or (*self.new(rights), False)

    def _kept(self, name: str, flags: int, mode: int) -> tuple[str, int, bool] | None:
        with suppress(OSError):
            descriptor = open_locked(self.folder, name, flags, fcntl.LOCK_NB, mode)
            if descriptor is not None:
                try:
                    facts = os.fstat(descriptor)
                except OSError:
                    facts = None
                # A file of another user, or one with a second name, is not written to.
                if facts is not None and facts.st_uid == os.geteuid() and facts.st_nlink == 1:
                    return name, descriptor, facts.st_size > 0
                close_quietly(descriptor)
        return None

    def give_up(self, name: str) -> None:
        """Remove a file; why it is given up is known, so that a disk that does not even allow that says no more."""
        try:
            os.unlink(name, dir_fd=self.folder)
        except FileNotFoundError:
            pass
        except OSError:
            self.left = True

    def time_unit(self) -> int:
        """Return to how many nanoseconds the disk of the folder cuts modification times."""
        try:
            name, descriptor = self.new()
        except OSError:
            # What keeps this file from being made will be told of the first one that is wanted.
            return 1
        try:
            return unit_of(descriptor)
        finally:
            self.give_up(name)
            os.close(descriptor)

    def close(self) -> None:
        """Let the claim go."""
        if self._claim is not None:
            name, descriptor = self._claim
            self.give_up(name)
            close_quietly(descriptor)


def _write(target: int, content: Buffer, name: str, *, verify: bool) -> None:
    """Write all of it, which a disk may take in pieces, and read it back."""
    rest = memoryview(content)
    size = len(rest)
    while rest:
        rest = rest[os.write(target, rest) :]
    # Only pyfakefs replaces the module, and not this call in it.
    pread = os.pread if isinstance(os, ModuleType) else descriptors.pread
    if verify and pread(target, size + 1, 0) != content:
        raise not_what_was_sent(name)
