"""The lines of ``chiltepin transfer --batch``, read as ``globus transfer --batch`` reads them."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, NamedTuple

import click

from chiltepin.errors import shown

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["BatchLine", "read_batch"]


class BatchLine(NamedTuple):
    """A pair of paths, whether they are folders, the checksum of a file, if known, and the number of the line."""

    source: str
    destination: str
    recursive: bool = False
    checksum: str = ""
    number: int = 0


def read_batch(file: Iterable[str]) -> list[BatchLine]:
    """Return the pairs in a batch file; an invalid line or an empty file is a usage error.

    A line is two paths, quoted as for a shell, and optionally ``-r``, ``--recursive``, or ``--checksum`` and a value.
    A ``#`` at the start of a word begins a comment; empty lines are ignored.
    """
    found = [line for number, text in enumerate(file, 1) if (line := _parse_line(text, number)) is not None]
    if not found:
        raise click.UsageError("The batch is empty; write 'SOURCE DESTINATION', one pair per line.")
    return found


def _parse_line(text: str, number: int) -> BatchLine | None:
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
                f"Line {number} of the batch has {word!r}; only --recursive and --checksum are allowed there; "
                f"write ./{word} if it is a path."
            )
        else:
            paths.append(word)
    if len(paths) != 2:  # noqa: PLR2004 - source and destination
        raise click.UsageError(
            f"Line {number} of the batch is {shown(text.strip())}; write 'SOURCE DESTINATION', quoted as for a shell."
        )
    return BatchLine(paths[0], paths[1], recursive, checksum, number)
