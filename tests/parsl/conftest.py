"""Real Parsl for the tests: threads for most of them, two worker processes for those that need them."""

from __future__ import annotations

import functools
import logging
import os
import signal
import threading

import psutil
import pytest
from parsl_configs import living, make_config

from chiltepin.workflow import Workflow


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
def ctrl_c():
    """Return a function that acts like Ctrl-C, even where SIGINT is ignored, as in background jobs of a shell."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield lambda: os.kill(os.getpid(), signal.SIGINT)
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def tolerated():
    """Return a list for name prefixes of threads that a test inevitably leaves behind."""
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
        # A thread that was just asked to end may need a moment.
        for thread in [one for one in left if isinstance(one, threading.Thread)]:
            thread.join(timeout=60)
        assert not left & living()
