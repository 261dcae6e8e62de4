"""``chiltepin completion``, in real shells where they are installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

COMMAND = Path(sys.executable).with_name("chiltepin")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_its_script(local, shell):
    """What is printed defines the completion of the command."""
    ended = local.run("completion", shell)
    assert ended.code == 0
    assert "_CHILTEPIN_COMPLETE" in ended.out


def completed(world, *words):
    """What bash would offer for the last word."""
    environment = {
        **os.environ,
        "_CHILTEPIN_COMPLETE": "bash_complete",
        "COMP_WORDS": " ".join(("chiltepin", *words)),
        "COMP_CWORD": str(len(words)),
    }
    done = subprocess.run(
        [COMMAND], cwd=world.folder, env=environment, capture_output=True, text=True, check=True, timeout=60
    )
    return [line.partition(",")[2] for line in done.stdout.splitlines() if line]


def test_commands_options_and_endpoints_are_completed(local):
    """Commands, options, values of options and the endpoints of the settings are offered."""
    assert completed(local, "tr") == ["transfer"]
    assert "--detach" in completed(local, "transfer", "--de")
    assert completed(local, "transfer", "--sync-level", "") == ["exists", "size", "mtime", "checksum"]
    assert completed(local, "ls", "") == ["a:", "b:"]
    assert completed(local, "transfer", "a:/x", "b") == ["b:"]


def test_broken_settings_complete_nothing(local):
    """Where the settings are wrong nothing is offered, and nothing is said."""
    (local.folder / "chiltepin.yaml").write_text("data: [")
    assert completed(local, "ls", "") == []


@pytest.mark.skipif(not shutil.which("bash"), reason="no bash here")
def test_bash_takes_the_script(local):
    """A real bash evaluates the script and knows the command."""
    script = 'eval "$(chiltepin completion bash)" && complete -p chiltepin'
    path = f"{COMMAND.parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", script], env={**os.environ, "PATH": path}, capture_output=True, text=True, check=True, timeout=60
    )
    assert "chiltepin" in done.stdout
