"""The command in a deleted working directory, and with outputs that are full or closed."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys

import pytest
from warm import warm_command

#: Commands in a deleted working directory without settings, and their exit codes.
LOST = {
    "ls a:/": 2,
    "ls a:/ --config c.yaml": 2,
    "transfer a:/x b:/y": 2,
    "activity": 2,
    "activity --html page.html": 2,
    "demo": 2,
    "simulate --collection a=b -- true": 2,
    "logout": 0,
}


@pytest.mark.parametrize("words", LOST)
def test_a_deleted_working_directory_is_a_sentence(local, user, monkeypatch, words):
    """In a deleted working directory, a command explains what is missing, or needs nothing from there."""
    (user / "gone").mkdir()
    monkeypatch.chdir(user / "gone")
    (user / "gone").rmdir()
    ended = local.run(*words.split())
    assert ended.code == LOST[words], ended.err
    if ended.code:
        assert ended.err.startswith("chiltepin: ")
        assert ended.err.count("\n") == 1
        assert "working directory was deleted" in ended.err or "No settings file found" in ended.err


#: Commands that print a text, a table, JSON, help and an outcome, and their exit codes.
PRINTING = {
    "ls a:/": 0,
    "ls a:/ -l": 0,
    "ls a:/ -F json": 0,
    "stat a:/x": 0,
    "endpoints": 0,
    "check": 0,
    "activity": 0,
    "transfer a:/x b:/y": 0,
    "transfer a:/x b:/y -F json": 0,
    "compare a:/ b:/": 1,
    "--help": 0,
    "completion bash": 0,
    "ls a:/none": 1,
    "ls": 2,
    "whoami": 4,
}


@pytest.fixture
def filled(local):
    """A world with a listing that is longer than an output buffer."""
    for number in range(500):
        (local.a / f"file-with-a-long-name-{number}").touch()
    (local.a / "x").write_text("x")
    return local


def ends(world, words, redirections, **options):
    """Run the command in a shell with redirections; return its exit code and stderr."""
    shell = ["bash", "-c", f"exec {warm_command('chiltepin')} {words} {redirections}"]
    done = subprocess.run(shell, cwd=world.folder, capture_output=True, text=True, check=False, **options)
    return done.returncode, done.stderr


@pytest.mark.parametrize("words", [words for words, code in PRINTING.items() if code < 2 and "none" not in words])
def test_a_full_output_is_a_sentence(filled, words):
    """If stdout is full, the command prints one sentence and exits with 1."""
    reason = "chiltepin: Could not write the output: No space left on device; make room there, or write it to another "
    assert ends(filled, words, "> /dev/full") == (1, f"{reason}place.\n")


def test_a_transfer_is_complete_although_the_output_is_full(filled):
    """A transfer whose outcome cannot be printed has moved its file."""
    assert ends(filled, "transfer a:/x b:/y", "> /dev/full")[0] == 1
    assert (filled.b / "y").read_text() == "x"


@pytest.mark.parametrize("words", PRINTING)
def test_full_messages_do_not_change_the_exit_code(filled, words):
    """If stderr is full, the command does its work and has the usual exit code."""
    assert ends(filled, words, "2> /dev/full") == (PRINTING[words], "")
    if words.startswith("transfer"):
        assert (filled.b / "y").read_text() == "x"


@pytest.mark.parametrize("words", [words for words, code in PRINTING.items() if code < 2 and "none" not in words])
def test_a_closed_pipe_ends_the_command_quietly(filled, words):
    """If the reader of stdout has gone, the command exits with 1 and prints nothing."""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        assert ends(filled, words, f">&{writing}", pass_fds=[writing]) == (1, "")
    finally:
        os.close(writing)


@pytest.mark.parametrize("words", ["ls a:/", "endpoints", "check", "activity", "transfer a:/x b:/y", "ls a:/none"])
def test_closed_streams_do_not_change_the_exit_code(filled, words):
    """If stdin, stdout and stderr are closed, the command does its work and has the usual exit code."""
    start = [sys.executable, "-c", "from chiltepin.cli.main import main; main()", *words.split()]
    closed = subprocess.run(["bash", "-c", f"exec {shlex.join(start)} <&- >&- 2>&-"], cwd=filled.folder, check=False)
    assert closed.returncode == PRINTING[words]
    if words.startswith("transfer"):
        assert (filled.b / "y").read_text() == "x"


def test_without_a_terminal_a_deletion_is_not_asked_about(filled):
    """If stdin is closed, a deletion without --yes is a usage error and deletes nothing."""
    start = [sys.executable, "-c", "from chiltepin.cli.main import main; main()", "delete", "a:/x"]
    done = subprocess.run(
        ["bash", "-c", f"exec {shlex.join(start)} <&-"], cwd=filled.folder, capture_output=True, text=True, check=False
    )
    assert (done.returncode, (filled.a / "x").exists()) == (2, True)
    assert "add --yes" in done.stderr
