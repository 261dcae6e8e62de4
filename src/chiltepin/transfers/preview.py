"""Preview what a request would move and delete now; nothing is submitted and no file is read."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from chiltepin.backends.filters import NameFilter
from chiltepin.errors import BackendError, PathNotFoundError
from chiltepin.model import DeleteRequest
from chiltepin.protocol.paths import glob, root_refusal
from chiltepin.transfers.runner import runs_at_service
from chiltepin.transfers.two_trees import Pair, Place, Report, both_trees, entry_at, is_up_to_date
from chiltepin.transfers.walk import walk

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chiltepin.model import DirEntry, Request, TransferRequest
    from chiltepin.transfers.runner import Transfers

__all__ = ["FileMove", "Preview", "preview"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FileMove:
    """A file that would be moved: its paths, and its size in bytes; None if unknown."""

    source: str
    destination: str
    size: int | None


@dataclass(slots=True, kw_only=True)
class Preview(Report):
    """What a request would do.

    Parameters
    ----------
    moves : list of FileMove
        The files that would be moved.
    compares : list of FileMove
        The files that would be moved if their content differs, which requires reading them.
    skipped : int
        How many files would be skipped, by the sync level or the filters, or because they are links or special.
    deletes : list of str
        The paths that would be deleted; a folder ends with a slash. Empty if there are ``problems``, because a transfer
        deletes nothing unless it could list and move everything.
    problems : list of str
        What is missing or cannot be listed, as sentences.
    """

    moves: list[FileMove] = field(default_factory=list)
    compares: list[FileMove] = field(default_factory=list)
    skipped: int = 0
    deletes: list[str] = field(default_factory=list)


def preview(transfers: Transfers, request: Request) -> Preview:
    """Return what a request would do.

    Raises
    ------
    EndpointError, LoginRequiredError
        As for a listing.
    """
    found = _Transfer(transfers, request) if not isinstance(request, DeleteRequest) else _Deletion(transfers, request)
    found.look()
    return found.preview


class _Deletion:
    def __init__(self, transfers: Transfers, request: DeleteRequest) -> None:
        self._transfers, self._request = transfers, request
        self.preview = Preview()
        self._known: dict[Place, Mapping[str, DirEntry]] = {}

    def look(self) -> None:
        """Find what would be deleted."""
        for path in self._request.paths:
            place = Place(self._request.endpoint, path)
            try:
                for one in self._matching(place) if self._request.globs else [place]:
                    self._item(one)
            except BackendError as err:
                self.preview.note(err)

    def _matching(self, place: Place) -> list[Place]:
        folder, pattern = posixpath.split(place.path.rstrip("/"))
        matches, above = glob(pattern), Place(place.endpoint, folder or ("/" if place.path.startswith("/") else "~"))
        try:
            names = sorted(entry.name for entry in self._transfers.ls(*above) if matches(entry.name))
        except PathNotFoundError:
            names = []
        # Without a match, the pattern is reported as missing.
        return [above.below(name) for name in names or [pattern]]

    def _item(self, place: Place) -> None:
        entry = entry_at(self._transfers, place, self._known, follow=False)
        if entry is None:
            if not self._request.ignore_missing:
                self.preview.problems.append(_missing(place))
        elif entry.name == "/":
            self.preview.note(root_refusal(place.path, endpoint=place.endpoint))
        elif entry.kind != "dir":
            self.preview.deletes.append(place.path)
        elif not self._request.recursive:
            self.preview.problems.append(f"{_shown(place)} is a folder; set recursive=True to delete it.")
        else:
            found = walk(self._transfers, *place, failed=self.preview.note)
            self.preview.deletes += [_path(place.below(path), entry) for path, entry in found]
            self.preview.deletes.append(_path(place, entry))


class _Transfer:
    def __init__(self, transfers: Transfers, request: TransferRequest) -> None:
        self._transfers, self._request = transfers, request
        self._filters = NameFilter(request.filters)
        self._is_mover = not runs_at_service(transfers.backend)
        self.preview = Preview()
        self._known: dict[Place, Mapping[str, DirEntry]] = {}

    def look(self) -> None:
        """Find what would be moved, and what exists only at the destination."""
        for item in self._request.items:
            source = Place(self._request.source, item.source)
            destination = Place(self._request.destination, item.destination)
            try:
                self._folder(source, destination) if self._request.recursive else self._file(source, destination)
            except BackendError as err:
                self.preview.note(err)
        if self.preview.problems:
            self.preview.deletes.clear()

    def _file(self, source: Place, destination: Place) -> None:
        # A link that the request names is followed at the source, and replaced at the destination.
        entry = entry_at(self._transfers, source, self._known, follow=True)
        if entry is None:
            self._is_missing(source)
            return
        existing = entry_at(self._transfers, destination, self._known, follow=False)
        if problem := self._refusal(source, entry, destination, existing):
            self.preview.problems.append(problem)
        else:
            self._decide(entry, existing, source.path, destination.path)

    def _refusal(self, source: Place, entry: DirEntry, destination: Place, existing: DirEntry | None) -> str:
        """Return why a file cannot be moved; empty if it can."""
        if entry.kind == "dir":
            return f"{_shown(source)} is a folder; set recursive=True to transfer it."
        if entry.kind == "other":
            return f"{_shown(source)} is neither a file nor a folder."
        if existing is not None and existing.kind == "dir":
            whole = posixpath.join(destination.path, posixpath.basename(source.path.rstrip("/")))
            return f"{_shown(destination)} is a folder; give the full destination path of the file, such as {whole!r}."
        if self._is_mover and source.contains(destination) and destination.contains(source):
            return f"{_shown(source)} would be copied onto itself."
        return ""

    def _is_missing(self, source: Place) -> None:
        if self._request.accept_skipped:
            self.preview.skipped += 1
        else:
            self.preview.problems.append(_missing(source))

    def _folder(self, source: Place, destination: Place) -> None:
        if self._request.accept_skipped and entry_at(self._transfers, source, self._known, follow=True) is None:
            self._is_missing(source)
            return
        if problem := self._overlap(source, destination):
            self.preview.problems.append(problem)
            return
        # Paths at which something of another kind stays at the destination.
        clashing: set[str] = set()

        def enters(pair: Pair) -> bool:
            is_folder = pair.source is not None and pair.source.kind == "dir"
            return is_folder and pair.path not in clashing and self._filters.selects_folder(pair.name)

        pairs = both_trees(
            self._transfers, source, destination, enters=enters, failed=self.preview.note, may_be_new=True
        )
        for pair in pairs:
            here, there = pair.source, pair.destination
            if there is not None and not self._makes_way(pair, there, destination.below(pair.path)):
                self.preview.problems.append(_clash(pair, destination))
                clashing.add(pair.path)
            elif here is None or here.kind == "dir":
                continue
            elif here.kind != "file" or not self._filters.selects_file(pair.name):
                self.preview.skipped += 1
            else:
                self._decide(here, there, source.below(pair.path).path, destination.below(pair.path).path)

    def _overlap(self, source: Place, destination: Place) -> str:
        """Return why a folder cannot be moved within its endpoint; empty if it can."""
        if self._is_mover and source.contains(destination):
            here, there = _shown(source), _shown(destination)
            return f"{here} would be copied into itself, to {there}; choose a destination outside of it."
        if self._is_mover and self._request.delete_destination_extra and destination.contains(source):
            return f"{_shown(source)} lies in {_shown(destination)}, and would be deleted with the extra files there."
        return ""

    def _makes_way(self, pair: Pair, there: DirEntry, place: Place) -> bool:
        """Add what would be deleted at the destination; return False if it stays where another kind must be moved."""
        clashes = self._clashes(pair)
        # The mover replaces a file with a folder, and vice versa; the tasks of a service fail in this case.
        if self._request.delete_destination_extra and (pair.source is None or (self._is_mover and clashes)):
            return self._removes(place, there) or not clashes
        return not clashes

    def _clashes(self, pair: Pair) -> bool:
        """Whether a file would replace a folder, or vice versa."""
        if pair.source is None or pair.destination is None or pair.source.kind not in ("file", "dir"):
            return False
        return self._selects(pair.source) and (pair.source.kind == "dir") != (pair.destination.kind == "dir")

    def _selects(self, entry: DirEntry) -> bool:
        return (self._filters.selects_folder if entry.kind == "dir" else self._filters.selects_file)(entry.name)

    def _removes(self, place: Place, top: DirEntry) -> bool:
        """Add an entry and its contents to the deletions; return False if the filters keep any of it."""
        found = [("", top)]
        if top.kind == "dir" and self._selects(top):
            try:
                found += walk(self._transfers, *place, failed=self.preview.note, enters=self._filters.selects_folder)
            except BackendError as err:
                self.preview.note(err)
        kept: set[str] = set()
        deletes = []
        # The contents of a folder before the folder.
        for path, entry in reversed(found):
            if path in kept or not self._selects(entry):
                kept.update((path, posixpath.dirname(path)))
            else:
                deletes.append(_path(place.below(path), entry))
        self.preview.deletes += reversed(deletes)
        return "" not in kept

    def _decide(self, here: DirEntry, there: DirEntry | None, source: str, destination: str) -> None:
        move = FileMove(source=source, destination=destination, size=here.size if here.kind == "file" else None)
        coarse = self._is_mover and self._request.preserve_timestamp
        current = is_up_to_date(self._request.sync_level, here, there, coarse=coarse)
        if current is None:
            self.preview.compares.append(move)
        elif current:
            self.preview.skipped += 1
        else:
            self.preview.moves.append(move)


def _shown(place: Place) -> str:
    return f"{place.endpoint}:{place.path}"


def _missing(place: Place) -> str:
    return f"{_shown(place)} does not exist; check the path."


def _clash(pair: Pair, destination: Place) -> str:
    kinds = ("folder", "file") if pair.destination and pair.destination.kind == "dir" else ("file", "folder")
    return f"{_shown(destination.below(pair.path))} is a {kinds[0]}, and the source has a {kinds[1]} there; remove it."


def _path(place: Place, entry: DirEntry) -> str:
    return f"{place.path}/" if entry.kind == "dir" else place.path
