"""Random histories: no task runs twice, every future ends, and every success is true for its call."""

from __future__ import annotations

import itertools
import json
import os
import posixpath
import shutil
import tempfile
import threading
from collections import Counter
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
from clocked_backends import BatchingService, Clock, HomeView
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from chiltepin.errors import BackendError, EndpointUnavailableError, ServiceUnavailableError, TaskCanceledError
from chiltepin.model import TaskState, TransferItem, items_of
from chiltepin.transfers.arguments import delete_request, transfer_request
from chiltepin.transfers.callbacks import CallbackFuture
from chiltepin.transfers.journal import Journal, ProcessId
from chiltepin.transfers.service.manager import TaskManager, _managers

BUSY = ServiceUnavailableError("The service is down.", transient=True)
GRACE, TIMEOUT = 20.0, 300.0

#: Seconds within which the end of a task is reported, even if some polls fail.
LONG = 130.0
FILES = st.integers(0, 7)
#: The home in the settings of most processes.
HOME = "/to"
PROCESSES = st.sampled_from([0, 0, 0, 1])

#: 100 histories of up to 40 steps take about 4 seconds; CHILTEPIN_HISTORIES sets their number.
HISTORIES = int(os.environ.get("CHILTEPIN_HISTORIES", "100"))

#: A folder in memory, if this machine has one.
MEMORY = "/dev/shm" if os.path.isdir("/dev/shm") else None  # noqa: S108 - a new folder is made in it


@dataclass
class Call:
    """A request, its future, and whether its end has been checked."""

    request: object
    pending: object
    #: The version of each source at the time of the call.
    versions: dict
    #: Where relative paths start.
    home: str
    judged: bool = False
    #: Whether the caller has canceled it.
    cancelled: bool = False
    #: Whether another process made the request, at an earlier time and for any version.
    resumed: bool = False


class Follower(CallbackFuture):
    """A future that follows another as Parsl's futures do, and records whether the manager is locked meanwhile."""

    def __init__(self, manager, locked):
        super().__init__()
        self.manager, self.locked = manager, locked

    def hear(self, _):
        """Have another thread use the task manager: that thread may hold a Parsl lock that this callback would need."""
        other = threading.Thread(target=self.manager.forget, args=("nothing",), daemon=True)
        other.start()
        other.join(60)
        self.locked += [self.manager] if other.is_alive() else []


