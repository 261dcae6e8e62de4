"""``chiltepin delete``: delete a file or a folder of an endpoint."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from chiltepin.cli.context import data_options
from chiltepin.cli.options import (
    delete_options,
    label_option,
    parse_request,
    show_requests,
    timeout_option,
    workers_option,
)
from chiltepin.cli.output import is_terminal
from chiltepin.cli.params import ENDPOINT_PATH
from chiltepin.errors import printable

if TYPE_CHECKING:
    from chiltepin.cli.context import Context

__all__ = ["delete"]


@click.command()
@click.argument("location", type=ENDPOINT_PATH, metavar="EP:PATH")
@click.option("-r", "--recursive", is_flag=True, help="Delete a folder and everything in it.")
@click.option(
    "--enable-globs/--no-enable-globs",
    "globs",
    default=False,
    help="Treat *, ? and [...] in the last name of PATH as a pattern.  [default: off]",
)
@click.option("--ignore-missing", is_flag=True, help="Treat a missing path as already deleted.")
@click.option("--dry-run", is_flag=True, help="Show what would be deleted without deleting it.")
@click.option("-y", "--yes", is_flag=True, help="Delete without asking for confirmation.")
@delete_options
@label_option
@timeout_option
@workers_option
@data_options
def delete(
    *,
    context: Context,
    location: str,
    recursive: bool,
    ignore_missing: bool,
    dry_run: bool,
    yes: bool,
    label: str,
    timeout: float,
    workers: int | None,
    **options: Any,
) -> None:
    """Delete a file or folder.

    The root of an endpoint is never deleted. Without a terminal, --yes is required.
    """
    from chiltepin.cli.run import run_requests  # noqa: PLC0415
    from chiltepin.transfers.arguments import delete_request  # noqa: PLC0415 - help needs no model

    endpoint, path = context.locate(location, globs=options["globs"])
    if not path:
        raise click.UsageError(f"{location!r} has no path; write the path to delete, such as {endpoint}:/data/old.dat.")
    request = parse_request(
        delete_request,
        src_ep=endpoint,
        src_path=path,
        recursive=recursive,
        ignore_missing=ignore_missing,
        label=label,
        **options,
    )
    if dry_run:
        show_requests(context, [request])
        return
    if not yes:
        _confirm(endpoint, path, recursive=recursive, globs=options["globs"])
    run_requests(context, [request], timeout=timeout, workers=workers)


def _confirm(endpoint: str, path: str, *, recursive: bool, globs: bool) -> None:
    if not is_terminal(sys.stdin):
        raise click.UsageError("Cannot ask for confirmation without a terminal; add --yes.")
    what = " and everything in it" if recursive else ""
    match = "all that matches " if globs else ""
    click.confirm(f"Delete {match}{printable(f'{endpoint}:{path}')}{what}?", abort=True, err=True)
