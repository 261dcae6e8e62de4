"""The reference page of the command line agrees with the command line."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from chiltepin.cli import main
from chiltepin.cli.exit_codes import INTERRUPTED

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "cli.md"
COMMANDS = sorted(main.COMMANDS)
#: Options of almost every command, which share one table.
COMMON = "--config FILE", "--backend NAME", "-F, --format [text|json]"


def command(name):
    """Return the click command with this name."""
    found = main.chiltepin.get_command(click.Context(main.chiltepin), name)
    assert found is not None
    return found


def options(found, *, common):
    """Yield the options of a command with their help: the common ones, or all others."""
    for param in found.params:
        if isinstance(param, click.Option):
            words, what = param.get_help_record(click.Context(found))
            what = re.sub(r"\s+", " ", what).replace("|", r"\|")
            # The --backend of activity selects the tasks to show.
            if (words in COMMON and not what.startswith("Only")) is common:
                yield f"`{words.replace('|', ' or ')}`", what


def table(name, found=None):
    """Return the expected option table of a command, or of a command in a group."""
    rows = [f"| {words} | {what} |" for words, what in options(found or command(name), common=False)]
    return "\n".join(["| option | meaning |", "|---|---|", *rows]) if rows else ""


def section(name):
    """Return the page's text below the heading of a command."""
    text = PAGE.read_text(encoding="utf-8")
    assert f"\n## {name}\n" in text, f"The page has no section about {name}."
    return text.partition(f"\n## {name}\n")[2].partition("\n## ")[0]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_option_is_on_the_page(name):
    """The section of a command has its usage, and a table of its options with their help from click."""
    context = click.Context(command(name), info_name=f"chiltepin {name}")
    usage = " ".join(command(name).collect_usage_pieces(context))
    assert f"`chiltepin {name} {usage}`" in section(name), f"`chiltepin {name} {usage}`"
    assert table(name) in section(name), table(name)


@pytest.mark.parametrize("name", [name for name in COMMANDS if isinstance(command(name), click.Group)])
def test_every_command_of_a_group_is_on_the_page(name):
    """The section of a group has the usage and the option table of each command in it."""
    for below, found in command(name).commands.items():
        _, *arguments = found.collect_usage_pieces(click.Context(found))
        words = " ".join((below, *arguments))
        usage = " ".join((f"chiltepin {name} {below} [OPTIONS]", *arguments))
        assert f"`{words}`" in section(name) or f"`{usage}`" in section(name)
        assert table(below, found) in section(name), table(below, found)


def common_rows():
    """Return the rows of the table of common options: each option, the commands without it, and its help."""
    missing = {}
    for name in COMMANDS:
        found = command(name)
        single = found.commands.values() if isinstance(found, click.Group) else [found]
        for one in single:
            for row in options(one, common=True):
                missing.setdefault(row, {*COMMANDS}).discard(name)
    return [
        f"| {words} | {', '.join(f'`{name}`' for name in sorted(names))} | {what} |"
        for (words, what), names in missing.items()
    ]


def test_the_common_options_are_on_the_page():
    """The table of common options lists, for each option, the commands without it."""
    text = PAGE.read_text(encoding="utf-8").partition("\n## Common options\n")[2].partition("\n## ")[0]
    assert re.findall(r"^\| `.*$", text, re.MULTILINE) == common_rows()


def test_the_page_has_no_command_that_is_not_there():
    """Each heading in lower case is the name of an existing command."""
    headings = re.findall(r"^## (\S+)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(heading for heading in headings if heading.islower()) == COMMANDS


def test_the_exit_codes_are_on_the_page():
    """The table of exit codes lists each code that the command line uses."""
    text = PAGE.read_text(encoding="utf-8").partition("\n## Exit codes\n")[2].partition("\n## ")[0]
    told = {int(code) for code in re.findall(r"^\| (\d+) \|", text, re.MULTILINE)}
    assert told == {0, 1, 2, 4, INTERRUPTED}
