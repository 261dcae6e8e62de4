"""The types of arguments and options: an endpoint with a path, a filter, a time in the past, a number."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Callable

    from click.shell_completion import CompletionItem

    from chiltepin.settings.limits import Range

__all__ = ["ENDPOINT_PATH", "NAME_PATTERN", "SINCE", "EndpointPath", "NamePattern", "Number", "Since"]

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


class EndpointPath(click.ParamType):  # type: ignore[type-arg] # generic from click 8.4 on
    """An argument ``EP:PATH``, kept as text until the settings are read; shells complete endpoints."""

    name = "EP:PATH"

    def get_metavar(self, param: click.Parameter, *_: Any, **__: Any) -> str | None:
        """Return the name in the help."""
        return param.metavar or self.name

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Return the endpoints of the settings that start with the typed text."""
        from click.shell_completion import CompletionItem  # noqa: PLC0415 - for a shell only

        from chiltepin.cli.context import Context  # noqa: PLC0415 - help needs no settings
        from chiltepin.errors import ChiltepinError  # noqa: PLC0415

        del param
        context = Context(config=ctx.params.get("config"), backend=ctx.params.get("backend"))
        try:
            names = [f"{name}:" for name in context.settings.endpoints]
        except ChiltepinError:
            return []
        return [CompletionItem(name) for name in names if name.startswith(incomplete)]


ENDPOINT_PATH = EndpointPath()


class Since(click.ParamType):  # type: ignore[type-arg] # generic from click 8.4 on
    """A time in the past: an age (``2h``), a day (``2026-11-22``) or a time, local unless it names a zone."""

    name = "WHEN"

    def __init__(self, clock: Callable[[], datetime] = lambda: datetime.now(timezone.utc)) -> None:
        self._clock = clock

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Return the time in UTC."""
        now = self._clock()
        try:
            moment = _ago(value, now) or _moment(value)
        except (ValueError, OverflowError):
            self.fail(
                f"{value!r} is not a valid time; write a period, such as 30m, 2h or 7d, or a day such as "
                f"{now.astimezone():%Y-%m-%d}, or a time such as {now.astimezone():%Y-%m-%dT%H:%M}.",
                param,
                ctx,
            )
        if moment > now:
            self.fail(f"{value!r} is in the future; write a time in the past.", param, ctx)
        return moment


def _ago(text: str, now: datetime) -> datetime | None:
    match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)\s*([smhdw])", text.strip(), re.ASCII)
    return now - timedelta(**{_UNITS[match[2]]: float(match[1])}) if match else None


def _moment(text: str) -> datetime:
    # Python 3.10 does not parse Z.
    return datetime.fromisoformat(re.sub("[zZ]$", "+00:00", text.strip())).astimezone(timezone.utc)


SINCE = Since()


class NamePattern(click.ParamType):  # type: ignore[type-arg] # generic from click 8.4 on
    """A name filter, as in ``globus ls --filter``: ``~`` introduces a pattern with ``*``, which ignores case.

    ``=`` or no prefix means an exact name; a leading ``!`` inverts the filter.
    """

    name = "pattern"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Callable[[str], bool]:
        """Return a function that tells whether a name matches."""
        if "/" in value:
            self.fail(f"{value!r} contains a slash, which names cannot; write the folder in EP:PATH.", param, ctx)
        wanted = value.removeprefix("!")
        others = wanted != value
        if wanted.startswith("~"):
            match = re.compile(".*".join(map(re.escape, wanted[1:].split("*"))), re.IGNORECASE | re.DOTALL).fullmatch
            return lambda name: (match(name) is not None) is not others
        exact = wanted.removeprefix("=")
        return lambda name: (name == exact) is not others


NAME_PATTERN = NamePattern()


class Number(click.FloatRange):
    """A number in a range; click would call this type ``float range``."""

    name = "number"

    def __init__(self, numbers: Range) -> None:
        super().__init__(min=numbers.least, max=numbers.most, min_open=numbers.above)
        self._numbers = numbers

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the number; refuse nan, which click accepts."""
        number = float(super().convert(value, param, ctx))
        if not self._numbers.holds(number):
            self.fail(f"{number} is not a number.", param, ctx)
        return number
