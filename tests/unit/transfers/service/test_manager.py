"""The task manager: one thread for all tasks of a service, and an end for every future."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from clocked_backends import Clock, ClockedBackend
from waiting import until

from chiltepin.errors import (
    BackendError,
    EndpointUnavailableError,
    LoginRequiredError,
    PermissionDeniedError,
    ServiceBusyError,
    ServiceUnavailableError,
    TaskCanceledError,
    TaskTimeoutError,
)
from chiltepin.model import TaskState
from chiltepin.transfers.arguments import transfer_request
from chiltepin.transfers.policy import wait_times
from chiltepin.transfers.service.manager import TaskManager

BUSY = ServiceUnavailableError("The service is down.", transient=True)


@pytest.fixture
def backend():
    """A service with a simulated clock."""
    return ClockedBackend(Clock())


@pytest.fixture
def manager(backend):
    """A task manager without threads, whose steps the test makes."""
    return TaskManager(backend, clock=backend.clock, threaded=False)


def start(manager, key="mine", goal="/b", **options):
    """Start a transfer."""
    request = transfer_request(src_ep="laptop", dst_ep="hpc", src_path="/a", dst_path=goal)
    return manager.start(key, request, **{"timeout": 3600, "polling_interval": 30, "grace": 60, **options})


def live(manager, backend, *, until=float("inf")):
    """Step the manager and advance the clock, until nothing is pending or ``until`` is reached."""
    for _ in range(10_000):
        pause = manager.step()
        if pause is None or backend.clock.time + pause > until:
            return
        backend.clock.sleep(pause)
    raise AssertionError("The task manager does not come to rest.")


def test_a_task_is_followed_to_its_end(manager, backend):
    """A future ends with the final status of the one task created for it."""
    pending = start(manager)
    live(manager, backend)
    assert pending.future.result(0).state is TaskState.SUCCEEDED
    assert len(backend.tasks) == 1


def test_a_future_runs_from_its_start(manager):
    """A future is running and rejects `cancel`, because Parsl would never stop waiting for a canceled future."""
    future = start(manager).future
    assert future.running()
    assert not future.cancel()


@pytest.mark.parametrize("lasts", [0.1, 5, 60, 600, 3000])
def test_an_end_is_noticed_soon_with_few_questions(manager, backend, lasts):
    """Polls slow from two a second to one per polling_interval; an end is noticed at most 1 s or 10 % late."""
    backend.lasts = lasts
    start(manager)
    live(manager, backend)
    assert backend.clock.time - 1000 - lasts <= max(1.0, 0.1 * lasts)
    assert max(backend.clock.sleeps) <= 30.001
    assert backend.polls <= 10 + 45 + lasts / 30 + 1


def test_one_question_serves_all_tasks(manager, backend):
    """Each poll is one call for all running tasks, however many."""
    backend.lasts = 60
    pending_requests = [start(manager, str(number), f"/{number}") for number in range(500)]
    live(manager, backend)
    assert all(pending.future.result(0).state is TaskState.SUCCEEDED for pending in pending_requests)
    assert backend.polls <= 45
    assert {len(handles) for handles in backend.asked} == {500}


def test_the_same_key_is_one_errand(manager, backend):
    """Starting a request twice under one key creates one task."""
    assert start(manager) is start(manager)
    live(manager, backend)
    assert start(manager).future.done()
    assert len(backend.tasks) == 1


def test_the_deadline_is_the_timeout(manager, backend):
    """The deadline sent to the service is the end of the request's timeout."""
    start(manager, timeout=100)
    limit = backend.clock.now() + timedelta(seconds=100)
    live(manager, backend)
    assert backend.requests["id-0"].deadline == limit


@pytest.mark.parametrize("method", ["new_submission_id", "submit"])
def test_what_could_not_be_submitted_is_submitted_again(manager, backend, method):
    """After a transient refusal the same submission is sent again, with a longer pause each time."""
    backend.refusals[method] = [BUSY] * 4
    pending = start(manager)
    live(manager, backend)
    assert pending.future.result(0).state is TaskState.SUCCEEDED
    assert len(backend.tasks) == 1
    assert backend.clock.sleeps[:4] == [1, 2, 4, 8]


def test_a_lost_reply_makes_no_second_task(manager, backend):
    """If the reply to a submission is lost, the retry finds the existing task."""
    backend.refusals["submit"], backend.lost_replies = [BUSY] * 2, 2
    pending = start(manager)
    live(manager, backend)
    assert pending.future.result(0).state is TaskState.SUCCEEDED
    assert len(backend.tasks) == 1


