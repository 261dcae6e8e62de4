"""Requests that share a Globus task: each has its own outcome, and no file is moved twice."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import replace

import pytest
from guided import Guided

from chiltepin.errors import BackendError, TaskCanceledError, TaskTimeoutError
from chiltepin.model import TaskState
from chiltepin.transfers import policy
from chiltepin.transfers.arguments import delete_request, transfer_request
from chiltepin.transfers.journal import Journal


def move(number, **options):
    """Return a request for one file."""
    options = {"src_path": f"/{number}", "dst_path": f"/out/{number}", **options}
    return transfer_request(src_ep="a", dst_ep="b", **options)


def move_many(*numbers, **options):
    """Return one request for several files."""
    return replace(move(0), items=tuple(move(number).items[0] for number in numbers), **options)


@pytest.fixture
def files(laptop):
    """A hundred files on the laptop."""
    for number in range(100):
        (laptop / str(number)).write_text(str(number))
    return laptop


def moved(globus):
    """Count how often each destination was written, over all tasks."""
    paths = [entry["destination_path"] for task in globus.tasks for entry in successes(globus, task)]
    return {path: paths.count(path) for path in paths}


def successes(globus, task):
    """Return the files that a task has moved."""
    return globus.client().task_successful_transfers(task)


def test_a_hundred_transfers_are_one_task(guided, globus, files, scratch):
    """Requests that are made at the same time share one task, and each future succeeds."""
    pending_requests = [guided.start(move(number, label=f"file {number}")) for number in range(100)]
    guided.live()
    assert all(pending.future.result(0).state is TaskState.SUCCEEDED for pending in pending_requests)
    [task] = globus.tasks.values()
    assert task.document()["label"].startswith("file 0, file 1, file 10, ")
    assert {int(file.read_text()) for file in (scratch / "out").iterdir()} == set(range(100))
    # A submission id, two collections, the task, a few polls, and the query for skipped files.
    assert len([one for one in globus.requests if one.path.startswith("/v0.10")]) <= 8


def test_a_large_batch_leaves_a_part_to_each_slot(guided, globus, files, scratch, monkeypatch):
    """A task takes a third of the remaining requests, or SLOT_ITEMS if that is more; no file is moved twice."""
    monkeypatch.setattr(policy.limits, "SLOT_ITEMS", 20)
    pending_requests = [guided.start(move(number)) for number in range(100)]
    guided.live()
    assert all(pending.future.result(0).state is TaskState.SUCCEEDED for pending in pending_requests)
    assert sorted(len(successes(globus, task)["DATA"]) for task in globus.tasks) == [4, 20, 20, 22, 34]
    assert set(moved(globus).values()) == {1}
    assert len(list((scratch / "out").iterdir())) == 100


def test_a_missing_file_fails_alone(guided, globus, files, scratch):
    """A missing source fails only its own future, with its own reason; no file is moved twice."""
    (files / "13").unlink()
    pending_requests = [guided.start(move(number), grace=30) for number in range(100)]
    guided.live()
    ends = [pending.future.result(0) for pending in pending_requests]
    assert [number for number, end in enumerate(ends) if end.state is not TaskState.SUCCEEDED] == [13]
    assert (ends[13].state, ends[13].code) == (TaskState.FAILED, "FILE_NOT_FOUND")
    assert "/13" in ends[13].reason
    assert set(moved(globus).values()) == {1}
    assert len(list((scratch / "out").iterdir())) == 99


def test_a_missing_file_that_appears_in_time_is_moved(guided, globus, files, scratch):
    """A source that is not confirmed as missing is retried within its fault grace; other requests end before."""
    globus.fail_next(50, 200, path="/stat", body=b'{"type": "file"}')
    (files / "13").unlink()
    pending_requests = [guided.start(move(number), grace=60) for number in range(100)]
    guided.live(seconds=15)
    assert sum(pending.future.done() for pending in pending_requests) == 99
    status = pending_requests[13].status
    assert (status.state, status.code) == (TaskState.ACTIVE, "FILE_NOT_FOUND")
    (files / "13").write_text("13")
    guided.live()
    assert pending_requests[13].future.result(0).state is TaskState.SUCCEEDED
    assert set(moved(globus).values()) == {1}


def test_a_missing_file_of_many_ends_at_once(guided, globus, files, scratch):
    """A source that is confirmed as missing fails at once, with its own code, while the other files arrive."""
    (files / "13").unlink()
    began = globus.clock.time()
    pending_requests = [guided.start(move(number), grace=1000) for number in range(100)]
    guided.live()
    ends = [pending.future.result(0) for pending in pending_requests]
    assert [number for number, end in enumerate(ends) if end.state is not TaskState.SUCCEEDED] == [13]
    assert ends[13].code == "FILE_NOT_FOUND"
    assert globus.clock.time() - began < 60


def test_a_refused_destination_fails_alone(guided, globus, files, scratch):
    """A destination without write permission delays the task, and then fails only its own future."""
    globus.collection("hpc-scratch").denied.add("/out/13")
    pending_requests = [guided.start(move(number), grace=20) for number in range(100)]
    guided.live()
    ends = [pending.future.result(0) for pending in pending_requests]
    assert [number for number, end in enumerate(ends) if end.state is not TaskState.SUCCEEDED] == [13]
    assert ends[13].code == "PERMISSION_DENIED"
    assert set(moved(globus).values()) == {1}
    assert not (scratch / "out" / "13").exists()


def test_a_path_that_is_refused_before_it_is_sent_fails_alone(guided, globus, files):
    """A path that leaves the root is refused before submission, and bisecting the batch finds it."""
    pending_requests = [guided.start(move(number)) for number in range(20)]
    wrong = guided.start(move(0, dst_path="/out/../../x"))
    guided.live()
    assert all(pending.future.result(0).state is TaskState.SUCCEEDED for pending in pending_requests)
    assert type(wrong.future.exception(0)).__name__ == "PermissionDeniedError"


def test_the_same_request_twice_is_one_item(guided, globus, files):
    """A request joins an equal one that is not submitted yet; later equal requests share a task that moves nothing."""
    globus.settings.task_latency = 5
    first = [guided.start(move(1)), guided.start(move(1)), guided.start(move(2))]
    guided.live(seconds=3)
    late = [guided.start(move(number)) for number in (2, 1, 2)]
    guided.live(seconds=1)
    late.append(guided.start(move(2)))
    guided.live()
    assert all(pending.future.result(0).state is TaskState.SUCCEEDED for pending in [*first, *late])
    assert len(globus.tasks) == 2
    assert moved(globus) == {"/out/1": 1, "/out/2": 1}


def test_requests_that_are_not_alike_do_not_share(guided, globus, files):
    """Requests with another direction, other options or another operation are submitted as separate tasks."""
    guided.start(move(1))
    guided.start(move(2, sync_level="size"))
    guided.start(transfer_request(src_ep="b", dst_ep="a", src_path="/x", dst_path="/y"))
    guided.start(delete_request(src_ep="a", src_path="/3"))
    guided.live(seconds=5)
    assert len(globus.tasks) == 4


@pytest.mark.parametrize(
    ("option", "values"),
    [
        ("encrypt_data", (None, True)),
        ("skip_source_errors", (False, True)),
        ("fail_on_quota_errors", (True, False)),
        ("checksum_algorithm", ("sha1", "sha256")),
        ("source_local_user", ("ada", "grace")),
        ("destination_local_user", ("", "grace")),
        ("notify", ("failed", "succeeded")),
        ("deadline", ("2040-01-01", "2040-01-02")),
        ("submission_id", ("11111111-2222-4333-8444-555555555555", "")),
    ],
)
def test_requests_share_a_task_only_with_the_same_options(guided, globus, files, option, values):
    """Requests that differ in the value of an option do not share a task."""
    for number, value in enumerate((values[0], values[1], values[1])):
        guided.start(move(number, **{option: value}))
    guided.live(seconds=5)
    assert sorted(len(task.destinations) for task in globus.tasks.values()) == [1, 2]


def test_a_pattern_waits_for_what_it_may_match(guided, globus, files):
    """A deletion with a pattern is a separate task, after earlier transfers into its folder and before later ones."""
    globus.settings.task_latency = 2
    first = guided.start(transfer_request(src_ep="a", dst_ep="b", src_path="/1", dst_path="/out/1"))
    pattern = guided.start(delete_request(src_ep="b", src_path="/out/*", globs=True))
    last = guided.start(transfer_request(src_ep="a", dst_ep="b", src_path="/2", dst_path="/out/2"))
    guided.live()
    assert [one.future.result(0).state for one in (first, pattern, last)] == [TaskState.SUCCEEDED] * 3
    assert os.listdir(os.path.join(globus.collection("hpc-scratch").folder, "out")) == ["2"]


@pytest.mark.parametrize("hidden", [(), ("source_path",), ("source_path", "destination_path")])
def test_skipped_items_of_many_callers_are_done(guided, globus, files, hidden):
    """With `skip_source_errors`, each future succeeds and reports its own skipped paths, or that Globus hides them."""

    def hide(method, path, document):
        if path.endswith("/skipped_errors"):
            for entry in document["DATA"]:
                entry.update(dict.fromkeys(hidden))
        return document

    globus.rewrite_answers(hide)
    pending_requests = [guided.start(move(number, skip_source_errors=True)) for number in (1, 777, 2, 778)]
    guided.live()
    ends = [pending.future.result(0) for pending in pending_requests]
    assert [end.state for end in ends] == [TaskState.SUCCEEDED] * 4
    assert len(globus.tasks) == 1
    hint = "a path that Globus does not report"
    told = {(): ("/777", "/778"), ("source_path",): ("/out/777", "/out/778")}.get(hidden, (hint, hint))
    if hidden == ("source_path", "destination_path"):
        assert [end.skipped_paths for end in ends] == [told] * 4
    else:
        assert [end.skipped_paths for end in ends] == [(), (told[0],), (), (told[1],)]
        assert [end.files_skipped for end in ends] == [2] * 4
    assert moved(globus) == {"/out/1": 1, "/out/2": 1}


def test_a_submission_id_makes_one_task(guided, globus, files):
    """Requests with the same submission id share one task, even after it ends; other paths are refused."""
    submission_id = "11111111-2222-4333-8444-555555555555"
    ends = []
    for number in (1, 1, 2):
        pending = guided.start(move(number, submission_id=submission_id))
        guided.live()
        ends.append(pending.future)
    assert [end.result(0).state for end in ends[:2]] == [TaskState.SUCCEEDED] * 2
    assert moved(globus) == {"/out/1": 1}
    with pytest.raises(BackendError, match=f"submission_id='{submission_id}' was used before for task"):
        ends[2].result(0)


def test_files_with_checksums_share_a_task_and_fail_alone(guided, globus, files, scratch):
    """Each file may have its own checksum; a mismatch fails only that file's future."""
    sums = {number: f"sha1:{hashlib.sha1(str(number).encode()).hexdigest()}" for number in range(10)}  # noqa: S324
    sums[3], sums[7] = sums[4], ""
    pending_requests = [guided.start(move(number, checksum=text), grace=30) for number, text in sums.items()]
    guided.live()
    # Globus aborts the whole task for one wrong checksum; the unfinished files are submitted once more.
    assert len(globus.tasks) == 2
    ends = [pending.future.result(0) for pending in pending_requests]
    bad = {number: end.code for number, end in enumerate(ends) if end.state is not TaskState.SUCCEEDED}
    assert bad == {3: "EXTERNAL_CHECKSUM_MISMATCH"}
    assert set(moved(globus).values()) == {1}
    assert len(list((scratch / "out").iterdir())) == 9


