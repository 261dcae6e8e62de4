"""Every block of the documentation pages runs."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from blocks import blocks
from sybil import Document
from sybil.example import SybilFailure

TOP = Path(__file__).parents[2]
PAGES = sorted([TOP / "README.md", TOP / "CONTRIBUTING.md", *(TOP / "docs").rglob("*.md")])


def try_page(page):
    """Run the blocks of a page in their order, in the working directory."""
    document = Document.parse(str(page), blocks)
    #: The output of the last block, and the scripts that no command has run yet.
    document.printed, document.waiting = "", set()
    for example in document:
        example.evaluate()
    assert not document.waiting


# The longest page starts two dozen processes one after another.
@pytest.mark.timeout(300)
@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(TOP)))
def test_every_block_of_a_page_runs(page):
    """All fenced blocks of a page run in their order, or have a comment with a reason."""
    try_page(page)


@pytest.mark.parametrize(
    ("page", "problem"),
    [
        ("```python\nassert False\n```\n", AssertionError),
        ("```python\nprint(1)\n```\n\n```text\n2\n```\n", SybilFailure),
        ("```console\n$ chiltepin nonsense\n```\n", SybilFailure),
        ("```console\n$ chiltepin --help\nSomething else.\n```\n", SybilFailure),
        ("```console\n$ pip install chiltepin\n```\n", SybilFailure),
        ("```console\nchiltepin --help\n```\n", SybilFailure),
        ("```console\n$ ls\n```\n", SybilFailure),
        ("% recorded\n```console\n$ git status\n```\n", SybilFailure),
        ("% recorded\n```console\n$ ls\nsomething\n```\n", SybilFailure),
        ("% recorded\n```console\n$ ls none\n```\n", SybilFailure),
        ("% recorded, ends with 1\n```console\n$ ls\n```\n", SybilFailure),
        ("```python\n# forgotten.py\nprint(1)\n```\n", AssertionError),
        ("```yaml\ncompute: {partion: gpu}\n```\n", ValueError),
        ("```fortran\nEND\n```\n", SybilFailure),
        ("```\nwho knows\n```\n", SybilFailure),
        ("- a list\n\n  ```\n  who knows\n  ```\n", SybilFailure),
        ("% not run:\n```fortran\nEND\n```\n", SybilFailure),
        ("% not run: too old\n\nSomething.\n\n```fortran\nEND\n```\n", SybilFailure),
    ],
)
def test_a_block_that_does_not_keep_its_promise_is_found(folder, page, problem):
    """A block that fails, prints something else or cannot be run fails its page."""
    (folder / "page.md").write_text(page, encoding="utf-8")
    with pytest.raises(problem):
        try_page(folder / "page.md")


@pytest.mark.parametrize("comment", ["% not run: too old", "<!-- not run: too old -->"])
def test_a_block_with_a_reason_is_not_run(folder, comment):
    """A block with a reason directly above it is not run."""
    (folder / "page.md").write_text(f"{comment}\n```fortran\nEND\n```\n", encoding="utf-8")
    try_page(folder / "page.md")


def test_a_session_is_compared_with_the_screen(folder):
    """Overwritten text and times are not compared with the screen; folders and line breaks can differ."""
    (folder / "show.py").write_text(
        "import os, sys, time\n"
        "assert sys.stdout.isatty() and os.get_terminal_size().columns == 80\n"
        "print('counting', end='\\r', flush=True)\n"
        "print('\\x1b[2K\\x1b[1mdone\\x1b[0m in 3.7 s at', time.strftime('%m-%d %H:%M:%S'), 'in', os.getcwd())\n"
    )
    said = "done in 0.2 s at 11-23 00:56:51 in\n/home/me/first-hour\n"
    (folder / "page.md").write_text(f"% recorded\n```console\n$ python \\\n    show.py\n{said}```\n", encoding="utf-8")
    try_page(folder / "page.md")


def test_the_page_of_the_house_has_every_room():
    """The table of floors on the page matches the table against which the imports are tested."""
    page = (TOP / "docs" / "concepts" / "house.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d(?:\.\d)?) \| (.+?) \|", page, re.MULTILINE)
    drawn = {room: float(floor) for floor, rooms in rows for room in re.findall(r"`(\w+)`", rooms)}
    source = ast.parse((TOP / "tests" / "unit" / "test_floors.py").read_text(encoding="utf-8"))
    built = next(node.value for node in source.body if ast.unparse(node).startswith("FLOORS ="))
    assert drawn == ast.literal_eval(built)


def test_the_files_that_the_architecture_page_names_exist():
    """Each file of the table "Where each decision is made" exists in the package."""
    page = (TOP / "docs" / "concepts" / "house.md").read_text(encoding="utf-8")
    table = page.partition("\n## Where each decision is made\n")[2].partition("\n## ")[0]
    files = re.findall(r"\| `([\w/]+\.py)` \|$", table, re.MULTILINE)
    assert len(files) >= 25
    assert [file for file in files if not (TOP / "src" / "chiltepin" / file).is_file()] == []
