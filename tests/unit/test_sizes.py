"""Limits that keep the package readable: modules, functions, comments and its top level; and no mocks.

Run as a program (``python tests/unit/test_sizes.py``), it prints the sizes.
"""

from __future__ import annotations

import ast
import re
import tokenize
from pathlib import Path

import chiltepin

SOURCE = Path(chiltepin.__file__).parent
TESTS = Path(__file__).parents[1]

FILES = sorted(SOURCE.rglob("*.py"))

#: Most lines of a module and of a function's body without its docstring, and most comments per 100 lines.
MEDIAN_MODULE, P90_MODULE, MAX_MODULE = 150, 300, 400
P90_BODY, MAX_BODY = 22, 50
MAX_COMMENTS = 8

#: Most modules and subpackages at the top level of the package.
MAX_TOP_LEVEL = 16


def module_lines() -> dict[str, int]:
    """Return the number of lines of each module."""
    return {file.relative_to(SOURCE).as_posix(): len(file.read_text(encoding="utf-8").splitlines()) for file in FILES}


def bodies() -> dict[str, int]:
    """Return the number of lines of each function's body, without its docstring."""
    found = {}
    for file in FILES:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                code = node.body[1:] if ast.get_docstring(node) else node.body
                name = f"{file.relative_to(SOURCE).as_posix()}:{node.lineno} {node.name}"
                found[name] = code[-1].end_lineno - code[0].lineno + 1 if code else 0
    return found


def comments_per_100_lines() -> float:
    """Return the number of comments per 100 lines."""
    comments = 0
    for file in FILES:
        with file.open("rb") as source:
            comments += sum(token.type == tokenize.COMMENT for token in tokenize.tokenize(source.readline))
    return 100 * comments / sum(module_lines().values())


def quantile(values: list[int], share: float) -> int:
    """Return the value that this share of the values does not exceed."""
    return sorted(values)[int(share * (len(values) - 1))]


def top_level() -> list[str]:
    """Return the modules and subpackages at the top level of the package."""
    return sorted(
        entry.name
        for entry in SOURCE.iterdir()
        if entry.suffix == ".py" or (entry.is_dir() and entry.name != "__pycache__")
    )


def test_modules_are_short():
    """Half of all modules have at most 150 lines, nine of ten at most 300, and none more than 400."""
    lines = module_lines()
    assert quantile([*lines.values()], 0.5) <= MEDIAN_MODULE
    assert quantile([*lines.values()], 0.9) <= P90_MODULE
    long = {module: count for module, count in lines.items() if count > MAX_MODULE}
    assert long == {}


def test_functions_are_short():
    """Nine of ten function bodies have at most 22 lines, and none more than 50."""
    lines = bodies()
    assert quantile([*lines.values()], 0.9) <= P90_BODY
    assert {name: count for name, count in lines.items() if count > MAX_BODY} == {}


def test_comments_are_few():
    """At most 8 of 100 lines hold a comment."""
    assert comments_per_100_lines() <= MAX_COMMENTS


def test_the_top_level_is_small():
    """The package has at most 16 modules and subpackages at its top level."""
    assert len(top_level()) <= MAX_TOP_LEVEL


def test_no_test_uses_a_mock():
    """A test uses the real object or a working fake, never a mock."""
    mock = re.compile(r"^\s*(from unittest import mock|(import|from) unittest\.mock)|\bmocker\b", re.MULTILINE)
    files = [file for file in TESTS.rglob("*.py") if file != Path(__file__)]
    assert [file for file in files if mock.search(file.read_text(encoding="utf-8"))] == []


def report() -> None:
    """Print all sizes."""
    # ruff: noqa: T201
    modules, functions = module_lines(), bodies()
    for title, sizes in (("module", modules), ("function body", functions)):
        values = [*sizes.values()]
        longest = max(sizes, key=lambda name: sizes[name])
        print(
            f"{title} lines: {len(values)}, median {quantile(values, 0.5)}, p90 {quantile(values, 0.9)}, "
            f"max {sizes[longest]} ({longest})"
        )
    print(f"comments per 100 lines: {comments_per_100_lines():.1f}")
    print(f"top level: {len(top_level())}")


if __name__ == "__main__":
    report()
