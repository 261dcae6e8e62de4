"""The hub: one thread for every task of a service, and an end for every future."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from station import Clock, Station

from chiltepin.errors import (
    BackendError,
    LoginRequiredError,
    PermissionDeniedError,
    ServiceUnavailableError,
    TaskCanceledError,
    TaskTimeoutError,
)
from chiltepin.model import TaskState
from chiltepin.transfers.arguments import transfer_request
from chiltepin.transfers.service.manager import Hub

BUSY = ServiceUnavailableError("The service is down.", transient=True)


@pytest.fixture
def station():
    """A service that works by a clock of its own."""
    return Station(Clock())


@pytest.fixture
def hub(station):
    """A hub that takes its steps when it is told to."""
    return Hub(station, clock=station.clock, threaded=False)


def start(hub, key="mine", goal="/b", **options):
    """Start a transfer."""
    request = transfer_request(src_ep="laptop", dst_ep="hpc", src_path="/a", dst_path=goal)
    return hub.start(key, request, **{"timeout": 3600, "polling_interval": 30, "grace": 60, **options})


def live(hub, station, *, until=float("inf")):
    """Let the hub do what is due, and the time go by in between, until nothing is under way or it is late enough."""
    for _ in range(10_000):
        pause = hub.step()
        if pause is None or station.clock.time + pause > until:
            return
        station.clock.sleep(pause)
    raise AssertionError("The hub does not come to rest.")


def test_a_task_is_followed_to_its_end(hub, station):
    """A future ends with the final status of the one task that was made for it."""
    errand = start(hub)
    live(hub, station)
    assert errand.future.result(0).state is TaskState.SUCCEEDED
    assert len(station.tasks) == 1


def test_a_future_runs_from_its_start(hub):
    """Nobody can cancel it behind the hub's back: Parsl would wait for ever for a cancelled one."""
    future = start(hub).future
    assert future.running()
    assert not future.cancel()


@pytest.mark.parametrize("lasts", [0.1, 5, 60, 600, 3000])
def test_an_end_is_noticed_soon_with_few_questions(hub, station, lasts):
    """A service is asked from twice a second to once in polling_interval; an end is noticed a tenth late at most."""
    station.lasts = lasts
    start(hub)
    live(hub, station)
    assert station.clock.time - 1000 - lasts <= max(1.0, 0.1 * lasts)
    assert max(station.clock.sleeps) <= 30.001
    assert station.polls <= 10 + 45 + lasts / 30 + 1


def test_one_question_serves_all_tasks(hub, station):
    """However many tasks are under way, each look is one call of poll."""
    station.lasts = 60
    errands = [start(hub, str(number), f"/{number}") for number in range(500)]
    live(hub, station)
    assert all(errand.future.result(0).state is TaskState.SUCCEEDED for errand in errands)
    assert station.polls <= 45
    assert {len(handles) for handles in station.asked} == {500}


def test_the_same_key_is_one_errand(hub, station):
    """What is started twice under one key is one task."""
    assert start(hub) is start(hub)
    live(hub, station)
    assert start(hub).future.done()
    assert len(station.tasks) == 1


def test_the_deadline_is_the_timeout(hub, station):
    """The service is told when to give up by itself: when our own time for it is up."""
    start(hub, timeout=100)
    limit = station.clock.now() + timedelta(seconds=100)
    live(hub, station)
    assert station.requests["id-0"].deadline == limit


@pytest.mark.parametrize("method", ["new_submission_id", "submit"])
def test_what_could_not_be_submitted_is_submitted_again(hub, station, method):
    """A refusal that may pass is no end: the same submission goes out again, and again later each time."""
    station.refusals[method] = [BUSY] * 4
    errand = start(hub)
    live(hub, station)
    assert errand.future.result(0).state is TaskState.SUCCEEDED
    assert len(station.tasks) == 1
    assert station.clock.sleeps[:4] == [1, 2, 4, 8]


def test_a_lost_reply_makes_no_second_task(hub, station):
    """Where the service took the request and its reply was lost, the repetition finds the task that is there."""
    station.refusals["submit"], station.lost_replies = [BUSY] * 2, 2
    errand = start(hub)
    live(hub, station)
    assert errand.future.result(0).state is TaskState.SUCCEEDED
    assert len(station.tasks) == 1


def test_a_lost_reply_leaves_no_task_behind(hub, station):
    """One that is cancelled after its reply was lost is found, and cancelled at the service."""
    station.lasts, station.refusals["submit"], station.lost_replies = 1e9, [BUSY], 1
    errand = start(hub)
    hub.step()
    hub.stop("mine")
    live(hub, station)
    assert errand.future.result(0).state is TaskState.CANCELED
    assert set(station.cancelled) == set(station.tasks)