def test_two_checksums_of_one_file_are_two_requests(guided, globus, files):
    """Requests for the same paths with different checksums are separate tasks, each with its own outcome."""
    right = f"md5:{hashlib.md5(b'1').hexdigest()}"  # noqa: S324
    first, other = guided.start(move(1, checksum=right)), guided.start(move(1, checksum=f"md5:{'0' * 32}"))
    same = guided.start(move(1, checksum=right.upper()))
    guided.live()
    assert first.future.result(0).state is same.future.result(0).state is TaskState.SUCCEEDED
    assert other.future.result(0).code == "EXTERNAL_CHECKSUM_MISMATCH"
    # They have the same destination, so they run one after the other.
    assert len(globus.tasks) == 3


def test_what_removes_something_travels_alone(guided, globus, laptop, scratch):
    """Two mirrored folders are two tasks, each of which removes extra files only in its own destination."""
    for number in range(2):
        (laptop / f"d{number}").mkdir()
        (laptop / f"d{number}" / "x").touch()
        (scratch / "out" / str(number)).mkdir(parents=True)
        (scratch / "out" / str(number) / "extra").touch()
    mirror = {"recursive": True, "delete_destination_extra": True}
    pending_requests = [guided.start(move(number, src_path=f"/d{number}", **mirror)) for number in range(2)]
    twin = guided.start(move(1, src_path="/d1", **mirror))
    guided.live()
    assert all(pending.future.result(0).state is TaskState.SUCCEEDED for pending in [*pending_requests, twin])
    assert len(globus.tasks) == 2
    assert [path.name for path in sorted((scratch / "out").rglob("*")) if path.is_file()] == ["x", "x"]


