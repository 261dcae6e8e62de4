"""What a process does with a submission that another process has recorded, and whose task it does not know yet."""

from __future__ import annotations

import dataclasses
import itertools
import json
import subprocess

import pytest
from guided import Guided, SimulatorClock
from journal_entries import entries

from chiltepin.backends.globus import GlobusBackend
from chiltepin.backends.processes import start_ticks
from chiltepin.errors import BackendError, LoginRequiredError, PathsInUseError, ServiceUnavailableError
from chiltepin.model import TaskState
from chiltepin.transfers.arguments import delete_request, transfer_request
from chiltepin.transfers.journal import Journal, ProcessId
from chiltepin.transfers.runner import Transfers

DOWN = ServiceUnavailableError("503", transient=True, backend="globus")


def move(number=0, **options):
    """Return a request to transfer one file."""
    options = {"src_path": f"/{number}", "dst_path": f"out/{number}", **options}
    return transfer_request(src_ep="a", dst_ep="b", **options)


@pytest.fixture
def process(globus, laptop, scratch, tmp_path):
    """Create processes with separate backends, and journals in one folder: of a lost machine, or alive."""
    for number in range(5):
        (laptop / str(number)).write_text(str(number))
    numbers = itertools.count(1)

    def make(*, alive=False, owner=None, options=None, collection="hpc-scratch", **place):
        owner = owner or (ProcessId.current() if alive else ProcessId("gone", next(numbers), "0"))
        places = {
            "a": {"collection": globus.collection("my-laptop").id},
            "b": {"collection": globus.collection(collection).id, **place},
        }
        backend = GlobusBackend.from_config(places, options or {})
        return Guided(backend, globus, journal=Journal(tmp_path / "journal", clock=globus.clock.now, owner=owner))

    return make


def during(guided, do, *, refused=None):
    """Call a function during the next submission of a process, which the service then refuses if an error is given."""
    submit, calls = guided.backend.submit, []

    def submit_once(request, submission_id):
        if not calls:
            calls.append(submission_id)
            do()
            if refused is not None:
                raise refused
        return submit(request, submission_id)

    guided.backend.submit = submit_once


def submissions(guided):
    """Return the list to which the ids of the submissions of a process are added."""
    submit, names = guided.backend.submit, []

    def noted(request, submission_id):
        names.append(submission_id)
        return submit(request, submission_id)

    guided.backend.submit = noted
    return names


def look(guided):
    """Let a process do what is due."""
    for _ in range(3):
        guided.manager.step()


def begin(globus, guided):
    """Let a process submit what was requested."""
    globus.clock.advance(0.1)
    guided.manager.step()


def test_a_running_process_submits_its_own_intent(process, globus):
    """While a process that is running submits a task, another one waits for that task and does not submit it."""
    first, second = process(alive=True), process()
    mine, other = first.start(move()), second.start(move())
    names = submissions(second)
    during(first, lambda: look(second))
    begin(globus, first)
    assert not names
    second.live()
    first.live()
    assert mine.future.result(0).state is other.future.result(0).state is TaskState.SUCCEEDED
    assert names
    assert mine.handle.submission_id not in names


def test_a_killed_process_s_intent_is_submitted(process, globus, tmp_path):
    """If a process was killed before it knew its task, the next one submits the task under the same id."""
    first, second = process(), process()
    first.start(move())
    during(first, lambda: None, refused=DOWN)
    begin(globus, first)
    pending, names = second.start(move()), submissions(second)
    second.live()
    assert pending.future.result(0).state is TaskState.SUCCEEDED
    assert names[0] == entries(tmp_path / "journal")[0].submission_id


def test_what_a_process_was_refused_no_other_submits(process, globus):
    """If the service refuses a task of one process, another one that waits for it submits only its own request."""
    first, second = process(alive=True), process()
    mine, other = first.start(move()), second.start(move())
    names = submissions(second)
    during(first, lambda: look(second), refused=BackendError("No.", backend="globus", code="BadRequest"))
    begin(globus, first)
    assert isinstance(mine.future.exception(0), BackendError)
    second.live()
    assert other.future.result(0).state is TaskState.SUCCEEDED
    assert len(names) == 1


def test_a_refusal_of_one_process_does_not_end_the_task_of_another(process, globus, tmp_path):
    """If one process needs a login to submit, the task of another process stays recorded as in flight."""
    globus.settings.task_latency = 60
    first, second = process(), process()
    first.start(move())
    during(first, lambda: None, refused=DOWN)
    begin(globus, first)
    other = second.start(move())

    def refuse(request, submission_id):
        raise LoginRequiredError("Run: chiltepin login")

    second.backend.submit = refuse
    second.live()
    assert isinstance(other.future.exception(0), LoginRequiredError)
    assert entries(tmp_path / "journal")[0].state is None


