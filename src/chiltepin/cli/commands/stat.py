"""``chiltepin stat``: show the kind, size and modification time of a path."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from chiltepin.cli.context import data_options
from chiltepin.cli.files import files_backend
from chiltepin.cli.output import print_json
from chiltepin.cli.params import ENDPOINT_PATH
from chiltepin.errors import printable

if TYPE_CHECKING:
    from chiltepin.cli.context import Context

__all__ = ["stat"]


@click.command()
@click.argument("location", type=ENDPOINT_PATH, metavar="EP:PATH")
@data_options
def stat(*, context: Context, location: str) -> None:
    """Show the kind, size and modification time of a path.

    The time is the modification time in UTC. The exit code is 1 if the path does not exist. Links are followed.
    """
    endpoint, path = context.locate(location)
    entry = files_backend(context).stat(endpoint, path or "~")
    size = None if entry.kind == "file" and entry.size is None else entry.size
    modified = entry.modified
    if context.json:
        moment = modified.isoformat() if modified else None
        print_json({"name": entry.name, "kind": entry.kind, "size": size, "modified": moment})
        return
    lines = {
        "Name": printable(entry.name),
        "Kind": entry.kind,
        "Size": "unknown" if size is None else f"{size}",
        "Last Modified": f"{modified:%Y-%m-%d %H:%M:%S}" if modified else "unknown",
    }
    for name, value in lines.items():
        click.echo(f"{f'{name}:':<15}{value}")
