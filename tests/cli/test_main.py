"""The ``chiltepin`` command."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import click
import pytest

from chiltepin import errors
from chiltepin.cli import main
from chiltepin.cli.exit_codes import exit_code

COMMAND = str(Path(sys.executable).with_name("chiltepin"))


def run(*words, **options):
    """Run the installed command."""
    return subprocess.run([COMMAND, *words], capture_output=True, text=True, check=False, timeout=60, **options)


def test_help_lists_every_command_with_what_it_does():
    """The help lists each subcommand with the text that begins the subcommand's own help."""
    listed = run("--help").stdout
    for name, what in main.COMMANDS.items():
        assert name in listed
        assert what in listed
        assert what in " ".join(run(name, "-h").stdout.split())


def test_the_version_is_the_packages():
    """--version prints the installed version."""
    assert run("--version").stdout.split()[-1] == version("chiltepin")


@pytest.mark.parametrize("words", [("dmo",), ("demo", "--foldr", "x")])
def test_a_word_that_it_does_not_know_is_a_usage_error(words):
    """An unknown command or option exits with 2, and the message names it."""
    ended = run(*words)
    assert ended.returncode == 2
    assert words[-1 if len(words) == 1 else 1] in ended.stderr


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.TaskFailedError("x"), 1),
        (errors.EndpointNotFoundError("x"), 1),
        (errors.ConfigError("x"), 2),
        (errors.LoginRequiredError("x"), 4),
        (errors.ConsentRequiredError("x"), 4),
    ],
)
def test_an_error_has_the_exit_code_of_its_kind(error, code):
    """The exit code is 1 for a failure, 2 for a wrong setting and 4 for a missing login, as in globus-cli."""
    assert exit_code(error) == code


def test_every_command_is_in_a_module_of_its_name():
    """Each command has one file, which can be loaded and contains a click command."""
    for name in main.COMMANDS:
        command = main.chiltepin.get_command(click.Context(main.chiltepin), name)
        assert isinstance(command, click.Command)
        assert command.name == name
