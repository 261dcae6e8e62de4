"""The filter options, whose order on the command line matters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["FilterCommand", "filter_options"]

#: The method and the kind of the rules of each option.
_RULES = {
    "include": ("include", "file"),
    "exclude": ("exclude", "file"),
    "include_dirs": ("include", "dir"),
    "exclude_dirs": ("exclude", "dir"),
}

_HELP = {
    "include": "Include files whose name matches, despite a later --exclude. Repeatable.",
    "exclude": "Exclude files whose name matches, unless an earlier --include matches. Repeatable.",
    "include_dirs": "Include folders whose name matches, despite a later --exclude-dirs. Repeatable.",
    "exclude_dirs": "Exclude folders whose name matches and everything in them. Repeatable.",
}


class FilterCommand(click.Command):
    """A command whose parameter ``filters`` has the rules in command-line order."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments a second time to get their order: click groups the values of each option."""
        values, _, order = self.make_parser(ctx).parse_args(args=list(args))
        ctx.params["filters"] = [
            (_RULES[option.name][0], values[option.name].pop(0), _RULES[option.name][1])
            for option in order
            if option.name in _RULES
        ]
        return super().parse_args(ctx, args)


def filter_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the filter options to a function that becomes a `FilterCommand`."""
    for name in reversed(_RULES):
        option = click.option(
            f"--{name.replace('_', '-')}", multiple=True, metavar="PATTERN", expose_value=False, help=_HELP[name]
        )
        command = option(command)
    return command
