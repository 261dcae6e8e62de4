"""Turn the arguments of a command into requests: shared options, usage errors, and the dry run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import click

from chiltepin.cli.output import print_json, with_option_names
from chiltepin.cli.params import Number
from chiltepin.errors import ChiltepinError, printable
from chiltepin.settings.limits import COUNT, SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from chiltepin.cli.context import Context
    from chiltepin.model import Request

__all__ = [
    "delete_options",
    "label_option",
    "parse_request",
    "show_requests",
    "timeout_option",
    "transfer_options",
    "workers_option",
]

T = TypeVar("T")

#: A day, the default of Globus (docs.globus.org, "Task Behavior", 3).
DAY = 86400.0


label_option = click.option("--label", default="", metavar="TEXT", help="Label of the task, at most 128 characters.")
timeout_option = click.option(
    "--timeout",
    type=Number(SECONDS),
    default=DAY,
    metavar="SECONDS",
    help="Stop the task after this time (default: 1 day).",
)
workers_option = click.option(
    "--workers",
    type=click.IntRange(min=int(COUNT.least), max=int(COUNT.most)),
    metavar="N",
    help="Number of worker processes for one folder (default: as in the settings).",
)


_skip = click.option("--skip-source-errors", is_flag=True, help="Skip source files that are missing or unreadable.")
_encrypt = click.option("--encrypt-data/--no-encrypt-data", default=None, help="Encrypt data in transit.")
_quota = click.option(
    "--fail-on-quota-errors/--no-fail-on-quota-errors", default=None, help="Fail on the first quota error."
)
_algorithm = click.option(
    "--checksum-algorithm", default="", metavar="NAME", help="Verify files with md5, sha1, sha256 or sha512."
)
_deadline = click.option(
    "--deadline",
    type=click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S"]),
    metavar="TIME",
    help="Stop the task at this time (UTC), such as 2030-01-31T12:00:00.",
)
_notify = click.option(
    "--notify", metavar="EVENTS", help="E-mail notifications: on, off, or a list of succeeded,failed,inactive."
)
_submission_id = click.option(
    "--submission-id", default="", metavar="UUID", help="UUID of the submission; a repeated UUID starts no second task."
)


def _local_user(option: str, where: str) -> Callable[..., Any]:
    return click.option(option, default="", metavar="NAME", help=f"Local account to use {where}.")


def transfer_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the service options of a transfer; a backend refuses those that it lacks."""
    users = (
        _local_user("--source-local-user", "at the source"),
        _local_user("--destination-local-user", "at the destination"),
    )
    return _decorated(command, _skip, _encrypt, _quota, _algorithm, *users, _notify, _deadline, _submission_id)


def delete_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the service options of a deletion; a backend refuses those that it lacks."""
    return _decorated(command, _local_user("--local-user", "on the endpoint"), _notify, _deadline, _submission_id)


def _decorated(command: Callable[..., Any], *options: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(options):
        command = option(command)
    return command


def parse_request(make: Callable[..., T], **given: Any) -> T:
    """Return the result of ``make``; an invalid argument becomes a usage error."""
    try:
        return make(**given)
    except ChiltepinError:
        raise
    except (TypeError, ValueError) as err:
        raise click.UsageError(with_option_names(str(err))) from None


def show_requests(context: Context, requests: Sequence[Request]) -> None:
    """Print requests, and what they would move and delete, instead of submitting them."""
    from chiltepin.cli import dry_run  # noqa: PLC0415
    from chiltepin.transfers.journal.events import request_to_json  # noqa: PLC0415 - for a dry run only

    plain = [{"backend": context.settings.backend, **request_to_json(request)} for request in requests]
    for one in plain:
        # The user requests accept_skipped; Chiltepin decides skip_source_errors at submission.
        one.pop("skip_source_errors", None)
        if one.pop("accept_skipped", False):
            one["skip_source_errors"] = True
        if one["deadline"] is None:
            del one["deadline"]
    if context.json:
        print_json([{**one, **dry_run.found(context, request)} for one, request in zip(plain, requests, strict=True)])
        return
    for one, request in zip(plain, requests, strict=True):
        items = one.pop("items", None) or [(path,) for path in one.pop("paths")]
        click.echo(f"{one.pop('kind')} (nothing is submitted)")
        for key, value in one.items():
            if value not in (None, "", [], ()):
                click.echo(f"  {key}: {printable(_text(value))}")
        for item in items:
            click.echo(f"  - {' -> '.join(map(printable, item[:2]))}{''.join(f' ({text})' for text in item[2:])}")
        dry_run.show(context, request)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(one if isinstance(one, str) else " ".join(map(str, one)) for one in value)
    return str(value)
