"""Removing files and trees."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chiltepin.backends.filesystem.faults import Fault

if TYPE_CHECKING:
    from collections.abc import Iterable

    from chiltepin.backends.filesystem.store import Folder, Spot
    from chiltepin.backends.filesystem.work import Work
    from chiltepin.model import DeleteRequest

__all__ = ["delete"]


def delete(work: Work, request: DeleteRequest, spot: Spot, roots: Iterable[Spot]) -> None:
    """Remove one file, link or tree.

    A link is removed itself; what it points to stays. A place that is or holds a root is refused.
    """
    spot = spot.resolved(follow=False)
    if any(spot.contains(root) for root in roots):
        raise Fault("PERMISSION_DENIED", f"{spot} is or holds the root of an endpoint, and a root is never deleted.")
    entry = spot.entry()
    if entry is None:
        if not request.ignore_missing:
            raise Fault("FILE_NOT_FOUND", f"There is no {spot}.")
    elif entry.kind != "dir":
        with spot.parent() as folder:
            folder.remove(spot.parts[-1])
        work.files_done += 1
    elif not request.recursive:
        raise Fault("IS_A_DIRECTORY", f"{spot} is a folder; give recursive=True to delete it with all that is in it.")
    else:
        _delete_tree(work, spot)


def _delete_tree(work: Work, top: Spot) -> None:
    """Remove files on the way down and folders on the way up; what fails does not keep the rest."""
    waiting = [(top, False)]
    while waiting:
        spot, emptied = waiting.pop()
        work.check()
        try:
            if emptied:
                with spot.parent() as above:
                    above.remove_folder(spot.parts[-1])
            else:
                with spot.store.folder(spot.parts) as folder:
                    folders = _empty(work, folder, spot)
                waiting.append((spot, True))
                waiting.extend((spot.below(name), False) for name in folders)
        except Exception as err:  # noqa: BLE001 - the other folders go on
            work.fail(err, f"Deleting folder {spot}")


def _empty(work: Work, folder: Folder, spot: Spot) -> list[str]:
    """Remove all but the folders of one folder; return the names of those."""
    folders = []
    # Listed first: some disks (NFS) lose their place when entries go away while they are listed.
    for entry in list(folder.entries(drafts=True)):
        work.check()
        if entry.kind == "dir":
            folders.append(entry.name)
            continue
        try:
            folder.remove(entry.name)
            work.files_done += 1
        except Exception as err:  # noqa: BLE001 - the other files go on
            work.fail(err, f"Deleting {spot.below(entry.name)}")
    return folders
