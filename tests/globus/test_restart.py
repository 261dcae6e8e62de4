"""A process that dies and its successor: tasks in flight are joined, and completed work is not repeated."""

from __future__ import annotations

import hashlib
import itertools
import json

import pytest
from guided import Guided, SimulatorClock
from waiting import until, without_threads

from chiltepin.errors import BackendError
from chiltepin.model import TaskState
from chiltepin.transfers.arguments import delete_request, transfer_request
from chiltepin.transfers.journal import Journal, ProcessId
from chiltepin.transfers.service.manager import TaskManager


class Death(BaseException):
    """Ends the first process."""


def move(number=0, **options):
    """Return a request to transfer one file."""
    options = {"src_path": f"/{number}", "dst_path": f"/out/{number}", **options}
    return transfer_request(src_ep="a", dst_ep="b", **options)


def delete(number=0, **options):
    """Return a request to delete one file."""
    return delete_request(src_ep="b", src_path=f"/old/{number}", **options)


@pytest.fixture
def process(backend, globus, laptop, scratch, tmp_path):
    """Create processes of a lost machine: task managers with separate journals in one folder."""
    (scratch / "old").mkdir(parents=True)
    for number in range(5):
        (laptop / str(number)).write_text(str(number))
        (scratch / "old" / str(number)).touch()
    numbers = itertools.count(1)

    def make(folder="journal", **options):
        options = {"owner": ProcessId("gone", next(numbers), "0"), **options}
        return Guided(backend, globus, journal=Journal(tmp_path / folder, clock=globus.clock.now, **options))

    return make


def moved(globus):
    """Return the destinations that all tasks have written."""
    transfers = [task for task in globus.tasks.values() if task.document()["type"] == "TRANSFER"]
    return sorted(
        entry["destination_path"] for task in transfers for entry in globus.client().task_successful_transfers(task.id)
    )


def files(globus, name):
    """Return the sum of a count over all tasks."""
    return sum(task.document()[name] for task in globus.tasks.values())


class Mortal:
    """Makes a process die before or after one of its steps: a journal entry or a call to the service."""

    def __init__(self, patch, guided, *, step, after):
        self.steps, self._step, self._after = [], step, after
        journal, backend = guided.manager.recorder._journal, guided.backend
        for thing, names in [
            (journal, ("record_intent", "submitted", "ended", "record_clean_end")),
            (backend, ("new_submission_id", "submit", "poll", "ls")),
        ]:
            for name in names:
                patch.setattr(thing, name, self._last(name, getattr(thing, name)))

    def _last(self, name, do):
        def last(*args, **kwargs):
            self.steps.append(name)
            dies = len(self.steps) == self._step
            if dies and not self._after:
                raise Death
            done = do(*args, **kwargs)
            if dies:
                raise Death
            return done

        return last


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_whenever_it_dies_nothing_is_done_twice(process, globus, scratch, monkeypatch, count, after):
    """If a process dies before or after any step, the next run succeeds, and each file is moved and requested once."""
    globus.settings.task_latency = 3
    for step in itertools.count(1):
        requests = [move(number, dst_path=f"/{step}/{number}") for number in range(count)]
        for number in range(count):
            (scratch / "old" / str(number)).touch()
        requests += [delete(number) for number in range(count)]
        first, before = process(f"journal {step}"), len(globus.tasks)
        with monkeypatch.context() as patch:
            mortal = Mortal(patch, first, step=step, after=after)
            for request in requests:
                first.start(request)
            try:
                first.live()
                first.manager.close()
            except Death:
                pass
        # If the process survives, all its steps have been tested.
        if len(mortal.steps) < step:
            break
        # A process that dies after recording its clean end is not resumed.
        if not (mortal.steps[-1] == "record_clean_end" and after):
            second = process(f"journal {step}")
            pending_requests = [second.start(request) for request in requests]
            second.live()
            assert [pending.future.result(0).state for pending in pending_requests] == [TaskState.SUCCEEDED] * len(
                requests
            )
        here = [path for path in moved(globus) if path.startswith(f"/{step}/")]
        assert here == [f"/{step}/{number}" for number in range(count)]
        asked = [task.document() for task in list(globus.tasks.values())[before:]]
        assert sum(one["type"] == "TRANSFER" and one["sync_level"] is None for one in asked) == 1
    assert {"record_intent", "submitted", "ended", "record_clean_end"} < set(mortal.steps)


