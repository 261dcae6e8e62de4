"""Copying a small file of this machine in as few system calls as it can be done safely.

Of a file of 4 KiB, most of what a copy costs is the calls themselves (benchmarks/README.md), so the content is read,
written and read back at once, and compared byte by byte: at that size a checksum would cost more.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from chiltepin.backends.filesystem.checksums import not_what_was_sent, verify_content
from chiltepin.backends.filesystem.local.permissions import give_rights
from chiltepin.backends.filesystem.local.reader import FILE, close_quietly, is_changed
from chiltepin.backends.filesystem.local.times import keep_time
from chiltepin.backends.filesystem.store import SMALL, Small

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from chiltepin.backends.filesystem.local.temp_files import TempFiles
    from chiltepin.backends.filesystem.store import CopyOptions

__all__ = ["read_small", "write_small"]


def read_small(origin: int, name: str) -> Small | None:
    """Read a file at once.

    Parameters
    ----------
    origin : int
        The descriptor of its folder.
    name : str
        What it is called there.

    Returns
    -------
    Small or None
        None if it is no longer a small file, or was written to just now.
    """
    source = os.open(name, FILE, dir_fd=origin)
    try:
        before = os.fstat(source)
        size = before.st_size
        if size > SMALL or not stat.S_ISREG(before.st_mode):
            return None
        # One byte more than there should be, to see a file that has grown.
        content = os.read(source, size + 1)
        after = os.fstat(source)
    finally:
        close_quietly(source)
    if len(content) != size or is_changed(before, after):
        return None
    return Small(content, size, before.st_mtime_ns)


def write_small(small: Small, name: str, options: CopyOptions, temp_files: TempFiles) -> int:
    """Write a file, whole or not at all.

    Parameters
    ----------
    small : Small
        What it is to be.
    name : str
        What it will be called.
    options : CopyOptions
        How it is to be copied.
    temp_files : TempFiles
        Those of its folder.

    Returns
    -------
    int
        Its bytes.
    """
    if options.checksum:
        verify_content(options.checksum, small.content, name)
    rights = temp_files.replaced(name)
    temp_file, target = temp_files.new(rights)
    try:
        _write(target, small.content, name, verify=options.verify)
        if options.mtime:
            keep_time(target, small.mtime)
        if rights is not None:
            give_rights(target, rights)
    except BaseException:
        temp_files.give_up(temp_file)
        close_quietly(target)
        raise
    temp_files.finish(temp_file, target, name)
    return small.size


def _write(target: int, content: Buffer, name: str, *, verify: bool) -> None:
    """Write all of it, which a disk may take in pieces, and read it back."""
    rest = memoryview(content)
    size = len(rest)
    while rest:
        rest = rest[os.write(target, rest) :]
    if verify and os.pread(target, size + 1, 0) != content:
        raise not_what_was_sent(name)
