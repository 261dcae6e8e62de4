"""``chiltepin rename``: rename or move a file or folder on its endpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from chiltepin.cli.context import data_options
from chiltepin.cli.files import files_backend, required_path
from chiltepin.cli.output import print_json
from chiltepin.cli.params import ENDPOINT_PATH

if TYPE_CHECKING:
    from chiltepin.cli.context import Context

__all__ = ["rename"]


@click.command()
@click.argument("location", type=ENDPOINT_PATH, metavar="EP:PATH")
@click.argument("new", metavar="[EP:]PATH")
@data_options
def rename(*, context: Context, location: str, new: str) -> None:
    """Rename or move a file or folder on its endpoint.

    An existing file or folder is not replaced. The root of an endpoint is never renamed.
    """
    endpoint, path = required_path(context, location)
    new_path = _new_path(context, endpoint, new)
    files_backend(context).rename(endpoint, path, new_path)
    if context.json:
        print_json({"endpoint": endpoint, "path": path, "new_path": new_path})
    else:
        click.echo("The path was renamed.")


def _new_path(context: Context, endpoint: str, new: str) -> str:
    """Return the new path; ``EP:PATH`` must name the same endpoint."""
    if new.startswith(("/", "~")) or ":" not in new:
        return new
    other, path = required_path(context, new)
    if other != endpoint:
        raise click.UsageError(f"{new!r} is not on endpoint {endpoint!r}; transfer it and delete the old path.")
    return path
