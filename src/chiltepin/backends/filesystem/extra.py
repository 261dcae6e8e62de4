"""Removing what is in a destination folder and not in its source folder."""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING

from chiltepin.backends.filesystem.faults import Fault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from chiltepin.backends.filesystem.store import Entry, Folder, Spot
    from chiltepin.backends.filesystem.work import Work

__all__ = ["remove_extra"]


def remove_extra(
    work: Work, top: Spot, names: set[str], *, wanted: Callable[[str], bool], roots: Sequence[Spot] = ()
) -> None:
    """Remove from one folder whatever has none of the names, with all that is in it; a link goes itself.

    Parameters
    ----------
    work : Work
        Told what fails, which does not keep the rest.
    top : Spot
        The folder; it is never removed, nor is what has one of the names looked into.
    names : set of str
        The names of all that the source folder holds.
    wanted : callable
        Whether the filters let a file of a name through; what they leave out stays, with the folders that lead to it.
    roots : sequence of Spot
        The roots of endpoints, which stay with all that is in them.
    """
    waiting = [(top.below(name), False) for name in _drop(work, top, names, wanted)]
    while waiting:
        spot, emptied = waiting.pop()
        work.check()
        if emptied:
            _remove_if_empty(work, spot)
        elif any(spot.contains(root) for root in roots):
            work.fail(Fault("PERMISSION_DENIED", f"{spot} is or holds the root of an endpoint, and stays."), "")
        else:
            folders = _drop(work, spot, set(), wanted)
            waiting.append((spot, True))
            waiting.extend((spot.below(name), False) for name in folders)


def _drop(work: Work, spot: Spot, names: set[str], wanted: Callable[[str], bool]) -> list[str]:
    """Remove from a folder all that is too much but folders; return the names of those."""
    folders = []
    try:
        with spot.store.folder(spot.parts) as folder:
            # Listed first: some disks (NFS) lose their place when entries go away while they are listed.
            for entry in list(_extra(folder.entries(), names)):
                work.check()
                if entry.kind == "dir":
                    folders.append(entry.name)
                elif wanted(entry.name):
                    _remove(work, folder, entry, spot)
    except FileNotFoundError:
        # Object stores have no folder where nothing is in it.
        return []
    except Exception as err:  # noqa: BLE001 - the other folders go on
        work.fail(err, f"Removing from {spot} what is not at the source")
    return folders


def _remove(work: Work, folder: Folder, entry: Entry, spot: Spot) -> None:
    try:
        folder.remove(entry.name)
    except Exception as err:  # noqa: BLE001 - the other files go on
        work.fail(err, f"Removing {spot.below(entry.name)}, which is not at the source")


def _extra(entries: Iterable[Entry], names: set[str]) -> list[Entry]:
    """Return the entries that have none of the names."""
    there = list(entries)
    # A disk that does not tell small letters from capital ones lists a file that was just moved by an older name.
    renamed = {_folded(name) for name in names - {entry.name for entry in there}}
    return [entry for entry in there if entry.name not in names and _folded(entry.name) not in renamed]


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _remove_if_empty(work: Work, spot: Spot) -> None:
    """Remove a folder, unless something was left in it; a file that is just being written counts."""
    try:
        with spot.store.folder(spot.parts) as folder:
            left = next(iter(folder.entries(drafts=True)), None)
        if left is None:
            with spot.parent() as above:
                above.remove_folder(spot.parts[-1])
    except FileNotFoundError:
        return
    except Exception as err:  # noqa: BLE001 - the other folders go on
        work.fail(err, f"Removing {spot}, which is not at the source")
