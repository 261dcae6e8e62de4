"""From the words of a command to requests: shared options, errors of usage, and the dry run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import click

from chiltepin.cli.output import in_options, print_json
from chiltepin.cli.params import Number
from chiltepin.errors import ChiltepinError, printable
from chiltepin.settings.limits import SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from chiltepin.cli.context import Desk
    from chiltepin.model import Request

__all__ = ["asked", "label_option", "show_requests", "timeout_option"]

T = TypeVar("T")

#: A day, as a task has at Globus if nobody says otherwise (docs.globus.org, "Task Behavior", 3).
DAY = 86400.0


label_option = click.option("--label", default="", metavar="TEXT", help="A name for people, at most 128 characters.")
timeout_option = click.option(
    "--timeout",
    type=Number(SECONDS),
    default=DAY,
    metavar="SECONDS",
    help="Stop what is not done by then; after a day, if not given.",
)


def asked(make: Callable[..., T], **given: Any) -> T:
    """Return what ``make`` makes of arguments; one that makes no sense is an error of usage."""
    try:
        return make(**given)
    except ChiltepinError:
        raise
    except (TypeError, ValueError) as err:
        raise click.UsageError(in_options(str(err))) from None


def show_requests(desk: Desk, requests: Sequence[Request]) -> None:
    """Print what would be asked for."""
    from chiltepin.transfers.journal.events import request_to_json  # noqa: PLC0415 - for a dry run only

    plain = [{"backend": desk.settings.backend, **request_to_json(request)} for request in requests]
    for one in plain:
        # What a submission decides.
        for key in ("deadline", "skip_source_errors"):
            one.pop(key, None)
    if desk.json:
        print_json(plain)
        return
    for one in plain:
        items = one.pop("items", None) or [(path,) for path in one.pop("paths")]
        click.echo(f"{one.pop('kind')} (nothing is submitted)")
        for key, value in one.items():
            if value not in (None, "", [], ()):
                click.echo(f"  {key}: {printable(_text(value))}")
        for item in items:
            click.echo(f"  - {' -> '.join(map(printable, item[:2]))}{''.join(f' ({text})' for text in item[2:])}")


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(" ".join(map(str, one)) for one in value)
    return str(value)
