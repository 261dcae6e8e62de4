"""Real workflows that are killed at random moments and started again; CHILTEPIN_KILLS=200 asks for so many."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading

import pytest

WAVES, OLD = 3, 2

SCRIPT = f"""
import sys, chiltepin
from chiltepin import delete_task, transfer_task
count, run_dir = int(sys.argv[1]), sys.argv[2]
ends = []
with chiltepin.Workflow({{"data": {{"backend": "globus"}}}}, run_dir=run_dir):
    for wave in range({WAVES}):
        futures = [
            transfer_task("my-laptop", "hpc-scratch", f"/{{wave}}-{{number}}", f"/out/{{wave}}-{{number}}",
                          executor="local", polling_interval=0.2)
            for number in range(count)
        ]
        futures += [
            delete_task("hpc-scratch", f"/old/{{wave}}-{{number}}", executor="local", polling_interval=0.2)
            for number in range({OLD})
        ]
        ends += [future.result(60) for future in futures]
print(ends.count(True))
"""


def seeds():
    """The seeds of the histories: three, so many as CHILTEPIN_KILLS says, or those that it names, as in 100:200."""
    first, _, last = os.environ.get("CHILTEPIN_KILLS", "3").rpartition(":")
    return range(int(first or 0), int(last))


def settled(folder):
    """Whether a process has written that it ended in order."""
    journals = (folder / "journal").glob("*.jsonl")
    return any('"event":"settled"' in file.read_text() for file in journals)


@pytest.mark.parametrize("seed", seeds(), ids=lambda seed: f"seed {seed}")
def test_a_workflow_that_is_killed_at_any_moment_goes_on(chiltepin_globus, tmp_path, monkeypatch, seed):
    """Kill -9 of a workflow, sometimes twice: the last run ends well, with each file moved once and asked for once."""
    globus, chance = chiltepin_globus, random.Random(seed)  # noqa: S311 - to be repeated, not to be secret
    monkeypatch.setenv("CHILTEPIN_JOURNAL", str(tmp_path / "journal"))
    count, kills = chance.randint(1, 20), chance.choice([1, 1, 2])
    globus.settings.task_latency, globus.settings.latency = chance.uniform(0, 0.8), chance.uniform(0, 0.02)
    old = tmp_path / "hpc-scratch" / "old"
    old.mkdir(parents=True)
    for wave in range(WAVES):
        for number in range(count):
            (tmp_path / "my-laptop" / f"{wave}-{number}").write_text(f"{wave} {number}")
        for number in range(OLD):
            (old / f"{wave}-{number}").touch()
    command = [sys.executable, "-c", SCRIPT, str(count), str(tmp_path / "runinfo")]
    for _ in range(kills):
        # Whoever lived to its orderly end is done, and the same again would be a new wish.
        if not settled(tmp_path):
            killed_after(command, globus, chance.uniform(0, 3))
    if not settled(tmp_path):
        last = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)
        assert (last.stdout.strip(), last.stderr) == (str(WAVES * (count + OLD)), "")
    transfers = [task.document() for task in globus.tasks.values() if task.document()["type"] == "TRANSFER"]
    written = [
        entry["destination_path"]
        for task in transfers
        for entry in globus.client().paginated.task_successful_transfers(task["task_id"]).items()
    ]
    assert sorted(written) == sorted(f"/out/{wave}-{number}" for wave in range(WAVES) for number in range(count))
    assert sum(task["files"] for task in transfers if task["sync_level"] is None) == WAVES * count
    assert list(old.iterdir()) == []


def killed_after(command, globus, seconds):
    """Run a workflow, and kill it some seconds after its first request, if it lives so long."""
    before, waiting = len(globus.requests), threading.Event()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while len(globus.requests) == before and process.poll() is None:
        waiting.wait(0.01)
    waiting.wait(seconds)
    process.kill()
    process.wait()
