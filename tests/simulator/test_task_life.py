"""The life of a task: submitted once, queued, active, faulty, ended."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import globus_sdk
import pytest
from simulated import refused

from chiltepin.testing.simulator import ManualClock, RunningClock, Simulator

HOUR = 3600


def test_a_task_moves_its_file_and_succeeds(world):
    """A submitted transfer is ACTIVE until time passes, and then SUCCEEDED with its complete file."""
    world.put("/a/in.dat", b"12345")
    task_id = world.transfer(("/a/in.dat", "/b/c/out.dat"), label="first")
    assert world.task(task_id)["status"] == "ACTIVE"
    assert not world.at("/b").exists()
    task = world.ended(task_id)
    assert (task["status"], task["label"], task["nice_status"], task["is_ok"]) == ("SUCCEEDED", "first", None, None)
    assert (task["files"], task["files_transferred"], task["bytes_transferred"]) == (1, 1, 5)
    assert (task["subtasks_total"], task["subtasks_succeeded"]) == (2, 2)
    assert world.at("/b/c/out.dat").read_bytes() == b"12345"
    assert world.codes(task_id) == ["SUCCEEDED", "PROGRESS", "STARTED"]


def test_a_submission_id_makes_one_task(world):
    """The first use of a submission id gets 202 Accepted; each further use gets 200 Duplicate with the same task."""
    world.put("/in")
    data = world.transfer_data(("/in", "/out"))
    first, again = world.client.submit_transfer(data), world.client.submit_transfer(data)
    assert (first.http_status, first["code"]) == (202, "Accepted")
    assert (again.http_status, again["code"], again["task_id"]) == (200, "Duplicate", first["task_id"])
    assert list(world.globus.tasks) == [first["task_id"]]


def test_a_duplicate_is_known_after_its_task_is_over(world):
    """A submission id is recognized even after its task has ended and its deadline has passed."""
    world.put("/in")
    deadline = world.clock.now() + timedelta(minutes=1)
    data = world.transfer_data(("/in", "/out"), deadline=deadline)
    task_id = world.client.submit_transfer(data)["task_id"]
    world.clock.advance(HOUR)
    assert world.client.submit_transfer(data)["task_id"] == task_id


def test_equal_submissions_at_once_make_one_task(world):
    """Threads that submit the same submission id at the same time get one task."""
    world.put("/in")
    submission_id = world.client.get_submission_id()["value"]
    clients = [world.globus.client() for _ in range(8)]

    def submit(client):
        data = world.transfer_data(("/in", "/out"), submission_id=submission_id)
        return client.submit_transfer(data)["task_id"]

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(submit, clients))) == 1


def test_identical_paths_conflict_until_the_task_is_over(world):
    """Another transfer of the same paths gets 409 Conflict while the first is in flight."""
    world.put("/in")
    task_id = world.transfer(("/in", "/out"))
    error = refused(world.transfer, ("/in", "/out"))
    assert (error.http_status, error.code) == (409, "Conflict")
    assert "identical paths" in error.message
    assert world.ended(task_id)["status"] == "SUCCEEDED"
    assert world.moved(("/in", "/out"))["status"] == "SUCCEEDED"


def test_three_transfers_and_three_deletes_are_worked_on(world):
    """Three transfers and three deletes are active at a time; further tasks are Queued and follow in order."""
    world.globus.settings.latency = 10
    for number in range(5):
        world.put(f"/{number}")
        world.put(f"/old{number}", collection=world.scratch)
    moves = [world.transfer((f"/{number}", f"/{number}")) for number in range(5)]
    deletes = [world.delete(f"/old{number}") for number in range(5)]
    for tasks in (moves, deletes):
        assert [world.task(task_id)["nice_status"] for task_id in tasks] == ["OK"] * 3 + ["Queued"] * 2
    world.clock.advance(11)
    for tasks in (moves, deletes):
        assert [world.task(task_id)["status"] for task_id in tasks] == ["SUCCEEDED"] * 3 + ["ACTIVE"] * 2
        assert [world.task(task_id)["nice_status"] for task_id in tasks] == [None] * 3 + ["OK"] * 2


def test_a_hundred_tasks_may_be_pending(world):
    """A task beyond 100 pending ones is refused, and accepted as soon as one has ended."""
    world.globus.settings.request_rate = None
    world.globus.settings.latency = 10
    for number in range(101):
        world.put(f"/{number}")
    for number in range(100):
        world.transfer((f"/{number}", f"/{number}"))
    error = refused(world.transfer, ("/100", "/100"))
    assert (error.http_status, error.code) == (409, "ClientError.Conflict.TooManyPendingJobs")
    world.clock.advance(10)
    assert world.transfer(("/100", "/100"))


def test_a_missing_source_stays_active_and_heals(world):
    """A missing file causes a fault that is retried: the task stays ACTIVE and succeeds once the file appears."""
    task_id = world.transfer(("/late", "/out"))
    world.clock.advance(60)
    task = world.task(task_id)
    assert (task["status"], task["nice_status"], task["is_ok"], task["fatal_error"]) == (
        "ACTIVE",
        "FILE_NOT_FOUND",
        False,
        None,
    )
    assert task["faults"] > 1
    assert "/late" in task["nice_status_details"]
    assert task["subtasks_retrying"] == 1
    world.put("/late", b"here")
    assert world.ended(task_id)["status"] == "SUCCEEDED"
    assert world.at("/out").read_bytes() == b"here"


def test_a_bad_item_does_not_keep_the_others(world):
    """A missing file leaves the task ACTIVE, but all its other files are transferred."""
    world.put("/a")
    world.put("/c")
    task_id = world.transfer(("/a", "/a"), ("/b", "/b"), ("/c", "/c"))
    task = world.ended(task_id)
    assert (task["status"], task["files_transferred"]) == ("ACTIVE", 2)
    assert world.files() == {"/a", "/c"}


def test_a_task_in_trouble_lets_others_work(world):
    """A task that backs off after an error occupies no slot."""
    world.put("/good")
    bad = [world.transfer((f"/missing{number}", f"/{number}")) for number in range(3)]
    good = world.transfer(("/good", "/good"))
    assert world.task(good)["nice_status"] == "Queued"
    assert world.ended(good, 1)["status"] == "SUCCEEDED"
    assert {world.task(task_id)["nice_status"] for task_id in bad} == {"FILE_NOT_FOUND"}


def test_a_day_of_faults_ends_at_the_deadline(world):
    """Without a deadline from the user, a transfer that cannot succeed expires after 24 hours."""
    task_id = world.transfer(("/never", "/out"))
    assert world.ended(task_id, 24 * HOUR - 1)["status"] == "ACTIVE"
    task = world.ended(task_id, 1)
    assert (task["status"], task["fatal_error"]["code"], task["subtasks_expired"]) == ("FAILED", "EXPIRED", 1)
    assert world.codes(task_id, limit=1) == ["EXPIRED"]


def test_the_users_deadline_is_kept(world):
    """A task ends as EXPIRED at the user's deadline, even in the middle of a file, and leaves no file behind."""
    world.globus.settings.bandwidth = 1
    world.put("/in", b"x" * 1000)
    task_id = world.transfer(("/in", "/out"), deadline=world.clock.now() + timedelta(seconds=90))
    assert world.ended(task_id, 89)["status"] == "ACTIVE"
    task = world.ended(task_id, 1)
    assert (task["status"], task["fatal_error"]["code"]) == ("FAILED", "EXPIRED")
    assert task["completion_time"] == task["deadline"]
    assert world.files() == set()


