"""Files of this machine that are being written: their names, and how they get their real ones."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import secrets
import threading
from contextlib import suppress
from itertools import count
from typing import TYPE_CHECKING

import xxhash

from chiltepin.backends.filesystem.errors import Fault
from chiltepin.backends.filesystem.local.claims import MARKED, OPEN, TOKEN, open_locked
from chiltepin.backends.filesystem.local.kernel_copy import WRITTEN, data, move, write_at
from chiltepin.backends.filesystem.local.permissions import create_mode, give_rights, rights_of
from chiltepin.backends.filesystem.local.reader import LocalReader, OpenFile, close_quietly
from chiltepin.backends.filesystem.local.times import keep_time, nanoseconds, unit_of
from chiltepin.backends.filesystem.store import BLOCK
from chiltepin.backends.filesystem.temp_names import body_of, temporary

if TYPE_CHECKING:
    from collections.abc import Callable

    from chiltepin.backends.filesystem.local.permissions import Rights
    from chiltepin.backends.filesystem.store import Reader

__all__ = ["PART", "LocalTempFile", "TempFiles", "give_name"]

#: Bytes of a part. Two threads that each copy, hash and read back one part find it in the processor's cache, and a part
#: takes long enough that handing it to another thread does not count (benchmarks/README.md).
PART = 1 << 23

_NEW = OPEN | os.O_CREAT | os.O_EXCL
_DIGEST = xxhash.xxh3_128().digest_size


def give_name(folder: int, temp_file: str, name: str) -> None:
    """Rename a file to its real name, in place of what had it, which the kernel does whole or not at all (rename(2)).

    Raises
    ------
    Fault
        If the disk cannot rename at all.
    """
    try:
        os.replace(temp_file, name, src_dir_fd=folder, dst_dir_fd=folder)
    except OSError as err:
        if err.errno in (errno.ENOSYS, errno.EOPNOTSUPP):
            reason = "The disk cannot rename files, so that a copy would be seen before it is whole; use another disk."
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


class TempFiles:
    """The temporary files that are written into one open folder; `close` when the last of them has ended.

    Parameters
    ----------
    folder : int
        Its descriptor.
    fresh : bool
        Whether the folder was made just now, so that no file in it is replaced.
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
            return name, os.open(name, _NEW, mode, dir_fd=self.folder)
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
                    close_quietly(descriptor)
            else:
                os.close(descriptor)
                give_name(self.folder, temp_file, name)
                self._free.append(temp_file)
        except BaseException:
            self.give_up(temp_file)
            raise

    def ordered(self, rights: Rights | None) -> tuple[str, int]:
        """Return name and descriptor of a temporary file that is its own claim, and is open for writing only."""
        return self._claimed(create_mode(rights), os.O_WRONLY | _NEW & ~os.O_RDWR)

    def _claimed(self, mode: int = 0o600, flags: int = _NEW) -> tuple[str, int]:
        """Make a file with a new name, and lock it."""
        while True:
            name = temporary(secrets.token_hex(TOKEN))
            try:
                descriptor = open_locked(self.folder, name, flags, 0, mode)
            except OSError:
                self.give_up(name)
                raise
            if descriptor is not None:
                return name, descriptor

    def marked(self, content_id: str, rights: Rights | None) -> tuple[str, int, bool]:
        """Return name and descriptor of the file of that mark, and whether a dead writer has left something in it."""
        name = temporary(hashlib.sha256(content_id.encode(errors="surrogateescape")).hexdigest()[:MARKED])
        # Twice: a disk that fails once has perhaps made the file before, which would stay.
        mode = create_mode(rights)
        found = self._kept(name, mode) or self._kept(name, mode)
        return found or (*self.new(rights), False)

    def _kept(self, name: str, mode: int) -> tuple[str, int, bool] | None:
        with suppress(OSError):
            descriptor = open_locked(self.folder, name, OPEN | os.O_CREAT, fcntl.LOCK_NB, mode)
            if descriptor is not None:
                try:
                    facts = os.fstat(descriptor)
                except OSError:
                    facts = None
                # What somebody else has put there, or linked to another name, is not written to.
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


