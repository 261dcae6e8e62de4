"""``chiltepin whoami``: show who is logged in to Globus."""

from __future__ import annotations

import json

import click

__all__ = ["whoami"]


@click.command()
@click.option(
    "-F",
    "--format",
    "form",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="For people, or for programs.",
)
def whoami(form: str) -> None:
    """Show who is logged in to Globus."""
    from chiltepin.backends.globus import login as globus  # noqa: PLC0415 - help needs no SDK
    from chiltepin.cli.login import globus_settings  # noqa: PLC0415

    client_id, _ = globus_settings()
    identity = globus.whoami(client_id)
    if form == "json":
        shown = {"username": identity.username, "identity_id": identity.identity_id, "client_id": identity.client_id}
        click.echo(json.dumps(shown))
    else:
        click.echo(f"{identity.username}\nIdentity: {identity.identity_id}")
