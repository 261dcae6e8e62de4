"""``chiltepin completion``, in real shells where they are installed."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from warm import warm_command

COMMAND = Path(sys.executable).with_name("chiltepin")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_its_script(local, shell):
    """The printed script defines the completion of the command."""
    ended = local.run("completion", shell)
    assert ended.code == 0
    assert "_CHILTEPIN_COMPLETE" in ended.out


def completed(world, *words):
    """The completions that bash would offer for the last word."""
    environment = {
        **os.environ,
        "_CHILTEPIN_COMPLETE": "bash_complete",
        "COMP_WORDS": " ".join(("chiltepin", *words)),
        "COMP_CWORD": str(len(words)),
    }
    done = subprocess.run(
        [warm_command("chiltepin")],
        cwd=world.folder,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return [line.partition(",")[2] for line in done.stdout.splitlines() if line]


def test_commands_options_and_endpoints_are_completed(local):
    """Commands, options, values of options and the endpoints of the settings are completed."""
    assert completed(local, "tr") == ["transfer"]
    assert "--detach" in completed(local, "transfer", "--de")
    assert completed(local, "transfer", "--sync-level", "") == ["exists", "size", "mtime", "checksum"]
    assert completed(local, "ls", "") == ["a:", "b:"]
    assert completed(local, "transfer", "a:/x", "b") == ["b:"]


def test_broken_settings_complete_nothing(local):
    """With invalid settings nothing is offered, and no error is shown."""
    (local.folder / "chiltepin.yaml").write_text("data: [")
    assert completed(local, "ls", "") == []


@pytest.mark.skipif(not shutil.which("bash"), reason="no bash here")
def test_bash_takes_the_script(local):
    """A real bash evaluates the script and registers the completion."""
    script = 'eval "$(chiltepin completion bash)" && complete -p chiltepin'
    path = f"{COMMAND.parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", script], env={**os.environ, "PATH": path}, capture_output=True, text=True, check=True, timeout=60
    )
    assert "chiltepin" in done.stdout


def test_help_has_one_line_for_each_shell(local):
    """The help shows the line to add to each shell's startup file."""
    lines = local.run("completion", "--help").out.splitlines()
    assert [line.split()[0] for line in lines if "chiltepin completion" in line and "Usage" not in line] == [
        *("bash:", "zsh:", "fish:"),
    ]


def with_command():
    """The environment in which a shell finds the command."""
    return {**os.environ, "PATH": f"{COMMAND.parent}{os.pathsep}{os.environ['PATH']}", "TERM": "xterm"}


@pytest.mark.skipif(not shutil.which("fish"), reason="no fish here")
@pytest.mark.parametrize(
    ("typed", "offered"),
    [("chiltepin tr", ["transfer"]), ("chiltepin ls ", ["a:", "b:"]), ("chiltepin transfer a:/x b", ["b:"])],
)
def test_fish_offers_commands_and_endpoints(local, typed, offered):
    """A real fish loads the script, and offers commands and endpoints."""
    script = f"chiltepin completion fish | source; complete -C '{typed}'"
    done = subprocess.run(
        ["fish", "--no-config", "-c", script],
        cwd=local.folder,
        env={**with_command(), "HOME": str(local.folder)},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert [line.partition("\t")[0] for line in done.stdout.splitlines()] == offered


class Zsh:
    """A real zsh on a terminal, without the user's settings."""

    def __init__(self, folder):
        self._master, slave = pty.openpty()
        self._process = subprocess.Popen(
            ["zsh", "-f", "-i"],
            cwd=folder,
            env={**with_command(), "HOME": str(folder), "ZDOTDIR": str(folder), "PS1": "> "},
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
        )
        os.close(slave)
        self._said = ""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.kill()
        self._process.wait()
        os.close(self._master)

    def type(self, keys):
        """Type keys, and discard the earlier output."""
        self._said = ""
        os.write(self._master, keys.encode())

    def until(self, pattern, limit=60):
        """Read until the output since the last keys matches, without escape sequences."""
        end = time.monotonic() + limit
        while not re.search(pattern, re.sub(r"\x1b\[[\d;?]*[A-Za-z]|[\r\x07\x08]", "", self._said)):
            assert select.select([self._master], [], [], max(end - time.monotonic(), 0))[0], self._said
            self._said += os.read(self._master, 1 << 16).decode()


@pytest.mark.skipif(not shutil.which("zsh"), reason="no zsh here")
def test_zsh_completes_what_is_typed(local):
    """A real zsh with the documented line completes a command, and lists endpoints when Tab is pressed."""
    page = (Path(__file__).parents[2] / "docs" / "reference" / "cli.md").read_text(encoding="utf-8")
    [line] = re.findall(r"^\| zsh \| [^|]+ \| `(.+)` \|$", page, re.MULTILINE)
    with Zsh(local.folder) as zsh:
        zsh.type(f"{line}; print re''ady\n")
        zsh.until("ready")
        zsh.type("chiltepin transf\t")
        zsh.until("chiltepin transfer ")
        zsh.type("\x15chiltepin ls \t")
        zsh.until(r"a: +b:")
