"""How the fenced blocks of a page are tested.

- ``python`` is run, in the order of the page and with the variables of earlier blocks; a block whose first line is a
  comment with a file name (``# pipeline.py``) is written to that file instead, for a later command to run.
- ``yaml`` is written to the file that its first line names, if any, and checked as settings.
- ``console`` contains commands after ``$``; each has to succeed and to print the text below it, if any.
- ``text`` is the output of the block before it; ``...`` matches anything.

``% recorded`` above a ``console`` block marks a session at a terminal: its commands run on one, and the final screen is
compared, except durations, speeds and times. ``% recorded, ends with 1`` is the exit code of its last command.

A block that is not run has a comment directly above it, ``% not run: reason`` or ``<!-- not run: reason -->``, which is
not visible on the page.
"""

from __future__ import annotations

import contextlib
import doctest
import io
import os
import re
import shlex
import subprocess
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import recorded
from sybil.evaluators.python import PythonEvaluator
from sybil.parsers.markdown.lexers import RawFencedCodeBlockLexer
from warm import warm_command

from chiltepin import settings
from chiltepin.backends import registry

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sybil import Document, Example, Region

#: Every fence except the directives of Sphinx, whose name is in braces; the language can be empty.
LEXER = RawFencedCodeBlockLexer(re.compile(r"(?P<language>[^{\n]*)\n"))
RECORDED = re.compile(r"% recorded(?:, ends with (\d+))?")
NOT_RUN = re.compile(r"(?:%|<!--) not run: \S.*")
FILE_NAME = re.compile(r"# ([\w./-]+\.(?:py|yaml))\n")
#: The commands that are run; scripts that are not on PATH are found beside the Python interpreter.
COMMANDS = {"chiltepin", "python"}
#: The commands that a user types between them in a session.
BETWEEN = {"cat", "cp", "ls", "mkdir", "mv", "rm"}

run_python = PythonEvaluator()


def blocks(document: Document) -> Iterator[Region]:
    """Find the fenced blocks of a page, as a parser of sybil."""
    for region in LEXER(document):
        above = document.text[: region.start].rstrip().rpartition("\n")[2]
        if not NOT_RUN.fullmatch(above):
            region.parsed, region.evaluator = region.lexemes["source"], evaluate
            region.lexemes["recorded"] = RECORDED.fullmatch(above)
            yield region


def evaluate(example: Example) -> str | None:
    """Test one block; return its problem, or None."""
    language = example.region.lexemes["language"]
    if language not in EVALUATORS:
        return f"Blocks in {language!r} cannot be run; write '% not run: reason' above the block."
    return EVALUATORS[language](example)


def python(example: Example) -> None:
    """Run a block, or write it to its file."""
    if file := FILE_NAME.match(example.parsed):
        Path(file[1]).write_text(example.parsed, encoding="utf-8")
        example.document.waiting.add(file[1])
        return
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        run_python(example)
    example.document.printed = printed.getvalue()


def yaml(example: Example) -> None:
    """Check settings, and write them to their file."""
    named = FILE_NAME.match(example.parsed)
    file = Path(named[1] if named else "settings.yaml")
    file.write_text(example.parsed, encoding="utf-8")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        settings.check(settings.read(file), backends=registry.names())


def console(example: Example) -> str | None:
    """Run commands, each in a new shell, and compare their output."""
    before, *parts = re.split(r"^\$ ", example.parsed, flags=re.MULTILINE)
    if before or not parts:
        return "It does not begin with '$ ' and a command."
    commands = Path(warm_command("chiltepin")).parent, Path(sys.executable).parent
    path = os.pathsep.join([*map(str, commands), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path}
    session = example.region.lexemes["recorded"]
    for part in parts:
        command, _, wanted = part.replace("\\\n", "").partition("\n")
        words = [word for word in shlex.split(command) if "=" not in word]
        if words[0] not in (COMMANDS | BETWEEN if session else COMMANDS):
            return f"{command!r} is no command that is tried; write '% not run: reason' above the block."
        if session:
            end = int(session[1] or 0) if part is parts[-1] else 0
            if problem := at_a_terminal(command, wanted, end, environment):
                return problem
            example.document.waiting -= set(words) | imported(words)
            continue
        # In a shell, as a user runs it.
        run = subprocess.run(command, shell=True, check=False, capture_output=True, text=True, env=environment)  # noqa: S602
        if run.returncode:
            return f"{command!r} ended with {run.returncode}:\n{run.stdout}{run.stderr}"
        example.document.printed = run.stdout
        example.document.waiting -= set(words) | imported(words)
        if wanted.strip() and (problem := difference(wanted, run.stdout)):
            return problem
    return None


def at_a_terminal(command: str, wanted: str, end: int, environment: dict[str, str]) -> str | None:
    """Run a command of a session; return how its screen differs from the page, or None."""
    code, shown = recorded.run(command, environment)
    if code != end:
        return f"{command!r} ended with {code}, not with {end}:\n{shown}"
    return difference(recorded.steady(wanted), recorded.steady(shown)) and difference(wanted, shown)


def imported(words: list[str]) -> set[str]:
    """Return the files of the modules that the scripts among these words import."""
    texts = [Path(word).read_text(encoding="utf-8") for word in words if word.endswith(".py") and Path(word).is_file()]
    return {f"{name}.py" for text in texts for name in re.findall(r"^(?:import|from) (\w+)", text, re.MULTILINE)}


def text(example: Example) -> str | None:
    """Compare a block with the output of the block before it."""
    return difference(example.parsed, example.document.printed)


def difference(wanted: str, got: str) -> str | None:
    """Return how two texts differ, or None; ``...`` matches anything, and any white space matches white space."""
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    checker = doctest.OutputChecker()
    if checker.check_output(wanted.strip(), got.strip(), flags):
        return None
    return checker.output_difference(doctest.Example("", wanted), got, flags)


EVALUATORS = {"python": python, "yaml": yaml, "console": console, "text": text}