def test_what_has_succeeded_meanwhile_is_noticed(process, globus):
    """Files that a task moved while no process polled it are compared and not moved again."""
    globus.settings.task_latency = 20
    first = process()
    first.start(move())
    first.live(seconds=1)
    globus.clock.advance(60)
    second = process()
    pending = second.start(move())
    second.live()
    assert pending.future.result(0).state is TaskState.SUCCEEDED
    assert moved(globus) == ["/out/0"]
    assert [task.document()["sync_level"] for task in globus.tasks.values()] == [None, 3]


def test_a_source_that_was_made_anew_since_the_kill_arrives(process, globus, laptop, scratch):
    """A source that changes after a killed process's task has read it is transferred for the next call."""
    globus.settings.task_latency = 20
    first = process()
    first.start(move())
    first.live(seconds=1)
    globus.clock.advance(60)
    (laptop / "0").write_text("anew")
    second = process()
    pending = second.start(move())
    second.live()
    assert pending.future.result(0).state is TaskState.SUCCEEDED
    assert (scratch / "out" / "0").read_text() == "anew"


@pytest.mark.parametrize("how", ["failed", "forgotten"])
def test_what_did_not_succeed_meanwhile_is_tried_anew(process, globus, how):
    """A dead process's task does not decide the outcome of a new request, unless the task has succeeded."""
    globus.settings.task_latency = 20
    first = process()
    pending_requests = [first.start(move(number)) for number in range(3)]
    first.live(seconds=1)
    task_id = pending_requests[0].handle.task_id
    globus.task(task_id).fail() if how == "failed" else globus.forget_task(task_id)
    second = process()
    again = [second.start(move(number)) for number in range(3)]
    second.live()
    assert all(pending.future.result(0).state is TaskState.SUCCEEDED for pending in again)
    assert moved(globus) == ["/out/0", "/out/1", "/out/2"]


def run(process, *requests, settle=False, **options):
    """Run requests in a process that is killed afterwards, or ends cleanly."""
    guided = process(**options)
    pending_requests = [guided.start(request) for request in requests]
    guided.live()
    if settle:
        guided.manager.close()
    return [pending.future.result(0) for pending in pending_requests]


def test_what_was_done_is_compared_and_not_moved(process, globus):
    """Files that a killed process has moved are compared in one task, and no bytes are sent again."""
    requests = [move(number) for number in range(5)]
    run(process, *requests)
    sent = files(globus, "bytes_transferred")
    ends = run(process, *requests)
    assert [end.state for end in ends] == [TaskState.SUCCEEDED] * 5
    assert (files(globus, "bytes_transferred"), files(globus, "files_skipped")) == (sent, 5)
    assert [task.document()["sync_level"] for task in globus.tasks.values()] == [None, 3]


def test_a_source_that_was_made_anew_is_moved(process, globus, laptop, scratch):
    """A file that a killed process has moved is moved again if its source has changed or its destination is missing."""
    requests = [move(number) for number in range(3)]
    run(process, *requests)
    (laptop / "0").write_text("anew")
    (scratch / "out" / "1").unlink()
    ends = run(process, *requests)
    assert [end.state for end in ends] == [TaskState.SUCCEEDED] * 3
    assert [(scratch / "out" / name).read_text() for name in "012"] == ["anew", "1", "2"]
    assert moved(globus) == ["/out/0", "/out/0", "/out/1", "/out/1", "/out/2"]


