"""What commands print: tables and colors on a terminal, plain text into a pipe, JSON for programs.

This module escapes text from other sources (`chiltepin.errors.printable`), and disables the markup of rich.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import sys
import textwrap
from typing import TYPE_CHECKING, Any

import click

from chiltepin.errors import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import TextIO

__all__ = [
    "discard",
    "format_duration",
    "format_size",
    "is_terminal",
    "pluralize",
    "print_error",
    "print_json",
    "print_line",
    "print_table",
    "stderr_may_fail",
    "with_option_names",
]

#: Width of the widest cell that is never wrapped; a date and a time have 14 characters.
MAX_UNWRAPPED = 14

#: Least width of a wrapped column; without room for it, a table becomes a list.
MIN_WRAPPED = 16

#: A Python argument in a message: ``timeout=``, ``recursive=True``, ``backend='glob'``. Only after a space, because a
#: folder may be called ``label='x'``.
_ARGUMENT = re.compile(r"(?<!\S)(?:((?:give|set) )?([a-z_]+)=(True|False|'[^']*'|(?=\.)))")

_STYLES = {
    "ok": "green",
    "succeeded": "green",
    "active": "cyan",
    "paused": "yellow",
    "unknown": "yellow",
    "partial": "bold red",
    "failed": "bold red",
    "expired": "bold red",
    "lost": "bold red",
    "canceled": "red",
}


def is_terminal(stream: TextIO | None) -> bool:
    """Return whether a standard stream is a terminal; Python has None for one that was closed before the start."""
    return stream is not None and stream.isatty()


@contextlib.contextmanager
def stderr_may_fail() -> Iterator[None]:
    """Write to stderr inside a ``with`` block; if stderr is full or closed, the command continues."""
    try:
        yield
    except OSError:
        discard(sys.stderr)


def discard(stream: TextIO) -> None:
    """Send what a failed stream still holds to the null device.

    Otherwise, Python writes it again when it exits, and prints a second error (docs.python.org, ``signal``, "Note on
    SIGPIPE").
    """
    null = os.open(os.devnull, os.O_WRONLY)
    # A replacement of the stream, such as that of a test, may have no descriptor.
    with contextlib.suppress(OSError):
        os.dup2(null, stream.fileno())
    os.close(null)


def print_json(value: Any) -> None:
    """Print one JSON document, exact and in ASCII."""
    click.echo(json.dumps(value, indent=2))


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table on stdout: wrapped on a terminal, otherwise with one line for each row."""
    rows = [[printable(cell) for cell in row] for row in rows]
    if is_terminal(sys.stdout):
        _framed(head, rows)
        return
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    for row in (head, *rows):
        click.echo("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())


def _framed(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich import box  # noqa: PLC0415 - a pipe needs no frame
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    console = Console(highlight=False)
    # Without the space on the left, and the two between columns.
    room = console.width - 1 - 2 * (len(head) - 1)
    widths = _fitted([max(map(len, column)) for column in zip(head, *rows, strict=True)], room)
    cells = [[Text(cell, style=_STYLES.get(cell, "")) for cell in row] for row in rows]
    if sum(widths) > room:
        console.print()
        for first, *others in cells:
            console.print(first, style="bold")
            for name, cell in zip(head[1:], others, strict=True):
                console.print(Text(f"  {name}: ").append_text(cell))
        console.print()
        return
    table = Table(*head, box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for column, width in zip(table.columns, widths, strict=True):
        column.overflow, column.width = "fold", width
    for row in cells:
        table.add_row(*row)
    console.print(table)


def _fitted(widths: Sequence[int], room: int) -> list[int]:
    """Return column widths that fit the terminal: short columns are not wrapped, and the last columns wrap first."""
    # A wrapped path is still readable; a wrapped date or state is not.
    fitted = [width if width <= MAX_UNWRAPPED else min(width, MIN_WRAPPED) for width in widths]
    for at in reversed(range(len(widths))):
        fitted[at] += max(0, min(widths[at] - fitted[at], room - sum(fitted)))
    return fitted


def print_error(message: str) -> None:
    """Print one sentence on stderr, on one line; see `print_line`."""
    with stderr_may_fail():
        print_line(f"chiltepin: {printable(with_option_names(message))}", err=True)


def print_line(sentence: str, *, name: str = "", err: bool = False) -> None:
    """Print a sentence, after a name if given; on a terminal wrapped between words, in a pipe on one line."""
    text = f"{name}: {sentence}" if name else sentence
    if is_terminal(sys.stderr if err else sys.stdout):
        width = shutil.get_terminal_size().columns
        text = textwrap.fill(text, width, break_long_words=False, break_on_hyphens=False)
    if name and text.startswith(name):
        text = click.style(name, bold=True) + text.removeprefix(name)
    click.echo(text, err=err)


def with_option_names(message: str) -> str:
    """Return a message with command-line options in place of Python arguments.

    For example, ``set recursive=True, or a longer timeout=.`` becomes ``set --recursive, or a longer --timeout.``
    """
    return _ARGUMENT.sub(_option, message)


def _option(found: re.Match[str]) -> str:
    give, name, value = found[1] or "", f"--{found[2].replace('_', '-')}", found[3]
    if value == "False":
        return f"omit {name}"
    return f"{give}{name}" if value in ("", "True") else f"{give}{name} {value}"


def pluralize(number: int, noun: str) -> str:
    """Return ``1 file``, ``24 files``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def format_duration(seconds: float) -> str:
    """Return a human-readable duration: ``29 ms``, ``3.1 s``, ``4 min``, ``1 h 05 min``."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:  # noqa: PLR2004 - a minute
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"  # noqa: PLR2004 - an hour


def format_size(size: float) -> str:
    """Return a human-readable size: ``5.2 MB``."""
    from rich.filesize import decimal  # noqa: PLC0415 - help needs no numbers

    return decimal(int(size))
