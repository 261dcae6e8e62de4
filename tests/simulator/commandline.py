"""The real ``globus`` command, in a home of its own, against a simulated Globus."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import urllib.request
from pathlib import Path

GLOBUS = str(Path(sys.executable).with_name("globus"))

#: Nothing of the person who runs the tests reaches the command.
_OURS = ("GLOBUS_", "CHILTEPIN_", "PS1", "SSH_")


class Shell:
    """A shell in which somebody types ``globus``.

    With a user the service credentials of the environment are left out, and somebody has to log in.
    """

    def __init__(self, simulator, home, *, user=False):
        kept = {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}
        given = simulator.environment()
        if user:
            given = {name: value for name, value in given.items() if "_CLIENT_" not in name}
        self.environment = {**kept, **given, "HOME": str(home), "GLOBUS_CLI_INTERACTIVE": "0"}

    def run(self, *words, code=0, stdin=""):
        """Run ``globus`` with these words; it has to end with this exit code."""
        done = subprocess.run(
            [GLOBUS, *words],
            env=self.environment,
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == code, f"globus {shlex.join(words)}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def told(self, *words, code=0, stdin=""):
        """The document that ``globus -F json`` prints."""
        return json.loads(self.run(*words, "-F", "json", code=code, stdin=stdin).stdout)

    def submitted(self, *words, stdin=""):
        """The id of the task that ``globus transfer`` or ``delete`` makes."""
        return self.told(*words, stdin=stdin)["task_id"]

    def ended(self, task_id, code=0):
        """The document of a task for which ``globus task wait`` has waited."""
        self.run("task", "wait", task_id, "--timeout", "30", "--polling-interval", "1", code=code)
        return self.told("task", "show", task_id)

    def moved(self, *words, code=0, stdin=""):
        """Submit, and wait until ``globus task wait`` ends with this exit code; return the id."""
        task_id = self.submitted(*words, stdin=stdin)
        self.run("task", "wait", task_id, "--timeout", "30", "--polling-interval", "1", code=code)
        return task_id

    def through_the_browser(self, *words):
        """Run a command that prints a link; open it, and type in the code that the page shows."""
        process = subprocess.Popen(
            [GLOBUS, *words, "--no-local-server"],
            env={**self.environment, "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        said = []
        with process:
            for line in process.stdout:
                said.append(line)
                if link := re.search(r"http://\S+/authorize\S+", line):
                    process.stdin.write(f"{_code_behind(link.group())}\n")
                    process.stdin.flush()
        assert process.returncode == 0, "".join(said)
        return "".join(said)


def _code_behind(url):
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=20) as answer:
        return re.search("<code>(.+?)</code>", answer.read().decode()).group(1)


def advised(text):
    """The words of the ``globus session`` command that an error message tells to type."""
    return shlex.split(re.search(r"globus (session .+)", text).group(1))