def test_what_had_not_been_done_is_asked_for_as_ever(process, globus, laptop):
    """New requests with a missing source or path fail, although requests that were done before succeed."""
    run(process, move(0), delete(0))
    (laptop / "1").unlink()
    states = [end.state for end in run(process, move(0), delete(0), move(1), delete(9))]
    assert states == [TaskState.SUCCEEDED] * 2 + [TaskState.FAILED] * 2


def test_what_is_done_of_a_task_that_failed_is_not_moved_again(process, globus):
    """If one of five destinations is denied, the next run compares the other four, and the denied one fails again."""
    globus.collection("hpc-scratch").denied.add("/out/3")
    for _ in range(2):
        ends = run(process, *(move(number) for number in range(5)))
        assert [end.code for end in ends] == ["", "", "", "PERMISSION_DENIED", ""]
    assert moved(globus) == ["/out/0", "/out/1", "/out/2", "/out/4"]


def test_a_deletion_that_was_done_does_not_fail(process, scratch):
    """Repeating a killed process's deletion succeeds if the path is gone, and deletes a path that exists again."""
    requests = [delete(number) for number in range(4)]
    run(process, *requests)
    (scratch / "old" / "2").touch()
    assert [end.state for end in run(process, *requests)] == [TaskState.SUCCEEDED] * 4
    assert [file.name for file in (scratch / "old").iterdir()] == ["4"]


def test_a_deletion_that_failed_fails_again(process):
    """A deletion of a missing path fails again in the next process."""
    assert [run(process, delete(9))[0].code for _ in range(2)] == ["FILE_NOT_FOUND"] * 2


@pytest.mark.parametrize("alive", [False, True], ids=["ended in order", "lives"])
def test_after_an_orderly_end_all_is_done_anew(process, globus, alive):
    """After a clean end, or while the other process is alive, an equal request is executed again."""
    options = {"owner": ProcessId.current()} if alive else {}
    for count in (1, 2):
        move_end, delete_end = run(process, move(), delete(), settle=not alive, **options)
        assert move_end.state is TaskState.SUCCEEDED
        assert moved(globus) == ["/out/0"] * count
    assert delete_end.code == "FILE_NOT_FOUND"


def test_a_restart_that_ends_in_order_closes_the_chapter(process, globus):
    """A restarted process repeats nothing; after a process ends cleanly, the next one moves the file again."""
    for settle, count in [(False, 1), (False, 1), (True, 1), (False, 2)]:
        run(process, move(), settle=settle)
        assert len(moved(globus)) == count


@pytest.mark.parametrize(
    ("options", "level", "count"),
    [
        ({"sync_level": "exists"}, 0, 1),
        ({"sync_level": "checksum"}, 3, 1),
        ({"preserve_timestamp": True}, None, 2),
        ({"verify_checksum": False}, None, 2),
        ({"checksum": f"sha256:{hashlib.sha256(b'0').hexdigest()}"}, None, 2),
    ],
)
def test_what_cannot_be_said_otherwise_is_said_again(process, globus, options, level, count):
    """A repeated request keeps the caller's sync level, timestamps, checksum, and choice not to verify."""
    for _ in range(2):
        run(process, move(**options))
    assert [task.document()["sync_level"] for task in globus.tasks.values()] == [level] * 2
    assert len(moved(globus)) == count


def test_the_same_request_in_both_forms_is_one(process, globus):
    """While a request is being compared, an equal request waits and also moves nothing."""
    run(process, move())
    globus.settings.task_latency = 20
    second = process()
    pending_requests = [second.start(move())]
    second.live(seconds=5)
    pending_requests.append(second.start(move()))
    second.live()
    assert [pending.future.result(0).state for pending in pending_requests] == [TaskState.SUCCEEDED] * 2
    assert [task.document()["sync_level"] for task in globus.tasks.values()] == [None, 3, 3]


def test_what_is_long_over_is_not_taken_for_an_answer(process, globus):
    """A dead process's task is forgotten after its deadline."""
    first = process()
    first.start(move(), timeout=100)
    first.live(seconds=1)
    globus.clock.advance(200)
    second = process()
    second.start(move())
    second.live()
    assert len(globus.tasks) == 2


