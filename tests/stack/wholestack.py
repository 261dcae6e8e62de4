"""Parsl, the task manager, journal, backend and HTTP over a simulated Globus, with one clock that a test moves."""

from __future__ import annotations

import itertools
import logging
import os
import shutil
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from globus_sdk.transport import RetryConfig

import chiltepin
from chiltepin import configure
from chiltepin.backends.globus import GlobusBackend
from chiltepin.testing.simulator import ManualClock, Simulator
from chiltepin.transfers import callbacks
from chiltepin.transfers.activity import ActivityLog
from chiltepin.transfers.journal import Journal, ProcessId
from chiltepin.transfers.runner import Transfers
from chiltepin.transfers.service.manager import _managers

#: A folder in memory, if this machine has one.
MEMORY = "/dev/shm" if os.path.isdir("/dev/shm") else None  # noqa: S108 - a new folder is made in it

#: Timeout of `Stack.rest`, in real seconds; a rest usually takes a thousandth.
PATIENCE = 60.0

GRACE = 20.0


class Left(Exception):  # noqa: N818 - it is not an error
    """The error by which a workflow exits."""


class HubClock:
    """The simulator's clock for the task manager; its wall clock can be wrong."""

    def __init__(self, clock):
        self._clock, self.skew = clock, 0.0

    def monotonic(self):
        """Return the seconds."""
        return self._clock.time()

    def now(self):
        """Return the wall-clock time."""
        return self._clock.now() + timedelta(seconds=self.skew)


class Stumbles(logging.Handler):
    """Collects the unexpected errors of Chiltepin's threads."""

    def __init__(self):
        super().__init__(logging.ERROR)
        self.told = []

    def emit(self, record):
        """Keep a record, unless it is about an error of a user's callback."""
        if record.name == "chiltepin.transfers.callbacks":
            return
        text = record.getMessage()
        self.told.append(text + "".join(traceback.format_exception(*record.exc_info)) if record.exc_info else text)