def test_one_of_many_is_cancelled_by_itself(guided, globus, files):
    """A canceled future ends at once while other requests continue; before submission, its item is dropped."""
    globus.settings.task_latency = 30
    pending_requests = [guided.start(move(number)) for number in range(5)]
    guided.manager.stop("pending request 1")
    guided.live(seconds=5)
    with pytest.raises(TaskCanceledError, match="canceled before it began"):
        pending_requests[0].future.result(0)
    guided.manager.stop("pending request 2")
    guided.manager.step()
    with pytest.raises(TaskCanceledError, match="a task with 3 other items continues, and may still process it"):
        pending_requests[1].future.result(0)
    guided.live()
    assert all(pending.future.result(0).state is TaskState.SUCCEEDED for pending in pending_requests[2:])
    assert "/out/0" not in moved(globus)


def test_when_all_are_cancelled_the_task_is(guided, globus, files):
    """Canceling the last request of a task cancels the task."""
    globus.settings.task_latency = 1e6
    pending_requests = [guided.start(move(number)) for number in range(5)]
    guided.live(seconds=5)
    for number in range(1, 6):
        guided.manager.stop(f"pending request {number}")
    guided.live()
    assert all(pending.future.done() for pending in pending_requests)
    assert pending_requests[-1].future.result(0).state is TaskState.CANCELED
    [task] = globus.tasks.values()
    assert task.document()["fatal_error"]["code"] == "CANCELED"