def test_a_lost_reply_leaves_no_task_behind(manager, backend):
    """A task that is canceled after the reply to its submission was lost is found and canceled at the service."""
    backend.lasts, backend.refusals["submit"], backend.lost_replies = 1e9, [BUSY], 1
    pending = start(manager)
    manager.step()
    manager.stop("mine")
    live(manager, backend)
    assert pending.future.result(0).state is TaskState.CANCELED
    assert set(backend.cancelled) == set(backend.tasks)


def test_a_path_stays_taken_while_a_cancelled_task_may_run(manager, backend):
    """If the service does not confirm a canceled submission, the next request for its path waits for its end.

    The canceled request ends at once, and its error says that its task may still run.
    """
    backend.lasts, backend.refusals["submit"], backend.lost_replies = 1e9, [BUSY] * 5, 1
    first = start(manager)
    manager.step()
    second = start(manager, "second")
    manager.stop("mine")
    manager.step()
    with pytest.raises(TaskCanceledError, match="may still run"):
        first.future.result(0)
    live(manager, backend, until=backend.clock.time + 100)
    [one, other] = backend.tasks
    assert backend.cancelled[one] <= backend.tasks[other]
    assert max(backend.clock.sleeps) > 2
    manager.stop("second")
    live(manager, backend)
    assert second.future.result(0).state is TaskState.CANCELED


def test_a_path_is_free_once_a_task_that_may_run_has_expired(manager, backend):
    """If the service never confirms a submission, the next request for its path waits until its deadline."""
    backend.refusals["submit"], backend.lost_replies = [BUSY] * 1000, 1
    first = start(manager, timeout=60)
    manager.step()
    second = start(manager, "second", timeout=600)
    live(manager, backend, until=1075)
    with pytest.raises(ServiceUnavailableError, match=r"could not be submitted .* may still run"):
        first.future.result(0)
    backend.refusals["submit"] = []
    live(manager, backend)
    assert second.future.result(0).state is TaskState.SUCCEEDED
    assert [moment >= 1070 for moment in backend.tasks.values()] == [False, True]


@pytest.mark.parametrize(
    "refusal", [EndpointUnavailableError("It is down."), ServiceBusyError("Too many tasks.", transient=True)], ids=type
)
def test_a_request_that_was_refused_is_not_sent_to_be_cancelled(manager, backend, refusal):
    """A request that is canceled while the service refuses it, so that it has no task, is not submitted again."""
    backend.refusals["submit"] = [refusal]
    pending = start(manager)
    manager.step()
    manager.stop("mine")
    live(manager, backend)
    assert isinstance(pending.future.exception(0), TaskCanceledError)
    assert not backend.tasks


def test_a_refusal_for_good_is_the_end(manager, backend):
    """A permanent refusal ends the future with that error, without a retry."""
    backend.refusals["submit"] = [PermissionDeniedError("You may not.")]
    pending = start(manager)
    assert manager.step() is None
    assert isinstance(pending.future.exception(0), PermissionDeniedError)
    assert not backend.tasks


def test_a_service_that_stays_away_ends_with_the_timeout(manager, backend):
    """A request that could not be submitted within its timeout fails with the service's error."""
    backend.refusals["submit"] = [BUSY] * 1000
    pending = start(manager, timeout=60)
    live(manager, backend)
    assert backend.clock.time == 1060
    with pytest.raises(ServiceUnavailableError, match="could not be submitted within 60 seconds: The service is down"):
        pending.future.result(0)


def test_a_timeout_cancels_the_task(manager, backend):
    """At its timeout the task is canceled, and the error contains the service's last message."""
    backend.lasts, backend.stops_in = 1e9, 2
    pending = start(manager, timeout=60)
    live(manager, backend)
    assert set(backend.cancelled.values()) == {1060.0}
    with pytest.raises(TaskTimeoutError, match=r"not done within 60 seconds .* longer timeout=.* As the backend says"):
        pending.future.result(0)


def test_what_expires_at_the_service_at_its_timeout_has_timed_out(manager, backend):
    """A task that expires close to its timeout raises TaskTimeoutError; one that expires early is EXPIRED."""
    backend.lasts, backend.outcome = 55, TaskState.EXPIRED
    pending = start(manager, timeout=60)
    live(manager, backend)
    assert isinstance(pending.future.exception(0), TaskTimeoutError)
    early = start(manager, "early", timeout=600)
    live(manager, backend)
    assert early.future.result(0).state is TaskState.EXPIRED


