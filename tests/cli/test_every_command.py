"""Each command runs with each backend; its details are tested in a separate file."""

from __future__ import annotations

import shlex
import subprocess
import sys

import pytest

from chiltepin.cli import main

#: The arguments of each command. The demo always uses `local`, and its test runs it under another backend.
TYPED = {
    "activity": (),
    "check": ("--write",),
    "compare": ("a:/", "a:/"),
    "completion": ("bash",),
    "delete": ("a:/x", "--yes"),
    "endpoint": ("list",),
    "endpoints": (),
    "login": ("--no-local-server",),
    "logout": (),
    "ls": ("a:",),
    "mkdir": ("a:/folder",),
    "rename": ("a:/x", "/y"),
    "simulate": ("--collection", "c=c", "--", sys.executable, "-c", "pass"),
    "stat": ("a:/x",),
    "task": ("list",),
    "transfer": ("a:/x", "b:/y"),
    "whoami": (),
}

#: The exit codes of the commands about a login, without a login and service credentials.
WITHOUT_LOGIN = {"login": 4, "whoami": 4}


def test_every_command_is_typed():
    """Every command is listed here."""
    assert {*TYPED, "demo"} == set(main.COMMANDS)


@pytest.mark.parametrize("command", TYPED)
def test_each_command_ends_as_it_should_on_each_backend(world, command):
    """Each command succeeds on each backend, except that those about a login report that it is missing."""
    (world.a / "x").write_bytes(b"1")
    ended = world.run(command, *TYPED[command])
    expected = 0 if world.simulator else WITHOUT_LOGIN.get(command, 0)
    assert (ended.code or 0) == expected, ended.out + ended.err
    if expected:
        assert "chiltepin login" in ended.err


@pytest.mark.parametrize("command", TYPED)
def test_each_command_works_with_closed_streams(local, command):
    """Each command has its usual exit code if all standard streams are closed, except a login, which needs them."""
    (local.a / "x").write_bytes(b"1")
    program = [sys.executable, "-c", "from chiltepin.cli.main import main; main()", command, *TYPED[command]]
    closed = ["sh", "-c", f"{shlex.join(program)} 0<&- 1>&- 2>&-"]
    ended = subprocess.run(closed, check=False, timeout=60, cwd=local.folder)
    assert ended.returncode == (2 if command == "login" else WITHOUT_LOGIN.get(command, 0))
