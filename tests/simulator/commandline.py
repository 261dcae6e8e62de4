"""The real ``globus`` command, with a separate home directory, against a simulated Globus."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess

from browser_login import run_login
from warm import warm_command

#: Variables with these prefixes must not reach the command from the user who runs the tests.
_OURS = ("GLOBUS_", "CHILTEPIN_", "PS1", "SSH_")


class Shell:
    """A shell for the ``globus`` command.

    With ``user`` the environment has no service credentials, and the user has to log in.
    """

    def __init__(self, simulator, home, *, user=False):
        kept = {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}
        given = simulator.environment()
        if user:
            given = {name: value for name, value in given.items() if "_CLIENT_" not in name}
        self.environment = {**kept, **given, "HOME": str(home), "GLOBUS_CLI_INTERACTIVE": "0"}

    def run(self, *words, code=0, stdin=""):
        """Run ``globus`` with these arguments; check its exit code."""
        done = subprocess.run(
            [warm_command("globus"), *words],
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
        """Return the document that ``globus -F json`` prints."""
        return json.loads(self.run(*words, "-F", "json", code=code, stdin=stdin).stdout)

    def submitted(self, *words, stdin=""):
        """Return the id of the task that ``globus transfer`` or ``delete`` submits."""
        return self.told(*words, stdin=stdin)["task_id"]

    def ended(self, task_id, code=0):
        """Wait for a task with ``globus task wait``; return its document."""
        self.run("task", "wait", task_id, "--timeout", "60", "--polling-interval", "1", code=code)
        return self.told("task", "show", task_id)

    def moved(self, *words, code=0, stdin=""):
        """Submit a task and wait until ``globus task wait`` ends with this exit code; return its id."""
        task_id = self.submitted(*words, stdin=stdin)
        self.run("task", "wait", task_id, "--timeout", "60", "--polling-interval", "1", code=code)
        return task_id

    def through_the_browser(self, *words):
        """Run a command that prints a link; open the link, and enter the code that the page shows."""
        environment = {**self.environment, "PYTHONUNBUFFERED": "1"}
        ended = run_login([warm_command("globus"), *words, "--no-local-server"], env=environment)
        assert ended.returncode == 0, ended.stdout
        return ended.stdout


def advised(text):
    """Return the arguments of the ``globus session`` command that an error message names."""
    return shlex.split(re.search(r"globus (session .+)", text).group(1))
