"""Resolve links as the kernel does (path_resolution(7)), for stores that have to follow links themselves."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from chiltepin.backends.filesystem.errors import Fault
from chiltepin.protocol.paths import joined

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from chiltepin.protocol.paths import Parts

__all__ = ["LINK_LIMIT", "resolved"]

#: Links after which a path counts as a loop; the limit of Linux (path_resolution(7)).
LINK_LIMIT = 40


def resolved(
    parts: Parts, *, follow: bool, roots: Sequence[str], first_link: Callable[..., tuple[int, str] | None]
) -> Parts:
    """Return a path with its links resolved.

    ``..`` in a link means the parent of the resolved path before it. ``follow`` tells whether to follow a link in the
    last name, too. ``roots`` are the absolute paths of the root. ``first_link(parts, follow=..., folder=...)`` returns
    the index of the first link, and its target, or None; with ``folder``, all names must be folders.

    Raises
    ------
    Fault
        If a link leads out of the root.
    OSError
        If links form a loop, or ``..`` follows something other than a folder.
    """
    for _ in range(LINK_LIMIT):
        while True:
            up = parts.index("..") if ".." in parts else len(parts)
            inner = up < len(parts)
            found = first_link(parts[:up], follow=follow or inner, folder=inner)
            if found is not None:
                break
            if not inner:
                return parts
            if not up:
                raise _leads_out(parts, "..")
            parts = (*parts[: up - 1], *parts[up + 1 :])
        at, target = found
        parts = (*_led(roots, parts[:at], target), *parts[at + 1 :])
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))


def _led(roots: Sequence[str], folder: Parts, target: str) -> Parts:
    """Return the path below a root to which a link in a folder leads; ``..`` after a name is not resolved."""
    rest, place = target, list(folder)
    if target.startswith("/"):
        tops = [root.rstrip("/") + "/" for root in roots]
        top = next((top for top in tops if f"{target.rstrip('/')}/".startswith(top)), None)
        if top is None:
            raise _leads_out(folder, target)
        rest, place = target[len(top) :], []
    names: list[str] = []
    for name in rest.split("/"):
        if name == ".." and not names:
            if not place:
                raise _leads_out(folder, target)
            place.pop()
        elif name not in ("", "."):
            names.append(name)
    return (*place, *names)


def _leads_out(folder: Parts, target: str) -> Fault:
    return Fault("PERMISSION_DENIED", f"A link in {joined(folder)} leads out of the root of the endpoint, to {target}.")