def test_each_errand_has_its_own_timeout(manager, backend):
    """Of two tasks only the one whose timeout has passed is canceled."""
    backend.lasts = 100
    short, long = start(manager, "short", timeout=50), start(manager, "long")
    live(manager, backend)
    assert isinstance(short.future.exception(0), TaskTimeoutError)
    assert long.future.result(0).state is TaskState.SUCCEEDED


def test_a_success_while_it_is_stopped_is_a_success(manager, backend):
    """A task that succeeds despite its cancellation is a success."""
    backend.lasts, backend.cancel = 61, lambda _: None
    pending = start(manager, timeout=60)
    live(manager, backend)
    assert pending.future.result(0).state is TaskState.SUCCEEDED


def test_a_task_that_does_not_stop_does_not_hold_its_future(manager, backend):
    """Ten seconds after a cancellation the future ends, even if the task has not stopped."""
    backend.lasts = backend.stops_in = 1e9
    pending = start(manager)
    manager.step()
    manager.stop("mine")
    live(manager, backend)
    assert backend.clock.time == 1010
    with pytest.raises(TaskCanceledError, match="has not stopped yet"):
        pending.future.result(0)


@pytest.mark.parametrize("away", [("cancel",), ("poll",), ("cancel", "poll")])
def test_a_service_that_is_gone_when_the_time_is_up_does_not_hold_the_future(manager, backend, away):
    """Ten seconds after its timeout a future has ended, even if polls, cancellations or both fail."""
    backend.lasts = backend.stops_in = 1e9
    pending = start(manager, timeout=60)
    manager.step()
    for method in away:
        backend.refusals[method] = [BUSY] * 10_000
    live(manager, backend, until=backend.clock.time + 86_400)
    assert backend.clock.time == 1070
    with pytest.raises(TaskTimeoutError):
        pending.future.result(0)


def test_a_cancellation_is_said_again_until_it_is_heard(manager, backend):
    """A cancellation that does not reach the service is sent again."""
    backend.lasts, backend.refusals["cancel"] = 1e9, [BUSY] * 3
    pending = start(manager)
    manager.step()
    manager.stop("mine")
    live(manager, backend)
    assert pending.future.result(0).state is TaskState.CANCELED
    assert backend.cancelled["id-0"] == 1001.5


def test_what_is_stopped_before_it_starts_never_starts(manager, backend):
    """A request whose key was canceled in advance ends as canceled, and no task is created."""
    manager.stop("mine")
    pending = start(manager)
    live(manager, backend)
    with pytest.raises(TaskCanceledError, match="canceled before it began"):
        pending.future.result(0)
    assert not backend.tasks


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
def test_a_trouble_that_does_not_heal_ends_the_task_soon(manager, backend, state, code, ends):
    """After the fault grace the task is canceled; its status keeps the fault's code and the service's message."""
    backend.lasts, backend.fault = 1e9, (state, code, 0)
    pending = start(manager, grace=20)
    live(manager, backend)
    status = pending.future.result(0)
    assert (status.state, status.code) == (ends, code)
    assert status.reason == "No progress for 20 seconds. As the backend says."
    assert 1020 <= backend.cancelled["id-0"] <= 1023


def test_a_trouble_that_heals_is_borne(manager, backend):
    """If a fault ends within the fault grace, the task continues."""
    backend.lasts, backend.fault = 600, (TaskState.ACTIVE, "FILE_NOT_FOUND", 0)
    pending = start(manager)
    live(manager, backend, until=1050)
    backend.fault = (TaskState.ACTIVE, "", 10)
    live(manager, backend)
    assert pending.future.result(0).state is TaskState.SUCCEEDED


def test_a_trouble_that_heals_by_itself_is_left_to_the_service(manager, backend):
    """A task with a broken connection is not canceled, because the service retries it."""
    backend.lasts, backend.fault = 600, (TaskState.ACTIVE, "CONNECTION_RESET", 0)
    pending = start(manager)
    live(manager, backend)
    assert pending.future.result(0).state is TaskState.SUCCEEDED


