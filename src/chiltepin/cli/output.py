"""What commands print: tables and colours on a terminal, plain text into a pipe, JSON for programs.

What goes through here and came from elsewhere is escaped (`chiltepin.screen.printable`); markup of rich is off.
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import click

from chiltepin.screen import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["amount", "complain", "counted", "print_json", "print_table"]

#: Characters of what is not broken into lines, however narrow the terminal is; a date and a time have 14.
SHORT = 14

_STYLES = {
    "ok": "green",
    "succeeded": "green",
    "active": "cyan",
    "paused": "yellow",
    "unknown": "yellow",
    "partly": "bold red",
    "failed": "bold red",
    "expired": "bold red",
    "lost": "bold red",
    "canceled": "red",
}


def print_json(value: Any) -> None:
    """Print one JSON document, exact and in ASCII."""
    click.echo(json.dumps(value, indent=2))


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table on stdout: with a frame on a terminal; else in columns, so that every row is one line."""
    rows = [[printable(cell) for cell in row] for row in rows]
    if sys.stdout.isatty():
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

    table = Table(*head, box=box.SIMPLE_HEAD, pad_edge=False)
    for column, cells in zip(table.columns, zip(head, *rows, strict=True), strict=True):
        column.overflow = "fold"
        # A date or a state that is broken in two cannot be read; a path can.
        column.no_wrap = max(map(len, cells)) <= SHORT
    for row in rows:
        table.add_row(*(Text(cell, style=_STYLES.get(cell, "")) for cell in row))
    Console(highlight=False).print(table)


def complain(message: str) -> None:
    """Print one sentence on stderr, on one line."""
    click.echo(f"chiltepin: {printable(message)}", err=True)


def counted(number: int, noun: str) -> str:
    """Return ``1 file``, ``24 files``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def amount(size: float) -> str:
    """Return bytes for people: ``5.2 MB``."""
    from rich.filesize import decimal  # noqa: PLC0415 - help needs no numbers

    return decimal(int(size))
