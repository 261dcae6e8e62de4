"""Select names by the filter rules of a recursive transfer."""

from __future__ import annotations

import fnmatch
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from chiltepin.model import FilterRule

__all__ = ["NameFilter"]


class NameFilter:
    """The filter rules of a transfer: the first rule that matches a name decides; a name without one is selected."""

    def __init__(self, rules: Iterable[FilterRule]) -> None:
        compiled = [
            (rule.kind, re.compile(fnmatch.translate(rule.name)).match, rule.method == "include") for rule in rules
        ]
        self._files = [(match, include) for kind, match, include in compiled if kind == "file"]
        self._folders = [(match, include) for kind, match, include in compiled if kind == "dir"]

    def selects_file(self, name: str) -> bool:
        """Whether a file of this name is transferred."""
        return next((include for match, include in self._files if match(name)), True)

    def selects_folder(self, name: str) -> bool:
        """Whether a folder of this name is transferred, with everything in it."""
        return next((include for match, include in self._folders if match(name)), True)