def test_each_of_many_has_its_own_timeout(guided, globus, files):
    """A short timeout in a shared task ends only its own future."""
    globus.settings.task_latency = 60
    short = guided.start(move(1), timeout=20)
    long = guided.start(move(2))
    guided.live()
    with pytest.raises(TaskTimeoutError, match="not done within 20 seconds"):
        short.future.result(0)
    assert long.future.result(0).state is TaskState.SUCCEEDED


def test_while_all_slots_are_taken_more_may_join(guided, globus, files):
    """While three tasks are active, new requests wait and are then submitted as one batch."""
    globus.settings.task_latency = 8
    for number in range(3):
        guided.start(move(number))
        guided.live(seconds=1)
    for number in range(3, 60):
        guided.start(move(number))
        guided.live(seconds=0.1)
    guided.live()
    assert len(globus.tasks) <= 5


def test_folders_share_a_task_and_fail_alone(guided, globus, laptop, scratch):
    """Recursive transfers share a task, and a missing folder fails only its own future."""
    for number in range(5):
        (laptop / "d" / str(number)).mkdir(parents=True)
        (laptop / "d" / str(number) / "x").write_text("x")
    pending_requests = [
        guided.start(move(number, src_path=f"/d/{number}", recursive=True), grace=0) for number in (0, 1, 2, 3, 4, 99)
    ]
    guided.live()
    ends = [pending.future.result(0).state for pending in pending_requests]
    assert ends == [TaskState.SUCCEEDED] * 5 + [TaskState.FAILED]
    assert len(list((scratch / "out").iterdir())) == 5


