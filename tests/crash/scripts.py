"""Scripts that end in different ways, and what must hold after each has ended."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
from dataclasses import dataclass

from killing import LIMIT, POOL, check_alone

from chiltepin.testing.simulator import Simulator

SIZE = 1 << 20

_MAKING = threading.Lock()

BACKENDS = ("globus", "local")

#: How the script starts Parsl.
HOLDERS = {
    "with": "with Workflow(config, run_dir='runinfo'):\n    body()\n    end()",
    "load": "parsl.load(chiltepin.configure.load(config, run_dir='runinfo'))\nbody()\nend()",
    "hand-made": "parsl.load(by_hand())\nbody()\nend()",
}

#: How the script starts the transfers of ``one`` and ``two``.
STARTS = {
    "main": "for name in NAMES:\n    move(name)",
    "later": "for name in NAMES:\n    move(name, inputs=[nap(executor=EXECUTOR)])",
    "dependent": "move('two', inputs=[move('one')])",
    "function": "move('two', inputs=[pause(move('one'), executor=EXECUTOR)])",
    "argument": "move(spelled('one', executor=EXECUTOR))\nmove('two')",
    "callback": "move('one').add_done_callback(lambda _: move('two'))",
    "thread": "for name in NAMES:\n    threading.Thread(target=lambda name=name: move(name).result()).start()",
    "late thread": "threading.Thread(target=lambda: [time.sleep(1), *map(move, NAMES)]).start()",
    "waiting thread": "threading.Thread(target=lambda: [move(name).result() for name in NAMES]).start()",
    "daemon": "begun = threading.Event()\n"
    "threading.Thread(target=lambda: [[move(name) for name in NAMES], begun.set()], daemon=True).start()\n"
    "begun.wait()",
    "pool": "pool = ThreadPoolExecutor(1)\nfor name in NAMES:\n    pool.submit(lambda name=name: move(name).result())",
    "plain": "started(*[threading.Thread(target=plainly, args=[name]) for name in NAMES])",
    "plain daemon": "started(*[threading.Thread(target=plainly, args=[name], daemon=True) for name in NAMES])",
    "fork": "for name in NAMES:\n    move(name)\nif not os.fork():\n    sys.exit()\nos.wait()",
    "process": "for name in NAMES:\n    move(name)\nchild = get_context('fork').Process(target=int)\n"
    "child.start()\nchild.join()",
}

#: The starts for which a ``with`` block does not wait.
THREADED = {"thread", "late thread", "waiting thread", "pool"}

#: How the script ends after it has started the transfers.
ENDS = {
    "done": "pass",
    "error": "raise KeyError('mine')",
    "exit 0": "sys.exit()",
    "exit 3": "sys.exit(3)",
    "SIGINT": "os.kill(os.getpid(), signal.SIGINT); time.sleep(60)",
    "SIGTERM": "os.kill(os.getpid(), signal.SIGTERM); time.sleep(60)",
    "SIGHUP": "os.kill(os.getpid(), signal.SIGHUP); time.sleep(60)",
    "wait and SIGTERM": "threading.Timer(1, os.kill, (os.getpid(), signal.SIGTERM)).start()",
    "wait and SIGINT": "threading.Timer(1, os.kill, (os.getpid(), signal.SIGINT)).start()",
}

SCRIPT = """
import json, os, signal, sys, threading, time
from concurrent.futures import Future, ThreadPoolExecutor
from multiprocessing import get_context

# Whatever runs in the background of a shell ignores Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)

import parsl
import chiltepin.configure
from chiltepin import Workflow, python_task, transfer, transfer_task

NAMES, EXECUTOR = ("one", "two"), {executor!r}
config = json.loads({config!r})

@python_task
def pause(arrived):
    return arrived

@python_task
def nap():
    import time

    time.sleep(1)

@python_task
def spelled(name):
    return "/" + name

def by_hand():
    open("chiltepin.yaml", "w").write(json.dumps(config))
    os.environ["CHILTEPIN_CONFIG"] = os.path.abspath("chiltepin.yaml")
    if EXECUTOR == "local":
        executor = parsl.ThreadPoolExecutor(EXECUTOR)
    else:
        executor = parsl.HighThroughputExecutor(
            EXECUTOR, address="127.0.0.1", max_workers_per_node=1, cores_per_worker=0.1, encrypted=False
        )
    return parsl.Config(executors=[executor], run_dir="runinfo")

