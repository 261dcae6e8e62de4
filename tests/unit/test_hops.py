"""How many calls of one transfer cross from one of our modules to another: what a reader has to follow.

Run as a program (``python tests/unit/test_hops.py``) it prints them in their order.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import chiltepin
from chiltepin import Workflow, transfer_task

SOURCE = f"{os.path.dirname(chiltepin.__file__)}{os.sep}"

#: Most hops of a transfer of one small file on the backend ``local``, and most modules on its way.
MOST_HOPS, MOST_MODULES = 80, 37

#: Transfers that are counted. Of these the shortest way counts: a busy machine adds a poll.
TRIES = 5

LIMIT = 60


class Profile:
    """The calls of our functions, while it is on."""

    def __init__(self) -> None:
        self.hops: list[str] = []
        self.modules: set[str] = set()

    def __call__(self, frame, event, _) -> None:
        """Take note of a call; frames of other packages between two of ours are looked through."""
        module = frame.f_code.co_filename
        if event != "call" or not module.startswith(SOURCE):
            return
        self.modules.add(module)
        caller = frame.f_back
        while caller is not None and not caller.f_code.co_filename.startswith(SOURCE):
            caller = caller.f_back
        if caller is not None and caller.f_code.co_filename != module:
            names = [f"{code.co_filename[len(SOURCE) : -3]} {code.co_name}" for code in (caller.f_code, frame.f_code)]
            self.hops.append(" -> ".join(names))


def shortest() -> Profile:
    """Move small files, one after another, and return the profile with the fewest hops."""
    profiles = [Profile()]

    def profile(*call) -> None:
        profiles[-1](*call)

    with tempfile.TemporaryDirectory() as folder:
        os.makedirs(f"{folder}/data/a")
        settings = {"data": {"backend": "local", "root": f"{folder}/data", "endpoints": {"a": None, "b": None}}}
        threading.setprofile(profile)
        sys.setprofile(profile)
        with Workflow(settings, run_dir=f"{folder}/run"):
            # The first one opens what all of them use.
            for number in range(1 + TRIES):
                Path(f"{folder}/data/a/{number}").write_text("x")
                profiles.append(Profile())
                future = transfer_task("a", "b", f"/{number}", f"/{number}", executor="local")
                future.result(LIMIT)
            profiles.append(Profile())
            sys.setprofile(None)
            threading.setprofile(None)
    return min(profiles[2:-1], key=lambda one: len(one.hops))


def test_a_local_transfer_crosses_few_modules():
    """One transfer of a small file crosses from module to module at most 80 times, on its way through 37 of them."""
    done = subprocess.run([sys.executable, __file__], capture_output=True, text=True, timeout=LIMIT, check=True)
    *hops, summary = done.stdout.splitlines()
    assert len(hops) <= MOST_HOPS, done.stdout
    assert int(summary.split()[0]) <= MOST_MODULES, done.stdout


if __name__ == "__main__":
    found = shortest()
    # ruff: noqa: T201
    print(*found.hops, sep="\n")
    print(f"{len(found.modules)} modules, {len(found.hops)} hops")
