"""The lines of ``chiltepin transfer --batch``, read as ``globus transfer --batch`` reads them."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, NamedTuple

import click

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Line", "lines_of"]


class Line(NamedTuple):
    """A pair of paths, whether they are folders, and what the content of a file has to hash to; empty if unknown."""

    source: str
    destination: str
    recursive: bool = False
    checksum: str = ""


def lines_of(file: Iterable[str]) -> list[Line]:
    """Return the pairs in a file.

    Parameters
    ----------
    file : iterable of str
        Its lines: two paths, quoted as for a shell, and where wanted ``-r`` or ``--recursive``, or ``--checksum`` and a
        word. What follows a ``#`` that begins a word is a comment; empty lines do not count.

    Raises
    ------
    click.UsageError
        If a line is something else, or there is none.
    """
    found = [line for number, text in enumerate(file, 1) if (line := _line(text, number)) is not None]
    if not found:
        raise click.UsageError("There is no line in the batch; write 'SOURCE DESTINATION', one pair a line.")
    return found


def _line(text: str, number: int) -> Line | None:
    try:
        words = shlex.split(text, comments=True)
    except ValueError as err:
        raise click.UsageError(f"Line {number} of the batch: {err}; quote paths as for a shell.") from None
    if not words:
        return None
    paths, recursive, checksum = [], False, ""
    rest = iter(words)
    for word in rest:
        if word in ("-r", "--recursive"):
            recursive = True
        elif word == "--checksum":
            checksum = next(rest, "")
        elif word.startswith("-"):
            raise click.UsageError(
                f"Line {number} of the batch has {word!r}; only --recursive and --checksum are known; "
                f"write ./{word} if it is a path."
            )
        else:
            paths.append(word)
    if len(paths) != 2:  # noqa: PLR2004 - source and destination
        raise click.UsageError(f"Line {number} of the batch has {len(paths)} paths; write 'SOURCE DESTINATION'.")
    return Line(paths[0], paths[1], recursive, checksum)
