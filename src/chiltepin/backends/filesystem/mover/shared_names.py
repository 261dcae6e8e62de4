"""A file and a folder with the same name, which object stores can have, and most others cannot."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chiltepin.backends.filesystem.errors import Fault, fault_of
from chiltepin.backends.filesystem.store import SharedNames

if TYPE_CHECKING:
    from chiltepin.backends.filesystem.location import Location

__all__ = ["is_both", "share_name"]

#: Codes of faults if a place is not a folder.
_MISSING = frozenset({"FILE_NOT_FOUND", "NOT_A_DIRECTORY"})


def share_name(source: Location, target: Location) -> bool:
    """Prepare the destination for a file and a folder with the same name, if the source has both.

    Returns
    -------
    bool
        Whether the source has both; False if it has only one of the two.

    Raises
    ------
    Fault
        If the source has both, and the destination cannot.
    """
    if not is_both(source):
        return False
    if isinstance(target.store, SharedNames):
        target.store.share(target.parts)
        return True
    reason = f"{source} is both a file and a folder, and {target} can be only one of them; rename one of the two."
    raise Fault("AMBIGUOUS_PATH", reason)


def is_both(location: Location) -> bool:
    """Whether a place is a file and a folder."""
    try:
        entry = location.entry()
        if entry is None or entry.kind != "file":
            return False
        with location.store.folder(location.parts) as folder:
            # Some stores check for a folder only when it is listed.
            next(iter(folder.entries()), None)
    except (Fault, OSError) as err:
        # If a store that can hold both does not respond, that does not mean that it holds only the file.
        if isinstance(location.store, SharedNames) and fault_of(err, "").code not in _MISSING:
            raise
        return False
    return True
