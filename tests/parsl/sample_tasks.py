"""Tasks for worker processes of the tests, in a separate module because workers cannot import test modules."""

from __future__ import annotations

import ctypes
import os
import socket
import subprocess
import threading

from chiltepin.tasks import bash_task, join_task, python_task

STEP = 10


@python_task
def add_step(number):
    """Use a global of this module, in which the name of the function refers to the task."""
    return number + STEP


@python_task
def process_id():
    """Return the id of the current process."""
    return os.getpid()


@python_task
def fail_with(error):
    """Raise the given error."""
    raise error


@python_task
def wait_for_ever(address):
    """Connect to `address`, to show that this runs, then block for a minute."""
    socket.create_connection(address, timeout=30).close()
    threading.Event().wait(60)


@bash_task
def shout(word):
    """Print a word."""
    return f"echo {word}!"


@join_task
def add_twice(number, executor_of_steps):
    """Start one task and then another that needs it."""
    return add_step(add_step(number, executor=executor_of_steps), executor=executor_of_steps)


class Counter:
    """A class whose methods are tasks."""

    def __init__(self, start):
        self.start = start

    @python_task
    def plus(self, number):
        """Add to the start."""
        return self.start + number

    @staticmethod
    @python_task
    def double(number):
        """Double a number."""
        return 2 * number

    @classmethod
    @python_task
    def name_it(cls, suffix):
        """Append to the class name."""
        return cls.__name__ + suffix


@python_task
def hold(address):
    """Connect to `address`, and wait until the other side closes the connection."""
    with socket.create_connection(address, timeout=60) as gate:
        return gate.recv(1)


@python_task
def hide(folder, address):
    """Mount an empty read-only folder over `folder` for this process only; return whether that succeeded."""
    new_namespace = 0x20000
    with socket.create_connection(address, timeout=60) as gate:
        # By then, each worker has one of these tasks.
        gate.recv(1)
    if ctypes.CDLL(None).unshare(new_namespace):
        return False
    mounts = ["mount", "--make-rprivate", "/"], ["mount", "-t", "tmpfs", "-o", "ro", "none", folder]
    return not any(subprocess.run(words, check=False).returncode for words in mounts)


@python_task
def give(value):
    """Return the given value."""
    return value
