"""A lock on a file that makes processes take turns."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from chiltepin.backends.file_lock import FileLock

#: Locks a file, says so, and waits until it is killed.
HOLDER = """
import sys
from chiltepin.backends.file_lock import FileLock

with FileLock(sys.argv[1], 60) as mine:
    print(mine, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def path(tmp_path):
    """A lock file in a folder that does not exist yet."""
    return str(tmp_path / "below" / "lock")


@pytest.fixture
def holder(path):
    """Another process that holds the lock."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout.readline() == "True\n"
        yield process
        process.kill()


def test_a_lock_of_a_stopped_process_is_waited_for_in_vain(path, holder):
    """After the timeout the block runs without the lock, so that a stopped process does not stop others forever."""
    holder.send_signal(signal.SIGSTOP)
    with FileLock(path, 0.1) as mine:
        assert mine is False


def test_a_stopped_process_delays_only_the_first_block(path, holder):
    """After one vain wait the same lock waits only briefly, until it has been free or some time has passed."""
    holder.send_signal(signal.SIGSTOP)
    lock, began = FileLock(path, 1.0), time.monotonic()
    for _ in range(10):
        with lock as mine:
            assert mine is False
    assert time.monotonic() - began < 3
    holder.kill()
    holder.wait(60)
    with lock as mine:
        assert mine is True


def test_a_killed_process_holds_no_lock(path, holder):
    """The lock of a process that was killed is free at once."""
    holder.kill()
    holder.wait(60)
    with FileLock(path, 60) as mine:
        assert mine is True


def test_a_child_process_made_in_the_block_does_not_keep_the_lock(path):
    """The lock is free after the block, although a forked child that still runs has inherited the open file."""
    goes_on, end = os.pipe()
    with FileLock(path, 0.1) as mine:
        assert mine is True
        if not (child := os.fork()):
            os.close(end)
            os.read(goes_on, 1)
            os._exit(0)
    with FileLock(path, 0.1) as mine:
        os.close(end)
        assert mine is True
    os.waitpid(child, 0)
    os.close(goes_on)


@pytest.mark.parametrize("kind", ["link", "folder", "pipe"])
def test_without_a_usable_lock_file_the_block_runs_anyway(path, kind, tmp_path):
    """A name that is not a regular file of this user is neither followed nor waited for."""
    os.mkdir(os.path.dirname(path))
    {
        "link": lambda: os.symlink(tmp_path / "elsewhere", path),
        "folder": lambda: os.mkdir(path),
        "pipe": lambda: os.mkfifo(path),
    }[kind]()
    with FileLock(path, 0.1) as mine:
        assert mine is True
    assert not (tmp_path / "elsewhere").exists()
