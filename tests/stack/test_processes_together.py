"""Several processes request the same files from one service, over real HTTP, while sources change and processes die.

CHILTEPIN_SCHEDULES=20 runs 20 seeds.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading

import pytest
from waiting import until

#: Steps of one schedule, files, and processes that run at a time.
STEPS, FILES, PROCESSES = 40, 3, 3

#: Reads a call from each line, makes it in a new thread, and prints how it ended and the content of the destination.
CALLER = """
import json, sys, threading
from pathlib import Path
from chiltepin import transfer
from chiltepin.errors import ChiltepinError

folder, lock = Path(sys.argv[1]), threading.Lock()

def call(number, file, level):
    more = {"timeout": 40, "polling_interval": 0.2, "sync_level": level}
    try:
        end = transfer("my-laptop", "hpc-scratch", f"/{file}", f"/{file}", **more)
    except ChiltepinError as error:
        end = str(error)
    held = (folder / str(file)).read_text() if end is True else ""
    with lock:
        print(json.dumps([number, end, held]), flush=True)

print(json.dumps("ready"), flush=True)
for line in sys.stdin:
    threading.Thread(target=call, args=json.loads(line)).start()
"""


class Caller:
    """A process that makes calls."""

    def __init__(self, folder, environment):
        self.process = subprocess.Popen(
            [sys.executable, "-c", CALLER, str(folder / "hpc-scratch")],
            cwd=folder,
            env={**os.environ, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.calls, self.ends = {}, {}
        assert json.loads(self.process.stdout.readline()) == "ready"
        self.thread = threading.Thread(target=self._hear, daemon=True)
        self.thread.start()

    def _hear(self):
        for line in self.process.stdout:
            number, end, held = json.loads(line)
            self.ends[number] = end, held

    def call(self, number, file, level, version):
        """Request a transfer of a file; ``version`` is the current version of its source."""
        self.calls[number] = file, version
        self.process.stdin.write(json.dumps([number, file, level]) + "\n")
        self.process.stdin.flush()

    def kill(self):
        """Send SIGKILL to the process."""
        self.process.send_signal(signal.SIGKILL)
        self._end()

    def leave(self):
        """Let the process exit normally."""
        self.process.stdin.close()
        self._end()

    def _end(self):
        self.process.wait(60)
        self.thread.join(60)
        self.process.stdout.close()
        if not self.process.stdin.closed:
            self.process.stdin.close()


class Sources:
    """Files that contain their version number, each replaced as a whole."""

    def __init__(self, folder, files):
        self.folder, self.versions = folder, [0] * files
        for file in range(files):
            self.write(file)

    def write(self, file):
        """Write the next version."""
        self.versions[file] += 1
        beside = self.folder / f"next-{file}"
        beside.write_text(f"{self.versions[file]:08d}")
        os.replace(beside, self.folder / str(file))


def judge(callers, sources):
    """Check each successful call against the versions of its source; return the number of these calls."""
    told = 0
    for caller in callers:
        for number, (end, held) in caller.ends.items():
            file, before = caller.calls[number]
            if end is True:
                told += 1
                assert before <= int(held) <= sources.versions[file], f"call {number} of file {file}"
    return told


def written_at_once(tasks):
    """Return the files that two tasks wrote at the same time."""
    busy, found = {}, []
    for task in sorted(tasks, key=lambda task: task.period):
        begun, ended = task.period
        found += [(task.id, path) for path in task.destinations if begun < busy.get(path, 0)]
        busy.update(dict.fromkeys(task.destinations, ended))
    return found


def seeds():
    """Return the seeds: one, or as many as CHILTEPIN_SCHEDULES says."""
    return range(int(os.environ.get("CHILTEPIN_SCHEDULES", "1").rpartition(":")[2]))


@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", seeds(), ids=lambda seed: f"seed {seed}")
def test_processes_that_share_a_service_tell_the_truth(chiltepin_globus, tmp_path, seed):
    """Every call ends, success means a source version no older than the call, and no file has two tasks at once."""
    globus, chance = chiltepin_globus, random.Random(seed)  # noqa: S311 - reproducible, not secret
    globus.settings.task_latency, globus.settings.latency = chance.uniform(0, 0.3), chance.uniform(0, 0.01)
    environment = {**globus.environment(), "CHILTEPIN_JOURNAL": str(tmp_path / "journal")}
    (tmp_path / "chiltepin.yaml").write_text("data:\n  backend: globus\n")
    sources = Sources(tmp_path / "my-laptop", FILES)
    callers = [Caller(tmp_path, environment) for _ in range(PROCESSES)]
    dead, numbers = [], iter(range(STEPS))
    for _ in range(STEPS):
        step = chance.choice(["call"] * 6 + ["write"] * 3 + ["fail", "wait", "kill"])
        file, caller = chance.randrange(FILES), chance.choice(callers)
        if step == "call":
            caller.call(next(numbers), file, chance.choice([None, None, "checksum"]), sources.versions[file])
        elif step == "write":
            sources.write(file)
        elif step == "wait" and caller.calls:
            until(lambda caller=caller: len(caller.ends) > len(caller.calls) // 2, 60)
        elif step == "fail":
            for task in [task for task in globus.tasks.values() if task.status == "ACTIVE"][:1]:
                task.fail()
        elif step == "kill" and len(dead) < PROCESSES:
            caller.kill()
            callers.remove(caller)
            dead.append(caller)
            callers.append(Caller(tmp_path, environment))
    for caller in callers:
        until(lambda caller=caller: len(caller.ends) == len(caller.calls), 90)
        caller.leave()
        assert caller.process.returncode == 0
    assert judge(callers + dead, sources)
    assert not written_at_once(globus.tasks.values())


def test_processes_that_submit_together_see_each_other(chiltepin_globus, tmp_path):
    """Of tasks that several processes submit in the same moment, no two write to one file at the same time."""
    globus = chiltepin_globus
    # Long enough that each process asks for its submission id before any has its task.
    globus.settings.request_latency, globus.settings.task_latency = 0.1, 0.5
    environment = {**globus.environment(), "CHILTEPIN_JOURNAL": str(tmp_path / "journal")}
    (tmp_path / "chiltepin.yaml").write_text("data:\n  backend: globus\n")
    sources = Sources(tmp_path / "my-laptop", 1 + PROCESSES)
    callers = [Caller(tmp_path, environment) for _ in range(PROCESSES)]
    shared, *own = range(1 + PROCESSES)
    for caller, file in zip(callers, own, strict=True):
        # One task, which Globus does not refuse, because it has other paths than those of the other processes.
        for path in (shared, file):
            caller.call(path, path, None, sources.versions[path])
    for caller in callers:
        until(lambda caller=caller: len(caller.ends) == 2, 60)
        caller.leave()
    assert judge(callers, sources) == 2 * PROCESSES
    assert not written_at_once(globus.tasks.values())
