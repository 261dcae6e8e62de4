"""Each command, with settings of each backend; what it does in detail is tested beside its name."""

from __future__ import annotations

import sys

import pytest

from chiltepin.cli import main

#: The commands. The demo has separate settings, always `local`, and its test runs it under another backend.
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

#: How the commands about a login end without a login and without service credentials.
WITHOUT_LOGIN = {"login": 4, "whoami": 4}


def test_every_command_is_typed():
    """A new command gets a line here."""
    assert {*TYPED, "demo"} == set(main.COMMANDS)


@pytest.mark.parametrize("command", TYPED)
def test_each_command_ends_as_it_should_on_each_backend(world, command):
    """A command does well on every backend; those about a login say where one is missing, whatever moves the bytes."""
    (world.a / "x").write_bytes(b"1")
    ended = world.run(command, *TYPED[command])
    expected = 0 if world.simulator else WITHOUT_LOGIN.get(command, 0)
    assert (ended.code or 0) == expected, ended.out + ended.err
    if expected:
        assert "chiltepin login" in ended.err