def test_a_task_that_moves_in_spite_of_a_trouble_is_let_go_on(manager, backend):
    """A missing file does not stop a task whose other files make progress."""
    backend.lasts = 300
    pending = start(manager)
    for moment in range(1000, 1280, 20):
        backend.fault = (TaskState.ACTIVE, "FILE_NOT_FOUND", moment)
        live(manager, backend, until=moment + 20)
    live(manager, backend)
    assert pending.future.result(0).state is TaskState.SUCCEEDED


def test_a_faulty_task_that_does_not_stop_is_polled_with_pauses(manager, backend):
    """While a request waits for a faulty task that does not stop, the service is polled no more often than usual."""
    backend.lasts = backend.stops_in = 1e9
    backend.fault = (TaskState.ACTIVE, "FILE_NOT_FOUND", 0)
    start(manager, grace=5)
    manager.step()
    start(manager, "second", timeout=300)
    live(manager, backend)
    assert backend.polls < 100


def test_a_question_that_fails_is_asked_again(manager, backend):
    """After any error of a poll, even one that no backend should raise, the tasks are polled again."""
    backend.refusals["poll"] = [BUSY, ValueError("Not JSON."), BackendError("Odd.")]
    pending = start(manager)
    live(manager, backend)
    assert pending.future.result(0).state is TaskState.SUCCEEDED


def test_a_login_that_is_lost_ends_what_can_be_followed_no_more(manager, backend):
    """If the login is lost, all futures end at once, with the command to run."""
    backend.lasts, backend.refusals["poll"] = 1e9, [LoginRequiredError("Type: chiltepin login")]
    pending_requests = [start(manager, str(number)) for number in range(3)]
    live(manager, backend)
    assert all(isinstance(pending.future.exception(0), LoginRequiredError) for pending in pending_requests)


def test_threads_do_all_this_and_go_when_it_is_done(backend):
    """With threads the task manager steps itself, a blocked callback does not delay it, and no thread is left."""
    backend.lasts = 0
    manager = TaskManager(backend)
    held, let_go = threading.Event(), threading.Event()
    first = start(manager, "1", polling_interval=0.01)
    first.future.add_done_callback(lambda _: (held.set(), let_go.wait(60)))
    assert held.wait(60)
    manager.stop("2")
    second = start(manager, "2", polling_interval=0.01)
    second_ended = threading.Event()
    second.future.add_done_callback(lambda _: second_ended.set())
    let_go.set()
    assert second_ended.wait(60)
    for thread in threading.enumerate():
        if thread.name.startswith("chiltepin-"):
            thread.join(60)
            assert not thread.is_alive()


@pytest.mark.parametrize("how", ["timeout", "cancel"])
def test_a_request_that_joins_a_waiting_batch_ends_in_time(backend, monkeypatch, how):
    """A short timeout, or an early cancellation, ends a request although its batch waits for the next retry."""
    monkeypatch.setattr(wait_times, "RETRY_MIN", 600.0)
    backend.refusals["new_submission_id"] = [BUSY] * 10
    manager = TaskManager(backend)
    first = start(manager, "1")
    until(lambda: first.task.refused)
    start(manager, "2", goal="/c")
    until(lambda: manager._thread._changed._waiters)
    if how == "cancel":
        manager.stop("3")
    joined = start(manager, "3", goal="/c", timeout=0.1 if how == "timeout" else 3600)
    error = joined.future.exception(20)
    assert isinstance(error, TaskTimeoutError if how == "timeout" else TaskCanceledError)
    manager.close(10)


def test_closing_stops_what_is_under_way(backend):
    """Closing the task manager cancels every task at the service and ends every future."""
    backend.lasts = 1e9
    manager = TaskManager(backend)
    pending = start(manager, polling_interval=0.01)
    manager.close(10)
    assert pending.future.done()
    assert set(backend.cancelled) == set(backend.tasks)


def test_what_has_ended_leaves_nothing_behind(manager, backend):
    """After 3,000 requests, a third of them canceled before they started, the manager holds none of them."""
    for number in range(3000):
        start(manager, key=f"{number}", goal=f"/{number}", timeout=1e6)
        if number % 3 == 0:
            manager.stop(f"{number}")
        if number % 50 == 0:
            live(manager, backend)
        manager.forget(f"{number}")
    live(manager, backend)
    held = (
        manager._by_key,
        manager._batcher.batches,
        manager._batcher._claims,
        manager._batcher._open,
        manager._stop_requests,
    )
    assert [len(one) for one in held] == [0] * len(held)
    assert len(manager._timeouts) < 2500
