"""The options of ``chiltepin simulate``: collections, and failures of requests."""

from __future__ import annotations

import os
import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from chiltepin.model import UUID

if TYPE_CHECKING:
    from chiltepin.testing.simulator import Simulator

__all__ = ["FAULT", "Fault", "Place", "collections", "settings_collections"]


class Place(NamedTuple):
    """A collection: its name, its folder, and its UUID if that is not derived from the name."""

    name: str
    folder: str
    id: str = ""


def collections(ctx: click.Context, param: click.Parameter, given: tuple[str, ...]) -> list[Place]:
    """Return the collections of ``NAME=FOLDER`` words."""
    found: dict[str, Place] = {}
    for word in given:
        name, equals, folder = word.partition("=")
        # No shell expands a ~ in the middle of a word.
        folder = os.path.abspath(os.path.expanduser(folder)) if folder else ""
        wrong = ""
        if not (name and equals and folder and word.isprintable()):
            wrong = f"{word!r} is not NAME=FOLDER; write, for example, my-laptop=/tmp/laptop."
        elif name in found:
            both = f"{found[name].folder} and {folder}"
            wrong = f"{name!r} is given twice, for {both}; use each collection name once."
        elif os.path.exists(folder) and not os.path.isdir(folder):
            wrong = f"{folder} is a file; choose a folder for {name!r}."
        if wrong:
            raise click.BadParameter(wrong, ctx=ctx, param=param)
        found[name] = Place(name, folder)
    return list(found.values())


def settings_collections() -> list[Place]:
    """Return a collection for each endpoint of the settings: the folder of backend ``local``, with the UUID for Globus.

    The same workflow and settings then run on the simulator. Missing settings or endpoints are a usage error.
    """
    from chiltepin.cli.context import Context  # noqa: PLC0415 - help needs no settings
    from chiltepin.settings import default_file  # noqa: PLC0415

    found: dict[str, Place] = {}
    if default_file() is not None:
        settings = Context(backend="local").settings
        for name, endpoint in settings.endpoints.items():
            collection = endpoint.places.get("globus", {}).get("collection", "")
            known = collection if UUID.fullmatch(collection) else ""
            # If two endpoints have one collection, the first in the file gets its UUID, as on the backend local.
            found.setdefault(known or name, Place(name, settings.active_places[name]["mount"], known))
    if not found:
        raise click.UsageError(
            "Missing option '--collection', and no settings file declares endpoints; "
            "write, for example, --collection my-laptop=/tmp/laptop."
        )
    return list(found.values())


class Fault(NamedTuple):
    """A failure of the next requests with this method, if any, and this text in their path.

    If ``status`` is None, the simulator performs the request and closes the connection without a response.
    """

    method: str | None
    path: str
    status: int | None
    times: int

    def inject(self, simulator: Simulator) -> None:
        """Make the simulator fail these requests."""
        if self.status is None:
            simulator.fail_next(self.times, method=self.method, path=self.path, drop=True, after=True)
            return
        code = HTTPStatus(self.status).phrase.title().replace(" ", "")
        simulator.fail_next(self.times, self.status, code, method=self.method, path=self.path)


class _FaultType(click.ParamType):  # type: ignore[type-arg] # generic from click 8.4 on
    """``[METHOD ]PATH:STATUS[:TIMES]``."""

    name = "[METHOD ]PATH:STATUS[:TIMES]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Fault:
        """Return the failure that a word describes."""
        match = re.fullmatch(
            r"\s*(?:([A-Za-z]+)\s+)?(/\S*?):(drop|[45][0-9]{2})(?::([1-9][0-9]{0,8}))?\s*", value, re.ASCII
        )
        known = {str(int(status)) for status in HTTPStatus} | {"drop"}
        if match is None or match[3] not in known:
            self.fail(
                f"{value!r} is not a valid failure; write '[METHOD ]PATH:STATUS[:TIMES]' with an HTTP error status, or "
                "'drop' to lose the response, such as 'POST /transfer:503:2'.",
                param,
                ctx,
            )
        method = match[1].upper() if match[1] else None
        status = None if match[3] == "drop" else int(match[3])
        return Fault(method, match[2], status, int(match[4] or 1))


FAULT = _FaultType()
