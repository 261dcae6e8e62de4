"""``chiltepin endpoint``: the Globus Compute endpoints of this machine."""

from __future__ import annotations

import click

__all__ = ["endpoint"]


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "-c", "--config", "config_dir", metavar="DIR", help="Folder of the endpoints, instead of ~/.globus_compute."
)
@click.pass_context
def endpoint(context: click.Context, config_dir: str | None) -> None:
    """Manage the Globus Compute endpoints of this machine."""
    context.obj = config_dir


@endpoint.command()
@click.argument("name")
@click.pass_obj
def configure(config_dir: str | None, name: str) -> None:
    """Create the files of an endpoint, whose template accepts every key of a resource."""
    from chiltepin import endpoint as endpoints  # noqa: PLC0415 - help does not need it

    endpoints.configure(name, config_dir)
    click.echo(f"Configured {name}; to start it, run: chiltepin endpoint start {name}")


@endpoint.command(name="list")
@click.pass_obj
def list_(config_dir: str | None) -> None:
    """List the endpoints of this machine, with UUID and status."""
    from chiltepin import endpoint as endpoints  # noqa: PLC0415

    found = endpoints.show(config_dir)
    width = max(map(len, found), default=0)
    for name, one in found.items():
        click.echo(f"{name:<{width}} {one['id'] or 'None':<36} {one['status']}")
    if not found:
        click.echo("No endpoints are configured")


@endpoint.command()
@click.argument("name")
@click.pass_obj
def start(config_dir: str | None, name: str) -> None:
    """Start an endpoint in the background, and wait until it is running."""
    from chiltepin import endpoint as endpoints  # noqa: PLC0415

    endpoints.start(name, config_dir)


@endpoint.command()
@click.argument("name")
@click.pass_obj
def stop(config_dir: str | None, name: str) -> None:
    """Stop an endpoint, and wait until it has ended."""
    from chiltepin import endpoint as endpoints  # noqa: PLC0415

    endpoints.stop(name, config_dir)


@endpoint.command()
@click.argument("name")
@click.pass_obj
def delete(config_dir: str | None, name: str) -> None:
    """Delete an endpoint that is not running, here and at Globus Compute."""
    from chiltepin import endpoint as endpoints  # noqa: PLC0415

    endpoints.delete(name, config_dir)
