"""Requests that overlap with a task in progress: each request has its own outcome."""

from __future__ import annotations

import pytest
from guided import Guided

from chiltepin.errors import TaskCanceledError, TaskTimeoutError
from chiltepin.model import TaskState
from chiltepin.transfers.arguments import delete_request, transfer_request
from chiltepin.transfers.journal import Journal, ProcessId

DONE = TaskState.SUCCEEDED


def move(origin="/x", goal="/out/x", **options):
    """Return a request to transfer one file."""
    return transfer_request(src_ep="a", dst_ep="b", src_path=origin, dst_path=goal, **options)


def delete(path="/old", **options):
    """Return a request to delete one file."""
    return delete_request(src_ep="b", src_path=path, **options)


@pytest.fixture
def old(laptop, scratch):
    """A source file, and a file to delete, that the tests rewrite later."""
    (laptop / "x").write_text("old")
    (scratch / "old").write_text("old")
    return laptop


def state(pending):
    """Return the final state of a request."""
    return pending.future.result(0).state


@pytest.mark.parametrize(
    "options", [{}, {"preserve_timestamp": True}, {"verify_checksum": False}, {"sync_level": "size"}]
)
def test_a_transfer_reads_its_source_after_its_call(guided, globus, old, scratch, options):
    """A source that changes after a task has read it is transferred for the next call, even before the next poll."""
    first = guided.start(move(**options))
    guided.live(seconds=0.2)
    globus.clock.advance(60)
    (old / "x").write_text("anew, and longer")
    second = guided.start(move(**options))
    guided.live()
    assert [state(first), state(second)] == [DONE, DONE]
    assert (scratch / "out" / "x").read_text() == "anew, and longer"


@pytest.mark.parametrize("lenient", [False, True])
def test_a_deletion_deletes_after_its_call(guided, globus, old, scratch, lenient):
    """A file that is recreated after a task has deleted it is deleted for the next call, even before the next poll."""
    first = guided.start(delete(ignore_missing=lenient))
    guided.live(seconds=0.2)
    globus.clock.advance(60)
    (scratch / "old").write_text("anew")
    second = guided.start(delete())
    guided.live()
    assert [state(first), state(second)] == [DONE, DONE]
    assert not (scratch / "old").exists()


def test_a_deletion_that_waits_for_an_equal_one_finds_nothing_without_an_error(guided, globus, old):
    """A deletion that waits for an equal one succeeds if that one has deleted the file."""
    globus.settings.task_latency = 20
    first = guided.start(delete())
    guided.live(seconds=5)
    second = guided.start(delete())
    guided.live()
    assert [state(first), state(second)] == [DONE, DONE]


def test_a_deletion_that_waits_for_one_that_found_nothing_fails_as_well(guided, globus, scratch):
    """If the path is missing, each of two equal deletions fails."""
    globus.settings.task_latency = 5
    first = guided.start(delete("/no"), grace=0)
    guided.live(seconds=3)
    second = guided.start(delete("/no"), grace=0)
    guided.live()
    assert [pending.future.result(0).code for pending in (first, second)] == ["FILE_NOT_FOUND"] * 2


@pytest.mark.parametrize("heard", [True, False], ids=["heard", "not heard"])
@pytest.mark.parametrize("end", ["timeout", "cancel"])
def test_the_end_of_one_caller_is_not_that_of_another(guided, globus, old, scratch, end, heard):
    """A timeout or cancellation ends only its own request, even if the service does not receive it."""
    globus.settings.task_latency = 60
    first = guided.start(move(), timeout=10 if end == "timeout" else 3600)
    guided.live(seconds=2)
    second = guided.start(move())
    if not heard:
        globus.fail_next(30, 503, path="/cancel")
    if end == "cancel":
        guided.manager.stop("pending request 1")
    guided.live()
    assert first.future.exception(0) is not None or state(first) is not DONE
    assert state(second) is DONE
    assert (scratch / "out" / "x").read_text() == "old"


def test_a_request_that_waits_has_its_own_timeout(guided, globus, old):
    """A request that waits for another request's task ends after its own timeout and submits no task."""
    globus.settings.task_latency = 1000
    guided.start(move())
    guided.live(seconds=5)
    begun = globus.clock.time()
    second = guided.start(move(), timeout=30)
    guided.live(seconds=31)
    assert globus.clock.time() - begun < 32
    assert isinstance(second.future.exception(0), TaskTimeoutError)
    assert len(globus.tasks) == 1