def test_deletions_share_a_task_and_fail_alone(guided, globus, files):
    """A hundred deletions share one task and one listing; a missing path, a folder and the root fail alone."""
    (files / "13").unlink()
    pending_requests = [guided.start(delete_request(src_ep="a", src_path=f"/{number}")) for number in range(100)]
    folder = guided.start(delete_request(src_ep="a", src_path="/tree"))
    root = guided.start(delete_request(src_ep="a", src_path="/"))
    guided.live()
    ends = [pending.future.result(0) for pending in [*pending_requests, folder]]
    bad = {number: end.code for number, end in enumerate(ends) if end.state is not TaskState.SUCCEEDED}
    assert bad == {13: "FILE_NOT_FOUND", 100: "IS_A_DIRECTORY"}
    assert type(root.future.exception(0)).__name__ == "PermissionDeniedError"
    assert len(globus.tasks) == 1
    assert sorted(one.name for one in files.iterdir()) == ["file", "tree"]


def test_deletions_in_many_folders_go_one_by_one(guided, globus, laptop):
    """If too many folders would have to be listed, each deletion is a separate task."""
    for number in range(12):
        (laptop / f"d{number}").mkdir()
        (laptop / f"d{number}" / "x").touch()
    pending_requests = [guided.start(delete_request(src_ep="a", src_path=f"/d{number}/x")) for number in range(12)]
    guided.live()
    assert all(pending.future.result(0).state is TaskState.SUCCEEDED for pending in pending_requests)
    assert len(globus.tasks) == 12


def test_batching_can_be_switched_off(backend, globus, files):
    """Without batching each request is a separate task."""
    guided = Guided(backend, globus, batching=False)
    pending_requests = [guided.start(move(number)) for number in range(10)]
    guided.live()
    assert all(pending.future.result(0).state is TaskState.SUCCEEDED for pending in pending_requests)
    assert len(globus.tasks) == 10


def test_a_task_that_is_over_is_not_waited_for_without_a_pause(guided, globus, laptop):
    """If the queries for a stopped task and for its items fail, the task manager pauses before each retry."""
    globus.settings.task_latency = 5
    for number in range(2):
        guided.start(move(number), timeout=20)
    guided.live(seconds=1)
    globus.clock.advance(400)
    globus.fail_next(12, 400, "ClientError.BadRequest", path="/v0.10/task/")
    guided.live()
    assert len(globus.requests) < 40


def test_deletions_in_a_long_folder_fail_alone(guided, globus, files):
    """A missing path is reported even if listing its folder takes many responses."""
    globus.settings.listing_size = 7
    there = [guided.start(delete_request(src_ep="a", src_path=f"/{number}")) for number in range(100)]
    missing = [guided.start(delete_request(src_ep="a", src_path=f"/{name}")) for name in ("0none", "5none", "none")]
    guided.live()
    assert all(pending.future.result(0).state is TaskState.SUCCEEDED for pending in there)
    assert {pending.future.result(0).code for pending in missing} == {"FILE_NOT_FOUND"}
    assert len(globus.tasks) == 1


@pytest.mark.parametrize("submission_id", ["", "11111111-2222-4333-8444-555555555555"])
@pytest.mark.parametrize("others", [(), ((1, 2),), ((1, 2), (1,)), ((1,), (2,)), ((2,), (1, 2), (1,))])
def test_a_request_for_several_files_succeeds_only_with_all(guided, globus, files, submission_id, others):
    """A request for two files, one of which is missing, fails, whatever equal or smaller requests are made with it."""
    (files / "2").unlink()
    pending_requests = [
        guided.start(move_many(*numbers, submission_id=submission_id if numbers == (1, 2) else ""))
        for numbers in [(1, 2), *others]
    ]
    guided.live()
    for pending in pending_requests:
        assert (pending.future.result(0).state is TaskState.SUCCEEDED) == (pending.items[-1].source == "/1")


@pytest.mark.parametrize("others", [[(1, 2)], [(1,)], [(1,), (2,)]])
def test_a_refused_request_for_several_files_is_not_repeated(guided, globus, files, others):
    """If the service refuses all requests for some files permanently, each future ends after few submissions."""
    globus.fail_next(50, 400, "ClientError.BadRequest", path="/v0.10/transfer")
    pending_requests = [guided.start(move_many(*numbers)) for numbers in [(1, 2), *others]]
    guided.live()
    assert all(isinstance(pending.future.exception(0), BackendError) for pending in pending_requests)
    assert len([one for one in globus.requests if one.path == "/v0.10/transfer"]) <= 5


