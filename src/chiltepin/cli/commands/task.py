"""``chiltepin task``: tasks by their ids, whatever program submitted them."""

from __future__ import annotations

import fnmatch
import sys
from itertools import islice
from typing import TYPE_CHECKING, Any

import click

from chiltepin.cli.context import data_options
from chiltepin.cli.exit_codes import FAILURE
from chiltepin.cli.output import print_error, print_json, print_table
from chiltepin.cli.params import Number
from chiltepin.errors import printable
from chiltepin.model import TaskState
from chiltepin.settings.limits import SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from chiltepin.cli.context import Context
    from chiltepin.model import TaskEvent, TaskInfo
    from chiltepin.transfers.task_catalog import TaskCatalog

__all__ = ["task"]

#: The task statuses of Globus, and which tasks have each.
_STATUSES: dict[str, Callable[[TaskInfo], bool]] = {
    "ACTIVE": lambda info: not info.status.state.final and info.status.code != "INACTIVE",
    "INACTIVE": lambda info: info.status.code == "INACTIVE" and not info.status.state.final,
    "SUCCEEDED": lambda info: info.status.state is TaskState.SUCCEEDED,
    "FAILED": lambda info: info.status.state.final and info.status.state is not TaskState.SUCCEEDED,
}

_limit = click.option(
    "--limit", type=click.IntRange(1), default=10, show_default=True, help="Maximum number of entries to show."
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def task() -> None:
    """List, show, wait for and cancel tasks.

    On a service these are all your tasks, submitted by --detach, a workflow or another machine. On other backends they
    are the tasks in the journal.
    """


def _catalog(context: Context) -> TaskCatalog:
    from chiltepin.transfers.task_catalog import open_catalog  # noqa: PLC0415 - help needs no backend

    return open_catalog(context.transfers.backend, context.settings.journal)


@task.command("list")
@_limit
@click.option("--filter-status", multiple=True, type=click.Choice(list(_STATUSES)), help="Only these. Repeatable.")
@click.option("--filter-type", type=click.Choice(["TRANSFER", "DELETE"]), help="Show only transfers or only deletions.")
@click.option(
    "--filter-label",
    multiple=True,
    metavar="PATTERN",
    help="Show only tasks with this label; * matches any text. Repeatable.",
)
@data_options
def list_tasks(
    *,
    context: Context,
    limit: int,
    filter_status: tuple[str, ...],
    filter_type: str | None,
    filter_label: tuple[str, ...],
) -> None:
    """List the newest tasks."""

    def wanted(info: TaskInfo) -> bool:
        return (
            (not filter_status or any(_STATUSES[status](info) for status in filter_status))
            and filter_type in (None, info.kind.upper())
            and (not filter_label or any(fnmatch.fnmatch(info.label.lower(), one.lower()) for one in filter_label))
        )

    found = list(islice(filter(wanted, _catalog(context).tasks()), limit))
    if context.json:
        print_json([_plain(info) for info in found])
        return
    rows = [
        (
            info.status.handle.task_id,
            info.status.state.name,
            info.kind.upper(),
            info.source,
            info.destination or "-",
            info.label or "-",
        )
        for info in found
    ]
    print_table(("Task ID", "Status", "Type", "Source", "Destination", "Label"), rows)


@task.command("show")
@click.argument("task_id")
@data_options
def show(*, context: Context, task_id: str) -> None:
    """Show one task and its errors."""
    info = _catalog(context).task(task_id)
    if context.json:
        print_json(_plain(info))
        return
    status = info.status
    lines = {
        "Label": info.label or "-",
        "Task ID": status.handle.task_id,
        "Type": info.kind.upper(),
        "Status": status.state.name,
        "Is Paused": str(status.state is TaskState.PAUSED),
        "Request Time": _time(info.asked),
        "Completion Time" if info.ended else "Deadline": _time(info.ended or info.deadline),
        "Source": info.source,
        "Destination": info.destination or "-",
        "Files": f"{status.files_done:,}",
        "Bytes Transferred": f"{status.bytes_done:,}",
        "Files Skipped": f"{status.files_skipped:,}",
        "Faults": f"{status.faults:,}",
        "Details": f"{status.code}: {status.reason}" if status.code else status.reason or "OK",
    }
    for name, value in lines.items():
        click.echo(f"{f'{name}:':<19}{printable(value)}")


@task.command("wait")
@click.argument("task_id")
@click.option(
    "--timeout", type=Number(SECONDS), metavar="SECONDS", help="Wait at most this long (default: until the task ends)."
)
@click.option(
    "--polling-interval",
    type=Number(SECONDS),
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="Interval between polls of the task.",
)
@click.option("-H", "--heartbeat", is_flag=True, help="Print a dot to stderr at each poll.")
@click.option(
    "--timeout-exit-code",
    default=FAILURE,
    show_default=True,
    type=int,
    help="Exit status on a timeout: 0, 1 or 50 to 99.",
)
@data_options
def wait(
    *,
    context: Context,
    task_id: str,
    timeout: float | None,
    polling_interval: float,
    heartbeat: bool,
    timeout_exit_code: int,
) -> None:
    """Wait for the end of a task.

    The exit code is 0 if the task succeeded, and 1 if it failed or after the timeout, which does not
    stop the task.
    """
    from chiltepin.transfers.task_catalog import wait_for  # noqa: PLC0415 - help needs no backend

    if timeout_exit_code not in (0, 1, *range(50, 100)):
        raise click.BadParameter("must be 0, 1 or 50 to 99.", param_hint="--timeout-exit-code")
    beats = 0

    def waiting() -> None:
        nonlocal beats
        beats += 1
        if heartbeat:
            click.echo(".", err=True, nl=False)

    info = wait_for(_catalog(context), task_id, timeout=timeout, interval=polling_interval, waiting=waiting)
    if heartbeat and beats:
        click.echo(err=True)
    if context.json:
        print_json(_plain(info))
    if not info.status.state.final:
        print_error(f"Task {task_id} has yet to complete after {timeout:g} seconds.")
        sys.exit(timeout_exit_code)
    if info.status.state is not TaskState.SUCCEEDED:
        print_error(f"Task {task_id} ended {info.status.state.name} ({info.status.code}): {info.status.reason}")
        sys.exit(FAILURE)


@task.command("cancel")
@click.argument("task_id", required=False)
@click.option("-a", "--all", "every", is_flag=True, help="Cancel all active tasks.")
@data_options
def cancel(*, context: Context, task_id: str | None, every: bool) -> None:
    """Request the cancellation of one task or all tasks."""
    if (task_id is None) is not every:
        raise click.UsageError("Give either one task ID or --all.")
    catalog = _catalog(context)
    doomed = _live(catalog) if task_id is None else [task_id]
    if not doomed:
        raise click.ClickException("You have no active tasks.")
    results = []
    for one in doomed:
        asked = catalog.cancel(one)
        results.append({"task_id": one, "code": "Canceled" if asked else "TaskComplete"})
        if not context.json:
            said = "Cancellation requested." if asked else "The task had ended before it could be canceled."
            click.echo(f"{one}: {said}" if every else said)
    if context.json:
        print_json(results)


def _live(catalog: TaskCatalog) -> list[str]:
    return [info.status.handle.task_id for info in catalog.tasks() if not info.status.state.final]


@task.command("events")
@click.argument("task_id")
@_limit
@click.option("--filter-errors", is_flag=True, help="Show only errors.")
@click.option("--filter-non-errors", is_flag=True, help="Show only events that are not errors.")
@data_options
def events(*, context: Context, task_id: str, limit: int, filter_errors: bool, filter_non_errors: bool) -> None:
    """List the newest events of a task."""
    if filter_errors and filter_non_errors:
        raise click.UsageError("--filter-errors and --filter-non-errors exclude each other; omit one.")
    # Filtered here, from as many events as a service returns at once.
    some = filter_errors or filter_non_errors
    listed = _catalog(context).events(task_id, limit=1000 if some else limit)
    found = [event for event in listed if not some or event.is_error is filter_errors][:limit]
    if context.json:
        print_json([_plain_event(event) for event in found])
        return
    rows = [(_time(event.time), event.code, str(event.is_error), event.details) for event in found]
    print_table(("Time", "Code", "Is Error", "Details"), rows)


def _time(moment: datetime | None) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S}" if moment else "-"


def _plain(info: TaskInfo) -> dict[str, Any]:
    status = info.status
    return {
        "task_id": status.handle.task_id,
        "backend": status.handle.backend,
        "kind": info.kind,
        "state": status.state.value,
        "code": status.code,
        "reason": status.reason,
        "source": info.source,
        "destination": info.destination or None,
        "label": info.label,
        "asked": info.asked.isoformat(),
        "ended": info.ended.isoformat() if info.ended else None,
        "deadline": info.deadline.isoformat() if info.deadline else None,
        "bytes_done": status.bytes_done,
        "files_done": status.files_done,
        "files_skipped": status.files_skipped,
        "faults": status.faults,
    }


def _plain_event(event: TaskEvent) -> dict[str, Any]:
    return {
        "time": event.time.isoformat(),
        "code": event.code,
        "is_error": event.is_error,
        "details": event.details,
    }
