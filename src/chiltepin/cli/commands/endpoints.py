"""``chiltepin endpoints``: list the endpoints of the settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from chiltepin.cli.context import data_options
from chiltepin.cli.output import print_json, print_table

if TYPE_CHECKING:
    from chiltepin.cli.context import Context
    from chiltepin.settings import DataSettings

__all__ = ["endpoints"]

#: The key of an endpoint's location, for the built-in backends.
_WHERE = {"globus": "collection", "filesystem": "url", "local": "folder"}


@click.command()
@data_options
def endpoints(*, context: Context) -> None:
    """List the endpoints, their locations and backends.

    Nothing is contacted; `chiltepin check` does that.
    """
    settings = context.settings
    plain = [_plain(settings, name) for name in settings.endpoints]
    if context.json:
        print_json({"file": settings.file, "backend": settings.backend, "endpoints": plain})
        return
    head = ("Endpoint", f"On {settings.backend}", "Mount", "Home", "Also on")
    print_table(head, [_row(settings, one) for one in plain])
    if not plain:
        click.echo(f"{settings.file} declares no endpoint; add them below 'data: endpoints:'.", err=True)


def _plain(settings: DataSettings, name: str) -> dict[str, Any]:
    endpoint = settings.endpoints[name]
    served = dict(endpoint.places)
    active = settings.active_places.get(name)
    return {
        "name": name,
        "served": active is not None,
        "where": _where(settings.backend, active),
        "mount": (active or {}).get("mount"),
        "home": endpoint.home,
        "backends": {backend: _where(backend, place) for backend, place in served.items()},
    }


def _where(backend: str, place: dict[str, Any] | None) -> str | None:
    if place is None:
        return None
    first = next((str(value) for key, value in place.items() if key not in ("home", "mount", "options")), None)
    return str(place[_WHERE[backend]]) if _WHERE.get(backend) in place else first


def _row(settings: DataSettings, one: dict[str, Any]) -> list[str]:
    others = [backend for backend in one["backends"] if backend != settings.backend]
    where = one["where"] if one["served"] else "not on this backend"
    return [one["name"], where or "-", one["mount"] or "-", one["home"] or "-", ", ".join(others) or "-"]
