"""Copy one file from one store to another."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from chiltepin.backends.filesystem.errors import Fault, changed_source
from chiltepin.backends.filesystem.local.folder import LocalFolder
from chiltepin.backends.filesystem.local.times import nanoseconds
from chiltepin.backends.filesystem.location import is_missing
from chiltepin.backends.filesystem.mover.content import Content, digest_of
from chiltepin.backends.filesystem.mover.ranges import divided
from chiltepin.backends.filesystem.mover.source_errors import replaced_source
from chiltepin.backends.filesystem.mover.sync_level import is_up_to_date
from chiltepin.backends.filesystem.store import CopyOptions
from chiltepin.backends.filesystem.temp_names import is_temp_name
from chiltepin.protocol.paths import joined

if TYPE_CHECKING:
    from collections.abc import Callable

    from chiltepin.backends.filesystem.location import Location
    from chiltepin.backends.filesystem.mover.task import TaskRun
    from chiltepin.backends.filesystem.protected_roots import Roots
    from chiltepin.backends.filesystem.store import Entry, Folder
    from chiltepin.model import SyncLevel, TransferRequest
    from chiltepin.protocol.paths import Parts

__all__ = ["Copier", "copy_file", "refuse_temporary"]


def copy_file(
    run: TaskRun, request: TransferRequest, origin: Location, goal: Location, roots: Roots, checksum: str = ""
) -> None:
    """Copy one file to its complete new path, and create missing folders.

    A link at ``origin`` is followed inside the root; a link at ``goal`` is replaced, never written through. The content
    must have the ``checksum`` of the item, if it has one. A link on the path of one of the ``roots`` is not replaced.
    """
    refuse_temporary(goal)
    try:
        origin, here = _opened(origin, create=False)
    except (FileNotFoundError, NotADirectoryError):
        raise is_missing(origin) from None
    with here:
        entry = here.entry(origin.parts[-1])
        if entry is not None and entry.kind == "link":
            copy_file(run, request, origin.resolved(follow=True), goal, roots, checksum)
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
            taken = there.entry(goal.parts[-1])
            if taken is not None and _same(here, origin, there, goal):
                raise Fault("SAME_FILE", f"{origin} would be copied onto itself.")
            if taken is not None and taken.kind != "file":
                _refuse_taken(origin, goal, there, taken, roots)
            copier = Copier(run, request)
            if _is_copied(copier, origin, here, entry, there, goal.parts[-1], taken, checksum) and run.witness:
                run.arrived(origin, goal)


def _is_copied(
    copier: Copier,
    origin: Location,
    here: Folder,
    entry: Entry,
    there: Folder,
    name: str,
    existing: Entry | None,
    checksum: str,
) -> bool:
    try:
        return copier.file(here, entry, there, name, existing=existing, checksum=checksum)
    except Exception as err:
        if fault := replaced_source(origin, err):
            raise fault from None
        raise


def _opened(location: Location, *, create: bool) -> tuple[Location, Folder]:
    """Open the folder of a place; return the place with its links resolved, and the folder."""
    if not location.parts:
        raise _is_folder(location)
    above, folder = location.store.enter(location.parts[:-1], create=create)
    return replace(location, parts=above + location.parts[-1:]), folder


def refuse_temporary(goal: Location) -> None:
    """Raise a ``Fault`` if a destination is named like a temporary file, which Chiltepin would hide and remove."""
    for name in goal.parts:
        if is_temp_name(name):
            reason = (
                f"{name} is reserved for temporary files of Chiltepin, so {goal} cannot be a destination; use another "
                "name."
            )
            raise Fault("INVALID_PATH_NAME", reason)


def _refuse_taken(origin: Location, goal: Location, there: Folder, taken: Entry, roots: Roots) -> None:
    """Raise a ``Fault`` if the existing destination may not be replaced."""
    if taken.kind == "dir":
        raise _needs_whole_path(origin, goal)
    if taken.kind == "link":
        roots.refuse_link(there, goal)


def _same(here: Folder, origin: Location, there: Folder, goal: Location) -> bool:
    """Whether a file and its destination are the same; open folders are compared without another request."""
    if here.identity is None or there.identity is None:
        return origin.contains(goal) and goal.contains(origin)
    return here.identity == there.identity and origin.parts[-1] == goal.parts[-1]


def _is_folder(location: Location) -> Fault:
    return Fault("IS_A_DIRECTORY", f"{location} is a folder; set recursive=True to transfer it.")


def _needs_whole_path(origin: Location, goal: Location) -> Fault:
    whole = joined((*goal.parts, origin.parts[-1]))
    return Fault(
        "IS_A_DIRECTORY", f"{goal} is a folder; give the full destination path of the file, such as {whole!r}."
    )


class Copier:
    """Copies files with the options of one request; several threads may use it.

    The pool of the run copies the parts of large files.
    """

    def __init__(self, run: TaskRun, request: TransferRequest) -> None:
        self._task = run
        #: Whether a shard resumes a request whose process was killed: its files are compared.
        self._resumed = run.shard is not None and run.shard.shard.resumed and request.sync_level is None
        #: The sync level of the request; ``checksum`` if it is resumed.
        self.level: SyncLevel | None = "checksum" if self._resumed else request.sync_level
        #: How each file is to be copied.
        self.options = CopyOptions(verify=request.verify_checksum, mtime=request.preserve_timestamp)

    def file(
        self,
        here: Folder,
        entry: Entry,
        there: Folder,
        name: str,
        *,
        existing: Entry | None,
        checksum: str = "",
        path: Parts | None = (),
    ) -> bool:
        """Copy one file, unless the sync level skips it; return whether it was copied.

        ``existing`` is the entry with the new name; it may be None if no sync level would skip the file. ``checksum``
        is the expected checksum, such as ``sha256:...``, or empty. ``path`` has the names from the request's folder
        down to the file. A large file may be left to several workers; see `divided`. If ``path`` is None, it is not.
        """
        if self._left_alone(here, entry, there, existing):
            self._task.count(skipped=1)
            return False
        options = replace(self.options, checksum=checksum) if checksum else self.options
        size = there.copy_from(here, entry, name, options)
        if size is None:
            try:
                size = self._through_temp_file(here, entry, there, name, options, path)
            except Fault as err:
                if not _seems_unchanged(here, entry, err):
                    raise
                size = self._through_temp_file(here, entry, there, name, options, path)
        if size is None:
            return False
        self._task.count(files=1, size=size)
        return True

    def _through_temp_file(
        self, here: Folder, entry: Entry, there: Folder, name: str, options: CopyOptions, path: Parts | None
    ) -> int | None:
        with here.read(entry.name) as reader:
            shard = self._task.shard if path is not None else None
            if shard is not None and divided(shard, reader, there, name, path or (), options):
                return None
            with (
                there.temp_file(name, size=reader.size, content_id=reader.content_id) as temp_file,
                self._task.moving() as passed,
            ):
                size = Content(reader, temp_file, options, entry.name, passed).copy(self._task.pool.all)
                temp_file.commit(reader.mtime if options.mtime else None)
        return size

    def kept_time(self, there: Folder) -> Callable[[int], int] | None:
        """Return the function that cuts a time to the precision of a folder's disk; None if times do not matter."""
        return there.kept_time if self.options.mtime and isinstance(there, LocalFolder) else None

    def _left_alone(self, here: Folder, entry: Entry, there: Folder, existing: Entry | None) -> bool:
        if (
            self.level is None
            or existing is None
            or not is_up_to_date(self.level, entry, existing, self.kept_time(there))
        ):
            return False
        if self.level != "checksum":
            return True
        if self._resumed and self.options.mtime and not _same_time(entry, existing, self.kept_time(there)):
            return False
        with here.read(entry.name) as origin, there.read(existing.name) as copy:
            return digest_of(origin, self._task.check) == digest_of(copy, self._task.check)


def _seems_unchanged(here: Folder, entry: Entry, fault: Fault) -> bool:
    """Whether a file that changed during its copy has its old size and time, as after chmod(1): then a retry may do."""
    if fault.code != changed_source("").code:
        return False
    now = here.entry(entry.name)
    return now is not None and (now.kind, now.size, now.mtime) == (entry.kind, entry.size, entry.mtime)


def _same_time(entry: Entry, existing: Entry, kept: Callable[[int], int] | None) -> bool:
    """Whether a copy has the time of its source, with the precision of its disk."""
    if entry.mtime is None or existing.mtime is None:
        return False
    origin, copy = nanoseconds(entry.mtime), nanoseconds(existing.mtime)
    return copy == (origin if kept is None else kept(origin))
