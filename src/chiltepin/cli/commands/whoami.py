"""``chiltepin whoami``: show who is logged in to Globus."""

from __future__ import annotations

import click

from chiltepin.cli.context import config_option, format_option
from chiltepin.cli.output import print_json
from chiltepin.errors import printable

__all__ = ["whoami"]


@click.command()
@config_option
@format_option
def whoami(*, config: str | None, form: str) -> None:
    """Show who is logged in to Globus."""
    from chiltepin.backends.globus import login as globus  # noqa: PLC0415 - help needs no SDK
    from chiltepin.cli.commands.login import globus_settings  # noqa: PLC0415

    client_id, _ = globus_settings(config)
    identity = globus.whoami(client_id)
    if form == "json":
        shown = {"username": identity.username, "identity_id": identity.identity_id, "client_id": identity.client_id}
        print_json(shown)
    else:
        click.echo(f"{printable(identity.username)}\nIdentity: {printable(identity.identity_id)}")
