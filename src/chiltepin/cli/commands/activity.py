"""``chiltepin activity``: what moved, when, how fast, and what failed and why."""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
import time
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

import click

from chiltepin.cli.context import config_option, format_option
from chiltepin.cli.output import amount, counted, print_table, tell, took
from chiltepin.cli.params import SINCE
from chiltepin.errors import ChiltepinError, ConfigError, printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chiltepin.transfers.activity import Move, Reader

__all__ = ["activity"]

#: How far back it looks if nobody says.
DAY = timedelta(days=1)

#: How far back somebody is sent who finds nothing.
WEEK = timedelta(days=7)

#: Seconds between two looks for what is new.
LOOK = 0.5

#: Most failures that are told one by one; JSON and the page have all of them.
TOLD = 20

_HEAD = ("Begun", "State", "Endpoints", "Files", "Bytes", "Speed", "Took", "What")

#: What a terminal of fewer columns than these has no room for, beside the names that matter most.
ROOMY, _LEFT_OUT = 110, ("Files", "Speed", "Took")


@click.command()
@click.option("--follow", is_flag=True, help="Show what is under way, then what comes, until Ctrl-C.")
@click.option(
    "--since",
    type=SINCE,
    help="Only what was heard of since: 30m, 2h, 7d, a day, or a time; the last day, if not given.",
)
@click.option("--html", "page", metavar="FILE", type=click.Path(dir_okay=False), help="Write a page for a browser.")
@config_option
@format_option
def activity(*, follow: bool, since: datetime | None, page: str | None, config: str | None, form: str) -> None:
    """Show what moved, when, how fast, and what failed and why.

    It tells of all workflows and commands that use the same journal, on every backend, while they run and after, for 30
    days. Times are local; with -F json each task is one line of JSON, and times are UTC.
    """
    if page is not None and (follow or form == "json"):
        raise click.UsageError("--html writes a page, once; leave --follow and -F out.")
    from chiltepin.transfers.activity import reader as reading  # noqa: PLC0415 - help needs no journal

    now = datetime.now(timezone.utc)
    reader = reading.Reader(_folder(config), since=since or now - DAY)
    if follow:
        # Ctrl-C is how this is meant to end.
        with contextlib.suppress(KeyboardInterrupt):
            _follow(reader, as_json=form == "json", everything=since is not None)
        return
    moves = reader.news()
    if page is not None:
        _write(page, moves, since or now - DAY)
    elif form == "json":
        _print_lines(moves)
    else:
        _show(moves, since or now - DAY)


def _folder(config: str | None) -> str:
    """Return the folder of the journal; without settings, that of the user."""
    from chiltepin.backends import registry  # noqa: PLC0415 - help needs no settings
    from chiltepin.settings import check, default_file, read  # noqa: PLC0415

    file = config or default_file()
    folder = check(read(file) if file else {}, backends=registry.names()).data.journal
    if not folder:
        raise ConfigError(f"{file} has 'journal: false', so that nothing is written down; remove it, or name a folder.")
    return folder


def _print_lines(moves: Sequence[Move]) -> None:
    for move in moves:
        click.echo(json.dumps(move.plain()))


def _show(moves: Sequence[Move], since: datetime) -> None:
    """Print a table, then each failure in words, then all in one line."""
    when = f"since {since.astimezone():%Y-%m-%d %H:%M}"
    if not moves:
        further = datetime.now(timezone.utc) - since < WEEK
        click.echo(f"Nothing has moved {when}{'; look further back with --since 7d' if further else ''}.")
        return
    shown = [at for at, name in enumerate(_HEAD) if _has_room() or name not in _LEFT_OUT]
    rows = [_cells(move) for move in moves]
    print_table([_HEAD[at] for at in shown], [[row[at] for at in shown] for row in rows])
    bad = [move for move in moves if move.bad]
    for move in bad[-TOLD:]:
        tell(printable(_why(move)), name=printable("  ".join(move.told())))
    if len(bad) > TOLD:
        click.echo(f"And {counted(len(bad) - TOLD, 'earlier failure')}; --html FILE and -F json have all of them.")
    living = sum(move.ended is None and move.followed for move in moves)
    under_way = f", {living:,} under way" if living else ""
    done = f"{counted(sum(move.files for move in moves), 'file')}, {amount(sum(move.bytes for move in moves))}"
    click.echo(f"{counted(len(moves), 'task')} {when}: {len(bad):,} failed{under_way}, {done}")


def _has_room() -> bool:
    """Return whether all columns fit; into a pipe they always do."""
    return not sys.stdout.isatty() or shutil.get_terminal_size().columns >= ROOMY


def _cells(move: Move) -> list[str]:
    pair, what = move.told()
    return [
        f"{move.asked.astimezone():%m-%d %H:%M:%S}",
        move.shown,
        pair,
        f"{move.files:,}",
        amount(move.bytes) if move.kind == "transfer" else "-",
        "-" if move.speed is None else f"{amount(move.speed)}/s",
        took(move.lasted),
        f"{move.label}: {what}" if move.label else what,
    ]


def _why(move: Move) -> str:
    failed = f"{counted(move.failed, 'item')} of {move.count:,} failed. " if move.failed else ""
    code = f" ({move.code})" if move.code else ""
    return f"{failed}{move.reason or move.state.value}{code}"


def _follow(reader: Reader, *, as_json: bool, everything: bool) -> None:
    """Print what is news, for ever."""
    said: dict[str, tuple[str, str]] = {}
    first = not everything
    while True:
        for move in reader.news():
            if first and (move.ended or not move.followed):
                continue
            if as_json:
                _print_lines([move])
            elif said.get(move.name) != (move.shown, move.reason):
                said[move.name] = move.shown, move.reason
                click.echo(_line(move))
        first = False
        time.sleep(LOOK)


def _line(move: Move) -> str:
    """Return one line about a task, in which a failure stands out."""
    colour = "red" if move.bad else "green" if move.ended else "cyan"
    begun, state, pair, _, size, speed, took, what = (printable(cell) for cell in _cells(move))
    why = f"  {printable(_why(move))}" if move.bad or move.reason else ""
    done = f"{counted(move.files, 'file')}, {size}, {speed}, {took}" if move.ended else "under way"
    return f"{begun}  {click.style(f'{state:<9}', fg=colour)}  {pair}  {what}  {done}{why}"


def _write(page: str, moves: Sequence[Move], since: datetime) -> None:
    from chiltepin.transfers.activity.page import write  # noqa: PLC0415 - for a page only

    try:
        size = write(page, moves, since=since, now=datetime.now(timezone.utc))
    except OSError as err:
        raise ChiltepinError(f"The page cannot be written to {page!r}: {err.strerror or err}.") from None
    click.echo(f"{printable(page)}: {counted(len(moves), 'task')}, {amount(size)}")
