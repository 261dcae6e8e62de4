"""How the work of the task manager grows with the number of requests."""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from clocked_backends import BatchingService, Clock

import chiltepin
from chiltepin.transfers.arguments import transfer_request
from chiltepin.transfers.service.manager import TaskManager

PACKAGE = str(Path(chiltepin.__file__).parent)

#: Numbers of requests; for each request of the larger number, the work may be this many times as much.
FEW, MANY, GROWTH = 100, 800, 1.3


class LargeTasks(BatchingService):
    """A service with tasks of any size, which do not end."""

    capabilities = replace(BatchingService.capabilities, max_items=None)

    def _work(self):
        pass


class Requests:
    """A task manager without threads, and transfers at the service."""

    def __init__(self, count):
        self.clock, self.count, self.pending = Clock(), count, []
        self.manager = TaskManager(LargeTasks(self.clock), clock=self.clock, threaded=False)

    def start(self):
        """Start the transfers; each has its own timeout."""
        for number in range(self.count):
            request = transfer_request(src_ep="laptop", dst_ep="hpc", src_path="/a", dst_path=f"/{number}")
            options = {"timeout": 100 + number / 1e6, "polling_interval": 30, "grace": 60}
            self.pending.append(self.manager.start(str(number), request, **options))

    def stop(self, step=1):
        """Cancel every ``step``-th transfer."""
        for number in range(0, self.count, step):
            self.manager.stop(str(number))

    def live(self, seconds):
        """Let time pass."""
        end = self.clock.time + seconds
        while (pause := self.manager.step()) is not None and self.clock.time + pause <= end:
            self.clock.sleep(pause)
        self.clock.sleep(max(0.0, end - self.clock.time))
        self.manager.step()


def lines_of(work):
    """Return how many lines of the package a function runs."""
    count = 0

    def trace(frame, event, _):
        nonlocal count
        if not frame.f_code.co_filename.startswith(PACKAGE):
            return None
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return count


def started(count, seconds):
    """Return transfers that were started some time ago."""
    requests = Requests(count)
    requests.start()
    requests.live(seconds)
    return requests


def starting(count):
    """Start transfers, and submit them."""
    requests = Requests(count)

    def work():
        requests.start()
        requests.live(10)

    return lines_of(work)


def cancelling(count, *, seconds, step):
    """Cancel some transfers, before or after their tasks were submitted."""
    requests = started(count, seconds)

    def work():
        requests.stop(step)
        requests.live(10)

    lines = lines_of(work)
    assert sum(pending.future.done() for pending in requests.pending) == count // step
    return lines


def timing_out(count):
    """Let the timeouts of all transfers pass."""
    requests = started(count, 10)
    lines = lines_of(lambda: requests.live(120))
    assert all(pending.future.done() for pending in requests.pending)
    return lines


@pytest.mark.parametrize(
    "work",
    [
        pytest.param(starting, id="starting"),
        pytest.param(timing_out, id="timing out"),
        *(
            pytest.param(partial(cancelling, seconds=seconds, step=step), id=f"canceling {what} {when}")
            for seconds, when in ((0, "at once"), (10, "after the submission"))
            for step, what in ((1, "all"), (2, "half"))
        ),
    ],
)
def test_work_is_proportional_to_the_number_of_requests(work):
    """Eight times as many requests take about eight times as many steps."""
    few, many = work(FEW) / FEW, work(MANY) / MANY
    assert many <= GROWTH * few
