"""End the workers of a node, and all processes that they have started, when the workflow ends.

A signal ends a process, but not the processes that it has started, nor a process that ignores the signal. On Linux
these are found and ended, too; elsewhere only those whose parent is alive.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import select
import signal
import sys
import threading
import time
from contextlib import suppress
from multiprocessing import resource_tracker
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from collections.abc import Container
    from types import FrameType

__all__ = ["WORKFLOW_VARIABLE", "end_descendants", "end_with_parent", "end_with_workflow", "multiprocessing_children"]

#: Environment variable with the process id of the workflow, if that runs on the same machine.
WORKFLOW_VARIABLE = "CHILTEPIN_WORKFLOW"

#: Seconds that workers have to end by themselves after their workflow has ended: the interchange stops them.
WORKFLOW_GRACE = 3.0

#: Seconds between SIGTERM and SIGKILL.
GRACE = 1.0

#: Seconds between two checks for orphans that have ended.
REAP_INTERVAL = 5.0

# From <linux/prctl.h>.
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def end_with_parent(parent: int) -> None:
    """Have the kernel kill this process when the process `parent`, or the thread of it that started this one, ends."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def end_with_workflow() -> None:
    """Make this process end with its workflow, and make all its descendants end with it."""
    # Processes that a killed worker has started become children of this process.
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    signal.signal(signal.SIGTERM, _terminated)
    threading.Thread(target=_reap, name="chiltepin-reaper", daemon=True).start()
    if workflow := os.environ.pop(WORKFLOW_VARIABLE, ""):
        threading.Thread(
            target=_wait_for_workflow, args=(int(workflow),), name="chiltepin-follower", daemon=True
        ).start()


def _terminated(number: int, _: FrameType | None) -> None:
    # A second SIGTERM arrives when this one has ended a child (chiltepin.parsl.worker_pool).
    signal.signal(number, signal.SIG_IGN)
    end_descendants(kept={_resource_tracker_pid()})
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def _wait_for_workflow(workflow: int) -> None:
    try:
        with open(os.pidfd_open(workflow), "rb", buffering=0) as process:
            select.select([process], [], [])
    except (AttributeError, OSError):
        # Not every system has pidfd_open, or the workflow has already ended.
        while psutil.pid_exists(workflow):
            time.sleep(GRACE)
    time.sleep(WORKFLOW_GRACE)
    os.kill(os.getpid(), signal.SIGTERM)


def _resource_tracker_pid() -> int | None:
    """Return the id of the process that removes this process's semaphores after its end."""
    return getattr(getattr(resource_tracker, "_resource_tracker", None), "_pid", None)


def multiprocessing_children() -> set[int | None]:
    """Return the ids of the children that ``multiprocessing`` ends and waits for."""
    return {_resource_tracker_pid(), *(child.pid for child in multiprocessing.active_children())}


def _reap() -> None:
    """Reap orphans that have ended, so that they do not remain as zombies."""
    me = psutil.Process()
    while True:
        time.sleep(REAP_INTERVAL)
        for child in me.children():
            with suppress(psutil.Error, ChildProcessError):
                if child.status() == psutil.STATUS_ZOMBIE and child.pid not in multiprocessing_children():
                    os.waitpid(child.pid, os.WNOHANG)


def end_descendants(*, kept: Container[int | None]) -> None:
    """End all descendants of this process except ``kept``: with SIGTERM, and after a second with SIGKILL."""
    found = [child for child in psutil.Process().children(recursive=True) if child.pid not in kept]
    for number in (signal.SIGTERM, signal.SIGKILL):
        for process in found:
            with suppress(psutil.Error):
                process.send_signal(number)
        _, found = psutil.wait_procs(found, timeout=GRACE)
        if not found:
            return
