"""The ``chiltepin`` command itself: it finds the subcommand, and turns errors into exit codes."""

from __future__ import annotations

import sys
from importlib import import_module

import click

from chiltepin.errors import ChiltepinError, ConfigError, LoginRequiredError

__all__ = ["COMMANDS", "chiltepin", "exit_code", "main"]

#: The subcommands: each is a function of its own name, in a module of its own name. They are loaded when they are
#: asked for, because a shell completes and a user reads help far more often than either moves data.
COMMANDS = {
    "demo": "Run a whole pipeline on this machine, offline, on real files.",
    "login": "Log in to Globus, once for all runs.",
    "logout": "End the login at Globus, and forget it here.",
    "simulate": "Run a Globus on this machine, for one command or for a shell.",
    "whoami": "Show who is logged in to Globus.",
}

#: What the shell gets to see; the same numbers as globus-cli's.
_EXIT_CODES: tuple[tuple[type[BaseException], int], ...] = (
    (LoginRequiredError, 4),
    (ConfigError, 2),
    (ChiltepinError, 1),
)


def exit_code(error: BaseException) -> int:
    """Return the exit code that an error stands for: 1 a failure, 2 a wrong setting, 4 a login that is missing."""
    return next((code for kind, code in _EXIT_CODES if isinstance(error, kind)), 1)


class _Commands(click.Group):
    """The subcommands, each loaded when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if cmd_name not in COMMANDS:
            return None
        command = getattr(import_module(f"chiltepin.cli.{cmd_name}"), cmd_name)
        return command if isinstance(command, click.Command) else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="chiltepin")
def chiltepin() -> None:
    """Move the data of scientific workflows."""


def main() -> None:
    """Run the command line, and leave with its exit code."""
    try:
        chiltepin.main(prog_name="chiltepin")
    except ChiltepinError as err:
        click.echo(f"chiltepin: {err}", err=True)
        sys.exit(exit_code(err))
