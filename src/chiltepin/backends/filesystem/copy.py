"""Copying a file, and a tree of files, from one store to another."""

from __future__ import annotations

import fnmatch
from dataclasses import replace
from typing import TYPE_CHECKING

from chiltepin.backends.filesystem.content import Content, digest_of
from chiltepin.backends.filesystem.extra import remove_extra
from chiltepin.backends.filesystem.faults import Fault
from chiltepin.backends.filesystem.store import Wish
from chiltepin.paths import joined

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from chiltepin.backends.filesystem.crew import Crew
    from chiltepin.backends.filesystem.store import Entry, Folder, Spot
    from chiltepin.backends.filesystem.work import Work
    from chiltepin.model import TransferRequest

__all__ = ["Copier", "copy_file", "copy_tree"]


def copy_file(
    work: Work, request: TransferRequest, origin: Spot, goal: Spot, checksum: str = "", *, crew: Crew | None = None
) -> None:
    """Copy one file to its whole new path, making the folders that lead there.

    A link at ``origin`` is followed, as far as the root allows; one at ``goal`` is replaced, never written through. The
    content has to have the ``checksum`` of the item, if that has one.
    """
    try:
        origin, here = _opened(origin, create=False)
    except (FileNotFoundError, NotADirectoryError):
        raise _is_missing(origin) from None
    with here:
        entry = here.entry(origin.parts[-1])
        if entry is not None and entry.kind == "link":
            copy_file(work, request, origin.resolved(follow=True), goal, checksum, crew=crew)
            return
        if entry is None:
            raise _is_missing(origin)
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
            Copier(work, request, crew).file(here, entry, there, goal.parts[-1], checksum)


def _opened(spot: Spot, *, create: bool) -> tuple[Spot, Folder]:
    """Open the folder of a place; return it with the place that it really is, where links lead to it."""
    if not spot.parts:
        raise _is_folder(spot)
    above, folder = spot.store.enter(spot.parts[:-1], create=create)
    return replace(spot, parts=above + spot.parts[-1:]), folder


def _is_missing(spot: Spot) -> Fault:
    return Fault("FILE_NOT_FOUND", f"There is no {spot}.")


def _is_folder(spot: Spot) -> Fault:
    return Fault("IS_A_DIRECTORY", f"{spot} is a folder; give recursive=True to move it.")


def _needs_whole_path(origin: Spot, goal: Spot) -> Fault:
    whole = joined((*goal.parts, origin.parts[-1]))
    return Fault("IS_A_DIRECTORY", f"{goal} is a folder; give the whole new path of the file, such as {whole!r}.")


def copy_tree(work: Work, request: TransferRequest, origin: Spot, goal: Spot, roots: Sequence[Spot] = ()) -> None:
    """Copy what is in a folder into another folder, making the latter if need be.

    Links inside the tree are skipped, as Globus does (globus transfer --help, "Symbolic links"); so are devices, pipes
    and sockets. A file that fails does not keep the others from being copied, but then nothing is removed. ``roots``
    are the places that are never removed.
    """
    origin, goal = origin.resolved(follow=True), goal.resolved(follow=True)
    if origin.contains(goal):
        raise Fault("INVALID_PATH_NAME", f"{origin} would be copied into itself, to {goal}.")
    entry = origin.entry()
    if entry is None:
        raise _is_missing(origin)
    if entry.kind != "dir":
        raise Fault("NOT_A_DIRECTORY", f"{origin} is a file; give recursive=False to move it.")
    if request.delete_destination_extra and goal.contains(origin):
        raise Fault("INVALID_PATH_NAME", f"{origin} lies in {goal}, and would be removed with what is too much there.")
    copier = Copier(work, request)
    kept: list[tuple[Spot, set[str]]] = []
    waiting = [(origin, goal)]
    while waiting:
        source, target = waiting.pop()
        try:
            with source.store.folder(source.parts) as here, target.store.folder(target.parts, create=True) as there:
                kept.append((target, set()))
                folders = copier.folder(here, there, source, kept[-1][1])
            waiting.extend((source.below(name), target.below(name)) for name in folders)
        except Exception as err:  # noqa: BLE001 - the other folders go on
            work.fail(err, f"Copying folder {source} to {target}")
    if request.delete_destination_extra and not work.faults:
        for target, names in kept:
            remove_extra(work, target, names, wanted=copier.wanted, roots=roots)


class Copier:
    """Copies files as one request wants them copied; several threads may use it.

    Parameters
    ----------
    work : Work
        The task.
    request : TransferRequest
        What is asked for.
    crew : Crew or None
        Who works at the parts of a large file; None: the caller alone.
    """

    def __init__(self, work: Work, request: TransferRequest, crew: Crew | None = None) -> None:
        self._work, self._request = work, request
        self._do_all = crew.all if crew else _do_all
        self._wish = Wish(verify=request.verify_checksum, mtime=request.preserve_timestamp)

    def folder(self, here: Folder, there: Folder, origin: Spot, names: set[str]) -> list[str]:
        """Copy the files of one folder; return the names of the folders in it, and put all names into ``names``."""
        folders = []
        for entry in here.entries():
            self._work.check()
            names.add(entry.name)
            if entry.kind == "dir":
                folders.append(entry.name)
            elif entry.kind != "file" or not self.wanted(entry.name):
                self._work.files_skipped += 1
            else:
                try:
                    self.file(here, entry, there, entry.name)
                except Exception as err:  # noqa: BLE001 - the other files go on
                    self._work.fail(err, f"Copying {origin.below(entry.name)}")
        return folders

    def wanted(self, name: str) -> bool:
        """Whether the filters let a file of this name through; the first rule that matches decides."""
        for rule in self._request.filters:
            if fnmatch.fnmatchcase(name, rule.name):
                return rule.method == "include"
        return True

    def file(self, here: Folder, entry: Entry, there: Folder, name: str, checksum: str = "") -> None:
        """Copy one file, unless the sync level says that its destination is good as it is.

        Parameters
        ----------
        here, there : Folder
            Where it is, and where it goes.
        entry : Entry
            The file.
        name : str
            Its new name.
        checksum : str
            What its content has to have, such as ``sha256:...``; empty for anything.
        """
        if self._in_place(here, entry, there, name):
            self._work.files_skipped += 1
            return
        wish = replace(self._wish, checksum=checksum) if checksum else self._wish
        size = there.take(here, entry, name, wish)
        if size is None:
            size = self._through_draft(here, entry, there, name, wish)
        self._work.files_done += 1
        self._work.bytes_done += size

    def _through_draft(self, here: Folder, entry: Entry, there: Folder, name: str, wish: Wish) -> int:
        with here.read(entry.name) as reader, there.draft(name, size=reader.size, mark=reader.mark) as draft:
            size = Content(reader, draft, wish, entry.name, self._work.check).copy(self._do_all)
            draft.commit(reader.mtime if wish.mtime else None)
        return size

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
                return digest_of(origin, self._work.check) == digest_of(copy, self._work.check)
        return True


def _do_all(deeds: Iterable[Callable[[], None]]) -> None:
    for deed in deeds:
        deed()
