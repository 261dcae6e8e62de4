"""``chiltepin logout``: end the login at Globus, and forget it here."""

from __future__ import annotations

import click

__all__ = ["logout"]


@click.command()
def logout() -> None:
    """End the login at Globus, and forget it here."""
    from chiltepin.backends.globus import login as globus  # noqa: PLC0415 - help needs no SDK
    from chiltepin.cli.login import globus_settings  # noqa: PLC0415

    client_id, _ = globus_settings()
    click.echo("Logged out." if globus.logout(client_id) else "Nobody was logged in.")