def test_progress_moves_the_deadline(world):
    """Without a deadline from the user, the deadline is 72 hours after the last transferred file."""
    world.globus.settings.latency = 20 * HOUR
    for name in "abcd":
        world.put(f"/{name}")
    task_id = world.transfer(*((f"/{name}", f"/{name}") for name in "abcd"))
    world.clock.advance(81 * HOUR)
    assert world.globus.task(task_id).status == "SUCCEEDED"


def test_a_queued_transfer_does_not_expire(world):
    """A transfer that is queued without an error gets more time, unless the user set a deadline."""
    world.globus.settings.latency = 30 * HOUR
    for name in "abcde":
        world.put(f"/{name}")
    for name in "abc":
        world.transfer((f"/{name}", f"/{name}"), deadline=world.clock.now() + timedelta(days=9))
    waits = world.transfer(("/d", "/d"))
    hurries = world.transfer(("/e", "/e"), deadline=world.clock.now() + timedelta(hours=1))
    assert world.ended(waits, 25 * HOUR)["nice_status"] == "Queued"
    assert world.task(hurries)["fatal_error"]["code"] == "EXPIRED"


@pytest.mark.parametrize("seconds", [0, 5])
def test_cancel_ends_a_task(world, seconds):
    """A canceled task, queued or active, is FAILED with CANCELED and leaves no partial file."""
    world.globus.settings.bandwidth = 1
    world.put("/in", b"x" * 100)
    task_id = world.transfer(("/in", "/out"))
    world.clock.advance(seconds)
    assert world.client.cancel_task(task_id)["code"] == "Canceled"
    task = world.ended(task_id)
    assert (task["status"], task["fatal_error"]["code"], task["subtasks_canceled"]) == (
        "FAILED",
        "CANCELED",
        task["subtasks_total"],
    )
    assert "CANCELED" in world.codes(task_id)
    assert world.files() == set()