def test_another_request_waits(process, globus):
    """A request with other options for the same paths waits for a killed process's task; other paths do not wait."""
    globus.settings.task_latency = 20
    first = process()
    first.start(move(0))
    first.live(seconds=1)
    second = process()
    other, wanted = second.start(move(1)), second.start(move(0, sync_level="size"))
    second.live()
    assert other.future.result(0).state is wanted.future.result(0).state is TaskState.SUCCEEDED
    assert [task.document()["sync_level"] for task in globus.tasks.values()] == [None, None, 1]


@pytest.mark.parametrize("count", [1, 5])
def test_a_script_resumes_what_is_in_flight(process, globus, count):
    """`resume` follows all tasks of a dead process to their end, without repeating its requests."""
    globus.settings.task_latency = 20
    first = process()
    for number in range(count):
        first.start(move(number))
    first.live(seconds=1)
    second = process()
    pending_requests = second.manager.resume(timeout=100, polling_interval=30, grace=60)
    second.live()
    assert [pending.future.result(0).state for pending in pending_requests] == [TaskState.SUCCEEDED] * count
    assert len(globus.tasks) == 1
    assert process().manager.resume(timeout=100, polling_interval=30, grace=60) == []


def test_a_resumed_request_for_several_files_succeeds_only_with_all(process, globus, scratch):
    """A resumed task of two requests that accept skipped files fails if one of the files cannot be written."""
    (scratch / "out" / "1").mkdir(parents=True)
    first = process()
    for number in range(2):
        first.start(move(number, skip_source_errors=True))
    first.live(seconds=0.1)
    second = process()
    [pending] = second.manager.resume(timeout=3600, polling_interval=30, grace=60)
    second.live()
    assert (pending.future.result(0).state, pending.future.result(0).code) == (TaskState.FAILED, "IS_A_DIRECTORY")


@pytest.mark.parametrize("together", [False, True])
def test_a_resumption_for_which_no_thread_starts_leaves_nothing(process, backend, globus, tmp_path, *, together):
    """If the system cannot start a thread, `resume` raises and follows nothing; the next call follows all requests."""
    globus.settings.task_latency = 20
    first = process()
    for number in range(2):
        first.start(move(number, **({} if together else {"sync_level": [None, "size"][number]})))
    first.live(seconds=1)
    assert len(globus.tasks) == 2 - together
    options = {"timeout": 100, "polling_interval": 30, "grace": 60}
    journal = Journal(tmp_path / "journal", clock=globus.clock.now, owner=ProcessId("gone", 99, "0"))
    manager = TaskManager(backend, clock=SimulatorClock(globus.clock), journal=journal)
    for _ in range(2):
        with without_threads(), pytest.raises(BackendError, match="Could not start a thread"):
            manager.resume(**options)
        assert manager.step() is None
    pending_requests = manager.resume(**options)
    globus.clock.attach(manager._wake)
    assert len(pending_requests) == 2
    until(lambda: globus.clock.advance(1) or all(pending.future.done() for pending in pending_requests))
    globus.clock.detach(manager._wake)
    assert [pending.future.result(0).state for pending in pending_requests] == [TaskState.SUCCEEDED] * 2
    until(lambda: manager._thread._thread is None)
    assert len(globus.tasks) == 2 - together


# Several workflows in one process, and concurrent processes


def ask(guided, *requests, workflow):
    """Run requests in a workflow of a process; return their final statuses."""
    pending_requests = [guided.start(request, workflow=workflow) for request in requests]
    guided.live()
    return [pending.future.result(0) for pending in pending_requests]


