"""Decide the next step for a large file when a range has ended: ranges, the rename, the removal or a new copy."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from chiltepin.protocol import FileRange

__all__ = ["RangedFiles"]


Step = Literal["commit", "again", "remove", "skip"]


class _File:
    def __init__(self, part: FileRange) -> None:
        self.part = part
        #: Ranges that have not ended, the bytes copied so far, and the step after the last range.
        self.left: set[FileRange] = set()
        self.copied = 0
        self.end: Step = "commit"
        #: How many workers it has lost, also with earlier temporary files.
        self.losses = 0

    def fail(self, end: Step) -> None:
        """Set the step after the last range, because a range was not copied; the first failure counts."""
        if self.end in ("commit", "again"):
            self.end = end


class RangedFiles:
    """The files of one task that are copied in ranges and not yet renamed."""

    def __init__(self) -> None:
        self._files: dict[str, _File] = {}

    def add(self, part: FileRange, losses: int) -> None:
        """Record a range to copy, or a file to skip, and how many workers the file has lost."""
        file = self._files.setdefault(part.temp_file, _File(part))
        file.losses = max(file.losses, losses)
        if part.step == "skip":
            file.fail("skip")
        else:
            file.left.add(part)

    def in_vain(self, part: FileRange) -> bool:
        """Whether copying a range is useless, because another range of its file was not copied."""
        file = self._files.get(part.temp_file)
        return part.step == "copy" and file is not None and file.end != "commit"

    def dropped(self, part: FileRange) -> tuple[FileRange, int] | None:
        """Record that a range is not copied, because that is useless; see `ended`."""
        return self._without(part)

    def lost(self, part: FileRange, losses: int) -> tuple[FileRange, int] | None:
        """Record that the worker of a range or of the rename was lost; see `ended`.

        It may go on later, so the file is copied again, into a new temporary file.
        """
        file = self._files[part.temp_file]
        file.losses = max(file.losses, losses)
        file.fail("again")
        return self._without(part)

    def ended(self, part: FileRange, *, done: bool) -> tuple[FileRange, int] | None:
        """Record the end of a step.

        Return the next step of its file, and how many workers the file has lost, if no other step is running.
        """
        file = self._files[part.temp_file]
        if part.step in ("remove", "skip") or (done and part.step == file.end):
            del self._files[part.temp_file]
            return None
        if not done:
            file.fail("remove")
        file.copied += part.count if done else 0
        return self._without(part)

    def _without(self, part: FileRange) -> tuple[FileRange, int] | None:
        file = self._files[part.temp_file]
        file.left.discard(part)
        return None if file.left else (_step(part, file.end), file.losses)

    @property
    def moving(self) -> int:
        """Bytes copied so far of incomplete files."""
        return sum(file.copied for file in self._files.values())

    def removal(self) -> FileRange | None:
        """Return the removal of one of the files; None if there is none."""
        return next((_step(file.part, "remove") for file in self._files.values()), None)


def _step(part: FileRange, step: Step) -> FileRange:
    return replace(part, offset=0, count=0, step=step)
