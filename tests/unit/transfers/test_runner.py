"""Running a request: waiting, canceling in time, and reporting its end."""

from __future__ import annotations

import pickle

import pytest
from clocked_backends import Clock, ClockedBackend

from chiltepin.errors import (
    ConfigError,
    TaskCanceledError,
    TaskExpiredError,
    TaskFailedError,
    TaskInactiveError,
    TaskLostError,
    TaskPausedError,
    TaskTimeoutError,
)
from chiltepin.model import TaskHandle, TaskState, TaskStatus
from chiltepin.protocol import TransferBackend, WorkerBackend
from chiltepin.transfers.arguments import delete_request, transfer_request
from chiltepin.transfers.outcomes import error_from_status
from chiltepin.transfers.runner import Transfers, open_transfers

REQUEST = transfer_request(src_ep="laptop", dst_ep="hpc", src_path="/a", dst_path="/b")


def worker(clock, **options):
    """Return a worker backend."""
    return ClockedBackend(clock, runs_on="worker", **options)


def run(backend: ClockedBackend, **options):
    """Run the request on a backend."""
    options = {"timeout": 3600, "polling_interval": 30, **options}
    return Transfers(backend, clock=backend.clock).run(REQUEST, **options)


def test_the_clocked_backend_is_a_backend():
    """The clocked backend implements the protocols of backends."""
    assert isinstance(ClockedBackend(Clock()), TransferBackend)
    assert isinstance(worker(Clock()), WorkerBackend)


def test_a_task_is_followed_to_its_end():
    """`run` returns the final status of the task that it submits."""
    backend = worker(Clock())
    status = run(backend, submission_id="mine")
    assert status.state is TaskState.SUCCEEDED
    assert list(backend.tasks) == ["mine"]


def test_the_end_of_a_task_of_this_process_is_told_at_once():
    """A worker backend reports the end of a task at once; until then the task is polled four times a second."""
    backend = worker(Clock(), lasts=10.1)
    assert run(backend).state is TaskState.SUCCEEDED
    assert backend.clock.time == pytest.approx(1010.1)
    assert max(backend.clock.sleeps) <= 0.25


def test_a_timeout_cancels_the_task_and_says_what_to_do():
    """At its timeout the task is canceled, and the error has its last status and says what to do."""
    backend = worker(Clock(), lasts=1e9, stops_in=2)
    with pytest.raises(TaskTimeoutError, match=r"was not done within 60 seconds .* longer timeout=") as caught:
        run(backend, timeout=60)
    assert set(backend.cancelled.values()) == {1060.0}
    assert caught.value.status.state is TaskState.CANCELED


def test_a_task_that_succeeds_while_it_is_stopped_has_succeeded():
    """A task that succeeds despite its cancellation is a success."""
    backend = worker(Clock(), lasts=61)
    backend.cancel = lambda _: None
    assert run(backend, timeout=60).state is TaskState.SUCCEEDED


def test_a_task_that_does_not_stop_does_not_hold_its_caller():
    """`run` stops waiting ten seconds after it cancels a task that does not stop."""
    backend = worker(Clock(), lasts=1e9, stops_in=1e9)
    with pytest.raises(TaskTimeoutError) as caught:
        run(backend, timeout=60)
    assert backend.clock.time <= 1060 + 11
    assert caught.value.status.state is TaskState.ACTIVE
    with pytest.raises(TaskCanceledError, match="has not stopped yet"):
        run(backend, submission_id="other", stopped=lambda: True)


def test_a_wish_to_stop_is_a_cancellation():
    """When a stop is requested, the task is canceled and its final status returned."""
    backend = worker(Clock(), lasts=1e9)
    status = run(backend, stopped=lambda: backend.clock.time > 1100)
    assert status.state is TaskState.CANCELED
    assert isinstance(error_from_status(status, REQUEST), TaskCanceledError)


def test_an_interrupted_wait_leaves_no_task_behind():
    """Ctrl-C while waiting cancels the task."""
    backend = worker(Clock(), lasts=1e9)

    def interrupt():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(backend, stopped=interrupt)
    assert backend.cancelled


@pytest.mark.parametrize(
    ("state", "code", "kind", "words"),
    [
        (TaskState.FAILED, "FILE_NOT_FOUND", TaskFailedError, "failed (FILE_NOT_FOUND): As it is."),
        (TaskState.CANCELED, "CANCELED", TaskCanceledError, "was canceled (CANCELED)"),
        (TaskState.EXPIRED, "EXPIRED", TaskExpiredError, " expired (EXPIRED)"),
        (TaskState.LOST, "LOST", TaskLostError, "was lost (LOST)"),
        (TaskState.PAUSED, "PAUSED", TaskPausedError, "was paused, and stopped (PAUSED)"),
        (TaskState.PAUSED, "INACTIVE", TaskInactiveError, "was suspended, and stopped (INACTIVE)"),
    ],
)
def test_each_end_but_success_has_its_error(state, code, kind, words):
    """Every outcome except SUCCEEDED becomes a specific error that names the request, code and reason."""
    handle = TaskHandle(backend="clocked", task_id="1", submission_id="1")
    error = error_from_status(TaskStatus(handle=handle, state=state, code=code, reason="As it is."), REQUEST)
    assert type(error) is kind
    assert str(error).startswith("Transfer from 'laptop' to 'hpc' of /a to /b ")
    assert words in str(error)
    assert error.status.state is state


def test_a_success_has_no_error():
    """A task that succeeded has no error."""
    assert error_from_status(run(worker(Clock())), REQUEST) is None


def test_a_deletion_is_named_as_one():
    """The error of a failed deletion names the path and the endpoint."""
    status = run(worker(Clock(), outcome=TaskState.FAILED))
    request = delete_request(src_ep="hpc", src_path="/a")
    assert str(error_from_status(status, request)).startswith("Deletion of /a on 'hpc' failed")


def test_one_setup_is_opened_once():
    """The same setup gives the same transfers, and another setup new ones; an unknown backend is an error."""
    setup = '{{"backend": "local", "endpoints": {{}}, "options": {{"root": "/{}"}}}}'
    assert open_transfers(setup.format("a")) is open_transfers(setup.format("a"))
    assert open_transfers(setup.format("a")) is not open_transfers(setup.format("b"))
    with pytest.raises(ConfigError, match="No backend 'locl' is installed; did you mean 'local'"):
        open_transfers(setup.format("a").replace("local", "locl"))


def test_transfers_cannot_be_sent_to_another_process():
    """Transfers, which may hold a login, cannot be pickled; the error says what to send instead."""
    with pytest.raises(TypeError, match="Send the setup"):
        pickle.dumps(Transfers(worker(Clock())))


def test_a_service_is_waited_for_through_its_hub():
    """With a service backend, the task manager follows the task and forgets it at the end."""
    backend = ClockedBackend(Clock(), lasts=0)
    transfers = Transfers(backend)
    backend.clock.time = 0
    assert transfers.run(REQUEST, timeout=60, polling_interval=0.01).state is TaskState.SUCCEEDED
    assert not transfers.manager._by_key
