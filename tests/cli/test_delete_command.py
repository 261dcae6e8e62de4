"""``chiltepin delete``."""

from __future__ import annotations

import json

import pytest
from terminals import CTRL_C, Terminal


@pytest.fixture
def filled(world):
    """A world with a folder that contains a file."""
    (world.a / "old").mkdir()
    (world.a / "old" / "x").write_bytes(b"1")
    return world


def test_a_folder_goes_with_all_that_is_in_it(filled):
    """-r deletes a folder with its contents and prints the number of files."""
    ended = filled.run("delete", "a:/old", "-r", "--yes")
    assert (ended.code, ended.err) == (0, "")
    assert "file" in ended.out
    assert not (filled.a / "old").exists()


def test_a_dry_run_deletes_nothing(filled):
    """--dry-run shows the request and submits nothing."""
    assert "/old" in filled.run("delete", "a:/old", "-r", "--dry-run").out
    [shown] = filled.json("delete", "a:/old", "-r", "--dry-run", "--label", "spring")
    assert (shown["kind"], shown["endpoint"], shown["paths"], shown["label"]) == ("delete", "a", ["/old"], "spring")
    assert (filled.a / "old" / "x").exists()
    if filled.simulator:
        assert not filled.simulator.tasks


def test_a_pattern_deletes_what_it_matches(filled):
    """--enable-globs expands a pattern in the last name, and --dry-run lists the matches; else a star is literal."""
    for name in ("a.tmp", "b.tmp", "c.dat"):
        (filled.a / "old" / name).write_bytes(b"1")
    assert filled.run("delete", "a:/old/*.tmp", "--yes").code == 1
    foreseen = filled.run("delete", "a:/old/*.tmp", "--enable-globs", "--dry-run").out
    assert [name for name in ("a.tmp", "b.tmp", "c.dat", "x") if f"/old/{name}" in foreseen] == ["a.tmp", "b.tmp"]
    ended = filled.run("delete", "a:/old/*.tmp", "--enable-globs", "--yes")
    assert (ended.code, ended.err) == (0, "")
    assert sorted(path.name for path in (filled.a / "old").iterdir()) == ["c.dat", "x"]


def test_a_folder_without_recursive_stays(filled):
    """A folder is not deleted without -r, and the exit code is 1."""
    ended = filled.run("delete", "a:/old", "-y")
    assert ended.code == 1
    assert (filled.a / "old" / "x").exists()


def test_what_is_missing_fails_unless_that_is_fine(filled):
    """A missing path exits with 1, or with 0 under --ignore-missing; -F json contains its code."""
    ended = filled.run("delete", "a:/none", "-y", "-F", "json")
    assert ended.code == 1
    [failure] = json.loads(ended.out)["failures"]
    assert (failure["code"], failure["items"]) == ("FILE_NOT_FOUND", ["/none"])
    assert filled.run("delete", "a:/none", "-y", "--ignore-missing").code == 0


def test_nothing_is_deleted_without_being_asked(local):
    """Without a terminal and --yes the command exits with a usage error and deletes nothing."""
    (local.a / "x").touch()
    ended = local.run("delete", "a:/x")
    assert (ended.code, "--yes" in ended.err) == (2, True)
    assert (local.a / "x").exists()


@pytest.mark.parametrize(("answer", "code", "left"), [(b"y\n", 0, False), (b"n\n", 1, True), (CTRL_C, 130, True)])
def test_on_a_terminal_it_asks(local, answer, code, left):
    """On a terminal the command prompts: yes deletes, no exits with 1, and Ctrl-C exits with 130."""
    (local.a / "x").touch()
    with Terminal(local, "delete", "a:/x") as terminal:
        terminal.until(r"\[y/N\]")
        terminal.type(answer)
        assert terminal.ended() == code
    assert (local.a / "x").exists() is left


def test_a_path_has_to_be_named(local):
    """An endpoint without a path is not accepted, and a root is never deleted."""
    assert local.run("delete", "a", "-y").code == 2
    assert local.run("delete", "a:/", "-r", "-y").code == 1
    assert local.a.exists()
