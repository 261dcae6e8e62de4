"""``chiltepin activity``: show recent transfers and deletions, their speed and failures."""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
import time
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import click

from chiltepin.cli.context import config_option, format_option
from chiltepin.cli.output import format_duration, format_size, is_terminal, pluralize, print_line, print_table
from chiltepin.cli.params import SINCE
from chiltepin.errors import ChiltepinError, ConfigError, printable
from chiltepin.model import TaskState
from chiltepin.settings.limits import COUNT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chiltepin.transfers.activity import ActivityReader, TransferRecord

__all__ = ["activity"]

#: The default of --since.
DAY = timedelta(days=1)

#: The period to suggest when nothing was found.
WEEK = timedelta(days=7)

#: Seconds between two reads of the journal, with --follow.
REFRESH_INTERVAL = 0.5

#: Maximum number of failures to print; JSON and the page have all of them.
MAX_FAILURES_PRINTED = 20

_HEAD = ("Started", "State", "Backend", "Endpoints", "Files", "Bytes", "Speed", "Took", "What")

#: Minimum width of a terminal for the whole table, and the columns that a narrower terminal omits.
WIDE, _ONLY_WIDE = 120, ("Backend", "Files", "Speed", "Took")


@click.command()
@click.option("--follow", is_flag=True, help="Show running tasks, then new events until Ctrl-C.")
@click.option(
    "--since",
    type=SINCE,
    help="Show only tasks active since then: 30m, 2h, 7d, a date or a time (default: the last day).",
)
@click.option("--failed", is_flag=True, help="Show only failed tasks.")
@click.option("--backend", metavar="BACKEND", help="Show only tasks of this backend.")
@click.option("--endpoint", metavar="EP", help="Show only tasks from or to this endpoint.")
@click.option("--label", metavar="TEXT", help="Show only tasks whose label contains this text.")
@click.option("--last", metavar="N", type=click.IntRange(1, int(COUNT.most)), help="Show only the last N tasks.")
@click.option(
    "--html", "page", metavar="FILE", type=click.Path(dir_okay=False), help="Write an HTML page to this file."
)
@config_option
@format_option
def activity(
    *,
    follow: bool,
    since: datetime | None,
    page: str | None,
    last: int | None,
    config: str | None,
    form: str,
    **asked: Any,
) -> None:
    """Show recent transfers and deletions, their speed and failures.

    It shows running and ended tasks of all workflows and commands that use the same journal, on every backend, for 30
    days. Times are local; with -F json each task is one line of JSON, and times are UTC.
    """
    if page is not None and (follow or form == "json"):
        raise click.UsageError("--html writes one page; omit --follow and -F.")
    if follow and last is not None:
        raise click.UsageError("--last applies to past tasks; omit --follow.")
    from chiltepin.transfers.activity import reader as reading  # noqa: PLC0415 - help needs no journal

    now = datetime.now(timezone.utc)
    reader = reading.ActivityReader(_folder(config), since=since or now - DAY)
    if follow:
        # Ctrl-C is the normal end of --follow.
        with contextlib.suppress(KeyboardInterrupt):
            _follow(reader, asked, as_json=form == "json", everything=since is not None)
        return
    records = [record for record in reader.news() if _is_asked(record, **asked)][-(last or 0) :]
    if page is not None:
        _write(page, records, since or now - DAY)
    elif form == "json":
        _print_lines(records)
    else:
        _show(records, since or now - DAY)


def _is_asked(
    record: TransferRecord, *, failed: bool, backend: str | None, endpoint: str | None, label: str | None
) -> bool:
    """Whether the options select a task."""
    return (
        (record.bad or not failed)
        and backend in (None, record.backend)
        and endpoint in (None, record.source, record.destination)
        and (label is None or label.casefold() in record.label.casefold())
    )


def _folder(config: str | None) -> str:
    from chiltepin.backends import registry  # noqa: PLC0415 - help needs no settings
    from chiltepin.settings import check, default_file, read  # noqa: PLC0415

    file = config or default_file()
    folder = check(read(file) if file else {}, backends=registry.names()).data.journal
    if not folder:
        raise ConfigError(f"{file} has 'journal: false', so no activity is recorded; remove it, or name a folder.")
    return folder


def _print_lines(records: Sequence[TransferRecord]) -> None:
    for record in records:
        click.echo(json.dumps(record.plain()))


