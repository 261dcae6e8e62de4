"""Random histories of the hub: no task twice, no future without an end, no success without its bytes."""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from station import Clock, Depot, as_said

from chiltepin.arguments import delete_request, transfer_request
from chiltepin.errors import BackendError, EndpointUnavailableError, ServiceUnavailableError
from chiltepin.hub import Hub, _hubs
from chiltepin.journal import Journal, Owner
from chiltepin.model import TaskState

BUSY = ServiceUnavailableError("The service is down.", transient=True)
GRACE, TIMEOUT = 20.0, 300.0

#: Seconds within which the end of a task has been told, with polls that fail now and then.
LONG = 130.0
FILES = st.integers(0, 7)

#: 200 histories of up to 40 steps take some 8 seconds; CHILTEPIN_HISTORIES asks for more.
HISTORIES = int(os.environ.get("CHILTEPIN_HISTORIES", "200"))

#: Where nobody waits for a disk, if there is such a place.
MEMORY = "/dev/shm" if os.path.isdir("/dev/shm") else None  # noqa: S108 - a folder of its own is made in it


class Histories(RuleBasedStateMachine):
    """One hub after the other, one service that keeps books, and everything that can happen to them."""

    def __init__(self):
        super().__init__()
        self.clock = Clock()
        self.depot = Depot(self.clock)
        self.folder = tempfile.mkdtemp(dir=MEMORY)
        self.healed = 0.0
        self.numbers, self.keys = itertools.count(), map(str, itertools.count())
        self._begin()

    def _begin(self):
        # Each in a process of a machine that is gone by the time of the next one.
        owner = Owner("gone", next(self.numbers), "0")
        journal = Journal(self.folder, clock=self.clock.now, owner=owner)
        self.hub = Hub(self.depot, clock=self.clock, threaded=False, journal=journal)
        self.errands = {}

    def _start(self, request, timeout):
        key = next(self.keys)
        self.errands[key] = request, self.hub.start(key, request, timeout=timeout, polling_interval=30, grace=GRACE)

    @rule(file=FILES, level=st.sampled_from([None, "size"]), timeout=st.sampled_from([5.0, TIMEOUT]))
    def transfer(self, file, level, timeout):
        """Somebody asks for a file."""
        self._transfer(file, level, timeout)

    def _transfer(self, file, level, timeout):
        self._start(
            transfer_request(src_ep="a", dst_ep="b", src_path=f"/{file}", dst_path=f"/to/{file}", sync_level=level),
            timeout,
        )

    @rule(file=FILES)
    def delete(self, file):
        """Somebody asks for a deletion."""
        self._start(delete_request(src_ep="b", src_path=f"/to/{file}", ignore_missing=True), TIMEOUT)

    @rule(data=st.data())
    def cancel(self, data):
        """Somebody does not want it any more."""
        if self.errands:
            self.hub.stop(data.draw(st.sampled_from(sorted(self.errands))))

    @rule(file=FILES, code=st.sampled_from(["FILE_NOT_FOUND", ""]))
    def source(self, file, code):
        """A source goes, or comes back."""
        self.depot.missing.discard(f"/{file}") if not code else self.depot.missing.add(f"/{file}")

    @rule(file=FILES, refused=st.booleans())
    def destination(self, file, refused):
        """A destination is refused from now on, or is not."""
        (self.depot.denied.add if refused else self.depot.denied.discard)(f"/to/{file}")

    @rule(method=st.sampled_from(["new_submission_id", "submit", "poll", "cancel", "outcomes"]), lost=st.booleans())
    def fault(self, method, lost):
        """The next call fails, or does its work and loses its reply."""
        self.depot.fail(method, BUSY, after=lost)

    @rule()
    def refusal(self):
        """The next submission is refused for good."""
        self.depot.fail("submit", BackendError("No.", code="BadRequest"), after=False)

    @rule()
    def busy(self):
        """An endpoint of the next submission is busy."""
        self.depot.fail("submit", EndpointUnavailableError("The endpoint is busy."), after=False)

    @rule(
        files=st.lists(FILES, min_size=1, max_size=3),
        what=st.sampled_from(["none", "text", "unread", "no state", "outcomes", "too few"]),
        seconds=st.sampled_from([0.0, 1.0, 30.0, LONG]),
        data=st.data(),
    )
    def bad_answer(self, files, what, seconds, data):
        """What is told of one of some tasks makes no sense from now on."""
        for file in files:
            self._transfer(file, data.draw(st.sampled_from([None, "size"])), TIMEOUT)
        self.wait(1.0)
        if live := sorted(key for key, task in self.depot.tasks.items() if not task.state.final):
            self.depot.bad[data.draw(st.sampled_from(live))] = what
        self.wait(seconds)

    @rule()
    def good_answers(self):
        """All that is told makes sense again."""
        self.depot.bad.clear()
        self.healed = self.clock.time

    @rule(what=st.sampled_from(["fail", "cancel", "expire", "lose", "pause", "resume"]))
    def elsewhere(self, what):
        """Something happens to the oldest live task, by other hands."""
        self.depot.strike(what)

    @rule()
    def settle(self):
        """A workflow ends in order, and its process goes on."""
        self.hub.settle()

    @rule()
    def kill(self):
        """The process dies without a word, and another takes its place; nobody waits for the futures of the first."""
        _hubs.discard(self.hub)
        self._begin()

    @rule()
    def resume(self):
        """Somebody wants to see the end of whatever dead processes have begun."""
        for errand in self.hub.resume(timeout=TIMEOUT, polling_interval=30, grace=GRACE):
            self.errands[next(self.keys)] = errand.request, errand

    @rule(seconds=st.sampled_from([0.0, 0.1, 1.0, 30.0]))
    def wait(self, seconds):
        """Time goes by, and what is due is done."""
        end = self.clock.time + seconds
        while True:
            pause = self.hub.step()
            if pause is None or self.clock.time + pause > end:
                self.clock.time = max(self.clock.time, end)
                return
            self.clock.time += max(pause, 0.001)

    @invariant()
    def nothing_is_asked_for_twice_at_a_time(self):
        """No item is in two live tasks, unless its callers want different things of it."""
        live = [as_said(item) for task in self.depot.live() for item in task.items]
        assert len(live) == len(set(live))

    @invariant()
    def success_is_success(self):
        """A future that ended well ended after its item was done."""
        for request, errand in self.errands.values():
            if errand.future.done() and errand.future.exception() is None:
                status = errand.future.result()
                if status.state is TaskState.SUCCEEDED:
                    assert self.depot.done_since(request, errand.begun)

    @invariant()
    def a_bad_answer_holds_up_no_other_task(self):
        """What succeeded long ago has ended for its callers, whatever is told of other tasks."""
        for _, errand in self.errands.values():
            task = self.depot.tasks.get(errand.handle.task_id) if errand.handle else None
            if task is None or task.state is not TaskState.SUCCEEDED or errand.handle.task_id in self.depot.bad:
                continue
            if max([*task.done.values(), self.healed, errand.begun]) < self.clock.time - LONG:
                assert errand.future.done()

    def teardown(self):
        """However it went on, in the end every future has ended, and no task is left."""
        self.depot.faults.clear()
        self.depot.bad.clear()
        self.depot.strike("resume")
        self.wait(2 * TIMEOUT)
        assert all(errand.future.done() for _, errand in self.errands.values())
        assert self.hub.step() is None
        assert not self.depot.unattended()
        _hubs.discard(self.hub)
        shutil.rmtree(self.folder)


TestHistories = Histories.TestCase
TestHistories.pytestmark = [pytest.mark.timeout(60 + HISTORIES)]
TestHistories.settings = settings(
    max_examples=HISTORIES,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