def test_what_a_process_has_cancelled_no_other_submits(process, globus, scratch):
    """A request that was canceled while the service was down is not submitted by the next process."""
    first, second = process(), process()
    for number in range(2):
        first.start(move(number))
    first.backend.submit = lambda *_: (_ for _ in ()).throw(DOWN)
    begin(globus, first)
    for number in range(2):
        first.manager.stop(f"pending request {number + 1}")
    first.manager.step()
    assert second.run(move(0)).state is TaskState.SUCCEEDED
    assert [path.name for path in scratch.rglob("*") if path.is_file()] == ["0"]


def test_a_resumed_submission_that_was_refused_ends(process, globus):
    """If the service refuses a task to the process that submits it, what another process resumed ends as well."""
    first, second = process(alive=True), process()
    first.start(move())
    resumed = []

    def resume():
        resumed.extend(second.manager.resume(timeout=3600, polling_interval=30, grace=60))
        look(second)

    during(first, resume, refused=BackendError("No.", backend="globus", code="BadRequest"))
    begin(globus, first)
    second.live(seconds=60)
    assert [pending.future.result(0).state for pending in resumed] == [TaskState.FAILED]


def test_the_fault_of_a_process_that_is_killed_later_is_stopped(process, globus):
    """A task with a permanent fault is stopped even if its process was killed after another had seen the task."""
    with subprocess.Popen(["sleep", "600"]) as program:
        host = ProcessId.current().host
        first = process(owner=ProcessId(host, program.pid, start_ticks(program.pid)))
        first.start(move("no"), timeout=7200)
        begin(globus, first)
        second, begun = process(), globus.clock.time()
        pending = second.start(move("no"), grace=20)
        second.manager.step()
        program.kill()
    second.live()
    assert pending.future.result(0).code == "FILE_NOT_FOUND"
    assert globus.clock.time() - begun < 100