def test_cancel_of_a_finished_task_changes_nothing(world):
    """Canceling a task that has ended returns TaskComplete and does not change it."""
    world.put("/in")
    task_id = world.transfer(("/in", "/out"))
    assert world.ended(task_id)["status"] == "SUCCEEDED"
    assert world.client.cancel_task(task_id)["code"] == "TaskComplete"
    assert world.task(task_id)["status"] == "SUCCEEDED"


def test_a_task_can_be_inactive(world):
    """A suspended task is INACTIVE until it is resumed, and task_wait treats it as done."""
    world.put("/in")
    task_id = world.transfer(("/in", "/out"))
    world.globus.task(task_id).set_inactive()
    task = world.ended(task_id)
    assert (task["status"], task["nice_status"], task["is_ok"]) == ("INACTIVE", "NO_CREDENTIALS", False)
    assert world.client.task_wait(task_id, timeout=1, polling_interval=1) is True
    world.globus.task(task_id).resume()
    assert world.ended(task_id)["status"] == "SUCCEEDED"


def test_a_task_can_be_paused(world):
    """A paused task is ACTIVE with is_paused for up to 90 days, and continues when it is resumed."""
    world.put("/in")
    task_id = world.transfer(("/in", "/out"))
    world.globus.task(task_id).pause()
    world.clock.advance(89 * 24 * HOUR)
    task = world.globus.task(task_id).document()
    assert (task["status"], task["is_paused"], task["nice_status"]) == ("ACTIVE", True, "PAUSED")
    world.globus.task(task_id).resume()
    world.clock.advance(1)
    codes = [event["code"] for event in world.globus.task(task_id).events()]
    assert codes == ["SUCCEEDED", "PROGRESS", "UNPAUSED", "PAUSED", "STARTED"]


def test_a_pause_rule_pauses_tasks_and_operations(world):
    """A collection's pause rule pauses its tasks, appears in pause_info and blocks operations until it is removed."""
    world.put("/in")
    task_id = world.transfer(("/in", "/out"))
    world.scratch.paused = True
    assert world.ended(task_id)["is_paused"] is True
    rules = world.client.task_pause_info(task_id)["pause_rules"]
    assert [rule["endpoint_id"] for rule in rules] == [world.scratch.id]
    assert refused(world.client.operation_ls, world.scratch.id).code == "OperationPaused"
    world.scratch.paused = False
    assert world.ended(task_id)["status"] == "SUCCEEDED"
    assert world.client.task_pause_info(task_id)["pause_rules"] == []


def test_a_laptop_that_is_off_stops_its_tasks(world):
    """While Globus Connect Personal is off, tasks wait with GC_NOT_CONNECTED, and continue when it is back."""
    world.put("/in")
    world.laptop.connected = False
    task_id = world.transfer(("/in", "/out"))
    assert world.ended(task_id)["nice_status"] == "GC_NOT_CONNECTED"
    world.laptop.connected = True
    assert world.ended(task_id)["status"] == "SUCCEEDED"


def test_a_task_can_fail_or_be_forgotten(world):
    """A task that the test fails is FAILED with the test's code; a forgotten task gets 404."""
    task_id = world.transfer(("/in", "/out"))
    world.globus.task(task_id).fail("ENDPOINT_ERROR", "the disk is on fire")
    assert world.task(task_id)["fatal_error"] == {"code": "ENDPOINT_ERROR", "description": "the disk is on fire"}
    world.globus.forget_task(task_id)
    error = refused(world.client.get_task, task_id)
    assert (error.http_status, error.code) == (404, "ClientError.NotFound")
    assert task_id in error.message


