"""Configurations of a real Parsl on this machine, and a list of leftover threads and processes."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import psutil
from parsl import Config, HighThroughputExecutor, ThreadPoolExecutor
from parsl.executors.high_throughput.executor import DEFAULT_LAUNCH_CMD
from parsl.providers import LocalProvider

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
    """Return an executor of local worker processes that can import the modules of this folder and of `tests`."""
    path = f"{HERE}:{HERE.parent}${{PYTHONPATH:+:$PYTHONPATH}}"
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
    """Return the threads and child processes of this process, except the one thread that an SDK never ends."""
    threads = {thread for thread in threading.enumerate() if "__atexit" not in thread.name}
    return threads | set(filter(_is_living, psutil.Process().children(recursive=True)))


def _is_living(child):
    try:
        return child.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
