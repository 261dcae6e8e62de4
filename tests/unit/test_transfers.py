"""Running a request: waiting, stopping in time, and telling how it ended."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from chiltepin.arguments import delete_request, transfer_request
from chiltepin.errors import (
    ConfigError,
    TaskCanceledError,
    TaskExpiredError,
    TaskFailedError,
    TaskLostError,
    TaskTimeoutError,
)
from chiltepin.model import Capabilities, TaskHandle, TaskState, TaskStatus
from chiltepin.protocol import TransferBackend, WorkerBackend
from chiltepin.transfers import Transfers, error_of, opened

REQUEST = transfer_request(src_ep="laptop", dst_ep="hpc", src_path="/a", dst_path="/b")


@dataclass
class Clock:
    """A clock that moves only when somebody sleeps."""

    now: float = 1000.0
    sleeps: list[float] = field(default_factory=list)

    def monotonic(self) -> float:
        """Tell the time."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """Let the time go by at once."""
        self.sleeps.append(seconds)
        self.now += seconds


class Station:
    """A backend whose tasks take some seconds of the clock, and some more to stop."""

    name = "station"

    def __init__(self, clock, *, lasts=5.0, stops_in=0.0, outcome=TaskState.SUCCEEDED, runs_on="service"):
        self.capabilities = Capabilities(runs_on=runs_on, durable=True)
        self.clock, self.lasts, self.stops_in, self.outcome = clock, lasts, stops_in, outcome
        self.tasks, self.cancelled, self.polls = {}, {}, 0

    @classmethod
    def from_config(cls, endpoints, options):
        """Make a station with a clock of its own."""
        return cls(Clock(), **options)

    def new_submission_id(self):
        """Count."""
        return f"id-{len(self.tasks)}"

    def submit(self, request, submission_id):
        """Start a task, once for an id."""
        self.tasks.setdefault(submission_id, self.clock.now)
        return TaskHandle(backend=self.name, task_id=submission_id, submission_id=submission_id)

    def poll(self, handles):
        """Tell by the clock."""
        self.polls += 1
        return [self._status(handle) for handle in handles]

    def _status(self, handle):
        stopped = self.cancelled.get(handle.task_id)
        state = TaskState.ACTIVE
        if stopped is not None and self.clock.now >= stopped + self.stops_in:
            state = TaskState.CANCELED
        elif stopped is None and self.clock.now >= self.tasks[handle.task_id] + self.lasts:
            state = self.outcome
        return TaskStatus(handle=handle, state=state, code=state.name, reason="As the station says.")

    def wait(self, handle, seconds):
        """Let the time go by until the task has ended, or as long as is wanted."""
        ends = self.tasks[handle.task_id] + self.lasts
        self.clock.sleep(max(0.0, min(seconds, ends - self.clock.now)))

    def cancel(self, handle):
        """Begin to stop."""
        self.cancelled.setdefault(handle.task_id, self.clock.now)

    def ls(self, endpoint, path):
        """Have no files."""
        return []

    def close(self):
        """Hold nothing."""


def run(station: Station, **options):
    """Run the request on a station."""
    options = {"timeout": 3600, "polling_interval": 30, **options}
    return Transfers(station, clock=station.clock).run(REQUEST, **options)


def test_the_station_is_a_backend():
    """What these tests run on fulfils the contract."""
    assert isinstance(Station(Clock()), TransferBackend)
    assert isinstance(Station(Clock(), runs_on="worker"), WorkerBackend)


def test_a_task_is_followed_to_its_end():
    """Run returns the final status of the task that it made."""
    station = Station(Clock())
    status = run(station, submission_id="mine")
    assert status.state is TaskState.SUCCEEDED
    assert list(station.tasks) == ["mine"]


@pytest.mark.parametrize("lasts", [0.1, 5, 60, 600, 3000])
def test_an_end_is_noticed_soon_with_few_questions(lasts):
    """A service is asked from once a second to once in polling_interval; an end is noticed a tenth late at most."""
    station = Station(Clock(), lasts=lasts)
    run(station)
    late = station.clock.now - 1000 - lasts
    assert late <= max(1.0, 0.1 * lasts)
    assert max(station.clock.sleeps) <= 30
    assert station.polls <= 10 + 25 + lasts / 30 + 1


def test_the_end_of_a_task_of_this_process_is_told_at_once():
    """A worker backend tells the end of a task itself; until then it is looked at four times a second."""
    station = Station(Clock(), lasts=10.1, runs_on="worker")
    assert run(station).state is TaskState.SUCCEEDED
    assert station.clock.now == pytest.approx(1010.1)
    assert max(station.clock.sleeps) <= 0.25


def test_a_timeout_cancels_the_task_and_says_what_to_do():
    """At its timeout the task is cancelled, never left behind, and the error carries its last status."""
    station = Station(Clock(), lasts=1e9, stops_in=2)
    with pytest.raises(TaskTimeoutError, match=r"was not done within 60 seconds .* longer timeout=") as caught:
        run(station, timeout=60)
    assert set(station.cancelled.values()) == {1060.0}
    assert caught.value.status.state is TaskState.CANCELED


def test_a_task_that_succeeds_while_it_is_stopped_has_succeeded():
    """A cancellation is a request: bytes that arrived all the same are a success."""
    station = Station(Clock(), lasts=61)
    station.cancel = lambda _: None
    assert run(station, timeout=60).state is TaskState.SUCCEEDED


def test_a_task_that_does_not_stop_does_not_hold_its_caller():
    """After ten seconds a task that will not stop is left to itself."""
    station = Station(Clock(), lasts=1e9, stops_in=1e9)
    with pytest.raises(TaskTimeoutError) as caught:
        run(station, timeout=60)
    assert station.clock.now <= 1060 + 11
    assert caught.value.status.state is TaskState.ACTIVE
    with pytest.raises(TaskCanceledError, match="has not stopped yet"):
        run(station, submission_id="other", stopped=lambda: True)


def test_a_wish_to_stop_is_a_cancellation():
    """When somebody wants it stopped, the task is cancelled and its final status returned."""
    station = Station(Clock(), lasts=1e9)
    status = run(station, stopped=lambda: station.clock.now > 1100)
    assert status.state is TaskState.CANCELED
    assert isinstance(error_of(status, REQUEST), TaskCanceledError)


def test_an_interrupted_wait_leaves_no_task_behind():
    """Ctrl-C while waiting cancels the task."""
    station = Station(Clock(), lasts=1e9)

    def interrupt():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(station, stopped=interrupt)
    assert station.cancelled


@pytest.mark.parametrize(
    ("state", "kind", "words"),
    [
        (TaskState.FAILED, TaskFailedError, "failed (FAILED): As the station says."),
        (TaskState.CANCELED, TaskCanceledError, "was canceled (CANCELED)"),
        (TaskState.EXPIRED, TaskExpiredError, " expired (EXPIRED)"),
        (TaskState.LOST, TaskLostError, "was lost (LOST)"),
    ],
)
def test_each_end_but_success_has_its_error(state, kind, words):
    """Every final state but SUCCEEDED becomes an error that names request, code and reason."""
    error = error_of(run(Station(Clock(), outcome=state)), REQUEST)
    assert type(error) is kind
    assert str(error).startswith("Transfer from 'laptop' to 'hpc' of /a to /b ")
    assert words in str(error)
    assert error.status.state is state


def test_a_success_has_no_error():
    """Of a task that succeeded there is nothing to raise."""
    assert error_of(run(Station(Clock())), REQUEST) is None


def test_a_deletion_is_named_as_one():
    """The error of a deletion says what was to be deleted where."""
    status = run(Station(Clock(), outcome=TaskState.FAILED))
    request = delete_request(src_ep="hpc", src_path="/a")
    assert str(error_of(status, request)).startswith("Deletion of /a on 'hpc' failed")


def test_one_setup_is_opened_once():
    """The same setup gives the same transfers, another one others; an unknown backend is named."""
    setup = '{{"backend": "local", "endpoints": {{}}, "options": {{"root": "/{}"}}}}'
    assert opened(setup.format("a")) is opened(setup.format("a"))
    assert opened(setup.format("a")) is not opened(setup.format("b"))
    with pytest.raises(ConfigError, match="No backend 'locl' is installed; did you mean 'local'"):
        opened(setup.format("a").replace("local", "locl"))