class Stack:
    """A simulated Globus, and a sequence of processes that use it; the threads are real, and the clock is simulated."""

    def __init__(self):
        self.folder = Path(tempfile.mkdtemp(dir=MEMORY))
        self.clock = ManualClock()
        folders = {name: self.folder / name for name in ("laptop", "scratch")}
        self.globus = Simulator(folders, clock=self.clock, request_rate=None)
        self.laptop, self.scratch = (self.globus.collection(name) for name in folders)
        self.hub_clock, self.stumbles = HubClock(self.clock), Stumbles()
        self._processes = itertools.count(1)
        self._patch = pytest.MonkeyPatch()
        self._patch.setenv("CHILTEPIN_TOKENS", str(self.folder / "tokens.json"))
        for name, value in self.globus.environment().items():
            self._patch.setenv(name, value)
        # The SDK waits between its retries, in real seconds.
        patience = RetryConfig(max_retries=2, max_sleep=0)
        self._patch.setattr("chiltepin.backends.globus.auth._retries", lambda: patience)
        # This one function opens all transfers, and would use the real clock.
        self._patch.setattr("chiltepin.parsl.calls.open_transfers", lambda *_: self.transfers)
        logging.getLogger("chiltepin").addHandler(self.stumbles)
        logging.getLogger("concurrent.futures").addHandler(self.stumbles)
        self.clock.attach(self._wake)
        self.requests = 0
        #: The threads whose callbacks are waiting.
        self.blocked = set()
        self.begin()

    def begin(self):
        """Start a new process, as if on a machine that no longer exists when the next process starts."""
        owner = ProcessId("gone", next(self._processes), "0")
        journal = Journal(self.folder / "journal", clock=self.hub_clock.now, owner=owner)
        activity_log = ActivityLog(self.folder / "journal", self.hub_clock.now)
        places = {"a": {"collection": self.laptop.id}, "b": {"collection": self.scratch.id}}
        self.backend = GlobusBackend.from_config(places, {})
        self.transfers = Transfers(self.backend, clock=self.hub_clock, journal=journal, activity_log=activity_log)
        self._enter()

    def _enter(self):
        endpoints = {"a": {"globus": self.laptop.id}, "b": {"globus": self.scratch.id}}
        config = configure.load(
            {
                "data": {"backend": "globus", "fault_grace": GRACE, "endpoints": endpoints},
                "local": {"provider": "threads", "max_threads": 2},
            },
            run_dir=self.folder / "runinfo",
        )
        # Parsl's log is long, and pytest would keep its records and the objects that they refer to.
        config.initialize_logging = False
        logging.getLogger("parsl").setLevel(logging.CRITICAL)
        self.workflow = chiltepin.Workflow(config)
        _in_a_thread(self.workflow.__enter__)
        self.rest()

    @property
    def manager(self):
        """The task manager of the current process."""
        return self.transfers.manager

    def _wake(self):
        self.manager._wake()

    # Rest.

    def rest(self):
        """Wait until nothing more happens before the clock moves."""
        waiting, end = threading.Event(), time.monotonic() + PATIENCE
        while not (self._rests() and self._rests()):
            if time.monotonic() > end:
                raise AssertionError(f"Nothing comes to rest: {self.underway()}\n{self.stacks()}")
            waiting.wait(0.001)

    def _rests(self):
        manager = self.manager
        moved = _moves(manager._thread) or self._calls_back()
        return not moved and self.due() > self.clock.time() and not any(map(_launches, self._records()))

    def _calls_back(self):
        """Whether a callback is queued, or runs without being blocked."""
        threads = callbacks._threads
        with threads._changed:
            running = {thread for thread, future in threads._running.items() if future is not None}
            return bool(threads._waiting) or not running <= self.blocked

    def _records(self):
        return list(self.workflow.dfk.tasks.values()) if self.workflow._dfk is not None else []

    def due(self):
        """Return the time of the task manager's next action."""
        return self.manager._soonest(self.manager._poller.next_steps())

    def underway(self):
        """Return what keeps the task manager from resting."""
        now, manager = self.clock.time(), self.manager
        submits, polls = manager._batcher.backoff.until - now, manager._poller.backoff.until - now
        waits = f"stops {len(manager._stop_requests)}, submits {submits}, polls {polls}"
        return [
            waits,
            *(
                {**vars(batch), "in": (manager._poller._next_step(batch, now) or now) - now}
                for batch in manager._batcher.batches
            ),
        ]

    def stacks(self):
        """Return the stack of each thread."""
        frames = sys._current_frames()
        told = [
            f"{one.name}\n{''.join(traceback.format_stack(frames[one.ident]))}"
            for one in threading.enumerate()
            if one.ident in frames
        ]
        return "\n".join(told)

    # Time.

    def wait(self, seconds):
        """Advance the clock, and let each event happen at its time."""
        end = self.clock.time() + seconds
        while True:
            self.rest()
            now, service = self.clock.time(), self.globus._engine.next_moment()
            moment = min(self.due(), float("inf") if service is None else service)
            if moment > end:
                self.clock.advance(max(0.0, end - now))
                self.rest()
                return
            self.clock.advance(max(0.001, moment - now))

    def jump(self, seconds):
        """Advance the clock in one step."""
        self.clock.advance(seconds)
        self.rest()

    @contextmanager
    def running(self):
        """Advance the clock second by second while this thread waits."""
        over, told = threading.Event(), []

        def run():
            try:
                while not over.is_set():
                    self.wait(1)
            except BaseException as err:  # noqa: BLE001 - reported below, after the waiting thread is released
                told.append(err)
                while not over.wait(0.01):
                    self.clock.advance(1000)

        thread = threading.Thread(target=run, name="time", daemon=True)
        thread.start()
        yield
        over.set()
        thread.join(PATIENCE)
        if told:
            raise told[0]

    # The end of a process.

    def leave(self, error=None):
        """Exit the workflow, normally or by an error, and start another one in the same process."""
        with self.running():
            self.workflow.__exit__(type(error) if error else None, error, None)
        self._enter()

    def kill(self):
        """End the process as if it was killed, and start another one."""
        self.rest()
        manager = self.manager
        with manager._lock:
            # Without work, its threads end.
            for dead in (manager._batcher.batches, manager._stop_requests, manager._timeouts):
                dead.clear()
        _managers.discard(manager)
        error = Left()
        self.workflow.__exit__(Left, error, None)
        self.backend.close()
        self._note()
        self.begin()

    def _note(self):
        self.requests += len(self.globus.requests)
        self.globus.clear_requests()

    def close(self):
        """Release all resources."""
        try:
            if self.workflow._dfk is not None:
                with self.manager._lock:
                    self.manager._batcher.batches.clear()
                self.workflow.__exit__(Left, Left(), None)
        finally:
            self._note()
            _managers.discard(self.manager)
            self.clock.detach(self._wake)
            self.backend.close()
            self.globus.close()
            logging.getLogger("chiltepin").removeHandler(self.stumbles)
            logging.getLogger("concurrent.futures").removeHandler(self.stumbles)
            self._patch.undo()
            shutil.rmtree(self.folder)

    # Tasks of the service.

    def tasks(self):
        """Return all tasks that the service remembers."""
        with self.globus._engine.lock:
            return list(self.globus._engine.tasks.values())

    def live(self):
        """Return the tasks that have not ended."""
        return [task for task in self.tasks() if not task.over]


def _in_a_thread(call):
    """Call a function with a short call stack: Parsl reads the source of each frame when it starts, for 0.1 s."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(call).result(PATIENCE)


def paths_of(task):
    """Return the destinations of a transfer, or the paths of a deletion."""
    return [item.destination_path or item.source_path for item in task.submission.items]


def moves_of(tasks):
    """Return how often each destination was written."""
    return Counter(entry["destination_path"] for task in tasks for entry in task.successful)


def _moves(chore):
    """Whether one of Chiltepin's threads has work."""
    with chore._changed:
        return chore._thread is not None and (chore._again or not chore._changed._waiters)


def _launches(record):
    """Whether Parsl has work for a task."""
    if record["app_fu"].done():
        return False
    state = record["status"].name
    if state == "pending":
        return all(future.done() for future in record["depends"] or ())
    if state == "joining":
        joins = record["joins"] if isinstance(record["joins"], list) else [record["joins"]]
        return all(future.done() for future in joins)
    return True
