"""``chiltepin logout``: log out of Globus and delete the stored tokens."""

from __future__ import annotations

import click

from chiltepin.cli.context import config_option, format_option
from chiltepin.cli.output import print_json

__all__ = ["logout"]


@click.command()
@config_option
@format_option
def logout(*, config: str | None, form: str) -> None:
    """Log out of Globus and delete the stored tokens."""
    from chiltepin.backends.globus import login as globus  # noqa: PLC0415 - help needs no SDK
    from chiltepin.cli.commands.login import globus_settings  # noqa: PLC0415

    client_id, _ = globus_settings(config)
    ended = globus.logout(client_id)
    if form == "json":
        print_json({"logged_out": ended})
    else:
        click.echo("Logged out." if ended else "You were not logged in.")
