"""Remove entries of a destination folder that its source folder does not have."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from chiltepin.backends.filesystem.errors import Fault
from chiltepin.backends.filesystem.mover.delete import remove_files, remove_tree
from chiltepin.backends.filesystem.mover.listing import named
from chiltepin.backends.filesystem.mover.retry import with_retries
from chiltepin.backends.filesystem.store import SharedNames
from chiltepin.backends.filesystem.temp_names import is_temp_name
from chiltepin.protocol.paths import folded

if TYPE_CHECKING:
    from chiltepin.backends.filesystem.location import Location
    from chiltepin.backends.filesystem.mover.task import TaskRun
    from chiltepin.backends.filesystem.protected_roots import Roots
    from chiltepin.backends.filesystem.store import Folder
    from chiltepin.backends.filters import NameFilter

__all__ = ["delete_extra", "make_way"]


def delete_extra(
    run: TaskRun, top: Location, names: set[tuple[str, bool]], *, filters: NameFilter | None, roots: Roots
) -> None:
    """Remove everything from one folder except the entries with certain names; of a link, only the link is removed.

    Parameters
    ----------
    run : TaskRun
        Records failures, which do not stop the rest.
    top : Location
        The folder, which is never removed; entries with the names are not opened.
    names : set of tuple of str and bool
        The names in the source folder, each with whether it is a folder.
    filters : NameFilter or None
        Entries that it does not select stay, with the folders above them. None: all are selected.
    roots : Roots
        Folders that stay, with those on their paths.
    """
    goes = partial(_goes, filters)
    try:
        with with_retries(run, partial(top.store.folder, top.parts), top.store) as there:
            files, folders = with_retries(run, partial(_extra, run, there, top, names, roots), top.store)
            remove_files(run, there, top, [name for name in files if goes(name, folder=False)])
    except FileNotFoundError:
        # Object stores have no empty folders.
        return
    except Exception as err:  # noqa: BLE001 - the task continues with other folders
        run.fail(err, f"Removing extra files from {top}")
        return
    for name in [name for name in folders if goes(name, folder=True)]:
        location = top.below(name)
        try:
            roots.refuse(location)
        except Fault as err:
            run.fail(err, "")
        else:
            remove_tree(run, location, roots, goes)


def make_way(run: TaskRun, location: Location, *, folder: bool, filters: NameFilter | None, roots: Roots) -> bool:
    """Remove a folder if the source is a file, or a file if the source is a folder, as ``rsync --delete`` does.

    Return whether anything was removed. ``folder``: whether the source is a folder; the other parameters are as for
    `delete_extra`.
    """
    with location.parent() as above:
        taken = above.entry(location.parts[-1])
        if taken is None or (taken.kind == "dir") == folder or not _goes(filters, taken.name, folder=not folder):
            return False
        if folder:
            if taken.kind == "link":
                roots.refuse_link(above, location)
            above.remove(taken.name)
            run.count(files=1)
            return True
    roots.refuse(location)
    remove_tree(run, location, roots, partial(_goes, filters))
    return True


def _goes(filters: NameFilter | None, name: str, *, folder: bool) -> bool:
    if folder:
        return filters is None or filters.selects_folder(name)
    # A file that is being written is not extra.
    return not is_temp_name(name) and (filters is None or filters.selects_file(name))


def _extra(
    run: TaskRun, folder: Folder, top: Location, names: set[tuple[str, bool]], roots: Roots
) -> tuple[list[str], list[str]]:
    """Return the names in a folder other than those given: of files and links, and of folders."""
    found: tuple[list[str], list[str]] = ([], [])
    left, shared = names.copy(), isinstance(top.store, SharedNames)
    for name, kind in named(run, folder):
        is_folder = kind == "dir"
        # In other stores a name has only one entry, whatever its kind is now.
        same, other = (name, is_folder), (name, not is_folder)
        if same in names or (other in names and not shared):
            left.discard(same)
            left.discard(other)
            continue
        try:
            if kind == "link":
                roots.refuse_link(folder, top.below(name))
        except Fault as err:
            run.fail(err, "")
        else:
            found[is_folder].append(name)
    # A case-insensitive disk may list a file that was just moved under an earlier spelling.
    renamed = {folded(name) for name, _ in left}
    files, folders = ([name for name in part if folded(name) not in renamed] for part in found)
    return files, folders
