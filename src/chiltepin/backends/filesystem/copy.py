"""Copying a file, and a tree of files, from one store to another."""

from __future__ import annotations

import fnmatch
from typing import TYPE_CHECKING

import xxhash

from chiltepin.backends.filesystem.faults import Fault
from chiltepin.backends.filesystem.store import BLOCK
from chiltepin.paths import joined

if TYPE_CHECKING:
    from chiltepin.backends.filesystem.store import Draft, Entry, Folder, Reader, Spot
    from chiltepin.backends.filesystem.work import Work
    from chiltepin.model import TransferRequest

__all__ = ["copy_file", "copy_tree"]


def copy_file(work: Work, request: TransferRequest, origin: Spot, goal: Spot) -> None:
    """Copy one file to its whole new path, making the folders that lead there.

    A link at ``origin`` is followed, as far as the root allows; one at ``goal`` is replaced, never written through.
    """
    origin, goal = origin.resolved(follow=True), goal.resolved(follow=False)
    if origin.contains(goal) and goal.contains(origin):
        raise Fault("SAME_FILE", f"{origin} would be copied onto itself.")
    entry = _existing(origin)
    if entry.kind == "dir":
        raise Fault("IS_A_DIRECTORY", f"{origin} is a folder; give recursive=True to move it.")
    if entry.kind != "file":
        raise Fault("NOT_A_FILE", f"{origin} is neither a file nor a folder.")
    taken = goal.entry()
    if taken is not None and taken.kind == "dir":
        whole = joined((*goal.parts, origin.parts[-1]))
        raise Fault("IS_A_DIRECTORY", f"{goal} is a folder; give the whole new path of the file, such as {whole!r}.")
    with origin.parent() as here, goal.store.folder(goal.parts[:-1], create=True) as there:
        Copier(work, request, block=min(BLOCK, entry.size + 1)).file(here, entry, there, goal.parts[-1])


def copy_tree(work: Work, request: TransferRequest, origin: Spot, goal: Spot) -> None:
    """Copy what is in a folder into another folder, making the latter if need be.

    Links inside the tree are skipped, as Globus does (globus transfer --help, "Symbolic links"); so are devices, pipes
    and sockets. A file that fails does not keep the others from being copied.
    """
    origin, goal = origin.resolved(follow=True), goal.resolved(follow=True)
    if origin.contains(goal):
        raise Fault("INVALID_PATH_NAME", f"{origin} would be copied into itself, to {goal}.")
    if _existing(origin).kind != "dir":
        raise Fault("NOT_A_DIRECTORY", f"{origin} is a file; give recursive=False to move it.")
    copier = Copier(work, request)
    waiting = [(origin, goal)]
    while waiting:
        source, target = waiting.pop()
        try:
            with source.store.folder(source.parts) as here, target.store.folder(target.parts, create=True) as there:
                folders = copier.folder(here, there, source)
            waiting.extend((source.below(name), target.below(name)) for name in folders)
        except Exception as err:  # noqa: BLE001 - the other folders go on
            work.fail(err, f"Copying folder {source} to {target}")


def _existing(spot: Spot) -> Entry:
    entry = spot.entry()
    if entry is None:
        raise Fault("FILE_NOT_FOUND", f"There is no {spot}.")
    return entry


class Copier:
    """Copies files as one request wants them copied, ``block`` bytes at a time."""

    def __init__(self, work: Work, request: TransferRequest, *, block: int = BLOCK) -> None:
        self._work, self._request = work, request
        self._block = memoryview(bytearray(block))

    def folder(self, here: Folder, there: Folder, origin: Spot) -> list[str]:
        """Copy the files of one folder; return the names of the folders in it."""
        folders = []
        for entry in here.entries():
            self._work.check()
            if entry.kind == "dir":
                folders.append(entry.name)
            elif entry.kind != "file" or not self._wanted(entry.name):
                self._work.files_skipped += 1
            else:
                try:
                    self.file(here, entry, there, entry.name)
                except Exception as err:  # noqa: BLE001 - the other files go on
                    self._work.fail(err, f"Copying {origin.below(entry.name)}")
        return folders

    def _wanted(self, name: str) -> bool:
        for rule in self._request.filters:
            if fnmatch.fnmatchcase(name, rule.name):
                return rule.method == "include"
        return True

    def file(self, here: Folder, entry: Entry, there: Folder, name: str) -> None:
        """Copy one file, unless the sync level says that its destination is good as it is."""
        if self._in_place(here, entry, there, name):
            self._work.files_skipped += 1
            return
        with here.read(entry.name) as reader, there.draft(name) as draft:
            self._fill(reader, draft, entry.name)
            draft.commit(reader.mtime if self._request.preserve_timestamp else None)
        self._work.files_done += 1
        self._work.bytes_done += reader.size

    def _fill(self, reader: Reader, draft: Draft, name: str) -> None:
        digest = xxhash.xxh3_128()
        size = 0
        while count := reader.readinto(self._block):
            self._work.check()
            draft.write(self._block[:count])
            size += count
            if self._request.verify_checksum:
                digest.update(self._block[:count])
        if size != reader.size or reader.changed():
            raise Fault("FILE_SIZE_CHANGED", f"{name} changed while it was copied; move it again when it is complete.")
        with draft.read_back() as written:
            same = written.size == size and (
                not self._request.verify_checksum or self._digest(written) == digest.digest()
            )
        if not same:
            raise Fault("VERIFY_CHECKSUM", f"{name} was written, but what is read back is not what was sent.")

    def _digest(self, reader: Reader) -> bytes:
        digest = xxhash.xxh3_128()
        while count := reader.readinto(self._block):
            self._work.check()
            digest.update(self._block[:count])
        return digest.digest()

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
                return self._digest(origin) == self._digest(copy)
        return True