def move(name, **options):
    path = name if not isinstance(name, str) else "/" + name
    future = transfer_task("a", "b", path, path, executor=EXECUTOR, polling_interval=1, **options)
    # Opened for each, as threads and processes come here.
    with open("asked", "a") as asked:
        asked.write(name if isinstance(name, str) else "one")
    return future

def plainly(name):
    with open("asked", "a") as asked:
        asked.write(name)
    transfer("a", "b", "/" + name, "/" + name, polling_interval=1)

def started(*threads):
    for thread in threads:
        thread.start()
    while not all(map(waits, threads)):
        time.sleep(0.01)

def waits(thread):
    # Whether the transfer of a thread is under way, or over.
    frame = sys._current_frames().get(thread.ident)
    while frame is not None and frame.f_code is not Future.result.__code__:
        frame = frame.f_back
    return frame is not None or not thread.is_alive()

def body():
    {start}

def end():
    {end}

{holder}
"""


@dataclass(frozen=True)
class Kind:
    """The parts of one script."""

    executor: str
    backend: str
    holder: str
    start: str
    end: str

    @property
    def clean(self):
        """Whether both files must arrive: neither the script nor its block ends before all transfers have started."""
        early = self.holder == "with" and (self.end == "exit 3" or self.start in THREADED)
        return self.end in {"done", "exit 0", "exit 3"} and not early

    def __str__(self):
        return f"{self.executor}, {self.backend}, {self.holder}, {self.start}, {self.end}"


def kinds(seed, count, executor):
    """Return some combinations of parts; those of one seed share few parts."""
    chance = random.Random(f"{seed} {executor}")  # noqa: S311 - reproducible, not secret
    parts = [chance.sample(sorted(part), len(part)) for part in (BACKENDS, HOLDERS, STARTS, ENDS)]
    return [Kind(executor, *(part[number % len(part)] for part in parts)) for number in range(count)]


def run(kind, folder):
    """Run a script, and check its files and messages."""
    folder.mkdir()
    # Creating a simulator compiles code, which is not safe in threads of CPython 3.11 (its issue 106905).
    with _MAKING:
        simulator = Simulator({end: folder / end for end in "ab"}, task_latency=3)
    with simulator:
        check(kind, folder, *ended(kind, folder, simulator))


def ended(kind, folder, simulator):
    """Run a script; return its completed process and the contents of its files."""
    content = {name: random.Random(name).randbytes(SIZE) for name in ("one", "two")}  # noqa: S311 - as above
    for name, inside in content.items():
        (folder / "a" / name).write_bytes(inside)
    config = {"data": settings(kind, folder, simulator)}
    if kind.executor != "local":
        config[kind.executor] = POOL
    parts = {"start": STARTS[kind.start], "end": ENDS[kind.end]}
    text = SCRIPT.format(
        executor=kind.executor,
        config=json.dumps(config),
        holder=HOLDERS[kind.holder],
        **{name: part.replace("\n", "\n    ") for name, part in parts.items()},
    )
    (folder / "script.py").write_text(text)
    (folder / "asked").touch()
    environment = {**os.environ, **simulator.environment(), "XDG_STATE_HOME": str(folder / "state")}
    # With pipes, as in `python script.py | tee log`: a process that is left holds them and keeps the reader waiting.
    end = subprocess.run(
        [sys.executable, "script.py"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    return end, content


def settings(kind, folder, simulator):
    """Return the data section of the settings of a script."""
    if kind.backend == "local":
        return {"backend": "local", "root": str(folder), "endpoints": {"a": None, "b": None}}
    endpoints = {name: {"globus": simulator.collection(name).id} for name in "ab"}
    return {"backend": "globus", "endpoints": endpoints}


def check(kind, folder, ended, content):
    """Check that each file has arrived, or is named with a nonzero exit code, and that no process is left."""
    told = f"\n{kind}: {ended.returncode}\n{ended.stdout}\n{ended.stderr}"
    asked = (folder / "asked").read_text()
    missing = [name for name in content if not (folder / "b" / name).exists()]
    for name in content.keys() - missing:
        assert (folder / "b" / name).read_bytes() == content[name], f"{name} is half{told}"
    for name in missing:
        if name in asked:
            # The message has no path if the path is a future.
            named = f"/{name}" in ended.stderr or "The transfer_task" in ended.stderr
            assert named, f"{name} is missing, and not named{told}"
            assert ended.returncode, f"{name} is missing, and the exit code is 0{told}"
    if kind.clean:
        assert not missing, f"{missing} is missing{told}"
        assert not ended.stderr, told
    wanted = {"error": 1, "exit 3": 3}.get(kind.end)
    assert wanted in (None, ended.returncode), told
    check_alone(folder, within=60)
