"""``chiltepin mkdir``: create a folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from chiltepin.cli.context import data_options
from chiltepin.cli.files import files_backend, required_path
from chiltepin.cli.output import print_json
from chiltepin.cli.params import ENDPOINT_PATH

if TYPE_CHECKING:
    from chiltepin.cli.context import Context

__all__ = ["mkdir"]


@click.command()
@click.argument("location", type=ENDPOINT_PATH, metavar="EP:PATH")
@data_options
def mkdir(*, context: Context, location: str) -> None:
    """Create a folder in an existing folder.

    A transfer creates the folders that it needs.
    """
    endpoint, path = required_path(context, location)
    files_backend(context).mkdir(endpoint, path)
    if context.json:
        print_json({"endpoint": endpoint, "path": path})
    else:
        click.echo("The folder was created.")
