"""Signals to a whole process group, as `timeout`, Ctrl-C, a closed terminal and `kill -- -PGID` send them.

CHILTEPIN_KILLS=100 runs a hundred kills of each kind.
"""

from __future__ import annotations

import json
import os
import random
import select
import signal
import subprocess
import sys
import threading

import psutil
import pytest
from killing import LIMIT, POOL, check_alone, processes, seeds
from waiting import until

pytestmark = pytest.mark.timeout(900)

every_seed = pytest.mark.parametrize("seed", seeds(1), ids=lambda seed: f"seed {seed}")

#: Seconds after which no process is left.
GONE = 10

SCRIPT = """
import json, sys
from chiltepin import Workflow, python_task, transfer_task

@python_task
def stubborn():
    import contextlib, signal, subprocess, time

    # In a thread there is no need to.
    with contextlib.suppress(ValueError):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    # The first one would ignore SIGTERM, too; the second one is in a separate session.
    subprocess.Popen(["sleep", "600"])
    subprocess.Popen(["sleep", "600"], start_new_session=True)
    open("stubborn", "w").close()
    time.sleep(600)

print("begun", flush=True)
with Workflow(json.loads(sys.argv[1]), run_dir="runinfo"):
    moved = transfer_task("a", "b", "/big", "/big", executor=sys.argv[2])
    if sys.argv[3] in ("task", "thread"):
        moved.result()
        held = stubborn(executor=sys.argv[2])
        transfer_task("a", "b", "/big", "/late", executor=sys.argv[2], inputs=[held])
        try:
            held.result()
        except:
            if sys.argv[3] == "task":
                raise
            print("goes on", flush=True)
            held.result()
    print("started", flush=True)
    moved.result()
    print("moved", flush=True)
"""


class Script:
    """A script that leads a session and a process group."""

    def __init__(self, folder, executor, moment):
        config = {
            "data": {"backend": "local", "root": str(folder), "endpoints": {"a": None, "b": None}},
            "pool": POOL,
        }
        (folder / "script.py").write_text(SCRIPT)
        for end in "ab":
            (folder / end).mkdir(exist_ok=True)
        words = [sys.executable, "script.py", json.dumps(config), executor, moment]
        self.process = subprocess.Popen(
            words,
            cwd=folder,
            env={**os.environ, "XDG_STATE_HOME": str(folder / "state")},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            # A shell ignores Ctrl-C for its background jobs, and nohup ignores the end of the terminal.
            preexec_fn=lambda: [signal.signal(number, signal.SIG_DFL) for number in (signal.SIGINT, signal.SIGHUP)],  # noqa: PLW1509
        )

    def await_line(self, line):
        """Wait until the script prints a line."""
        assert select.select([self.process.stdout], [], [], LIMIT)[0], "it hangs"
        assert self.process.stdout.readline().decode().strip() == line

    def end(self):
        """Wait until the script has ended and no process holds its output open; return its exit code and output."""
        output, _ = self.process.communicate(timeout=LIMIT)
        return self.process.returncode, output.decode()


def kill_at(moment, script, folder, chance):
    """Wait until the script reaches a moment."""
    script.await_line("begun")
    if moment in {"task", "thread"}:
        while not (folder / "stubborn").exists() or len(processes(folder, "sleep")) < 2:
            assert script.process.poll() is None
            threading.Event().wait(0.05)
    else:
        threading.Event().wait(chance.uniform(0, 3 if moment == "start" else 1))


def over(process):
    """Whether a process has ended, reaped or not."""
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
@every_seed
def test_a_script_that_goes_on(folder, seed, number):
    """A script that catches every exception, with a task in an unstoppable thread, ends and names the lost transfer."""
    (folder / "a").mkdir()
    (folder / "a" / "big").write_bytes(b"content")
    script = Script(folder, "local", "thread")
    kill_at("thread", script, folder, random.Random(seed))  # noqa: S311 - reproducible, not secret
    script.process.send_signal(number)
    code, output = script.end()
    assert code == -number, output
    assert "goes on" in output
    assert f"of /big to /late had not ended: the workflow was ended by {number.name}." in output
    check_alone(folder, within=GONE - 4)


@pytest.mark.parametrize("to", ["group", "process"])
@pytest.mark.parametrize("moment", ["start", "task", "transfer"])
@every_seed
def test_nothing_is_left(folder, seed, moment, to):
    """Ten seconds after a signal no process is left, the destination is whole or absent, and the next run succeeds."""
    chance = random.Random(f"{seed} {moment} {to}")  # noqa: S311 - reproducible, not secret
    (folder / "a").mkdir()
    content = chance.randbytes(50 << 20)
    (folder / "a" / "big").write_bytes(content)
    script = Script(folder, "local" if moment == "transfer" else "pool", moment)
    kill_at(moment, script, folder, chance)
    number = chance.choice([signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGKILL])
    before = psutil.Process(script.process.pid).children(recursive=True)
    if to == "group":
        os.killpg(script.process.pid, number)
    else:
        script.process.send_signal(number)
    code, output = script.end()
    assert code or "moved" in output, (number, output)
    check_alone(folder, within=GONE)
    # A process that is ending has no working folder, by which `check_alone` finds it.
    until(lambda: all(map(over, before)), GONE)
    place = folder / "b" / "big"
    assert not place.exists() or place.read_bytes() == content
    again = Script(folder, "local", "again")
    for line in ("begun", "started", "moved"):
        again.await_line(line)
    assert again.end() == (0, "")
    assert place.read_bytes() == content