def test_a_refusal_for_good_is_the_end(hub, station):
    """What the service refuses for good ends the future with that error, and is not tried again."""
    station.refusals["submit"] = [PermissionDeniedError("You may not.")]
    errand = start(hub)
    assert hub.step() is None
    assert isinstance(errand.future.exception(0), PermissionDeniedError)
    assert not station.tasks


def test_a_service_that_stays_away_ends_with_the_timeout(hub, station):
    """What could never be submitted says so when its time is up."""
    station.refusals["submit"] = [BUSY] * 1000
    errand = start(hub, timeout=60)
    live(hub, station)
    assert station.clock.time == 1060
    with pytest.raises(ServiceUnavailableError, match="could not be submitted within 60 seconds: The service is down"):
        errand.future.result(0)


def test_a_timeout_cancels_the_task(hub, station):
    """At its timeout the task is cancelled, never left behind; the error has the service's last word."""
    station.lasts, station.stops_in = 1e9, 2
    errand = start(hub, timeout=60)
    live(hub, station)
    assert set(station.cancelled.values()) == {1060.0}
    with pytest.raises(TaskTimeoutError, match=r"not done within 60 seconds .* longer timeout=.* As the station says"):
        errand.future.result(0)


def test_what_expires_at_the_service_at_its_timeout_has_timed_out(hub, station):
    """The deadline at the service is the timeout by another clock: whichever comes first, the error is the same."""
    station.lasts, station.outcome = 55, TaskState.EXPIRED
    errand = start(hub, timeout=60)
    live(hub, station)
    assert isinstance(errand.future.exception(0), TaskTimeoutError)
    early = start(hub, "early", timeout=600)
    live(hub, station)
    assert early.future.result(0).state is TaskState.EXPIRED


def test_each_errand_has_its_own_timeout(hub, station):
    """Of two tasks the one whose time is up is stopped, and the other goes on."""
    station.lasts = 100
    short, long = start(hub, "short", timeout=50), start(hub, "long")
    live(hub, station)
    assert isinstance(short.future.exception(0), TaskTimeoutError)
    assert long.future.result(0).state is TaskState.SUCCEEDED


def test_a_success_while_it_is_stopped_is_a_success(hub, station):
    """A cancellation is a request: bytes that arrived all the same are a success."""
    station.lasts, station.cancel = 61, lambda _: None
    errand = start(hub, timeout=60)
    live(hub, station)
    assert errand.future.result(0).state is TaskState.SUCCEEDED


def test_a_task_that_does_not_stop_does_not_hold_its_future(hub, station):
    """Ten seconds after it was told to stop, a task that has not stopped is left to itself."""
    station.lasts = station.stops_in = 1e9
    errand = start(hub)
    hub.step()
    hub.stop("mine")
    live(hub, station)
    assert station.clock.time == 1010
    with pytest.raises(TaskCanceledError, match="has not stopped yet"):
        errand.future.result(0)


@pytest.mark.parametrize("away", [("cancel",), ("poll",), ("cancel", "poll")])
def test_a_service_that_is_gone_when_the_time_is_up_does_not_hold_the_future(hub, station, away):
    """Whether it can be asked, told, or neither: ten seconds after its timeout a future has ended."""
    station.lasts = station.stops_in = 1e9
    errand = start(hub, timeout=60)
    hub.step()
    for method in away:
        station.refusals[method] = [BUSY] * 10_000
    live(hub, station, until=station.clock.time + 86_400)
    assert station.clock.time == 1070
    with pytest.raises(TaskTimeoutError):
        errand.future.result(0)


def test_a_cancellation_is_said_again_until_it_is_heard(hub, station):
    """A cancellation that does not reach the service is sent again."""
    station.lasts, station.refusals["cancel"] = 1e9, [BUSY] * 3
    errand = start(hub)
    hub.step()
    hub.stop("mine")
    live(hub, station)
    assert errand.future.result(0).state is TaskState.CANCELED
    assert station.cancelled["id-0"] == 1001.5


def test_what_is_stopped_before_it_starts_never_starts(hub, station):
    """A key that was stopped in advance ends as cancelled, and no task is made."""
    hub.stop("mine")
    errand = start(hub)
    live(hub, station)
    with pytest.raises(TaskCanceledError, match="cancelled before it began"):
        errand.future.result(0)
    assert not station.tasks