def test_quota_waits_or_fails(world):
    """A full disk causes a fault that can recover; with fail_on_quota_errors, it fails the task."""
    world.put("/in", b"12345")
    world.scratch.quota = 4
    task_id = world.transfer(("/in", "/out"))
    assert world.ended(task_id)["nice_status"] == "QUOTA_EXCEEDED"
    failed = world.moved(("/in", "/other"), fail_on_quota_errors=True)
    assert (failed["status"], failed["fatal_error"]["code"]) == ("FAILED", "QUOTA_EXCEEDED")
    world.scratch.quota = 5
    assert world.ended(task_id)["status"] == "SUCCEEDED"
    assert world.scratch.quota == 0


@pytest.mark.parametrize(("collection", "path"), [("my-laptop", "/in"), ("hpc-scratch", "/dir")])
def test_permission_is_a_fault(world, collection, path):
    """A path without read or write permission is retried with PERMISSION_DENIED until it is permitted."""
    world.put("/in")
    world.globus.collection(collection).denied.add(path)
    task_id = world.transfer(("/in", "/dir/out"))
    assert world.ended(task_id)["nice_status"] == "PERMISSION_DENIED"
    world.globus.collection(collection).denied.clear()
    assert world.ended(task_id)["status"] == "SUCCEEDED"


def test_source_errors_can_be_skipped(world):
    """With skip_source_errors, missing and forbidden sources are skipped, counted and listed."""
    for name in ("a", "b/c", "secret"):
        world.put(f"/tree/{name}")
    world.laptop.denied.add("/tree/secret")
    task = world.moved(("/tree", "/tree"), ("/missing", "/x"), skip_source_errors=True)
    assert (task["status"], task["subtasks_skipped_errors"], task["faults"]) == ("SUCCEEDED", 2, 0)
    skipped = world.client.task_skipped_errors(task["task_id"])
    assert {(error["source_path"], error["error_code"]) for error in skipped} == {
        ("/missing", "FILE_NOT_FOUND"),
        ("/tree/secret", "PERMISSION_DENIED"),
    }
    assert skipped["DATA"][0]["error_time"] == task["completion_time"]
    assert world.files() == {"/tree/a", "/tree/b/c"}
    assert "SKIPPED_ERRORS" in world.codes(task["task_id"])


def test_successful_transfers_are_told_at_the_end(world):
    """Listing transferred files gets 400 while the task is ACTIVE, then pages with paths, size and checksum."""
    world.globus.settings.page_size = 2
    for name in "abc":
        world.put(f"/tree/{name}", name.encode())
    task_id = world.transfer(("/tree", "/copy"), verify_checksum=True)
    error = refused(world.client.task_successful_transfers, task_id)
    assert (error.http_status, error.code) == (400, "ClientError.BadRequest")
    assert "still in progress" in error.message
    world.clock.advance(1)
    assert len(world.client.task_successful_transfers(task_id)["DATA"]) == 2
    moved = list(world.client.paginated.task_successful_transfers(task_id).items())
    assert [(one["source_path"], one["destination_path"], one["size"]) for one in moved] == [
        (f"/tree/{name}", f"/copy/{name}", 1) for name in "abc"
    ]
    assert moved[0]["checksum"] == "0cc175b9c0f1b6a831c399e269772661"


def test_events_are_paged_and_filtered(world):
    """Events are listed newest first, in pages with a total; a filter selects errors."""
    task_id = world.transfer(("/missing", "/out"))
    world.clock.advance(25)
    every = list(world.client.paginated.task_event_list(task_id).items())
    assert [event["code"] for event in every] == ["FILE_NOT_FOUND"] * 3 + ["STARTED"]
    page = world.client.task_event_list(task_id, limit=1, offset=3)
    assert (page["total"], page["limit"], page["offset"], page["length"]) == (4, 1, 3, 1)
    errors = world.client.task_event_list(task_id, query_params={"filter": "is_error:1"})
    assert {event["is_error"] for event in errors} == {True}
    assert errors["total"] == 3


