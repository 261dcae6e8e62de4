"""The number of calls between Chiltepin modules in one transfer: what a reader of the code has to follow.

Run as a program (``python tests/unit/test_hops.py local``, or ``globus``), it prints the calls in order.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import chiltepin
from chiltepin import Workflow, transfer_task

if TYPE_CHECKING:
    from collections.abc import Iterator

SOURCE = f"{os.path.dirname(chiltepin.__file__)}{os.sep}"

TESTING = f"{SOURCE}testing{os.sep}"

#: For each backend, the most hops and the most modules in a transfer of one small file.
MOST = {"local": (82, 41), "globus": (159, 53)}

#: Number of measured transfers. The fewest hops count, because a busy machine adds polls.
TRIES = 5

LIMIT = 60


def is_ours(module: str) -> bool:
    """Return whether a file belongs to the package and is not test support, such as the simulator."""
    return module.startswith(SOURCE) and not module.startswith(TESTING)


class Profile:
    """A profile function that records the calls between Chiltepin modules."""

    def __init__(self) -> None:
        self.hops: list[str] = []
        self.modules: set[str] = set()

    def __call__(self, frame, event, _) -> None:
        """Record a call; frames of other packages between two Chiltepin frames are skipped."""
        module = frame.f_code.co_filename
        if event != "call" or not is_ours(module):
            return
        self.modules.add(module)
        caller = frame.f_back
        while caller is not None and not is_ours(caller.f_code.co_filename):
            caller = caller.f_back
        if caller is not None and caller.f_code.co_filename != module:
            names = [f"{code.co_filename[len(SOURCE) : -3]} {code.co_name}" for code in (caller.f_code, frame.f_code)]
            self.hops.append(" -> ".join(names))


@contextmanager
def settings(backend: str, folder: str) -> Iterator[dict]:
    """Yield settings with two endpoints, each with a separate folder."""
    for name in "ab":
        os.mkdir(f"{folder}/{name}")
    if backend == "local":
        yield {"backend": "local", "root": folder, "endpoints": {"a": None, "b": None}}
        return
    from chiltepin.testing.simulator import Simulator

    with Simulator({name: f"{folder}/{name}" for name in "ab"}) as simulator:
        os.environ.update(simulator.environment())
        yield {"backend": "globus", "journal": f"{folder}/journal"}


def shortest(backend: str) -> Profile:
    """Transfer small files one after another, and return the profile with the fewest hops."""
    profiles = [Profile()]

    def profile(*call) -> None:
        profiles[-1](*call)

    with tempfile.TemporaryDirectory() as folder, settings(backend, folder) as data:
        threading.setprofile(profile)
        sys.setprofile(profile)
        with Workflow({"data": data}, run_dir=f"{folder}/run"):
            # The first transfer opens what all transfers use.
            for number in range(1 + TRIES):
                Path(f"{folder}/a/{number}").write_text("x")
                profiles.append(Profile())
                future = transfer_task("a", "b", f"/{number}", f"/{number}", executor="local")
                future.result(LIMIT)
            profiles.append(Profile())
            sys.setprofile(None)
            threading.setprofile(None)
    return min(profiles[2:-1], key=lambda one: len(one.hops))


@pytest.mark.parametrize("backend", MOST)
def test_a_transfer_crosses_few_modules(backend):
    """A transfer of one small file makes no more calls between modules than the recorded maximum."""
    most_hops, most_modules = MOST[backend]
    done = subprocess.run(
        [sys.executable, __file__, backend], capture_output=True, text=True, timeout=LIMIT, check=True
    )
    *hops, summary = done.stdout.splitlines()
    assert len(hops) <= most_hops, done.stdout
    assert int(summary.split()[0]) <= most_modules, done.stdout


if __name__ == "__main__":
    found = shortest(sys.argv[1])
    # ruff: noqa: T201
    print(*found.hops, sep="\n")
    print(f"{len(found.modules)} modules, {len(found.hops)} hops")