class Histories(RuleBasedStateMachine):
    """Two processes at a time, a service that records every item, and all events that can affect them."""

    def __init__(self):
        super().__init__()
        self.clock = Clock()
        self.service = BatchingService(self.clock)
        self.folder = tempfile.mkdtemp(dir=MEMORY)
        self.healed = 0.0
        # Journals are read whenever due, independent of the speed of this machine.
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr("chiltepin.transfers.policy.wait_times.READ_SAVED", float("inf"))
        # Even small tasks are divided among slots.
        self.patch.setattr("chiltepin.transfers.policy.limits.SLOT_ITEMS", 1)
        self.locked = []
        self.numbers, self.keys = itertools.count(), map(str, itertools.count())
        self.managers, self.calls, self.homes = [None, None], [{}, {}], [HOME, HOME]
        for number in range(2):
            self._begin(number)

    def _begin(self, number):
        # The next process must count this one as killed.
        owner = ProcessId("gone", next(self.numbers), "0")
        journal = Journal(self.folder, clock=self.clock.now, owner=owner)
        backend = HomeView(self.service, self.homes[number])
        self.managers[number] = TaskManager(backend, clock=self.clock, threaded=False, journal=journal)
        self.calls[number] = {}

    def _start(self, process, request, timeout):
        key = next(self.keys)
        self.service._work()
        pending = self.managers[process].start(key, request, timeout=timeout, polling_interval=30, grace=GRACE)
        self.calls[process][key] = Call(request, pending, self.service.sources.copy(), self.homes[process])
        pending.future.add_done_callback(Follower(self.managers[process], self.locked).hear)

    @rule(
        process=PROCESSES,
        file=FILES,
        spelled=st.sampled_from(["/to/{}", "/to//{}", "/to/./{}", "{}"]),
        level=st.sampled_from([None, None, "size"]),
        other=st.just(0),
        timeout=st.sampled_from([5.0, TIMEOUT, TIMEOUT]),
        within=st.sampled_from([None, None, None, 3.0, 100.0]),
    )
    def transfer(self, process, file, spelled, level, other, timeout, within):
        """A transfer of a file is requested, always from the same source, maybe with a deadline."""
        self._transfer(process, file, level, spelled=spelled, other=other, timeout=timeout, within=within)

    def _transfer(self, process, file, level, *, spelled="/to/{}", other=0, timeout=TIMEOUT, within=None):
        source, goal = f"/{(file + other) % 8}", spelled.format(file)
        deadline = None if within is None else self.clock.now() + timedelta(seconds=within)
        request = transfer_request(src_ep="a", dst_ep="b", src_path=source, dst_path=goal, sync_level=level)
        self._start(process, replace(request, deadline=deadline), timeout)

    @rule(process=PROCESSES, files=st.lists(FILES, min_size=2, max_size=3, unique=True), twice=st.booleans())
    def transfer_many(self, process, files, twice):
        """A transfer of several files is requested, once or twice."""
        for _ in range(1 + twice):
            request = transfer_request(src_ep="a", dst_ep="b", src_path="/0", dst_path="/to/0")
            items = tuple(TransferItem(source=f"/{file}", destination=f"/to/{file}") for file in files)
            self._start(process, replace(request, items=items), TIMEOUT)

    @rule(process=PROCESSES, file=FILES, ignore=st.booleans(), folder=st.sampled_from(["/to/", ""]))
    def delete(self, process, file, ignore, folder):
        """A deletion is requested."""
        request = delete_request(src_ep="b", src_path=f"{folder}{file}", ignore_missing=ignore)
        self._start(process, request, TIMEOUT)

    @rule(process=PROCESSES, files=st.lists(FILES, min_size=1, max_size=2), cancel=st.booleans())
    def meanwhile(self, process, files, cancel):
        """During the next submission, which follows, other threads request transfers; one may be canceled before."""
        self.service.meanwhile += [partial(self._transfer, process, file, None) for file in files]
        self._transfer(process, 10, "size")
        self._transfer(process, 9, None)
        if cancel:
            self._stop(process, max(self.calls[process], key=int))
        self.wait(1.0)

    def _stop(self, process, key):
        call = self.calls[process][key]
        call.cancelled = True
        self.managers[process].stop(key)

    @rule(file=FILES)
    def write(self, file):
        """A source is rewritten."""
        self.service.write(f"/{file}")

    @rule(file=FILES)
    def put(self, file):
        """A file is created at a destination."""
        self.service.put(f"/to/{file}")

    @rule(lasts=st.sampled_from([1.0, 10.0, 100.0]), stops_in=st.sampled_from([0.0, 0.0, 15.0]), tells=st.booleans())
    def speed(self, lasts, stops_in, tells):
        """The service becomes fast, slow, or slow to stop, or stops reporting outcomes of items."""
        self.service._work()
        self.service.lasts, self.service.stops_in, self.service.tells = lasts, stops_in, tells

    @rule(process=PROCESSES, data=st.data())
    def cancel(self, process, data):
        """A request is canceled; a resumed one has another key, so it continues."""
        if self.calls[process]:
            self._stop(process, data.draw(st.sampled_from(sorted(self.calls[process]))))

    @rule(file=FILES, code=st.sampled_from(["FILE_NOT_FOUND", ""]))
    def source(self, file, code):
        """A source disappears or reappears."""
        self.service._work()
        self.service.missing.discard(f"/{file}") if not code else self.service.missing.add(f"/{file}")

    @rule(file=FILES, refused=st.booleans())
    def destination(self, file, refused):
        """The service starts or stops refusing a destination."""
        self.service._work()
        (self.service.denied.add if refused else self.service.denied.discard)(f"/to/{file}")

    @rule(
        method=st.sampled_from(["new_submission_id", "submit", "submit", "poll", "cancel", "outcomes"]),
        lost=st.booleans(),
        times=st.sampled_from([1, 1, 2, 5]),
    )
    def fault(self, method, lost, times):
        """The next calls fail, or do their work and lose their replies."""
        self.service.fail(method, BUSY, after=lost, times=times)

    @rule(
        method=st.sampled_from(["new_submission_id", "submit", "poll", "cancel", "outcomes"]),
        before=st.sampled_from([0.0, 4.0, 15.0]),
        late=st.sampled_from([0.0, 4.0, 15.0]),
    )
    def slow(self, method, before, late):
        """The next call reaches the service late, or its response is late."""
        self.service.slow[method] = before, late

    @rule()
    def refusal(self):
        """The next submission is refused permanently."""
        self.service.fail("submit", BackendError("No.", code="BadRequest"), after=False)

    @rule()
    def busy(self):
        """An endpoint of the next submission is busy."""
        self.service.fail("submit", EndpointUnavailableError("The endpoint is busy."), after=False)

    @rule(
        files=st.lists(FILES, min_size=1, max_size=3),
        what=st.sampled_from(["none", "text", "unread", "no state", "outcomes", "too few"]),
        seconds=st.sampled_from([0.0, 1.0, 30.0, LONG]),
        data=st.data(),
    )
    def bad_answer(self, files, what, seconds, data):
        """The responses about one of some tasks become invalid."""
        for file in files:
            self._transfer(0, file, data.draw(st.sampled_from([None, "size"])))
        self.wait(1.0)
        if live := sorted(key for key, task in self.service.tasks.items() if not task.state.final):
            self.service.bad[data.draw(st.sampled_from(live))] = what
        self.wait(seconds)

    @rule(times=st.sampled_from([1, 2, 5]), seconds=st.sampled_from([1.0, 10.0]))
    def unconfirmed(self, times, seconds):
        """A transfer whose submissions get no reply is canceled, and another one to the same path is requested."""
        self.service.fail("submit", BUSY, after=True)
        self._transfer(0, 8, None)
        first = max(self.calls[0], key=int)
        self.wait(0.1)
        self.service.fail("submit", BUSY, after=False, times=times)
        self._transfer(0, 8, None, other=1)
        self._stop(0, first)
        self.wait(seconds)
        self.each_path_is_in_one_task()
        # Until then, another process would not wait for the canceled task.
        self.wait(LONG)

    @rule()
    def good_answers(self):
        """All responses are valid again."""
        self.service.bad.clear()
        self.healed = self.clock.time

    @rule(what=st.sampled_from(["fail", "cancel", "expire", "lose", "pause", "resume"]))
    def elsewhere(self, what):
        """The service or another client changes the oldest live task."""
        self.service.strike(what)

    @rule(process=PROCESSES)
    def record_clean_end(self, process):
        """A workflow ends cleanly, and its process continues."""
        self.managers[process].record_clean_end()

    @rule(process=PROCESSES, home=st.sampled_from([HOME, HOME, "/from"]))
    def kill(self, process, home):
        """The process is killed, and another replaces it, maybe with another home; no future of the first counts."""
        _managers.discard(self.managers[process])
        self.homes[process] = home
        self._begin(process)

    @rule(
        file=FILES, lost=st.booleans(), home=st.sampled_from([HOME, "/from"]), spelled=st.sampled_from(["/to/{}", "{}"])
    )
    def kill_while_submitting(self, file, lost, home, spelled):
        """A process is killed before it knows its task; the next one requests the same path, or another one."""
        self._transfer(0, file, None, spelled="{}")
        self.wait(0.1)
        self._transfer(0, (file + 1) % 8, None, spelled="{}")
        self.service.fail("submit", BUSY, after=lost)
        self.wait(0.1)
        self.kill(0, home)
        self._transfer(0, (file + 1) % 8, None, spelled=spelled)
        self.wait(30.0)

    @rule(process=PROCESSES)
    def resume(self, process):
        """A process resumes the unfinished tasks of other processes."""
        self.service._work()
        for pending in self.managers[process].resume(timeout=TIMEOUT, polling_interval=30, grace=GRACE):
            self.calls[process][next(self.keys)] = Call(
                pending.request, pending, Counter(), self.homes[process], resumed=True
            )

    @rule(seconds=st.sampled_from([0.0, 0.1, 1.0, 30.0]))
    def wait(self, seconds):
        """Time passes, and both task managers do what is due."""
        end = self.clock.time + seconds
        for _ in range(10_000):
            pauses = []
            for number, manager in enumerate(self.managers):
                self.service.process = number
                pauses.append(manager.step())
                self._judge()
            pause = min((one for one in pauses if one is not None), default=None)
            if pause is None or self.clock.time + pause > end:
                self.clock.time = max(self.clock.time, end)
                return
            self.clock.time += max(pause, 0.001)
        raise AssertionError("The task managers do not come to rest.")

    def _judge(self):
        """Check that each success is true for its call at the time when it is reported."""
        for process, call in [(number, call) for number, calls in enumerate(self.calls) for call in calls.values()]:
            if call.judged or not call.pending.future.done():
                continue
            call.judged = True
            error = call.pending.future.exception()
            assert call.cancelled or not isinstance(error, TaskCanceledError)
            assert type(error) is not BackendError or str(error) == "No."
            if error is None and call.pending.future.result().state is TaskState.SUCCEEDED:
                self._is_true(call, process)

    def _is_true(self, call, process):
        for item in items_of(call.request):
            path = posixpath.normpath(posixpath.join(call.home, item if isinstance(item, str) else item.destination))
            # A task that is resumed may have moved its item before the call.
            since, by = (float("-inf"), -1) if call.resumed else (call.pending.started, process)
            held = self.service.held_since(path, since, process=by)
            if isinstance(item, str):
                assert None in held, call
            else:
                least = call.versions[item.source]
                assert any(one and one[0] == item.source and one[1] >= least for one in held), call

    @invariant()
    def no_future_ends_under_a_lock(self):
        """No future ends under a lock: its callback may need another lock, whose holder may need the task manager."""
        assert not self.locked

    @invariant()
    def each_path_is_in_one_task(self):
        """No path is in two live tasks."""
        live = [item[1] for task in self.service.live() for item in task.items]
        assert len(live) == len(set(live))

    @invariant()
    def a_bad_answer_holds_up_no_other_task(self):
        """The future of a task that succeeded long ago has ended, despite invalid responses about other tasks."""
        for call in [call for calls in self.calls for call in calls.values()]:
            pending = call.pending
            task = self.service.tasks.get(pending.handle.task_id) if pending.handle else None
            if task is None or task.state is not TaskState.SUCCEEDED or pending.handle.task_id in self.service.bad:
                continue
            if max([*task.done.values(), self.healed, pending.started]) < self.clock.time - LONG:
                assert pending.future.done()

    def teardown(self):
        """After every history, all futures have ended and no task is left."""
        self.service.faults.clear()
        self.service.slow.clear()
        self.service.bad.clear()
        self.service.strike("resume")
        self.wait(2 * TIMEOUT)
        assert all(call.judged for calls in self.calls for call in calls.values())
        assert all(manager.step() is None for manager in self.managers)
        assert not self.service.unattended()
        self._check_journals()
        for manager in self.managers:
            _managers.discard(manager)
        self.patch.undo()
        shutil.rmtree(self.folder)

    def _check_journals(self):
        """Check that each process has recorded the end of each task at most once."""
        for file in Path(self.folder).glob("*.jsonl"):
            entries = map(json.loads, file.read_text(encoding="utf-8").splitlines())
            # A canceled submission that the service did not confirm may still be found.
            ends = [
                entry["submission_id"]
                for entry in entries
                if entry["event"] == "ended" and entry["state"] != TaskState.CANCELED.value
            ]
            assert len(ends) == len(set(ends))


TestHistories = Histories.TestCase
TestHistories.pytestmark = [pytest.mark.timeout(300 + HISTORIES)]
TestHistories.settings = settings(max_examples=HISTORIES, stateful_step_count=40)
