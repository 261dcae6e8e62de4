"""``EP:PATH``: an endpoint and a path on it, in one word."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from chiltepin.model import UUID

if TYPE_CHECKING:
    from collections.abc import Collection

    from click.shell_completion import CompletionItem

__all__ = ["ENDPOINT_PATH", "EndpointPath", "Location", "parse"]


class Location(NamedTuple):
    """An endpoint, and what was written after it; ``path`` is None where there is no colon."""

    endpoint: str
    path: str | None


def parse(text: str, declared: Collection[str]) -> Location:
    """Return the endpoint and the path that a word means.

    Parameters
    ----------
    text : str
        What was typed.
    declared : collection of str
        The endpoints of the settings, whose names win over every other reading, the longest first.

    Returns
    -------
    Location
        A name that is not declared ends at the colon before the first ``:/`` or ``:~``, so that a display name may hold
        colons; without any of these, at the first colon.
    """
    if text in declared:
        return Location(text, None)
    for name in sorted(declared, key=len, reverse=True):
        if text.startswith(f"{name}:"):
            return Location(name, text[len(name) + 1 :])
    if match := UUID.match(text):
        rest = text[match.end() :]
        if rest[:1] in ("", ":"):
            return Location(match.group(), rest[1:] if rest else None)
    absolute = re.search(r":(?=[/~])", text)
    split = absolute.start() if absolute else text.find(":")
    return Location(text, None) if split < 0 else Location(text[:split], text[split + 1 :])


class EndpointPath(click.ParamType):  # type: ignore[type-arg] # generic from click 8.4 on
    """The type of an argument ``EP:PATH``; it stays text until the settings are read, and completes endpoints."""

    name = "EP:PATH"

    def get_metavar(self, param: click.Parameter, *_: Any, **__: Any) -> str | None:
        """Return what the help calls it."""
        return param.metavar or self.name

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Return the endpoints of the settings that begin so."""
        from click.shell_completion import CompletionItem  # noqa: PLC0415 - for a shell only

        from chiltepin.cli.context import Desk  # noqa: PLC0415 - help needs no settings
        from chiltepin.errors import ChiltepinError  # noqa: PLC0415

        del param
        desk = Desk(config=ctx.params.get("config"), backend=ctx.params.get("backend"))
        try:
            names = [f"{name}:" for name in desk.settings.endpoints]
        except ChiltepinError:
            return []
        return [CompletionItem(name) for name in names if name.startswith(incomplete)]


ENDPOINT_PATH = EndpointPath()
