"""Remove files and trees."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Protocol

from chiltepin.backends.filesystem.errors import Fault
from chiltepin.backends.filesystem.mover.listing import named
from chiltepin.backends.filesystem.mover.retry import with_retries
from chiltepin.backends.filesystem.mover.shared_names import is_both
from chiltepin.backends.filesystem.mover.thread_count import TaskGroup
from chiltepin.backends.filesystem.mover.walk import walk
from chiltepin.backends.filesystem.store import limited

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from chiltepin.backends.filesystem.location import Location
    from chiltepin.backends.filesystem.mover.shard import ShardRun
    from chiltepin.backends.filesystem.mover.task import TaskRun
    from chiltepin.backends.filesystem.mover.walk import Node
    from chiltepin.backends.filesystem.protected_roots import Roots
    from chiltepin.backends.filesystem.store import Entry, Folder
    from chiltepin.model import DeleteRequest

__all__ = ["delete", "delete_matching", "failed_deletion", "remove_files", "remove_tree"]

#: Names that are removed before the folder is listed again: some disks (NFS) lose their position when entries disappear
#: during a listing, and all names of a huge folder would not fit into memory.
LISTED = 20_000

#: Names that are removed in one operation: few enough that a task that must stop does so within a second.
CHUNK = 200


class Goes(Protocol):
    """Returns whether a file or folder with a name is removed."""

    def __call__(self, name: str, *, folder: bool) -> bool:
        """Return False for an entry that stays, with the folders above it."""


def failed_deletion(location: Location, _: Exception) -> str:
    """Return the beginning of the sentence about a failure."""
    return f"Deleting {location}"


def delete(
    run: TaskRun, request: DeleteRequest, location: Location, roots: Roots, shard: ShardRun | None = None
) -> None:
    """Remove one file, link or tree; with ``recursive``, both a file and a folder with the same name.

    Of a link, only the link is removed. A place that is or holds a root is refused. Of a tree, only the folders of the
    ``shard`` are removed, if there is one.
    """
    location = location.resolved(follow=False)
    roots.refuse(location)
    entry = location.entry()
    if entry is None:
        if not request.ignore_missing:
            raise Fault("FILE_NOT_FOUND", f"There is no {location}.")
        return
    if entry.kind == "dir" and not request.recursive:
        raise _is_folder(location)
    if entry.kind == "dir" or (request.recursive and is_both(location)):
        remove_tree(run, location, roots, shard=shard)
    if entry.kind != "dir":
        _remove_file(run, location, entry, roots)


def _remove_file(run: TaskRun, location: Location, entry: Entry, roots: Roots) -> None:
    """Remove one file or link; ``run`` records a failure."""
    tries = 0

    def operation() -> None:
        nonlocal tries
        tries += 1
        with location.parent() as folder:
            if entry.kind == "link":
                roots.refuse_link(folder, location)
            folder.remove(location.parts[-1])

    try:
        with_retries(run, operation, location.store)
    except Exception as err:  # noqa: BLE001 - any exception of a store is recorded for this file
        # A connection may have been lost after the removal and before its reply.
        if tries == 1 or not isinstance(err, FileNotFoundError):
            run.fail(err, failed_deletion(location, err))
            return
    run.count(files=1)


def _is_folder(location: Location) -> Fault:
    return Fault("IS_A_DIRECTORY", f"{location} is a folder; set recursive=True to delete it and everything in it.")


def delete_matching(
    run: TaskRun, request: DeleteRequest, location: Location, roots: Roots, matches: Callable[[str], bool]
) -> None:
    """Remove the entries of a path's folder whose names ``matches`` accepts; see `delete`.

    The names are known before the first one is removed, so that a folder without ``recursive`` keeps all of them.
    """
    top = replace(location, parts=location.parts[:-1]).resolved(follow=True)
    try:
        found = with_retries(run, partial(_matching, run, top, matches), top.store)
    except (FileNotFoundError, NotADirectoryError):
        found = []
    if not found:
        if request.ignore_missing:
            return
        raise Fault("FILE_NOT_FOUND", f"Nothing matches {location}.")
    folders = [name for name, kind in found if kind == "dir"]
    if folders and not request.recursive:
        raise _is_folder(top.below(folders[0]))
    for name in folders:
        roots.refuse(top.below(name))
    with top.store.folder(top.parts) as folder:
        for name in [name for name, kind in found if kind == "link"]:
            roots.refuse_link(folder, top.below(name))
        remove_files(run, folder, top, [name for name, kind in found if kind != "dir"])
    for name in folders:
        remove_tree(run, top.below(name), roots)


def _matching(run: TaskRun, top: Location, matches: Callable[[str], bool]) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    with top.store.folder(top.parts) as folder:
        for entry in limited(folder.entries(), top):
            run.check()
            if matches(entry.name):
                found.append((entry.name, entry.kind))
    return found


def remove_tree(
    run: TaskRun, top: Location, roots: Roots, goes: Goes | None = None, shard: ShardRun | None = None
) -> None:
    """Remove a folder with its contents, or a ``shard`` of it: files on the way down, folders on the way up.

    ``run`` records failures, which do not stop the rest. The roots and the folders on their paths stay, and so do the
    entries that ``goes`` refuses.
    """
    tree = _Doomed(run, top, roots, goes)
    if shard is None:
        walk(run, tree.empty, tree.leave)
    else:
        shard.give_back(walk(run, tree.empty, tree.leave, starts=shard.shard.folders, enough=shard.enough))


def remove_files(run: TaskRun, folder: Folder, location: Location, names: Sequence[str]) -> set[str]:
    """Remove files and links of one folder, several at once; return the names of those that remain.

    ``run`` records failures, which do not stop the rest. A missing file is neither counted nor a failure.
    """
    stayed: set[str] = set()
    with TaskGroup(run.pool) as together:
        for start in range(0, len(names), CHUNK):
            operation = partial(_remove_some, run, folder, location, names[start : start + CHUNK], stayed)
            if not together.offer(operation):
                operation()
    return stayed


def _remove_some(run: TaskRun, folder: Folder, location: Location, names: Sequence[str], stayed: set[str]) -> None:
    run.check()
    left: dict[str, Exception] = {}
    lost: dict[str, Exception] = {}

    def operation() -> None:
        doomed = list(left) or names
        left.clear()
        for name, error in folder.remove_all(doomed):
            (left if location.store.transient(error) else lost)[name] = error
        for error in left.values():
            raise error

    try:
        with_retries(run, operation, location.store)
    except Exception as err:  # noqa: BLE001 - each name that stayed is recorded below
        lost.update(left or dict.fromkeys(names, err))
    run.count(files=len(names) - len(lost))
    for name, error in lost.items():
        if not isinstance(error, FileNotFoundError):
            stayed.add(name)
            run.fail(error, f"Deleting {location.below(name)}")


class _Doomed:
    def __init__(self, run: TaskRun, top: Location, roots: Roots, goes: Goes | None) -> None:
        self._task, self._top, self._roots, self._goes = run, top, roots, goes

    def empty(self, node: Node, group: TaskGroup) -> Iterable[str]:
        """Remove everything but the subfolders of one folder; return the names of the subfolders."""
        del group
        location = self._top.below(*node.parts)
        folders: dict[str, None] = {}
        stayed: set[str] = set()

        def operation() -> None:
            with location.store.folder(location.parts) as folder:
                self._roots.refuse_opened(folder, location)
                while self._round(node, folder, location, folders, stayed):
                    pass

        try:
            with_retries(self._task, operation, location.store)
        except FileNotFoundError:
            # Object stores have no empty folders, and elsewhere another process may have removed it.
            return folders
        except Exception as err:  # noqa: BLE001 - the task continues with other folders
            node.kept = True
            self._task.fail(err, f"Deleting folder {location}")
        return folders

    def _round(
        self, node: Node, folder: Folder, location: Location, folders: dict[str, None], stayed: set[str]
    ) -> bool:
        """Remove the files of one part of a listing; return whether there may be more."""
        names = list(islice(self._files(node, folder, location, folders, stayed), LISTED))
        stayed |= remove_files(self._task, folder, location, names)
        node.kept = node.kept or bool(stayed)
        if len(stayed) > LISTED:
            raise Fault(
                "ENDPOINT_ERROR", f"{len(stayed)} files of {location} could not be deleted; no other file was deleted."
            )
        return len(names) == LISTED

    def _files(
        self, node: Node, folder: Folder, location: Location, folders: dict[str, None], stayed: set[str]
    ) -> Iterable[str]:
        """Yield the names to remove from a folder; add the names of its folders to ``folders``."""
        for name, kind in named(self._task, folder, temp_files=True):
            if self._goes is not None and not self._goes(name, folder=kind == "dir"):
                node.kept = True
            elif kind == "dir":
                folders[name] = None
            elif name not in stayed and (kind != "link" or not self._kept_link(node, folder, location, name, stayed)):
                yield name

    def _kept_link(self, node: Node, folder: Folder, location: Location, name: str, stayed: set[str]) -> bool:
        """Whether a link leads to a root, and must stay."""
        try:
            self._roots.refuse_link(folder, location.below(name))
        except Fault as err:
            stayed.add(name)
            node.kept = True
            self._task.fail(err, "")
            return True
        return False

    def leave(self, node: Node) -> None:
        """Remove an emptied folder, unless something in it must stay."""
        location = self._top.below(*node.parts)
        if not node.kept:
            try:
                with_retries(self._task, partial(_remove_folder, location), location.store)
            except FileNotFoundError:
                return
            except Exception as err:  # noqa: BLE001 - the task continues with other folders
                node.kept = True
                self._task.fail(err, f"Deleting folder {location}")
        if node.kept and node.above is not None:
            node.above.kept = True


def _remove_folder(location: Location) -> None:
    with location.parent() as above:
        above.remove_folder(location.parts[-1])