def test_the_task_list_shows_transfers_unless_told_otherwise(world):
    """Without a type filter, task_list omits deletes."""
    world.put("/in")
    move, remove = world.transfer(("/in", "/out")), world.delete("/old")
    assert [task["task_id"] for task in world.client.task_list()] == [move]
    every = world.client.task_list(filter={"type": ["TRANSFER", "DELETE"]})
    assert [task["task_id"] for task in every] == [remove, move]


def test_the_task_list_is_filtered_and_paged(world):
    """task_list filters by ids, status, label and time, sorts, selects fields, and pages with a total."""
    for number in range(12):
        world.put(f"/{number}")
    tasks = []
    for number in range(12):
        tasks.append(world.transfer((f"/{number}", f"/{number}"), label=f"run {number}"))
        world.clock.advance(1)
    world.client.cancel_task(world.transfer(("/missing", "/x"), label="other"))
    listed = world.client.task_list
    assert len(listed()["DATA"]) == 10
    assert listed()["total"] == 13
    assert {task["task_id"] for task in listed(filter={"task_id": tasks[:3]})} == set(tasks[:3])
    assert [task["label"] for task in listed(filter="status:FAILED")] == ["other"]
    assert listed(filter="label:~run 1*")["total"] == 3
    oldest = listed(orderby="request_time ASC", limit=2, query_params={"fields": "task_id,status"})
    assert oldest["DATA"] == [{"DATA_TYPE": "task", "task_id": task_id, "status": "SUCCEEDED"} for task_id in tasks[:2]]
    assert len(list(world.client.paginated.task_list())) == 1
    middle = world.client.get_task(tasks[6])["request_time"]
    assert listed(filter=f"request_time:{middle},")["total"] == 7
    assert refused(listed, filter="colour:red").http_status == 400


def test_a_living_task_can_be_updated(world):
    """The label and deadline of a task can be changed until it ends."""
    task_id = world.transfer(("/missing", "/out"), label="old")
    deadline = (world.clock.now() + timedelta(hours=1)).isoformat()
    update = world.client.update_task(task_id, {"DATA_TYPE": "task", "label": "new", "deadline": deadline})
    assert update["code"] == "Updated"
    assert world.task(task_id)["label"] == "new"
    assert world.ended(task_id, HOUR)["fatal_error"]["code"] == "EXPIRED"
    assert refused(world.client.update_task, task_id, {"DATA_TYPE": "task", "label": "late"}).http_status == 400


@pytest.mark.parametrize(
    "change",
    [
        {"DATA": []},
        {"label": "x" * 129},
        {"label": "two\nlines"},
        {"deadline": "2020-01-01T00:00:00+00:00"},
        {"deadline": "soon"},
        {"sync_level": 4},
        {"filter_rules": [{"method": "perhaps", "name": "*"}]},
        {"submission_id": "not-a-uuid"},
        {"DATA_TYPE": "delete"},
    ],
)
def test_a_wrong_submission_is_refused(world, change):
    """An invalid submission gets 400 and creates no task."""
    body = dict(world.transfer_data(("/in", "/out"), submission_id=uuid.uuid4())) | change
    error = refused(world.client.post, "/v0.10/transfer", data=body)
    assert error.http_status == 400
    assert "BadRequest" in error.code
    assert world.globus.tasks == {}


def test_nothing_to_transfer_has_a_code_of_its_own(world):
    """A transfer without items gets ClientError.BadRequest.NoTransferItems."""
    error = refused(world.client.submit_transfer, world.transfer_data())
    assert error.code == "ClientError.BadRequest.NoTransferItems"


def test_an_unknown_collection_is_404(world):
    """A transfer to an unknown collection gets EndpointNotFound."""
    data = globus_sdk.TransferData(world.laptop.id, str(uuid.uuid4()))
    data.add_item("/in", "/out")
    error = refused(world.client.submit_transfer, data)
    assert (error.http_status, error.code) == (404, "EndpointNotFound")