def files(folder):
    """Return the files below a folder, sorted."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("killed", [True, False])
def test_the_same_name_for_another_folder_is_another_place(process, globus, scratch, killed):
    """Two processes with different homes for one endpoint each write to their own, even if one is killed."""
    first, second = process(home="/one"), process(home="/two")
    mine, other = first.start(move()), second.start(move())
    during(first, lambda: look(second), refused=DOWN if killed else None)
    begin(globus, first)
    second.live()
    assert other.future.result(0).state is TaskState.SUCCEEDED
    assert files(scratch) == ["two/out/0"] if killed else ["one/out/0", "two/out/0"]
    first.live()
    assert mine.future.result(0).state is TaskState.SUCCEEDED
    assert files(scratch) == ["one/out/0", "two/out/0"]


def test_a_deletion_elsewhere_is_not_repeated_here(process, globus, laptop, scratch):
    """The deletion of a killed process, whose settings named another collection, deletes nothing here."""
    (scratch / "run").mkdir(parents=True)
    (scratch / "run" / "precious").touch()
    first, second = process(collection="my-laptop"), process()
    first.start(delete_request(src_ep="b", src_path="/run", recursive=True))
    during(first, lambda: None, refused=DOWN)
    begin(globus, first)
    assert second.run(move(dst_path="/run/new")).state is TaskState.SUCCEEDED
    assert files(scratch) == ["run/new", "run/precious"]


def test_a_task_with_other_settings_is_waited_for(process, globus):
    """A task of another process is found by its place there, and another task does the request of this process."""
    globus.settings.task_latency = 20
    first = process(home="/one", options={"encrypt_data": True})
    second = process(home="/two", options={"notify": ["failed"]})
    mine, other = first.start(move()), second.start(move(dst_path="/one/out/0"))
    during(first, lambda: look(second))
    begin(globus, first)
    second.live(seconds=10)
    assert len(globus.tasks) == 1
    second.live()
    first.live()
    assert mine.future.result(0).state is other.future.result(0).state is TaskState.SUCCEEDED
    assert [task.document()["encrypt_data"] for task in globus.tasks.values()] == [True, False]


@pytest.mark.parametrize("older", [False, True])
def test_a_submission_with_other_settings_is_never_repeated(process, globus, tmp_path, older):
    """If a killed process had other or unknown settings, its submission is not repeated; its deadline is awaited."""
    first = process(options={} if older else {"encrypt_data": True})
    first.start(move(), timeout=100)
    during(first, lambda: None, refused=DOWN)
    begin(globus, first)
    for file in (tmp_path / "journal").glob("*.jsonl") if older else ():
        file.write_text("".join(f"{json.dumps(without_settings(line))}\n" for line in file.read_text().splitlines()))
    second, begun = process(), globus.clock.time()
    assert second.manager.resume(timeout=3600, polling_interval=30, grace=60) == []
    short, long = second.start(move(), timeout=50), second.start(move(), timeout=500)
    second.live()
    assert "other settings" in str(short.future.exception(0))
    assert long.future.result(0).state is TaskState.SUCCEEDED
    assert 100 <= globus.clock.time() - begun < 200
    assert len(globus.tasks) == 1


def without_settings(line):
    """Return a line of a journal as an older version would have written it."""
    return {key: value for key, value in json.loads(line).items() if key != "settings"}


def test_what_was_done_with_other_settings_is_not_taken_as_done(process, globus, scratch):
    """A deletion that a killed process has done in another home fails here if its path is missing."""
    (scratch / "one").mkdir(parents=True)
    (scratch / "one" / "x").touch()
    first, second = process(home="/one"), process(home="/two")
    assert first.run(delete_request(src_ep="b", src_path="x")).state is TaskState.SUCCEEDED
    assert second.run(delete_request(src_ep="b", src_path="x")).code == "FILE_NOT_FOUND"


def test_an_id_that_is_used_again_after_a_refusal_is_seen(process, globus):
    """If the service refuses a task and its caller submits the same id again, other processes wait for that task."""
    globus.settings.task_latency = 20
    first, second = process(alive=True), process()
    request = dataclasses.replace(move(), submission_id=first.backend.new_submission_id())
    refused = first.start(request)
    during(first, lambda: look(second), refused=BackendError("No.", backend="globus", code="BadRequest"))
    begin(globus, first)
    assert isinstance(refused.future.exception(0), BackendError)
    second.run(move(4))
    first.start(request)
    begin(globus, first)
    second.start(delete_request(src_ep="b", src_path="out/0"))
    second.live(seconds=5)
    assert len(globus.tasks) == 2


@pytest.fixture
def detached(process, globus, tmp_path):
    """Submit a request from another process, which does not wait for its end."""

    def submit(request):
        journal = Journal(tmp_path / "journal", clock=globus.clock.now, owner=ProcessId("gone", 99, "0"))
        transfers = Transfers(process().backend, clock=SimulatorClock(globus.clock), journal=journal)
        return transfers.submit_detached(request, timeout=3600)

    return submit


def test_a_detached_task_does_not_overlap_with_another(process, detached, globus):
    """A detached task is refused while a task with some of its paths runs, and submitted after the end of that task."""
    globus.settings.task_latency = 20
    first = process()
    running = first.start(move("tree", dst_path="/out", recursive=True))
    begin(globus, first)
    with pytest.raises(PathsInUseError, match=running.handle.task_id):
        detached(move())
    assert len(globus.tasks) == 1
    globus.clock.advance(60)
    assert detached(move()).task_id != running.handle.task_id
    assert len(globus.tasks) == 2


def test_an_equal_detached_task_is_the_one_in_flight(detached, globus):
    """A detached request that is repeated while its task runs is that task."""
    globus.settings.task_latency = 20
    assert detached(move()).task_id == detached(move()).task_id
    assert len(globus.tasks) == 1


def test_a_detached_task_is_not_submitted_beside_one_that_is_being_submitted(process, detached, globus):
    """While a running process submits a task, a detached task with some of its paths is refused."""
    first, refused = process(alive=True), []
    pending = first.start(move("tree", dst_path="/out", recursive=True))

    def submit():
        with pytest.raises(PathsInUseError, match="again"):
            detached(move())
        refused.append(True)

    during(first, submit)
    begin(globus, first)
    first.live()
    assert refused
    assert pending.future.result(0).state is TaskState.SUCCEEDED
    assert len(globus.tasks) == 1


def test_a_running_process_s_submission_is_awaited_until_its_deadline(process, globus):
    """A submission that a running process neither completes nor ends delays another one until its deadline only."""
    first, begun = process(alive=True), globus.clock.time()
    first.start(move(), timeout=100)
    during(first, lambda: None, refused=DOWN)
    begin(globus, first)
    assert process().run(move(), timeout=500).state is TaskState.SUCCEEDED
    assert 100 <= globus.clock.time() - begun < 200
    assert len(globus.tasks) == 1