@pytest.mark.parametrize("how", ["cancel", "fail"])
def test_the_failure_of_another_task_is_not_that_of_a_request(guided, globus, old, how):
    """If a task fails or is canceled by another program, only its own request ends; a waiting one is submitted."""
    globus.settings.task_latency = 30
    first = guided.start(move())
    guided.live(seconds=5)
    second = guided.start(move())
    if how == "fail":
        globus.task(first.handle.task_id).fail()
    else:
        globus.client().cancel_task(first.handle.task_id)
    guided.live()
    assert state(first) is not DONE
    assert state(second) is DONE


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (move(), delete("/out/x")),
        (delete("/out/x", ignore_missing=True), move()),
        (move(), move(sync_level="size")),
        (move(), move("/y")),
        (move(), move(goal="/out//x")),
        (move(), move(goal="/out/./x")),
        (move(), move(goal="/out/../out/x")),
        (move(), move(goal="/OUT/X")),
        (move(goal="~/x"), move(goal="/home/x")),
        (move(goal="x"), move(goal="~/x")),
        (move("/d", "/out", recursive=True), move()),
        (move(), move("/d", "/out", recursive=True)),
        (move(), delete("/out", recursive=True, ignore_missing=True)),
    ],
)
def test_requests_for_one_path_run_one_after_the_other(guided, globus, old, scratch, first, second):
    """Two tasks that may touch the same path never run at the same time, whatever its spelling."""
    (old / "y").write_text("y")
    (old / "d").mkdir()
    (old / "d" / "x").write_text("d")
    globus.settings.task_latency = 20
    pending_requests = [guided.start(first)]
    guided.live(seconds=5)
    pending_requests.append(guided.start(second))
    guided.live(seconds=10)
    assert len(globus.tasks) == 1
    guided.live()
    assert [state(pending) for pending in pending_requests] == [DONE, DONE]
    assert len(globus.tasks) == 2


def test_requests_for_other_paths_do_not_wait(guided, globus, old):
    """A longer name with the same prefix, or the same name in another folder, is a different path."""
    globus.settings.task_latency = 20
    for goal in ("/out/x", "/out/x2", "/else/x"):
        guided.start(move(goal=goal))
        guided.live(seconds=2)
    assert len(globus.tasks) == 3


def test_a_killed_process_s_missing_source_does_not_take_the_whole_timeout(backend, globus, laptop, tmp_path):
    """A killed process's task with a fault is canceled after the fault grace of the request that waits for it."""
    guided = [
        Guided(
            backend,
            globus,
            journal=Journal(tmp_path / "journal", clock=globus.clock.now, owner=ProcessId("gone", pid, "0")),
        )
        for pid in (1, 2)
    ]
    guided[0].start(move("/no"), grace=1e5)
    guided[0].live(seconds=5)
    begun = globus.clock.time()
    second = guided[1].start(move("/no"), grace=20)
    guided[1].live()
    assert second.future.result(0).code == "FILE_NOT_FOUND"
    assert globus.clock.time() - begun < 100


@pytest.mark.parametrize("why", ["cancel", "timeout"])
def test_a_stopped_deletion_that_waits_is_not_deleted_later(guided, globus, scratch, why):
    """A strict deletion that is stopped while it waits for one that finds nothing ends, and deletes nothing later."""
    (scratch / "d").mkdir(parents=True)
    (scratch / "d" / "y").touch()
    missing, other = guided.start(delete("/d/x")), guided.start(delete("/d/y"))
    second = guided.start(delete("/d/x", recursive=True), timeout=0.06 if why == "timeout" else 100)
    if why == "cancel":
        guided.manager.stop("pending request 3")
    globus.clock.advance(0.06)
    guided.manager.step()
    (scratch / "d" / "x").touch()
    guided.live()
    assert state(missing) is TaskState.FAILED
    assert state(other) is DONE
    assert isinstance(second.future.exception(0), TaskCanceledError if why == "cancel" else TaskTimeoutError)
    assert (scratch / "d" / "x").exists()
