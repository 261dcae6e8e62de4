"""``chiltepin ls``: list a folder of an endpoint."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from chiltepin.cli.context import data_options
from chiltepin.cli.exit_codes import FAILURE
from chiltepin.cli.output import print_error, print_json
from chiltepin.cli.params import ENDPOINT_PATH, NAME_PATTERN
from chiltepin.errors import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from chiltepin.cli.context import Context
    from chiltepin.errors import BackendError
    from chiltepin.model import DirEntry

__all__ = ["ls"]

_COLORS = {"dir": "blue", "link": "cyan", "other": "yellow"}


@click.command()
@click.argument("location", type=ENDPOINT_PATH, metavar="EP[:PATH]")
@click.option("-l", "--long", is_flag=True, help="Show the kind, size and modification time (UTC).")
@click.option("-r", "--recursive", is_flag=True, help="List subfolders too.")
@click.option(
    "--filter",
    "pattern",
    type=NAME_PATTERN,
    metavar="PATTERN",
    help="Show only matching names: ~*.nc is a pattern, a.nc or =a.nc an exact name; a leading ! inverts the match.",
)
@data_options
def ls(*, context: Context, location: str, long: bool, recursive: bool, pattern: Callable[[str], bool] | None) -> None:
    """List a folder of an endpoint.

    Without a path, it lists the home folder. Hidden files are shown. Control characters are escaped, also in a pipe;
    JSON has the exact names.
    """
    errors: list[BackendError] = []
    found = _listed(context, location, errors, recursive=recursive)
    if pattern is not None:
        found = ((path, entry) for path, entry in found if pattern(entry.name))
    if context.json:
        print_json([_plain(path, entry) for path, entry in found])
    else:
        for path, entry in found:
            click.echo(_line(path, entry, long=long))
    for error in errors:
        print_error(str(error))
    if errors:
        sys.exit(FAILURE)


def _listed(
    context: Context, location: str, errors: list[BackendError], *, recursive: bool
) -> Iterator[tuple[str, DirEntry]]:
    from chiltepin.transfers.walk import walk  # noqa: PLC0415 - help needs no backend

    endpoint, path = context.locate(location)
    path = path or "~"
    if recursive:
        return walk(context.transfers, endpoint, path, failed=errors.append)
    entries = sorted(context.transfers.ls(endpoint, path), key=lambda entry: entry.name)
    return ((entry.name, entry) for entry in entries)


def _plain(path: str, entry: DirEntry) -> dict[str, Any]:
    modified = entry.modified.isoformat() if entry.modified else None
    return {"path": path, "kind": entry.kind, "size": entry.size, "modified": modified}


def _line(path: str, entry: DirEntry, *, long: bool) -> str:
    name = f"{printable(path)}{'/' if entry.kind == 'dir' else ''}"
    shown = click.style(name, fg=_COLORS[entry.kind]) if entry.kind in _COLORS else name
    if not long:
        return shown
    size = f"{entry.size}" if entry.kind == "file" and entry.size is not None else "-"
    modified = f"{entry.modified:%Y-%m-%d %H:%M:%S}" if entry.modified else "-"
    return f"{entry.kind:<5}  {size:>15}  {modified:<19}  {shown}"