class LocalTempFile(OpenFile):
    """A file that is being written.

    Parameters
    ----------
    temp_files : TempFiles
        Those of its folder.
    temp_file : str
        Its name for now.
    descriptor : int
        Its own.
    name : str
        The name that it gets in the end.
    size : int or None
        Bytes that it will have, where that is known.
    rights : Rights or None
        Those of the file that it replaces.
    continued : bool
        Whether a dead writer has left something in it.
    learns : callable
        Whether an error has told of the disk how it had better be written to; see `in_order_files`.

    Notes
    -----
    Behind the last byte, a large temporary file has the digests of its parts that are whole, each at the place of its
    part, so that the next run knows what it need not copy again. `commit` cuts them off.
    """

    part: int | None = PART
    verifies_writes = False

    def __init__(
        self,
        temp_files: TempFiles,
        temp_file: str,
        descriptor: int,
        name: str,
        size: int | None,
        *,
        rights: Rights | None = None,
        continued: bool = False,
        learns: Callable[[OSError], bool] = lambda _: False,
    ) -> None:
        super().__init__(descriptor)
        self._rights, self._learns = rights, learns
        self._temp_files, self._temp_file, self._name, self._size = temp_files, temp_file, name, size
        self._committed = self._parted = False
        self._continued = continued

    def has_part(self, offset: int, count: int) -> bytes | None:
        """Read the part, and compare it with the digest that was noted when it was whole."""
        if not self._continued:
            return None
        noted = os.pread(self.descriptor, _DIGEST, self._note(offset))
        digest, block = xxhash.xxh3_128(), memoryview(bytearray(min(BLOCK, count)))
        for start in range(offset, offset + count, BLOCK):
            got = os.preadv(self.descriptor, [block[: offset + count - start]], start)
            digest.update(block[:got])
        return noted if noted == digest.digest() else None

    def mark_verified(self, offset: int, digest: bytes) -> None:
        """Note the digest of a part; a disk that has no room for it will say so of the next part."""
        if self._size is not None and self._size > PART:
            self._parted = True
            with suppress(OSError):
                write_at(self.descriptor, memoryview(digest), self._note(offset))

    def _note(self, offset: int) -> int:
        return (self._size or 0) + offset // PART * _DIGEST

    def step(self, reader: Reader) -> int | None:
        """Go by small steps within this machine; what comes from a server had best come a part at a time."""
        return WRITTEN if isinstance(reader, LocalReader) else None

    def copy_part(self, reader: Reader, offset: int, count: int, *, verify: bool) -> bool:
        """Have the kernel copy a part of another file of this machine; holes stay holes."""
        # What is read at both ends all the same costs less by steps (benchmarks/README.md).
        if not isinstance(reader, LocalReader) or (verify and not reader.sparse):
            return False
        if reader.sparse:
            self._stretch()
        # Where a dead run has written already, a hole would let it show through.
        segments = [(offset, count)] if self._continued else data(reader, offset, count)
        for start, length in segments:
            if move(reader, self.descriptor, self._opened, start, length) < length:
                raise Fault("FILE_SIZE_CHANGED", "The file became shorter while it was copied; move it again.")
        return True

    def _stretch(self) -> None:
        """Give the file its size, so that a hole is read back as one also at its end."""
        if os.fstat(self.descriptor).st_size < (self._size or 0):
            os.ftruncate(self.descriptor, self._size or 0)

    def _opened(self) -> int:
        return os.open(self._temp_file, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._temp_files.folder)

    def write_at(self, offset: int, block: memoryview) -> None:
        """Write one part."""
        write_at(self.descriptor, block, offset)

    def write(self, block: memoryview) -> None:
        """Append the block; a disk may take it in pieces."""
        while block:
            block = block[os.write(self.descriptor, block[:WRITTEN]) :]

    def read_back(self) -> LocalReader:
        """Open what was written, from its start."""
        os.lseek(self.descriptor, 0, os.SEEK_SET)
        return _ReadBack(self.descriptor, self._temp_file)

    def commit(self, mtime: float | None) -> None:
        """Give the file its time, its rights and its name."""
        if self._size is not None and (self._parted or self._continued):
            os.ftruncate(self.descriptor, self._size)
        if mtime is not None:
            keep_time(self.descriptor, nanoseconds(mtime))
        if self._rights is not None:
            give_rights(self.descriptor, self._rights)
        surface_close_errors(self.descriptor)
        give_name(self._temp_files.folder, self._temp_file, self._name)
        self._committed = True

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if not self._committed:
            self._temp_files.give_up(self._temp_file)
        super().__exit__(kind, error, trace)
        if not self._committed and isinstance(error, OSError) and self._learns(error):
            # Worth another try, see `LocalStore.transient`: that one goes another way.
            raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN)) from error


class _ReadBack(LocalReader):
    """A temporary file that is read; its descriptor stays with the draft."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Leave the descriptor open."""
