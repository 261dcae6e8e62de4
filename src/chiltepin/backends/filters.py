"""Which names the filters of a recursive transfer select."""

from __future__ import annotations

import fnmatch
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from chiltepin.model import FilterRule

__all__ = ["make_filter"]


def make_filter(rules: Iterable[FilterRule]) -> Callable[[str], bool]:
    """Return a function that tells whether a file of some name is selected: the first rule that matches decides."""
    compiled = [(re.compile(fnmatch.translate(rule.name)).match, rule.method == "include") for rule in rules]

    def selected(name: str) -> bool:
        for match, include in compiled:
            if match(name):
                return include
        return True

    return selected
