"""Signal handlers and finalizers that transfer files while they interrupt a transfer."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from chiltepin.testing.simulator import Simulator

LIMIT = 60

#: Interrupts transfers of the main thread with signals, whose handler transfers a file, too.
SIGNALS = """
import random, signal, sys
from chiltepin import delete, transfer

calls, wanted, pause = [], int(sys.argv[1]), float(sys.argv[2])

def handle(*_):
    calls.append(transfer("here", "there", "/file", f"/handler-{len(calls) % 9}", timeout=30))
    if len(calls) < wanted:
        signal.setitimer(signal.ITIMER_REAL, 0.0001 + random.random() * pause)

signal.signal(signal.SIGALRM, handle)
signal.setitimer(signal.ITIMER_REAL, 0.001)
while len(calls) < wanted:
    assert transfer("here", "there", "/file", "/main", timeout=30)
    assert delete("there", "/main", timeout=30, ignore_missing=True)
assert all(calls)
"""

#: Interrupts transfers of the main thread with errors.
INTERRUPTS = """
import random, signal, sys
from chiltepin import transfer

interrupts, wanted, pause = 0, int(sys.argv[1]), float(sys.argv[2])

class Interrupt(BaseException):
    pass

def handle(*_):
    raise Interrupt

signal.signal(signal.SIGALRM, handle)
while interrupts < wanted:
    try:
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.0001 + random.random() * pause)
            while True:
                transfer("here", "there", "/file", "/main", timeout=30)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    except Interrupt:
        interrupts += 1
assert transfer("here", "there", "/file", "/last", timeout=30)
"""

#: A handler that stops a task, and reads its status, while the main thread does so.
STOPS = """
import random, signal, sys
from chiltepin import Workflow, transfer_task

wanted, pause, tasks, calls = int(sys.argv[1]), float(sys.argv[2]), [], 0

def handle(*_):
    global calls
    calls += 1
    for task in tasks:
        task.status()
        task.cancel()
    if calls < wanted:
        signal.setitimer(signal.ITIMER_REAL, 0.0001 + random.random() * pause)

signal.signal(signal.SIGALRM, handle)
with Workflow() as workflow:
    signal.setitimer(signal.ITIMER_REAL, 0.001)
    while calls < wanted:
        task = transfer_task("here", "there", "/file", "/main", timeout=30, executor="local", check=False)
        tasks[:] = [task]
        for _ in range(20):
            task.status()
            task.cancel()
        task.result(timeout=30)
"""

#: A handler that forks; the child continues with the call of its parent, and ends after it.
FORKS = """
import os, random, signal, sys, warnings
from chiltepin import transfer
from chiltepin.errors import TaskLostError

children, wanted, pause, me = [], int(sys.argv[1]), float(sys.argv[2]), os.getpid()
warnings.simplefilter("ignore", DeprecationWarning)

def handle(*_):
    child = os.fork()
    if child:
        children.append(child)
        signal.setitimer(signal.ITIMER_REAL, 0.0001 + random.random() * pause)

signal.signal(signal.SIGALRM, handle)
signal.setitimer(signal.ITIMER_REAL, 0.001)
while len(children) < wanted:
    try:
        transfer("here", "there", "/file", "/main", timeout=30)
    except TaskLostError:
        assert os.getpid() != me
    if os.getpid() != me:
        os._exit(0)
signal.setitimer(signal.ITIMER_REAL, 0)
assert not any(os.waitpid(child, 0)[1] for child in children)
"""

#: A handler that forks while the main thread waits for a task, with and without a time limit.
FORKS_IN_A_WAIT = """
import os, signal, sys, time, warnings
from chiltepin import Workflow, python_task, transfer_task
from chiltepin.errors import TaskLostError

children, me = [], os.getpid()
warnings.simplefilter("ignore", DeprecationWarning)

def handle(*_):
    children.append(os.fork())

@python_task
def wait_for(children):
    while not children:
        time.sleep(0.01)

