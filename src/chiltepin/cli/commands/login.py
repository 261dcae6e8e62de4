"""``chiltepin login``: log in to Globus, once for all runs."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Any

import click

from chiltepin.backends import registry
from chiltepin.cli.context import config_option, format_option
from chiltepin.cli.output import print_json
from chiltepin.settings import check, default_file, read

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["globus_settings", "login"]


def globus_settings(config: str | None) -> tuple[str | None, Mapping[str, Mapping[str, Any]]]:
    """Return the client and the endpoints of Globus in the settings; both empty without a settings file."""
    file = config or default_file()
    if file is None:
        return None, {}
    data = check(read(file), backends=registry.names()).data
    return data.options("globus").get("client_id"), data.places("globus")


@click.command()
@click.option(
    "--consent", multiple=True, metavar="ENDPOINT", help="Allow Chiltepin to access data on this endpoint. Repeatable."
)
@click.option("--force", is_flag=True, help="Log in again, even if you are logged in.")
@click.option(
    "--no-local-server", is_flag=True, help="Print a link and prompt for a code instead of opening a browser."
)
@click.option(
    "--session-domain", multiple=True, metavar="DOMAIN", help="Log in with an identity of this domain. Repeatable."
)
@click.option("--session-identity", multiple=True, metavar="ID", help="Log in with this identity. Repeatable.")
@click.option("--session-policy", multiple=True, metavar="ID", help="Log in as this policy requires. Repeatable.")
@click.option("--session-mfa", is_flag=True, help="Log in with a second factor.")
@config_option
@format_option
def login(
    *,
    consent: tuple[str, ...],
    force: bool,
    no_local_server: bool,
    session_domain: tuple[str, ...],
    session_identity: tuple[str, ...],
    session_policy: tuple[str, ...],
    session_mfa: bool,
    config: str | None,
    form: str,
) -> None:
    """Log in to Globus.

    A browser opens; without one, open the printed link on any machine, and enter the code that it shows. The login
    lasts until `chiltepin logout`, or until it is unused for six months.
    """
    from chiltepin.backends.globus import login as globus  # noqa: PLC0415 - help needs no SDK

    if sys.stdout is None or sys.stderr is None:
        raise click.UsageError("A login prints a link and asks for a code; do not close standard output or error.")
    client_id, places = globus_settings(config)
    session = globus.Session(
        domains=session_domain, identities=session_identity, policies=session_policy, mfa=session_mfa
    )
    # With JSON, a program reads stdout; the SDK's link and its prompt for the code are for the user.
    with contextlib.redirect_stdout(sys.stderr if form == "json" else sys.stdout):
        identity = globus.login(
            client_id,
            places=places,
            consent=consent,
            session=session,
            force=force,
            browser=not no_local_server,
            say=click.echo,
        )
    if form == "json":
        print_json({"username": identity.username, "identity_id": identity.identity_id})
