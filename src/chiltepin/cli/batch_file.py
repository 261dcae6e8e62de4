"""The lines of ``chiltepin transfer --batch``, read as ``globus transfer --batch`` reads them."""

from __future__ import annotations

import codecs
import io
import os
import shlex
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from chiltepin.errors import shown

if TYPE_CHECKING:
    from typing import BinaryIO

__all__ = ["BATCH_FILE", "BatchLine", "read_batch"]


class _BatchFile(click.File):
    """A file to read bytes from; ``-`` is standard input, unless it is closed."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        # Python has no sys.stdin if it was closed before the start.
        if value == "-" and sys.stdin is None:
            self.fail("Standard input is closed; name a file.", param, ctx)
        return super().convert(value, param, ctx)


BATCH_FILE = _BatchFile("rb")


class BatchLine(NamedTuple):
    """A pair of paths, whether they are folders, the checksum of a file, if known, and the number of the line."""

    source: str
    destination: str
    recursive: bool = False
    checksum: str = ""
    number: int = 0


def read_batch(file: BinaryIO) -> list[BatchLine]:
    """Return the pairs in a batch file; an invalid line or an empty file is a usage error.

    A line is two paths, quoted as for a shell, and optionally ``-r``, ``--recursive``, or ``--checksum`` and a value.
    A ``#`` at the start of a word begins a comment; empty lines are ignored. Paths keep their bytes, as on the command
    line; a byte order mark of UTF-8 is ignored.
    """
    lines = io.StringIO(_text(file), newline=None)
    found = [line for number, text in enumerate(lines, 1) if (line := _parse_line(text, number)) is not None]
    if not found:
        raise click.UsageError("The batch is empty; write 'SOURCE DESTINATION', one pair per line.")
    return found


def _text(file: BinaryIO) -> str:
    try:
        content = file.read()
    except OSError as err:
        raise click.UsageError(f"Could not read the batch: {err.strerror}.") from None
    if b"\0" in content:
        raise click.UsageError("The batch has NUL bytes and is probably UTF-16; save it as UTF-8.")
    return os.fsdecode(content.removeprefix(codecs.BOM_UTF8))


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
