"""Warn of paths that are valid but probably not intended."""

from __future__ import annotations

import logging
import os
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from chiltepin.errors import shown
from chiltepin.protocol.paths import VARIABLE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["warn_of"]

logger = logging.getLogger(__name__)

_WINDOWS = re.compile(r"([A-Za-z]):[\\/](.*)", re.DOTALL)

#: Endpoint and kind of each warning of this process: a thousand paths with the same mistake cause one warning.
_warned: set[tuple[str, str]] = set()


def warn_of(asked: Iterable[tuple[str, str, Mapping[str, Any]]], *, globs: bool = False) -> None:
    """Log a warning for a path that begins with the root of its endpoint, or is written for a shell or for Windows.

    ``asked`` gives endpoint, path, and the location of the endpoint. ``globs`` tells whether the last name may be a
    pattern.
    """
    for endpoint, path, place in asked:
        kind, reason = _doubt(path, place, globs=globs)
        if kind and (endpoint, kind) not in _warned:
            _warned.add((endpoint, kind))
            logger.warning("The path %s on endpoint %r %s", shown(path), endpoint, reason)


def _doubt(path: str, place: Mapping[str, Any], *, globs: bool) -> tuple[str, str]:
    """Return the kind of a warning and the rest of its sentence; both are empty if the path is fine."""
    if drive := _WINDOWS.fullmatch(path):
        meant = f"/{drive[1].upper()}/{drive[2]}".replace("\\", "/")
        return "Windows", f"is written as on Windows; paths on endpoints have slashes: did you mean {shown(meant)}?"
    if variable := VARIABLE.search(path):
        meant = VARIABLE.sub("~", path, count=1) if path.startswith(("$HOME/", "${HOME}/")) else ""
        hint = f"did you mean {shown(meant)}?" if meant else "write its value."
        return "variable", f"contains {variable[0]!r}, which is not expanded; {hint}"
    if not globs and re.search(r"[*?]", path):
        return "pattern", "contains a pattern, which is not expanded; name its folder, with 'recursive' and 'include'."
    for root in filter(None, (place.get("mount", ""), _url_root(place))):
        if (path == root or path.startswith(f"{root}/")) and not os.path.exists(f"{place.get('mount', '')}{root}"):
            meant = path.removeprefix(root) or "/"
            return "root", f"begins with {root!r}, the root from which it is counted: did you mean {shown(meant)}?"
    return "", ""


def _url_root(place: Mapping[str, Any]) -> str:
    url = str(place.get("url", ""))
    return urlsplit(url).path.rstrip("/") if "://" in url else ""
