"""Copying a file from one store to another."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING

import xxhash

from chiltepin.backends.filesystem.faults import Fault
from chiltepin.backends.filesystem.store import BLOCK
from chiltepin.paths import joined

if TYPE_CHECKING:
    from chiltepin.backends.filesystem.store import Draft, Entry, Folder, Reader, Spot
    from chiltepin.backends.filesystem.work import Work
    from chiltepin.model import TransferRequest

__all__ = ["Copier", "copy_file", "is_missing"]


def copy_file(work: Work, request: TransferRequest, origin: Spot, goal: Spot, checksum: str = "") -> None:
    """Copy one file to its whole new path, making the folders that lead there.

    A link at ``origin`` is followed, as far as the root allows; one at ``goal`` is replaced, never written through. The
    content has to have the ``checksum`` of the item, if that has one.
    """
    try:
        origin, here = _opened(origin, create=False)
    except (FileNotFoundError, NotADirectoryError):
        raise is_missing(origin) from None
    with here:
        entry = here.entry(origin.parts[-1])
        if entry is not None and entry.kind == "link":
            copy_file(work, request, origin.resolved(follow=True), goal, checksum)
            return
        if entry is None:
            raise is_missing(origin)
        if entry.kind == "dir":
            raise _is_folder(origin)
        if entry.kind != "file":
            raise Fault("NOT_A_FILE", f"{origin} is neither a file nor a folder.")
        if not goal.parts:
            raise _needs_whole_path(origin, goal)
        goal, there = _opened(goal, create=True)
        with there:
            if origin.contains(goal) and goal.contains(origin):
                raise Fault("SAME_FILE", f"{origin} would be copied onto itself.")
            taken = there.entry(goal.parts[-1])
            if taken is not None and taken.kind == "dir":
                raise _needs_whole_path(origin, goal)
            copier = Copier(work, request, block=min(BLOCK, entry.size or BLOCK), checksum=checksum)
            copier.file(here, entry, there, goal.parts[-1])


def _opened(spot: Spot, *, create: bool) -> tuple[Spot, Folder]:
    """Open the folder of a place; return it with the place that it really is, where links lead to it."""
    if not spot.parts:
        raise _is_folder(spot)
    above, folder = spot.store.enter(spot.parts[:-1], create=create)
    return replace(spot, parts=above + spot.parts[-1:]), folder


def is_missing(spot: Spot) -> Fault:
    """Return the fault of a place where nothing is."""
    return Fault("FILE_NOT_FOUND", f"There is no {spot}.")


def _is_folder(spot: Spot) -> Fault:
    return Fault("IS_A_DIRECTORY", f"{spot} is a folder; give recursive=True to move it.")


def _needs_whole_path(origin: Spot, goal: Spot) -> Fault:
    whole = joined((*goal.parts, origin.parts[-1]))
    return Fault("IS_A_DIRECTORY", f"{goal} is a folder; give the whole new path of the file, such as {whole!r}.")


class Copier:
    """Copies files as one request wants them copied, ``block`` bytes at a time."""

    def __init__(self, work: Work, request: TransferRequest, *, block: int = BLOCK, checksum: str = "") -> None:
        self._work, self._request = work, request
        #: Bytes of the file that is being copied; a copier is of one thread.
        self._moved = 0
        self._algorithm, _, self._expected = checksum.partition(":")
        self._block = memoryview(bytearray(block))

    def file(self, here: Folder, entry: Entry, there: Folder, name: str) -> None:
        """Copy one file, unless the sync level says that its destination is good as it is."""
        if self._in_place(here, entry, there, name):
            self._work.count(skipped=1)
            return
        self._moved = 0
        try:
            with here.read(entry.name) as reader, there.draft(name, size=reader.size, mark=reader.mark) as draft:
                size = self._fill(reader, draft, entry.name)
                if self._algorithm:
                    self._compare(draft.read_back(), entry.name)
                draft.commit(reader.mtime if self._request.preserve_timestamp else None)
        finally:
            self._work.count(moving=-self._moved)
        self._work.count(files=1, size=size)

    def _fill(self, reader: Reader, draft: Draft, name: str) -> int:
        """Copy the content and read it back; return its size."""
        digest, size = self._pass(reader, draft)
        if (reader.size is not None and size != reader.size) or reader.changed():
            raise Fault("FILE_SIZE_CHANGED", f"{name} changed while it was copied; move it again when it is complete.")
        with draft.read_back() as written:
            whole = written.size in (size, None)
            if not whole or (self._request.verify_checksum and self._pass(written) != (digest, size)):
                reason = f"{name} was written, but what is read back is not what was sent."
                raise Fault("VERIFY_CHECKSUM", reason)
        return size

    def _compare(self, written: Reader, name: str) -> None:
        """Compare what was written with the checksum that it has to have."""
        digest = hashlib.new(self._algorithm, usedforsecurity=False)
        with written:
            while count := written.readinto(self._block):
                self._work.check()
                digest.update(self._block[:count])
        if digest.hexdigest() != self._expected:
            found = f"{self._algorithm}:{digest.hexdigest()}"
            reason = f"{name} has the checksum {found}, and not the one that was given; see that both belong together."
            raise Fault("EXTERNAL_CHECKSUM_MISMATCH", reason)

    def _pass(self, reader: Reader, draft: Draft | None = None) -> tuple[bytes, int]:
        """Read a file once, and write it if there is a draft; return the digest, if it is wanted, and the size."""
        hashing = draft is None or self._request.verify_checksum
        digest, size = xxhash.xxh3_128(), 0
        # Not until the end of the file: where the size is known, that is one call less, and `changed` sees more.
        while (reader.size is None or size < reader.size) and (count := reader.readinto(self._block)):
            self._work.check()
            block = self._block[:count]
            if draft is not None:
                draft.write(block)
                self._work.count(moving=count)
                self._moved += count
            if hashing:
                digest.update(block)
            size += count
        return digest.digest(), size

    def _in_place(self, here: Folder, entry: Entry, there: Folder, name: str) -> bool:
        """Whether the destination is good already; each level checks what those before it check."""
        level = self._request.sync_level
        existing = there.entry(name) if level else None
        if existing is None or existing.kind != "file":
            return False
        if level == "exists":
            return True
        if existing.size != entry.size:
            return False
        if level == "mtime":
            return existing.mtime is not None and entry.mtime is not None and existing.mtime >= entry.mtime
        if level == "checksum":
            with here.read(entry.name) as origin, there.read(name) as copy:
                return self._pass(origin) == self._pass(copy)
        return True