@pytest.mark.parametrize(
    ("state", "code", "ends"),
    [
        (TaskState.ACTIVE, "FILE_NOT_FOUND", TaskState.FAILED),
        (TaskState.ACTIVE, "PERMISSION_DENIED", TaskState.FAILED),
        (TaskState.ACTIVE, "QUOTA_EXCEEDED", TaskState.FAILED),
        (TaskState.ACTIVE, "GC_NOT_CONNECTED", TaskState.FAILED),
        (TaskState.PAUSED, "PAUSED", TaskState.PAUSED),
        (TaskState.PAUSED, "INACTIVE", TaskState.PAUSED),
    ],
)
def test_a_trouble_that_does_not_heal_ends_the_task_soon(hub, station, state, code, ends):
    """After the grace it is cancelled, and its status keeps the trouble's code and the service's words."""
    station.lasts, station.trouble = 1e9, (state, code, 0)
    errand = start(hub, grace=20)
    live(hub, station)
    status = errand.future.result(0)
    assert (status.state, status.code) == (ends, code)
    assert status.reason == "It did not get on for 20 seconds. As the station says."
    assert 1020 <= station.cancelled["id-0"] <= 1023


def test_a_trouble_that_heals_is_borne(hub, station):
    """If the trouble goes away, the task goes on."""
    station.lasts, station.trouble = 600, (TaskState.ACTIVE, "FILE_NOT_FOUND", 0)
    errand = start(hub)
    live(hub, station, until=1050)
    station.trouble = (TaskState.ACTIVE, "", 10)
    live(hub, station)
    assert errand.future.result(0).state is TaskState.SUCCEEDED


def test_a_trouble_that_heals_by_itself_is_left_to_the_service(hub, station):
    """Of a broken connection the service takes care itself."""
    station.lasts, station.trouble = 600, (TaskState.ACTIVE, "CONNECTION_RESET", 0)
    errand = start(hub)
    live(hub, station)
    assert errand.future.result(0).state is TaskState.SUCCEEDED


def test_a_task_that_moves_in_spite_of_a_trouble_is_let_go_on(hub, station):
    """A missing file among others that arrive does not stop those."""
    station.lasts = 300
    errand = start(hub)
    for moment in range(1000, 1280, 20):
        station.trouble = (TaskState.ACTIVE, "FILE_NOT_FOUND", moment)
        live(hub, station, until=moment + 20)
    live(hub, station)
    assert errand.future.result(0).state is TaskState.SUCCEEDED


def test_a_question_that_fails_is_asked_again(hub, station):
    """Whatever a look meets, also what no backend should raise, the tasks are looked at again."""
    station.refusals["poll"] = [BUSY, ValueError("Not JSON."), BackendError("Odd.")]
    errand = start(hub)
    live(hub, station)
    assert errand.future.result(0).state is TaskState.SUCCEEDED


def test_a_login_that_is_lost_ends_what_can_be_followed_no_more(hub, station):
    """Without a login nobody can ask: the futures end with the command to type, at once."""
    station.lasts, station.refusals["poll"] = 1e9, [LoginRequiredError("Type: chiltepin login")]
    errands = [start(hub, str(number)) for number in range(3)]
    live(hub, station)
    assert all(isinstance(errand.future.exception(0), LoginRequiredError) for errand in errands)


def test_threads_do_all_this_and_go_when_it_is_done(station):
    """With threads of its own the hub needs no steps, callbacks do not hold it up, and no thread is left."""
    station.lasts = 0
    hub = Hub(station)
    held, let_go = threading.Event(), threading.Event()
    first = start(hub, "1", polling_interval=0.01)
    first.future.add_done_callback(lambda _: (held.set(), let_go.wait(10)))
    assert held.wait(10)
    hub.stop("2")
    second = start(hub, "2", polling_interval=0.01)
    second_ended = threading.Event()
    second.future.add_done_callback(lambda _: second_ended.set())
    let_go.set()
    assert second_ended.wait(10)
    for thread in threading.enumerate():
        if thread.name.startswith("chiltepin-"):
            thread.join(10)
            assert not thread.is_alive()


def test_closing_stops_what_is_under_way(station):
    """At the end of the process every task is cancelled at the service, and every future ends."""
    station.lasts = 1e9
    hub = Hub(station)
    errand = start(hub, polling_interval=0.01)
    hub.close(10)
    assert errand.future.done()
    assert set(station.cancelled) == set(station.tasks)


def test_what_has_ended_leaves_nothing_behind(hub, station):
    """After thousands of errands, a third of them cancelled before they began, the hub holds nothing of them."""
    for number in range(3000):
        start(hub, key=f"{number}", goal=f"/{number}", timeout=1e6)
        if number % 3 == 0:
            hub.stop(f"{number}")
        if number % 50 == 0:
            live(hub, station)
        hub.forget(f"{number}")
    live(hub, station)
    held = (hub._known, hub._departures.batches, hub._departures._claims, hub._departures._open, hub._wishes)
    assert [len(one) for one in held] == [0] * len(held)
    assert len(hub._limits) < 2500
