"""``--since``: a moment, as people type it."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["SINCE", "Since"]

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


class Since(click.ParamType):  # type: ignore[type-arg] # generic from click 8.4 on
    """A moment in the past: so long ago (``2h``), a day (``2026-11-22``) or a time, local unless it names its zone."""

    name = "WHEN"

    def __init__(self, clock: Callable[[], datetime] = lambda: datetime.now(timezone.utc)) -> None:
        self._clock = clock

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Return the moment, in UTC."""
        now = self._clock()
        try:
            moment = _ago(value, now) or _moment(value)
        except (ValueError, OverflowError):
            self.fail(
                f"{value!r} is no time; write how long ago, such as 30m, 2h or 7d, or a day such as "
                f"{now.astimezone():%Y-%m-%d}, or a time such as {now.astimezone():%Y-%m-%dT%H:%M}.",
                param,
                ctx,
            )
        if moment > now:
            self.fail(f"{value!r} is still to come; write a time that is past.", param, ctx)
        return moment


def _ago(text: str, now: datetime) -> datetime | None:
    match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)\s*([smhdw])", text.strip(), re.ASCII)
    return now - timedelta(**{_UNITS[match[2]]: float(match[1])}) if match else None


def _moment(text: str) -> datetime:
    # Python 3.10 knows no Z.
    return datetime.fromisoformat(re.sub("[zZ]$", "+00:00", text.strip())).astimezone(timezone.utc)


SINCE = Since()
