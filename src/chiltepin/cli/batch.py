"""The lines of ``chiltepin transfer --batch``, read as ``globus transfer --batch`` reads them."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, NamedTuple

import click

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Line", "lines_of"]


class Line(NamedTuple):
    """A pair of paths, and whether they are folders."""

    source: str
    destination: str
    recursive: bool


def lines_of(file: Iterable[str]) -> list[Line]:
    """Return the pairs in a file.

    Parameters
    ----------
    file : iterable of str
        Its lines: two paths, quoted as for a shell, and where wanted ``-r`` or ``--recursive``. What follows a ``#``
        that begins a word is a comment; empty lines do not count.

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
    paths = [word for word in words if not word.startswith("-")]
    options = {word for word in words if word.startswith("-")}
    if unknown := options - {"-r", "--recursive"}:
        raise click.UsageError(
            f"Line {number} of the batch has {min(unknown)!r}; only --recursive is known; write "
            f"./{min(unknown)} if it is a path."
        )
    if len(paths) != 2:  # noqa: PLR2004 - source and destination
        raise click.UsageError(f"Line {number} of the batch has {len(paths)} paths; write 'SOURCE DESTINATION'.")
    return Line(paths[0], paths[1], bool(options))
