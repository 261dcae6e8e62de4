"""Local files that are being written: their temporary names, and how they get their real names."""

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

__all__ = ["TempFiles", "create_mode", "give_name", "surface_close_errors"]

#: The mode of a new file, to which the kernel applies the umask.
_NEW_MODE = 0o666

#: Modes in which all users may read: a file that starts with them reveals nothing early.
_OPEN_TO_ALL = 0o044


def give_name(folder: int, temp_file: str, name: str) -> None:
    """Rename a file to its real name, in place of an existing one, atomically (rename(2)).

    A disk that cannot rename is a ``Fault``, and so is a temporary file that no longer exists.
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
        # Some disks over FUSE do not replace a file: for a moment the name does not exist, as on some SFTP servers.
        os.unlink(name, dir_fd=folder)
        os.replace(temp_file, name, src_dir_fd=folder, dst_dir_fd=folder)


def surface_close_errors(descriptor: int) -> None:
    """Make the disk report errors now that it would otherwise report on close, which is after the rename.

    NFS, and other disks that buffer writes, report a full disk or an exceeded quota only then (close(2)).
    """
    os.close(os.dup(descriptor))


def create_mode(rights: Rights | None) -> int:
    """Return the initial mode of a file, which is not more readable than the file that it replaces."""
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
        #: Whether the disk refused to remove a file, which is then left to the next sweep.
        self.left = False
        self._lock, self._count = threading.Lock(), count()
        self._claim: tuple[str, int] | None = None
        #: The prefix of all names that share the claim; empty before there is a claim.
        self._shared: str | None = ""
        #: The file that is its own claim, and names that can be reused because their files were renamed.
        self._first, self._free = "", list[str]()

    def replaced(self, name: str) -> Rights | None:
        """Return the rights of the file that a new file with this name will replace."""
        return None if self._fresh else rights_of(self.folder, name)

    def new(self, rights: Rights | None = None) -> tuple[str, int]:
        """Return name and descriptor of an empty temporary file: the first is its own claim, the others share one."""
        mode = create_mode(rights)
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
            # A disk that fails just after it has created a file (NFS: when it sets the mode) leaves the file behind.
            self.give_up(name)
            raise

    def _share(self) -> str | None:
        """Return the prefix of all names that share the claim; the first call makes the claim."""
        if not self._shared:
            with self._lock:
                self._claim = self._claim or self._claimed()
                self._shared = body_of(self._claim[0])
        return self._shared

    def finish(self, temp_file: str, descriptor: int, name: str) -> None:
        """Close a file from `new` and rename it to its real name; if that fails, remove it."""
        try:
            if temp_file == self._first:
                # Its lock is its claim, which has to last until the rename.
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

        For a file of 4 KiB, system calls are most of the cost of a copy (benchmarks/README.md), so the content is
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
        return self._claimed(create_mode(rights), os.O_WRONLY | NEW & ~os.O_RDWR)

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
        """Return name and descriptor of the file with that mark, and whether a dead writer has left data in it."""
        name = of_this_host(hashlib.sha256(content_id.encode(errors="surrogateescape")).hexdigest()[:MARKED])
        # Created before it is looked for: a disk without locks allows only a new file. Twice: a disk that fails once
        # may have created the file before, which would stay.
        mode = create_mode(rights)
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
                # A file of another user, or a file with a second name, is not written to. A disk may show another user
                # for all files (CIFS uid=), even for one that was just made.
                own = facts is not None and facts.st_uid == os.geteuid() and facts.st_nlink == 1
                if facts is not None and (own or flags == NEW):
                    return name, descriptor, facts.st_size > 0
                close_quietly(descriptor)
        return None

    def give_up(self, name: str) -> None:
        """Remove a file; an error is not raised, because the reason for giving up is already known."""
        try:
            os.unlink(name, dir_fd=self.folder)
        except FileNotFoundError:
            pass
        except OSError:
            self.left = True

    def time_unit(self) -> int:
        """Return the resolution of modification times on the disk of the folder, in nanoseconds."""
        try:
            name, descriptor = self.new()
        except OSError:
            # The first file of the transfer will report why no file can be created.
            return 1
        try:
            return unit_of(descriptor)
        finally:
            self.give_up(name)
            os.close(descriptor)

    def close(self) -> None:
        """Release the claim."""
        if self._claim is not None:
            name, descriptor = self._claim
            self.give_up(name)
            close_quietly(descriptor)


def _write(target: int, content: Buffer, name: str, *, verify: bool) -> None:
    """Write the content, which a disk may accept in pieces, and read it back."""
    rest = memoryview(content)
    size = len(rest)
    while rest:
        rest = rest[os.write(target, rest) :]
    # Only pyfakefs replaces the module, but not this call in it.
    pread = os.pread if isinstance(os, ModuleType) else descriptors.pread
    if verify and pread(target, size + 1, 0) != content:
        raise not_what_was_sent(name)
