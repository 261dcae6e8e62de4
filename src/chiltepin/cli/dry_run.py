"""What ``--dry-run`` reports: the files that would be moved, and the paths that would be deleted."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from chiltepin.cli.output import format_size, pluralize, print_error
from chiltepin.errors import printable
from chiltepin.model import DeleteRequest
from chiltepin.transfers.preview import preview

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chiltepin.cli.context import Context
    from chiltepin.model import Request
    from chiltepin.transfers.preview import FileMove

__all__ = ["found", "show"]

#: Maximum number of problems to print; JSON has all of them.
MAX_PROBLEMS = 20


def found(context: Context, request: Request) -> dict[str, Any]:
    """Return what a request would do, as plain data."""
    seen = preview(context.transfers, request)
    deletes = {"would_delete": seen.deletes, "problems": seen.problems}
    if isinstance(request, DeleteRequest):
        return deletes
    moves = {"would_move": list(map(asdict, seen.moves)), "would_compare": list(map(asdict, seen.compares))}
    return {**moves, "would_skip": seen.skipped, **deletes}


def show(context: Context, request: Request) -> None:
    """Print what a request would do."""
    seen = preview(context.transfers, request)
    if not isinstance(request, DeleteRequest):
        _show_files("would move", seen.moves)
        if seen.compares:
            _show_files("would move if the content differs", seen.compares)
        if seen.skipped:
            click.echo(f"  {pluralize(seen.skipped, 'file')} would be skipped")
    if isinstance(request, DeleteRequest) or (request.delete_destination_extra and not seen.problems):
        click.echo(f"  {pluralize(len(seen.deletes), 'path')} would be deleted")
        for path in seen.deletes:
            click.echo(f"    {printable(path)}")
    for problem in seen.problems[:MAX_PROBLEMS]:
        print_error(problem)
    if len(seen.problems) > MAX_PROBLEMS:
        print_error(f"And {pluralize(len(seen.problems) - MAX_PROBLEMS, 'more problem')}; -F json lists all of them.")


def _show_files(what: str, moves: Sequence[FileMove]) -> None:
    size = sum(move.size or 0 for move in moves)
    known = f", {format_size(size)}" if all(move.size is not None for move in moves) else ""
    click.echo(f"  {pluralize(len(moves), 'file')}{known} {what}")
    for move in moves:
        click.echo(f"    {printable(move.source)} -> {printable(move.destination)}")