def _show(records: Sequence[TransferRecord], since: datetime) -> None:
    """Print a table, then the failures and skipped paths, then a summary."""
    when = f"since {since.astimezone():%Y-%m-%d %H:%M}"
    if not records:
        further = datetime.now(timezone.utc) - since < WEEK
        click.echo(f"No activity {when}{'; for earlier tasks, add --since 7d' if further else ''}.")
        return
    shown = [at for at, name in enumerate(_HEAD) if _has_room() or name not in _ONLY_WIDE]
    rows = [_cells(record) for record in records]
    print_table([_HEAD[at] for at in shown], [[row[at] for at in shown] for row in rows])
    bad = [record for record in records if record.bad]
    for record in bad[-MAX_FAILURES_PRINTED:]:
        print_line(printable(_why(record)), name=printable("  ".join(record.told())))
    for record in [record for record in records if record.skipped_paths and not record.bad][-MAX_FAILURES_PRINTED:]:
        print_line(printable(record.remark), name=printable("  ".join(record.told())))
    if len(bad) > MAX_FAILURES_PRINTED:
        earlier = pluralize(len(bad) - MAX_FAILURES_PRINTED, "earlier failure")
        click.echo(f"And {earlier}; --html FILE and -F json list all of them.")
    living = sum(record.ended is None and record.followed for record in records)
    under_way = f", {living:,} running" if living else ""
    stopped = sum(record.state is TaskState.CANCELED for record in records)
    canceled = f", {stopped:,} canceled" if stopped else ""
    size = format_size(sum(record.bytes for record in records))
    done = f"{pluralize(sum(record.files for record in records), 'file')}, {size}"
    click.echo(f"{pluralize(len(records), 'task')} {when}: {len(bad):,} failed{canceled}{under_way}, {done}")


def _has_room() -> bool:
    """Return whether all columns fit; in a pipe they always do."""
    return not is_terminal(sys.stdout) or shutil.get_terminal_size().columns >= WIDE


def _cells(record: TransferRecord) -> list[str]:
    pair, what = record.told()
    return [
        f"{record.asked.astimezone():%m-%d %H:%M:%S}",
        record.shown,
        record.backend,
        pair,
        f"{record.files:,}",
        format_size(record.bytes) if record.kind == "transfer" else "-",
        "-" if record.speed is None else f"{format_size(record.speed)}/s",
        format_duration(record.lasted),
        f"{record.label}: {what}" if record.label else what,
    ]


def _why(record: TransferRecord) -> str:
    failed = f"{pluralize(record.failed, 'item')} of {record.count:,} failed. " if record.failed else ""
    code = f" ({record.code})" if record.code else ""
    return f"{failed}{record.remark or record.state.value}{code}"


def _follow(reader: ActivityReader, asked: dict[str, Any], *, as_json: bool, everything: bool) -> None:
    """Print new events until interrupted."""
    said: dict[str, tuple[str, str]] = {}
    first = not everything
    while True:
        for record in reader.news():
            if not _is_asked(record, **asked) or (first and (record.ended or not record.followed)):
                continue
            if as_json:
                _print_lines([record])
            elif said.get(record.name) != (record.shown, record.remark):
                said[record.name] = record.shown, record.remark
                click.echo(_line(record))
        first = False
        time.sleep(REFRESH_INTERVAL)


def _line(record: TransferRecord) -> str:
    color = "red" if record.bad else "green" if record.ended else "cyan"
    begun, state, _, pair, _, size, speed, duration, what = (printable(cell) for cell in _cells(record))
    why = f"  {printable(_why(record))}" if record.bad or record.remark else ""
    done = f"{pluralize(record.files, 'file')}, {size}, {speed}, {duration}" if record.ended else "running"
    return f"{begun}  {click.style(f'{state:<9}', fg=color)}  {pair}  {what}  {done}{why}"


def _write(page: str, records: Sequence[TransferRecord], since: datetime) -> None:
    from chiltepin.transfers.activity.page import write  # noqa: PLC0415 - for a page only

    try:
        size = write(page, records, since=since, now=datetime.now(timezone.utc))
    except OSError as err:
        raise ChiltepinError(f"Could not write the page to {page!r}: {err.strerror or err}.") from None
    click.echo(f"{printable(page)}: {pluralize(len(records), 'task')}, {format_size(size)}")