def test_time_passes_while_bytes_move(world):
    """With a bandwidth and a latency, a transfer takes time and reports its progress."""
    world.globus.settings.bandwidth, world.globus.settings.latency = 1 << 20, 5
    world.put("/in", b"x" * (3 << 20))
    task_id = world.transfer(("/in", "/out"))
    assert world.ended(task_id, 4)["bytes_transferred"] == 0
    assert world.ended(task_id, 2)["bytes_transferred"] == 2 << 20
    task = world.ended(task_id, 10)
    assert (task["status"], task["effective_bytes_per_second"]) == ("SUCCEEDED", (3 << 20) // 8)


def test_a_running_clock_moves_tasks_without_requests(tmp_path):
    """With a running clock, tasks make progress without any request."""
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "in").write_bytes(b"data")
    with Simulator({"a": tmp_path / "a", "b": tmp_path / "b"}, clock=RunningClock(speed=1000)) as globus:
        data = globus_sdk.TransferData(globus.collection("a").id, globus.collection("b").id)
        data.add_item("/in", "/out")
        data.add_item("/late", "/late")
        client = globus.client()
        task_id = client.submit_transfer(data)["task_id"]
        (tmp_path / "late").write_bytes(b"late")
        (tmp_path / "late").rename(tmp_path / "a" / "late")
        assert client.task_wait(task_id, timeout=60, polling_interval=1)
        assert client.get_task(task_id)["status"] == "SUCCEEDED"
    assert (tmp_path / "b" / "late").read_bytes() == b"late"


def test_tasks_of_another_user_are_hidden(world):
    """Users see only their own tasks."""
    world.put("/in")
    task_id = world.transfer(("/in", "/out"))
    token = world.globus.authority.issue("urn:globus:auth:scope:transfer.api.globus.org:all")
    other = world.globus.client(authorizer=globus_sdk.AccessTokenAuthorizer(token))
    assert refused(other.get_task, task_id).http_status == 404
    assert other.task_list()["total"] == 0


def test_a_closed_simulator_is_gone(tmp_path):
    """A closed simulator accepts no request and leaves no temporary file, and its clock can still be advanced."""
    clock = ManualClock()
    with Simulator({"a": tmp_path / "a", "b": tmp_path / "b"}, clock=clock, bandwidth=1) as globus:
        (tmp_path / "a" / "in").write_bytes(b"x" * 100)
        data = globus_sdk.TransferData(globus.collection("a").id, globus.collection("b").id)
        data.add_item("/in", "/out")
        client = globus.client()
        client.submit_transfer(data)
        clock.advance(10)
    with pytest.raises(globus_sdk.GlobusConnectionError):
        client.task_list()
    client.close()
    clock.advance(1000)
    assert list((tmp_path / "b").iterdir()) == []


def test_a_port_that_is_taken_is_an_error(globus, tmp_path):
    """A second simulator on the same port raises OSError instead of exiting the program."""
    port = int(globus.url.rstrip("/").rsplit(":", 1)[1])
    with pytest.raises(OSError, match="in use"):
        Simulator({"other": tmp_path / "other"}, port=port)


def test_only_what_lives_can_be_stopped(world):
    """A task that has ended can be neither paused nor failed, and an active task cannot be resumed."""
    task = world.globus.task(world.transfer(("/in", "/out")))
    with pytest.raises(ValueError, match="neither paused nor inactive"):
        task.resume()
    task.fail()
    for stop in (task.pause, task.set_inactive, task.fail):
        with pytest.raises(ValueError, match="is over"):
            stop()


def test_base_paths_are_stored_if_asked_for(world):
    """With store_base_path_info, the task document has the common folders of all items; otherwise, it does not."""
    for name in ("a/1", "a/b/2"):
        world.put(f"/{name}")
    pairs = [(f"/{name}", f"/out/{name}") for name in ("a/1", "a/b/2")]
    stored = world.transfer(*pairs, additional_fields={"store_base_path_info": True})
    task = world.ended(stored)
    assert (task["source_base_path"], task["destination_base_path"]) == ("/a", "/out/a")
    assert "source_base_path" not in world.ended(world.transfer(*pairs))


def test_paths_of_a_side_without_a_role_are_null(world):
    """Lists of transferred and skipped files hide the paths of a collection on which the user has no role."""
    world.put("/here")
    world.laptop.hides_paths = True
    try:
        task_id = world.transfer(("/here", "/x"), ("/gone", "/y"), skip_source_errors=True)
        world.ended(task_id)
        [moved] = world.client.task_successful_transfers(task_id)["DATA"]
        [skipped] = world.client.task_skipped_errors(task_id)["DATA"]
    finally:
        world.laptop.hides_paths = False
    assert (moved["source_path"], moved["destination_path"]) == (None, "/x")
    assert (skipped["source_path"], skipped["destination_path"]) == (None, "/y")