@pytest.mark.parametrize("how", ["beside it", "before it", "nested"])
def test_a_workflow_settles_for_itself_alone(process, globus, how):
    """The clean end of one workflow does not affect the completed requests of another that is killed."""
    first = process()
    if how == "before it":
        ask(first, move(3), workflow="other")
        first.manager.record_clean_end("other")
    ask(first, move(), delete(), workflow="mine")
    if how != "before it":
        ask(first, *([move(3)] if how == "beside it" else []), workflow="other")
        first.manager.record_clean_end("other")
    second = process()
    ends = ask(second, move(), delete(), workflow="again")
    assert [end.state for end in ends] == [TaskState.SUCCEEDED] * 2
    assert moved(globus).count("/out/0") == 1


def test_items_of_one_task_are_settled_by_those_who_asked_for_them(process, globus):
    """In a shared task, only items of a workflow that ended cleanly become new requests."""
    first = process()
    both = [first.start(delete(number), workflow=name) for number, name in [(0, "over"), (1, "killed"), (2, "over")]]
    both.append(first.start(delete(2), workflow="killed"))
    first.live()
    assert len({pending.future.result(0).handle for pending in both}) == 1
    first.manager.record_clean_end("over")
    second = process()
    codes = [end.code for end in ask(second, delete(0), delete(1), delete(2), workflow="again")]
    assert codes == ["FILE_NOT_FOUND", "", ""]


def test_a_workflow_that_ends_by_an_error_is_not_settled_with_its_process(process, globus):
    """The clean end of a process covers requests outside any workflow, but no workflow that ended with an error."""
    first = process()
    ask(first, delete(0), workflow="left")
    first.manager.abandon("left")
    ask(first, delete(1), workflow="")
    first.manager.close()
    assert [end.code for end in ask(process(), delete(0), delete(1), workflow="")] == ["", "FILE_NOT_FOUND"]


def test_what_another_process_saw_end_belongs_to_the_one_that_began_it(process, globus):
    """An item that only the killed process requested can still be resumed, whichever process saw it end."""
    globus.settings.task_latency = 20
    first = process()
    for number in range(2):
        first.start(delete(number), workflow="killed")
    first.live(seconds=1)
    second = process()
    assert ask(second, delete(0), workflow="over")[0].state is TaskState.SUCCEEDED
    second.manager.record_clean_end("over")
    assert [end.code for end in ask(process(), delete(0), delete(1), workflow="again")] == ["FILE_NOT_FOUND", ""]


@pytest.mark.parametrize("settle", [False, True])
def test_lines_without_a_workflow_keep_their_meaning(process, globus, tmp_path, settle):
    """In a journal of an earlier version, the clean end covers everything that its process did before."""
    run(process, move(), delete(), settle=settle)
    for file in (tmp_path / "journal").glob("*.jsonl"):
        plain = [json.loads(line) for line in file.read_text().splitlines()]
        for line in plain:
            line.pop("workflows", None)
            line.pop("workflow", None)
        file.write_text("".join(f"{json.dumps(line)}\n" for line in plain))
    ends = run(process, move(), delete())
    assert ends[1].code == ("FILE_NOT_FOUND" if settle else "")
    assert moved(globus) == ["/out/0"] * (2 if settle else 1)


def test_a_living_process_learns_what_others_begin_and_end(process, globus):
    """A running process waits for a task that another process starts later, and learns how it ends."""
    globus.settings.task_latency = 20
    second = process()
    ask(second, move(4), workflow="early")
    first = process()
    begun = first.start(move(0))
    first.live(seconds=1)
    pending = second.start(move(0))
    second.live(seconds=2)
    assert len(globus.tasks) == 2
    assert not pending.future.done()
    second.live()
    first.live()
    assert begun.future.result(0).state is pending.future.result(0).state is TaskState.SUCCEEDED
    assert moved(globus) == ["/out/0", "/out/4"]


def test_a_living_process_learns_what_a_killed_one_had_done(process, globus):
    """In a running process, deleting a path succeeds if a process that was killed meanwhile has deleted it."""
    second = process()
    ask(second, move(4), workflow="early")
    run(process, delete(0))
    assert [end.code for end in ask(second, delete(0), workflow="late")] == [""]
