"""The ``chiltepin`` command: it loads the subcommand and turns errors into exit codes."""

from __future__ import annotations

import errno
import sys
from importlib import import_module
from typing import Any

import click

from chiltepin.cli.exit_codes import FAILURE, INTERRUPTED, exit_code
from chiltepin.cli.output import discard, print_error, stderr_may_fail
from chiltepin.errors import ChiltepinError, ConfigError, suggest

__all__ = ["COMMANDS", "chiltepin", "main"]

#: The subcommands: each is a function in the module of the same name, which is loaded only when needed, because
#: completion and help run far more often than transfers.
COMMANDS = {
    "activity": "Show recent transfers and deletions, their speed and failures.",
    "check": "Check each endpoint and explain how to fix what fails.",
    "compare": "Compare two files or folders.",
    "completion": "Print a script for shell completion.",
    "delete": "Delete a file or folder.",
    "demo": "Run an example pipeline on this machine, offline.",
    "endpoint": "Manage the Globus Compute endpoints of this machine.",
    "endpoints": "List the endpoints, their locations and backends.",
    "login": "Log in to Globus.",
    "logout": "Log out of Globus and delete the stored tokens.",
    "ls": "List a folder of an endpoint.",
    "mkdir": "Create a folder in an existing folder.",
    "rename": "Rename or move a file or folder on its endpoint.",
    "simulate": "Run a simulated Globus on this machine.",
    "stat": "Show the kind, size and modification time of a path.",
    "task": "List, show, wait for and cancel tasks.",
    "transfer": "Transfer a file or the contents of a folder.",
    "whoami": "Show who is logged in to Globus.",
}

#: Errors of a write to stdout; click handles a closed pipe (EPIPE).
OUTPUT_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF})


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if cmd_name not in COMMANDS:
            return None
        command = getattr(import_module(f"chiltepin.cli.commands.{cmd_name}"), cmd_name)
        return command if isinstance(command, click.Command) else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            ctx.fail(f"No such command {args[0]!r}; {suggest(args[0], COMMANDS)}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="chiltepin")
def chiltepin() -> None:
    """Move the data of scientific workflows."""


def main() -> None:
    """Run the command line, and exit with its code."""
    try:
        sys.exit(_run())
    except ChiltepinError as err:
        # A ConfigError has one line for each problem; any other message may quote a service and stays on one line.
        for line in str(err).split("\n") if isinstance(err, ConfigError) else [str(err)]:
            print_error(line)
        sys.exit(exit_code(err))
    except click.ClickException as err:
        with stderr_may_fail():
            err.show()
        sys.exit(err.exit_code)
    except click.Abort as err:
        # click raises this on Ctrl-C, or when a prompt was answered with no or not at all.
        from chiltepin.transfers import interpreter_exit  # noqa: PLC0415 - help needs no transfers

        interrupted = isinstance(err.__cause__ or err.__context__, KeyboardInterrupt)
        interpreter_exit.note(type(err).__name__)
        print_error("Interrupted." if interrupted else "Nothing was done.")
        sys.exit(INTERRUPTED if interrupted else FAILURE)


def _run() -> Any:
    """Run the command and return its exit code; a failed output or working directory becomes a ``ChiltepinError``."""
    try:
        return chiltepin.main(prog_name="chiltepin", standalone_mode=False)
    except FileNotFoundError:
        from chiltepin.settings import working_folder  # noqa: PLC0415 - for this error only

        # A relative path in a deleted folder is such an error.
        working_folder()
        raise
    except OSError as err:
        if err.errno not in OUTPUT_ERRORS or err.filename is not None:
            raise
        reason = err.strerror
    discard(sys.stdout)
    raise ChiltepinError(f"Could not write the output: {reason}; make room there, or write it to another place.")
