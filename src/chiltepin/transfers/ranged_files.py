"""Decide the next step for a large file when a range has ended: other ranges, the rename, or the removal."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Literal

    from chiltepin.protocol import FileRange

__all__ = ["RangedFiles"]


class _File:
    def __init__(self, part: FileRange) -> None:
        self.part = part
        #: Ranges that have not ended, the bytes copied so far, and the step after the last range.
        self.left: set[FileRange] = set()
        self.copied = 0
        self.end: Literal["commit", "remove", "skip"] = "commit"

    def fail(self, end: Literal["remove", "skip"]) -> None:
        """Set the step after the last range, because a range was not copied; only the first such range counts."""
        if self.end == "commit":
            self.end = end


class RangedFiles:
    """The files of one task that are copied in ranges and not yet renamed."""

    def __init__(self) -> None:
        self._files: dict[str, _File] = {}

    def add(self, part: FileRange) -> None:
        """Record a range to copy, or a file to skip."""
        file = self._files.setdefault(part.temp_file, _File(part))
        if part.step == "skip":
            file.fail("skip")
        else:
            file.left.add(part)

    def in_vain(self, part: FileRange) -> bool:
        """Whether copying a range is useless, because another range of its file was not copied."""
        file = self._files.get(part.temp_file)
        return part.step == "copy" and file is not None and file.end != "commit"

    def ended(self, part: FileRange, *, done: bool) -> FileRange | None:
        """Record the end of a step; return the next step of its file if no other step is running."""
        file = self._files[part.temp_file]
        if part.step in ("remove", "skip") or (part.step == "commit" and done and file.end == "commit"):
            del self._files[part.temp_file]
            return None
        file.left.discard(part)
        if not done:
            file.fail("remove")
        file.copied += part.count if done else 0
        return None if file.left else _step(part, file.end)

    @property
    def moving(self) -> int:
        """Bytes copied so far of incomplete files."""
        return sum(file.copied for file in self._files.values())

    def removal(self) -> FileRange | None:
        """Return the removal of one of the files; None if there is none."""
        return next((_step(file.part, "remove") for file in self._files.values()), None)


def _step(part: FileRange, step: Literal["commit", "remove", "skip"]) -> FileRange:
    return replace(part, offset=0, count=0, step=step)