signal.signal(signal.SIGALRM, handle)
with Workflow() as workflow:
    for timeout in (None, 30):
        children.clear()
        begun = [wait_for(children, executor="local")]
        task = transfer_task("here", "there", "/file", "/main", executor="local", inputs=begun)
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        try:
            assert task.result(timeout)
        except TaskLostError:
            assert os.getpid() != me
        if os.getpid() != me:
            os._exit(0)
        assert os.waitpid(children[0], 0)[1] == 0
"""

#: A finalizer that transfers a file: the garbage collector may run it at any moment.
FINALIZERS = """
import gc
from chiltepin import transfer

class Staged:
    def __init__(self):
        self.itself = self

    def __del__(self):
        transfer("here", "there", "/file", "/staged", timeout=1)

assert transfer("here", "there", "/file", "/main", timeout=30)
gc.set_threshold(50)
for _ in range(200):
    Staged()
    try:
        transfer("here", "there", "/file", "/main", timeout=1)
    except Exception:
        pass
gc.disable()
assert transfer("here", "there", "/file", "/main", timeout=30)
"""


@pytest.fixture(params=["local", "globus"])
def backend(request, tmp_path, monkeypatch):
    """Two endpoints of the local backend or of a simulated Globus, as the default settings of a script."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("CHILTEPIN_CONFIG", str(tmp_path / "chiltepin.yaml"))
    source, destination = (tmp_path / "sandbox" / name for name in ("here", "there"))
    for folder in (source, destination):
        folder.mkdir(parents=True)
    (source / "file").write_text("content")
    data = {"backend": request.param, "journal": str(tmp_path / "journal")}
    if request.param == "local":
        document = {"data": {**data, "endpoints": {"here": None, "there": None}}}
        (tmp_path / "chiltepin.yaml").write_text(json.dumps(document))
        yield request.param
        return
    with Simulator({"here": source, "there": destination}, request_rate=None) as simulator:
        for name, value in simulator.environment().items():
            monkeypatch.setenv(name, value)
        places = {name: {"globus": simulator.collection(name).id} for name in ("here", "there")}
        (tmp_path / "chiltepin.yaml").write_text(json.dumps({"data": {**data, "endpoints": places}}))
        yield request.param


def run(script, *arguments):
    """Run a script, which must end in time and without an error."""
    ended = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", script, *map(str, arguments)],
        check=False,
        timeout=LIMIT,
        capture_output=True,
        text=True,
        env=dict(os.environ),
    )
    assert ended.returncode == 0, ended.stderr[-4000:]


def test_a_handler_transfers_while_a_transfer_is_interrupted(backend):
    """A handler that interrupts a transfer at any moment can itself transfer a file; both succeed."""
    run(SIGNALS, *((400, 0.004) if backend == "local" else (12, 0.3)))


def test_a_handler_interrupts_a_transfer(backend):
    """After a handler has ended transfers with errors at any moment, the next transfer succeeds."""
    run(INTERRUPTS, *((150, 0.01) if backend == "local" else (20, 0.3)))


def test_a_handler_stops_a_task_that_is_being_stopped(backend):
    """A handler can read the status of a task, and cancel it, while the main thread does the same."""
    run(STOPS, *((400, 0.002) if backend == "local" else (200, 0.004)))


@pytest.mark.parametrize("backend", ["local"], indirect=True)
def test_a_handler_forks(backend):
    """In a child that a signal handler forks during a transfer, the interrupted call ends, too."""
    assert backend
    run(FORKS, 30, 0.05)


@pytest.mark.parametrize("backend", ["local"], indirect=True)
def test_a_handler_forks_while_a_result_is_waited_for(backend):
    """In a child that a signal handler forks during a wait for a task, the wait ends, too."""
    assert backend
    run(FORKS_IN_A_WAIT)


@pytest.mark.parametrize("backend", ["local"], indirect=True)
def test_a_finalizer_transfers(backend):
    """Transfers end, although the garbage collector interrupts them to transfer a file."""
    assert backend
    run(FINALIZERS)
