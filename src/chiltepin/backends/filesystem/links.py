"""Where a link leads, for stores that have to follow links by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chiltepin.backends.filesystem.faults import Fault
from chiltepin.paths import joined

if TYPE_CHECKING:
    from chiltepin.paths import Parts

__all__ = ["LINK_LIMIT", "led"]

#: Links in a row after which a path is taken for a loop; the number of Linux (path_resolution(7)).
LINK_LIMIT = 40


def led(root: str, folder: Parts, target: str) -> Parts:
    """Return the place below a root to which a link leads.

    Parameters
    ----------
    root : str
        The real absolute path of the root.
    folder : tuple of str
        Where the link is, below the root; itself without links.
    target : str
        The text of the link.

    Raises
    ------
    Fault
        If it leads out of the root.
    """
    rest, place = target, list(folder)
    if target.startswith("/"):
        top = root.rstrip("/") + "/"
        if not f"{target.rstrip('/')}/".startswith(top):
            raise _leads_out(folder, target)
        rest, place = target[len(top) :], []
    for name in rest.split("/"):
        if name == ".." and not place:
            raise _leads_out(folder, target)
        if name == "..":
            place.pop()
        elif name not in ("", "."):
            place.append(name)
    return tuple(place)


def _leads_out(folder: Parts, target: str) -> Fault:
    return Fault("PERMISSION_DENIED", f"A link in {joined(folder)} leads out of the root of the endpoint, to {target}.")