@pytest.mark.parametrize("count", [1, 2])
def test_deletions_of_several_paths_end_if_no_folder_can_be_listed(guided, globus, files, count):
    """A deletion of two paths is submitted if their folder cannot be listed; a missing path fails each request."""
    globus.fail_next(50, 502, "ExternalError.DirListingFailed.GCDisconnected", path="/ls")
    for path, state in (("/1", TaskState.SUCCEEDED), ("/none", TaskState.FAILED)):
        request = replace(delete_request(src_ep="a", src_path=path), paths=("/0", path))
        pending_requests = [guided.start(request, grace=5) for _ in range(count)]
        guided.live()
        assert {pending.future.result(0).state for pending in pending_requests} == {state}
    assert len(globus.requests) < 100


def test_skipped_paths_of_a_request_for_several_files_are_listed(guided, globus, files):
    """A request for several files that accepts skipped files lists those of all its items."""
    for number in (2, 3):
        globus.collection("my-laptop").denied.add(f"/{number}")
    end = guided.run(move_many(1, 2, 3, skip_source_errors=True, accept_skipped=True))
    assert (end.state, end.skipped_paths) == (TaskState.SUCCEEDED, ("/2", "/3"))


def test_a_task_that_ends_in_the_poll_of_another_step_ends_once(backend, globus, files, tmp_path):
    """If a cancellation precedes the poll in which another task ends, its end is recorded once, and it is retried once.

    The canceled task comes first, so that the poll falls between the steps of the two tasks.
    """
    globus.collection("my-laptop").denied.add("/2")
    guided = Guided(backend, globus, journal=Journal(tmp_path / "journal", clock=globus.clock.now))
    guided.start(move(1, sync_level="size"))
    retried, moved_once = guided.start(move(2)), guided.start(move(3))
    guided.live(seconds=0.1)
    next(iter(globus.tasks.values())).pause()
    globus.clock.advance(0.5)
    guided.manager.stop("pending request 1")
    guided.manager.step()
    other = guided.start(move(4))
    guided.manager.stop("pending request 2")
    guided.live()
    assert isinstance(retried.future.exception(0), TaskCanceledError)
    assert moved_once.future.result(0).state is other.future.result(0).state is TaskState.SUCCEEDED
    [file] = (tmp_path / "journal").glob("*.jsonl")
    ends = [
        entry["submission_id"] for entry in map(json.loads, file.read_text().splitlines()) if entry["event"] == "ended"
    ]
    assert len(ends) == len(set(ends)) == len(globus.tasks) == 3
    assert [entry["source_path"] for task in globus.tasks for entry in successes(globus, task)] == ["/3", "/4"]


def test_a_deletion_that_its_own_task_may_have_done_is_no_failure(guided, globus, scratch):
    """If a shared task deletes one path and fails at another, the retry of the first finds nothing and succeeds."""
    for name in ("d", "ro"):
        (scratch / name).mkdir(parents=True)
        (scratch / name / "x").touch()
    done, refused = (guided.start(delete_request(src_ep="b", src_path=f"/{name}/x")) for name in ("d", "ro"))
    globus.collection("hpc-scratch").faulty["/ro/x"] = "PERMISSION_DENIED"
    guided.live()
    assert done.future.result(0).state is TaskState.SUCCEEDED
    assert (refused.future.result(0).state, refused.future.result(0).code) == (TaskState.FAILED, "PERMISSION_DENIED")
    assert [(scratch / name / "x").exists() for name in ("d", "ro")] == [False, True]


def test_a_request_made_while_another_one_is_stopped_is_not_stopped(guided, backend, globus, files, monkeypatch):
    """A request that is made during a submission does not join a batch that is canceled in the same step."""
    submit, made = backend.submit, []

    def submit_slowly(request, submission_id):
        if not made:
            made.append(guided.start(move(2)))
        return submit(request, submission_id)

    monkeypatch.setattr(backend, "submit", submit_slowly)
    first, cancelled = guided.start(move(0, sync_level="size")), guided.start(move(1))
    guided.manager.stop("pending request 2")
    globus.clock.advance(0.06)
    guided.live()
    assert isinstance(cancelled.future.exception(0), TaskCanceledError)
    assert [pending.future.result(0).state for pending in (first, *made)] == [TaskState.SUCCEEDED] * 2
