"""Real Parsl for the tests: threads for nearly everything, one pair of worker processes for what needs them."""

from __future__ import annotations

import functools
import logging
import sys
import threading
from pathlib import Path

import psutil
import pytest
from parsl import Config, HighThroughputExecutor, ThreadPoolExecutor
from parsl.executors.high_throughput.executor import DEFAULT_LAUNCH_CMD
from parsl.providers import LocalProvider

from chiltepin.workflow import Workflow

HERE = Path(__file__).parent
BIN = Path(sys.prefix) / "bin"


def make_config(run_dir, *executors, **options):
    """Return a Parsl Config over `executors`, by default one pool of two threads named ``local``."""
    return Config(
        executors=list(executors) or [ThreadPoolExecutor("local", max_threads=2)],
        run_dir=str(run_dir),
        strategy="none",
        **{"initialize_logging": False, "exit_mode": "wait", **options},
    )


def make_htex(label="htex", *, workers=2):
    """Return an executor of worker processes on this machine, which see the modules of this folder."""
    path = f"{HERE}${{PYTHONPATH:+:$PYTHONPATH}}"
    return HighThroughputExecutor(
        label,
        address="127.0.0.1",
        max_workers_per_node=workers,
        cores_per_worker=0.1,
        encrypted=False,
        interchange_launch_cmd=[sys.executable, str(BIN / "interchange.py")],
        launch_cmd=f"{sys.executable} {BIN}/{DEFAULT_LAUNCH_CMD}",
        provider=LocalProvider(init_blocks=1, max_blocks=1, worker_init=f"export PYTHONPATH={path}"),
    )


def living():
    """Return the threads and child processes of this process, but for the one thread that an SDK never ends."""
    threads = {thread for thread in threading.enumerate() if "__atexit" not in thread.name}
    children = psutil.Process().children(recursive=True)
    return threads | {child for child in children if child.status() != psutil.STATUS_ZOMBIE}


def named(left):
    """Return the name of a thread or of a process."""
    return left.name() if isinstance(left, psutil.Process) else left.name


@pytest.fixture
def config(tmp_path):
    """Return `make_config` with a folder for its logs."""
    return functools.partial(make_config, tmp_path / "runinfo")


@pytest.fixture
def workflow(config):
    """Run the test inside a workflow of two threads."""
    with Workflow(config()) as running:
        yield running


@pytest.fixture
def tolerated():
    """Return a list for the beginnings of the names of threads that a test cannot but leave behind."""
    return []


@pytest.fixture(autouse=True)
def _clean(request, caplog, tolerated):
    """Fail a test that leaves a thread or a process behind, or an error in a callback of a future."""
    before = living()
    # Parsl's log is long, and its records would keep kernels alive.
    logging.getLogger("parsl").setLevel(logging.CRITICAL)
    yield
    assert not [record for record in caplog.get_records("call") if record.name == "concurrent.futures"]
    if "htex" not in request.fixturenames:
        left = {one for one in living() - before if not named(one).startswith(tuple(tolerated))}
        # A thread that has just been told to end may need a moment.
        for thread in [one for one in left if isinstance(one, threading.Thread)]:
            thread.join(timeout=5)
        assert not left & living()
