"""Parse ``EP:PATH``: an endpoint and a path on it, in one word."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from chiltepin.model import UUID

if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = ["Location", "parse_location"]


class Location(NamedTuple):
    """An endpoint and a path; ``path`` is None without a colon."""

    endpoint: str
    path: str | None


def parse_location(text: str, declared: Collection[str]) -> Location:
    """Return the endpoint and the path of a word.

    The longest of the ``declared`` names that matches wins. Any other name ends before the first ``:/`` or ``:~``,
    because a display name may contain colons; without either, at the first colon.
    """
    if text in declared:
        return Location(text, None)
    for name in sorted(declared, key=len, reverse=True):
        if text.startswith(f"{name}:"):
            return Location(name, text[len(name) + 1 :])
    if match := UUID.match(text):
        rest = text[match.end() :]
        if rest[:1] in ("", ":"):
            return Location(match.group(), rest[1:] if rest else None)
    absolute = re.search(r":(?=[/~])", text)
    split = absolute.start() if absolute else text.find(":")
    return Location(text, None) if split < 0 else Location(text[:split], text[split + 1 :])
