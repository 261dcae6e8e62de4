"""Workflows that are killed at random times and restarted; CHILTEPIN_KILLS=200 runs 200 of these tests."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import threading

import pytest

WAVES, OLD = 3, 2

#: What the process does after each wave: another workflow, beside the first or nested in it, or a call outside one.
COMPANY = ["idle", "works", "fails", "nested", "alone"]

#: Imports everything that a workflow needs, then forks a process to run a workflow for each line that it reads.
CRADLE = f"""
import json, os, random, sys, threading
import globus_sdk, chiltepin.backends.globus
from chiltepin import Workflow, delete, delete_task, transfer_task

SETTINGS = {{"data": {{"backend": "globus"}}}}

def beside(kind, run_dir, number):
    # Another workflow, which ends before the first one does: in order or not, with something to do or without.
    try:
        with Workflow(SETTINGS, run_dir=run_dir):
            if kind != "idle":
                delete_task("hpc-scratch", f"/side/{{number}}", executor="local", ignore_missing=True).result(60)
            if kind == "fails":
                raise RuntimeError("on purpose")
    except RuntimeError:
        pass

def company(kind, run_dir, number):
    if kind == "nested":
        return beside("works", run_dir, number)
    if kind == "alone":
        return delete("hpc-scratch", f"/side/{{number}}", ignore_missing=True)
    thread = threading.Thread(target=beside, args=(kind, run_dir, number))
    thread.start()
    thread.join()

def workflow(count, run_dir, seed):
    chance = random.Random(seed)
    ends, rest = [], {{"executor": "local", "polling_interval": 0.2}}
    with Workflow(SETTINGS, run_dir=run_dir) as main:
        print(main.dfk.run_id, flush=True)
        for wave in range({WAVES}):
            futures = [
                transfer_task("my-laptop", "hpc-scratch", f"/{{wave}}-{{number}}", f"/out/{{wave}}-{{number}}", **rest)
                for number in range(count)
            ]
            futures += [delete_task("hpc-scratch", f"/old/{{wave}}-{{number}}", **rest) for number in range({OLD})]
            ends += [future.result(60) for future in futures]
            company(chance.choice({COMPANY}), run_dir, wave)
    print(ends.count(True))

for line in sys.stdin:
    asked = json.loads(line)
    child = os.fork()
    if not child:
        os.environ.update(asked["environment"])
        output = os.open(asked["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(output, 1)
        os.dup2(output, 2)
        workflow(asked["count"], asked["run_dir"], asked["seed"])
        sys.exit()
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class ForkServer:
    """A process that forks workflow processes, one at a time."""

    def __init__(self):
        self.process = subprocess.Popen(
            [sys.executable, "-c", CRADLE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def start(self, asked):
        """Start a workflow; return its process id."""
        self.process.stdin.write(json.dumps(asked) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def wait(self):
        """Wait for the workflow to end; return its exit code."""
        return int(self.process.stdout.readline())


@pytest.fixture(scope="module")
def fork_server():
    """A process that forks the workflows of all tests."""
    made = ForkServer()
    yield made
    made.process.communicate()


def seeds():
    """Return the seeds: one by default, the number in CHILTEPIN_KILLS, or its range, such as 100:200."""
    first, _, last = os.environ.get("CHILTEPIN_KILLS", "1").rpartition(":")
    return range(int(first or 0), int(last))


def settled(folder, output):
    """Return whether the workflow named in the output has recorded a clean end."""
    name = output.read_text().split("\n", 1)[0] if output.exists() else ""
    lines = [line for file in (folder / "journal").glob("*.jsonl") for line in file.read_text().splitlines()]
    return any('"event":"settled"' in line and f'"workflow":"{name}"' in line for line in lines if name)


@pytest.mark.parametrize("seed", seeds(), ids=lambda seed: f"seed {seed}")
def test_a_workflow_that_is_killed_at_any_moment_goes_on(fork_server, chiltepin_globus, tmp_path, seed):
    """After one or two SIGKILLs, the last run of a workflow succeeds, and each file is moved and requested once."""
    globus, chance = chiltepin_globus, random.Random(seed)  # noqa: S311 - reproducible, not secret
    count, kills = chance.randint(1, 20), chance.choice([1, 1, 2])
    globus.settings.task_latency, globus.settings.latency = chance.uniform(0, 0.8), chance.uniform(0, 0.02)
    old = tmp_path / "hpc-scratch" / "old"
    old.mkdir(parents=True)
    for wave in range(WAVES):
        for number in range(count):
            (tmp_path / "my-laptop" / f"{wave}-{number}").write_text(f"{wave} {number}")
        for number in range(OLD):
            (old / f"{wave}-{number}").touch()
    output = tmp_path / "output"
    asked = {
        "environment": {**globus.environment(), "CHILTEPIN_JOURNAL": str(tmp_path / "journal")},
        "count": count,
        "run_dir": str(tmp_path / "runinfo"),
        "output": str(output),
        "seed": seed,
    }
    for _ in range(kills):
        # After a clean end, an equal request would be a new one.
        if not settled(tmp_path, output):
            killed_after(fork_server, asked, globus, chance.uniform(0, 3))
    if not settled(tmp_path, output):
        fork_server.start(asked)
        assert (fork_server.wait(), output.read_text().split("\n", 1)[1]) == (0, f"{WAVES * (count + OLD)}\n")
    transfers = [task.document() for task in globus.tasks.values() if task.document()["type"] == "TRANSFER"]
    written = [
        entry["destination_path"]
        for task in transfers
        for entry in globus.client().paginated.task_successful_transfers(task["task_id"]).items()
    ]
    assert sorted(written) == sorted(f"/out/{wave}-{number}" for wave in range(WAVES) for number in range(count))
    assert sum(task["files"] for task in transfers if task["sync_level"] is None) == WAVES * count
    assert list(old.iterdir()) == []


def killed_after(fork_server, asked, globus, seconds):
    """Run a workflow and kill it some seconds after its first request, unless it ends before."""
    before, waiting = len(globus.requests), threading.Event()
    process = fork_server.start(asked)
    while len(globus.requests) == before:
        waiting.wait(0.01)
    waiting.wait(seconds)
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, signal.SIGKILL)
    fork_server.wait()
