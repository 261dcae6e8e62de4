"""``chiltepin compare``: compare two files or folders."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from chiltepin.cli.context import data_options
from chiltepin.cli.exit_codes import FAILURE
from chiltepin.cli.output import pluralize, print_error, print_json
from chiltepin.cli.params import ENDPOINT_PATH
from chiltepin.errors import printable
from chiltepin.model import SYNC_LEVELS

if TYPE_CHECKING:
    from chiltepin.cli.context import Context
    from chiltepin.model import SyncLevel
    from chiltepin.transfers.comparison import Comparison, Difference
    from chiltepin.transfers.two_trees import Place

__all__ = ["compare"]


@click.command()
@click.argument("source", type=ENDPOINT_PATH, metavar="SRC_EP:PATH")
@click.argument("destination", type=ENDPOINT_PATH, metavar="DST_EP:PATH")
@click.option(
    "-s",
    "--sync-level",
    "level",
    type=click.Choice(SYNC_LEVELS),
    default="size",
    show_default=True,
    help="Treat files as equal if both exist (exists), with the same size (size), not older at the destination "
    "(mtime), or with the same content (checksum).",
)
@data_options
def compare(*, context: Context, source: str, destination: str, level: SyncLevel) -> None:
    """Compare two files or folders.

    Folders are compared recursively. The exit code is 0 if they are equal, else 1. The last line says what was
    compared. Links in folders are not followed.
    """
    from chiltepin.transfers.comparison import compare as compared  # noqa: PLC0415 - help needs no backend

    here, there = _place(context, source), _place(context, destination)
    found = compared(context.transfers, here, there, level)
    if context.json:
        print_json(_plain(found, here, there))
    else:
        for difference in found.differences:
            click.echo(_line(difference, here, there))
        click.echo(_summary(found))
    for problem in found.problems:
        print_error(problem)
    if found.differences or found.problems:
        sys.exit(FAILURE)


def _place(context: Context, text: str) -> Place:
    from chiltepin.transfers.two_trees import Place  # noqa: PLC0415 - help needs no backend

    endpoint, path = context.locate(text)
    return Place(endpoint, path or "~")


def _plain(found: Comparison, source: Place, destination: Place) -> dict[str, object]:
    return {
        "source": source._asdict(),
        "destination": destination._asdict(),
        "compared": found.compared,
        "files": found.counts["file"],
        "folders": found.counts["dir"],
        "links": found.counts["link"],
        "others": found.counts["other"],
        "differences": [asdict(difference) for difference in found.differences],
        "problems": found.problems,
    }


def _line(difference: Difference, source: Place, destination: Place) -> str:
    only = {"only in source": source, "only in destination": destination}.get(difference.what)
    if only is not None:
        what = f"only in {only.endpoint}:{only.path}"
    elif difference.what == "size unknown":
        what = difference.what
    else:
        what = f"{difference.what} differs: {_shown(difference.source)}, {_shown(difference.destination)}"
    return printable(f"{difference.path or '.'}: {what}")


def _shown(value: object) -> str:
    return "unknown" if value is None else str(value)


def _summary(found: Comparison) -> str:
    *first, last = found.compared
    seen = f"{pluralize(found.counts['file'], 'file')} and {pluralize(found.counts['dir'], 'folder')}"
    others = found.counts["link"] + found.counts["other"]
    more = f", and {pluralize(others, 'link or special file')} by name and kind" if others else ""
    many = f"{len(found.differences):,}" if found.differences else "no"
    noun = "difference" if len(found.differences) == 1 else "differences"
    return f"Compared {seen} by {', '.join(first)} and {last}{more}: {many} {noun}."
