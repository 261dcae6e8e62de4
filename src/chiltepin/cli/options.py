"""Turn the arguments of a command into requests: shared options, usage errors, and the dry run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import click

from chiltepin.cli.output import print_json, with_option_names
from chiltepin.cli.params import Number
from chiltepin.errors import ChiltepinError, printable
from chiltepin.settings.limits import SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from chiltepin.cli.context import Context
    from chiltepin.model import Request

__all__ = ["label_option", "parse_request", "show_requests", "timeout_option"]

T = TypeVar("T")

#: A day, the default of Globus (docs.globus.org, "Task Behavior", 3).
DAY = 86400.0


label_option = click.option("--label", default="", metavar="TEXT", help="A name for people, at most 128 characters.")
timeout_option = click.option(
    "--timeout",
    type=Number(SECONDS),
    default=DAY,
    metavar="SECONDS",
    help="Stop what is not done by then; after a day, if not given.",
)


def parse_request(make: Callable[..., T], **given: Any) -> T:
    """Return the result of ``make``; an invalid argument becomes a usage error."""
    try:
        return make(**given)
    except ChiltepinError:
        raise
    except (TypeError, ValueError) as err:
        raise click.UsageError(with_option_names(str(err))) from None


def show_requests(context: Context, requests: Sequence[Request]) -> None:
    """Print requests instead of submitting them."""
    from chiltepin.transfers.journal.events import request_to_json  # noqa: PLC0415 - for a dry run only

    plain = [{"backend": context.settings.backend, **request_to_json(request)} for request in requests]
    for one in plain:
        # Decided at submission.
        for key in ("deadline", "skip_source_errors"):
            one.pop(key, None)
    if context.json:
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
