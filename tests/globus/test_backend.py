"""The Globus backend against a simulated Globus: names, documents, outcomes, and submitting once."""

from __future__ import annotations

import itertools
import json
import pickle
import re
import socket
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from uuid import uuid4

import globus_sdk
import pytest
from globus_sdk import MISSING
from guided import Guided

from chiltepin.backends.globus import GlobusBackend
from chiltepin.backends.globus import documents as wire
from chiltepin.backends.globus.collections import Collection
from chiltepin.backends.globus.options import GlobusOptions
from chiltepin.backends.globus.text import web_app
from chiltepin.errors import (
    BackendError,
    ChiltepinError,
    ConfigError,
    ConsentRequiredError,
    EndpointError,
    EndpointMismatchError,
    EndpointNotFoundError,
    EndpointUnavailableError,
    LoginRequiredError,
    PathNotFoundError,
    PathsInUseError,
    PermissionDeniedError,
    ServiceUnavailableError,
    TaskTimeoutError,
    UnsupportedOptionError,
)
from chiltepin.model import TaskHandle, TaskState
from chiltepin.transfers.activity import ActivityLog, ActivityReader
from chiltepin.transfers.arguments import delete_request, transfer_request
from chiltepin.transfers.outcomes import status_from_error


def move(source="a", destination="b", origin="/file", goal="/file", **options):
    """Return a transfer request."""
    return transfer_request(src_ep=source, dst_ep=destination, src_path=origin, dst_path=goal, **options)


def hold(globus):
    """Keep the transfer of the file in a fault, so that it does not end."""
    globus.collection("my-laptop").denied.add("/file")


def requests(globus, path):
    """Count the requests for a path."""
    return sum(path in one.path for one in globus.requests)


# Names


def test_an_endpoint_is_a_collection_by_declaration_uuid_or_display_name(guided, globus, laptop, scratch):
    """A declared name, a UUID and a display name lead to the same folder."""
    for name in ("b", globus.collection("hpc-scratch").id, globus.collection("hpc-scratch").id.upper(), "hpc-scratch"):
        assert guided.run(move(destination=name)).state is TaskState.SUCCEEDED
        assert (scratch / "file").read_bytes() == b"content"
        (scratch / "file").unlink()


def test_a_display_name_is_searched_for_once(guided, globus, laptop):
    """A display name is looked up once and then cached."""
    for number in range(3):
        guided.run(move(destination="hpc-scratch", goal=f"/{number}"))
    assert requests(globus, "/endpoint_search") == 1


def test_a_display_name_is_taken_to_the_letter(guided, globus):
    """A display name must match exactly; the error suggests the closest one."""
    with pytest.raises(EndpointNotFoundError, match=r"No endpoint named 'HPC-scratch'.*did you mean 'hpc-scratch'"):
        guided.run(move(destination="HPC-scratch"))
    assert requests(globus, "/transfer") == 0


def test_two_collections_of_one_name_are_listed(guided, globus, tmp_path):
    """A name that two collections share raises an error that lists both, with owner and UUID."""
    twins = [
        globus.add_collection(name, tmp_path / name, display_name="Twin", owner=f"{name}@example.org")
        for name in ("one", "two")
    ]
    with pytest.raises(EndpointError) as caught:
        guided.run(move(destination="Twin"))
    for twin in twins:
        assert f"{twin.id} of {twin.owner}" in str(caught.value)


def test_this_machine_is_the_personal_collection_here(guided, globus, laptop, tmp_path, monkeypatch):
    """The name `this-machine` means the local Globus Connect Personal; without it, the error says where to get it."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    with pytest.raises(EndpointNotFoundError, match=r"not set up on this machine.*globus\.org/globus-connect-personal"):
        guided.run(move(source="this-machine"))
    personal = tmp_path / "home" / ".globusonline" / "lta"
    personal.mkdir(parents=True)
    (personal / "client-id.txt").write_text(globus.collection("my-laptop").id)
    assert guided.run(move(source="this-machine")).state is TaskState.SUCCEEDED


def test_an_unknown_uuid_is_not_found(guided):
    """A UUID that no collection has raises EndpointNotFoundError."""
    with pytest.raises(EndpointNotFoundError, match="No collection has the UUID '12345678"):
        guided.run(move(source="12345678-1234-1234-1234-123456789abc"))


def test_a_connect_server_is_no_collection(guided, globus, tmp_path):
    """A Globus Connect Server endpoint is rejected, because only its collections have data."""
    server = globus.add_collection("server", tmp_path / "server", entity_type="GCSv5_endpoint")
    with pytest.raises(EndpointMismatchError, match="name one of its collections"):
        guided.run(move(source=server.id))


# Documents


def test_every_option_of_a_transfer_is_in_its_document():
    """Every option of a transfer appears in the document that Globus receives."""
    deadline = datetime(2026, 5, 6, 7, 8, 9, 1, tzinfo=timezone(timedelta(hours=2)))
    request = move(
        origin="/d",
        goal="/e/",
        recursive=True,
        sync_level="checksum",
        verify_checksum=False,
        preserve_timestamp=True,
        include=["*.nc"],
        exclude=["*"],
        label="weekly run",
    )
    request = type(request)(**{name: getattr(request, name) for name in request.__slots__} | {"deadline": deadline})
    source, destination = Collection("a", "1" * 8), Collection("b", "2" * 8)
    document = dict(wire.transfer_document(request, source, destination, submission_id="s"))
    document["DATA"] = [
        {name: value for name, value in item.items() if value is not MISSING} for item in document["DATA"]
    ]
    label = document.pop("label")
    assert label.startswith("weekly run chiltepin-")
    assert {name: value for name, value in document.items() if value is not MISSING} == {
        "DATA_TYPE": "transfer",
        "source_endpoint": "11111111",
        "destination_endpoint": "22222222",
        "submission_id": "s",
        "sync_level": 3,
        "verify_checksum": False,
        "preserve_timestamp": True,
        "encrypt_data": False,
        "skip_source_errors": False,
        "fail_on_quota_errors": False,
        "delete_destination_extra": False,
        "deadline": "2026-05-06T05:08:10+00:00",
        "notify_on_succeeded": False,
        "notify_on_failed": False,
        "notify_on_inactive": False,
        "DATA": [{"DATA_TYPE": "transfer_item", "source_path": "/d", "destination_path": "/e", "recursive": True}],
        "filter_rules": [
            {"DATA_TYPE": "filter_rule", "method": "include", "name": "*.nc", "type": "file"},
            {"DATA_TYPE": "filter_rule", "method": "exclude", "name": "*", "type": "file"},
        ],
    }


def test_what_is_asked_for_beside_that_is_in_the_document_too():
    """A checksum is stored in two fields of its item; `delete_destination_extra` applies to the whole document."""
    collection = Collection("a", "1"), Collection("b", "2")
    checked = wire.transfer_document(move(checksum=f"SHA256:{'0A' * 32}"), *collection, submission_id="s")
    (item,) = checked["DATA"]
    assert (item["external_checksum"], item["checksum_algorithm"]) == ("0a" * 32, "SHA256")
    assert checked["delete_destination_extra"] is False
    request = move(origin="/d", goal="/e", recursive=True, delete_destination_extra=True)
    removing = wire.transfer_document(request, *collection, submission_id="s")
    assert removing["delete_destination_extra"] is True
    (item,) = removing["DATA"]
    assert item["external_checksum"] is item["checksum_algorithm"] is MISSING


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({}, {"checksum": f"md5:{'0' * 32}"}),
        ({"checksum": f"md5:{'1' * 32}"}, {"checksum": f"md5:{'0' * 32}"}),
        ({"recursive": True}, {"recursive": True, "delete_destination_extra": True}),
    ],
)
def test_a_mark_is_one_of_paths(one, other):
    """Tasks with the same paths have the same mark whatever their options, because Globus refuses identical paths."""
    collection = Collection("a", "1"), Collection("b", "2")
    marks = [
        wire.fingerprint(wire.transfer_document(move(**options), *collection, submission_id="s"))
        for options in (one, other)
    ]
    assert len(set(marks)) == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"goal": "/e", "include": "*.nc"}, "may remove files that the filters exclude"),
        ({"goal": "/", "destination": "a"}, "lies in /, and would be deleted"),
        ({"goal": "/x/../d", "destination": "a"}, "lies in /x/../d, and would be deleted"),
    ],
)
def test_nothing_is_removed_where_globus_promises_too_little(backend, globus, options, words):
    """`delete_destination_extra` is refused with filters or if it could remove the source; nothing is submitted."""
    options = {"origin": "/d", "recursive": True, "delete_destination_extra": True, **options}
    with pytest.raises(UnsupportedOptionError, match=words):
        backend.submit(move(**options), backend.new_submission_id())
    assert not globus.tasks


def test_a_transfer_is_verified_by_default():
    """By default, the document requests verification and a transfer that is not recursive."""
    collection = Collection("a", "1")
    options = GlobusOptions(notify=("failed",), encrypt_data=True, checksum_algorithm="sha1")
    document = wire.transfer_document(move(), collection, collection, submission_id="s", options=options)
    assert document["verify_checksum"] is True
    assert document["DATA"][0]["recursive"] is False
    assert (document["notify_on_failed"], document["notify_on_succeeded"], document["encrypt_data"]) == (
        True,
        False,
        True,
    )
    assert document["DATA"][0]["checksum_algorithm"] == "SHA1"
    said = move(notify="off", encrypt_data=False, checksum_algorithm="MD5")
    document = wire.transfer_document(said, collection, collection, submission_id="s", options=options)
    assert (document["notify_on_failed"], document["encrypt_data"]) == (False, False)
    assert document["DATA"][0]["checksum_algorithm"] == "MD5"


def test_a_local_user_of_the_settings_is_the_one_of_the_endpoint():
    """The local user comes from the endpoint's settings, unless the request names another."""
    collections = Collection("a", "1", local_user="ada"), Collection("b", "2")
    document = wire.transfer_document(move(), *collections, submission_id="s")
    assert (document["source_local_user"], document["destination_local_user"]) == ("ada", MISSING)
    document = wire.transfer_document(move(source_local_user="grace"), *collections, submission_id="s")
    assert document["source_local_user"] == "grace"
    deletion = delete_request(src_ep="a", src_path="/d")
    assert wire.delete_document(deletion, collections[0], submission_id="s")["local_user"] == "ada"
    assert document["sync_level"] is globus_sdk.MISSING


@pytest.mark.parametrize(
    ("path", "home", "sent"),
    [
        ("/a//b/../c/", None, "/a/c"),
        ("x/y", None, "/~/x/y"),
        ("~/x", None, "/~/x"),
        ("~", None, "/~"),
        ("x/y", "/users/me", "/users/me/x/y"),
        ("~", "/users/me", "/users/me"),
    ],
)
def test_a_path_counts_from_root_or_home(path, home, sent):
    """An absolute path starts at the root, a relative one at the home or the collection's default directory."""
    assert wire.global_path(path, Collection("a", "1", home)) == sent


@pytest.mark.parametrize("path", ["/..", "/a/../..", "../x", "~/../x"])
def test_a_path_does_not_leave_its_root(path):
    """A path that leaves the root, or a home that only Globus knows, is refused."""
    with pytest.raises(PermissionDeniedError):
        wire.global_path(path, Collection("a", "1"))


@pytest.mark.parametrize("path", ["/", "/.", "~", "/~/", "x/.."])
def test_a_root_is_not_deleted(guided, globus, path):
    """Deleting a collection's root or default directory is refused before submission."""
    with pytest.raises(PermissionDeniedError, match="is the root of an endpoint and is never deleted"):
        guided.run(delete_request(src_ep="b", src_path=path, recursive=True))
    assert requests(globus, "/delete") == 0


def test_a_mark_is_the_same_for_the_same_request_only():
    """Each request has a different mark, whatever its label; a label with no room gets none."""
    a, b = Collection("a", "1"), Collection("b", "2")

    def mark(request, *places):
        return wire.fingerprint(wire.transfer_document(request, *places, submission_id="s"))

    assert mark(move(), a, b) == mark(move(label="named"), a, b) != ""
    assert len({mark(move(), a, b), mark(move(), b, a), mark(move(goal="/else"), a, b)}) == 3
    assert mark(move(label="x" * 128), a, b) == ""


# Outcomes


def test_success_is_success(guided, laptop, scratch):
    """A recursive transfer copies the whole folder, and its status counts the files and bytes."""
    status = guided.run(move(origin="/tree", goal="/new/tree", recursive=True))
    assert (status.state, status.files_done, status.bytes_done) == (TaskState.SUCCEEDED, 2, 2)
    assert (scratch / "new/tree/deep/y.txt").read_bytes() == b"y"


def test_a_failed_task_has_failed_for_the_services_reason(guided, globus, laptop):
    """A FAILED task has the service's code and reason, and no link to the web app, which lacks simulated tasks."""
    hold(globus)
    pending = guided.start(move())
    guided.live(seconds=5)
    globus.task(pending.handle.task_id).fail("ENDPOINT_ERROR", "an endpoint error occurred")
    guided.live()
    status = pending.future.result(0)
    assert (status.state, status.code) == (TaskState.FAILED, "ENDPOINT_ERROR")
    assert "an endpoint error occurred" in status.reason
    assert "https://" not in status.reason


@pytest.mark.parametrize(
    ("variables", "shown"),
    [
        ({}, " See https://app.globus.org/x"),
        ({"GLOBUS_SDK_ENVIRONMENT": "test"}, ""),
        ({"GLOBUS_SDK_SERVICE_URL_TRANSFER": "http://127.0.0.1:9"}, ""),
    ],
    ids=str,
)
def test_the_web_app_is_that_of_the_production_service(variables, shown, monkeypatch):
    """A link to the web app is given only if the environment names no other Globus."""
    for name in ("GLOBUS_SDK_ENVIRONMENT", "GLOBUS_SDK_SERVICE_URL_TRANSFER"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert web_app(" See", "x") == shown


def test_a_task_that_is_cancelled_elsewhere_is_canceled(guided, globus):
    """A task that another program cancels ends as CANCELED, not as FAILED."""
    hold(globus)
    pending = guided.start(move())
    guided.live(seconds=5)
    globus.client().cancel_task(pending.handle.task_id)
    guided.live()
    assert pending.future.result(0).state is TaskState.CANCELED


def test_a_deadline_that_passes_first_at_the_service_is_the_timeout(backend, globus, tmp_path):
    """If the service's clock is some seconds ahead, the caller and the record are told of the timeout all the same."""
    folder = str(tmp_path / "journal")
    log = ActivityLog(folder, globus.clock.now)
    guided = Guided(backend, globus, activity_log=log)
    hold(globus)
    pending = guided.start(move(), grace=1e6, timeout=100)
    guided.live(seconds=5)
    soon = globus.clock.now() + timedelta(seconds=90)
    globus.client().update_task(pending.handle.task_id, {"DATA_TYPE": "task", "deadline": soon.isoformat()})
    guided.live()
    with pytest.raises(TaskTimeoutError, match="not done within 100 seconds") as caught:
        pending.future.result(0)
    assert status_from_error(caught.value, "").reason == str(caught.value)
    log.close()
    [shown] = ActivityReader(folder).news()
    assert shown.state is TaskState.EXPIRED
    assert shown.reason.startswith("It was not done within 100 seconds")


def test_a_deadline_that_has_passed_ends_the_request_as_expired(guided, globus, laptop):
    """A deadline that has passed before the submission ends the request as EXPIRED, without a task."""
    status = guided.run(move(deadline=globus.clock.now() - timedelta(days=1)), timeout=5)
    assert status.state is TaskState.EXPIRED
    assert re.fullmatch("Its deadline, .* UTC, passed before it was submitted.", status.reason)
    assert not globus.tasks


@pytest.mark.parametrize("path", ["/submission_id", "/endpoint/"])
def test_a_deadline_that_passes_before_the_submission_is_the_timeout(guided, globus, laptop, path):
    """A request whose timeout ends during a slow call before its submission ends with TaskTimeoutError."""
    globus.slow_next(8, path=path)
    with pytest.raises(TaskTimeoutError, match="was not done within 5 seconds"):
        guided.run(move(), timeout=5)


def test_a_refused_deadline_that_has_not_passed_here_names_the_clock(guided, globus, laptop):
    """If a deadline has passed only by the clock of Globus, the error says to check this machine's clock."""
    guided.clock.behind = 7200
    with pytest.raises(BackendError, match=r"has passed \(ClientError.BadRequest\); check this machine's clock"):
        guided.run(move(), timeout=3600)


def test_a_task_whose_deadline_is_brought_forward_expires(guided, globus):
    """A task whose deadline is moved to before the timeout ends as EXPIRED."""
    hold(globus)
    pending = guided.start(move(), grace=1e6)
    guided.live(seconds=5)
    soon = globus.clock.now() + timedelta(seconds=60)
    globus.client().update_task(pending.handle.task_id, {"DATA_TYPE": "task", "deadline": soon.isoformat()})
    guided.live()
    assert pending.future.result(0).state is TaskState.EXPIRED


@pytest.mark.parametrize(("how", "code"), [("set_inactive", "INACTIVE"), ("pause", "PAUSED")])
def test_a_task_that_is_held_is_stopped_and_says_how(guided, globus, how, code):
    """A suspended or paused task is canceled after the fault grace and reports the service's code."""
    hold(globus)
    pending = guided.start(move())
    guided.live(seconds=2)
    getattr(globus.task(pending.handle.task_id), how)()
    guided.live()
    status = pending.future.result(0)
    assert (status.state, status.code) == (TaskState.PAUSED, code)
    assert globus.task(pending.handle.task_id).status == "FAILED"


def test_a_task_that_the_service_no_longer_knows_is_lost(guided, globus):
    """A task that the service no longer knows ends as LOST."""
    hold(globus)
    pending = guided.start(move())
    guided.live(seconds=2)
    globus.forget_task(pending.handle.task_id)
    guided.live()
    assert pending.future.result(0).state is TaskState.LOST


def test_a_missing_source_ends_the_task_at_once(guided, globus, laptop, scratch):
    """One stat request confirms a missing source and ends the task, which Globus would retry for a day."""
    began = globus.clock.time()
    status = guided.run(move(origin="/nowhere"), grace=1000)
    assert (status.state, status.code) == (TaskState.FAILED, "FILE_NOT_FOUND")
    assert status.reason.startswith("There is no /nowhere on endpoint 'a'.")
    assert globus.clock.time() - began <= 5
    assert [task.document()["fatal_error"]["code"] for task in globus.tasks.values()] == ["CANCELED"]
    assert requests(globus, "/stat") == 1
    assert list(scratch.iterdir()) == []


def test_a_missing_file_to_delete_ends_the_task_at_once(guided, globus, scratch):
    """Deleting a missing path ends the task as soon as Chiltepin confirms that the path is missing."""
    began = globus.clock.time()
    status = guided.run(delete_request(src_ep="b", src_path="/nowhere"), grace=1000)
    assert (status.state, status.code) == (TaskState.FAILED, "FILE_NOT_FOUND")
    assert globus.clock.time() - began <= 5


@pytest.mark.parametrize(
    "answer",
    [
        {"status": 200, "body": b'{"type": "file"}'},
        {"status": 200, "body": b"{}"},
        {"status": 500},
        {"status": 502, "code": "EndpointError"},
        {"status": 403, "code": "EndpointPermissionDenied"},
    ],
    ids=str,
)
def test_a_source_that_is_not_known_to_be_missing_is_waited_for(guided, globus, laptop, scratch, answer):
    """A source that is not confirmed as missing is copied if it appears within the fault grace."""
    globus.fail_next(20, path="/stat", **answer)
    pending = guided.start(move(origin="/late", goal="/late"), grace=60)
    guided.live(seconds=20)
    assert pending.status.code == "FILE_NOT_FOUND"
    (laptop / "late").write_bytes(b"at last")
    guided.live()
    assert pending.future.result(0).state is TaskState.SUCCEEDED
    assert (scratch / "late").read_bytes() == b"at last"


def test_a_busy_endpoint_is_borne_at_the_submission(guided, globus, laptop, scratch):
    """An endpoint error at submission is retried within the fault grace, as inside a task."""
    globus.fail_next(3, 502, "ExternalError", path="/transfer", method="POST")
    assert guided.run(move(), grace=60).state is TaskState.SUCCEEDED


def test_an_endpoint_that_stays_busy_ends_the_transfer_in_its_words(guided, globus, laptop):
    """After the fault grace, the service's error ends the transfer, long before the timeout."""
    globus.fail_next(10_000, 502, "ExternalError.DirListingFailed.ConnectFailed", path="/transfer", method="POST")
    began = globus.clock.time()
    with pytest.raises(EndpointUnavailableError, match="ConnectFailed"):
        guided.run(move(), grace=60)
    assert 60 <= globus.clock.time() - began <= 100


def test_a_busy_endpoint_holds_up_no_other(guided, globus, laptop, scratch):
    """A transfer that waits for its endpoint does not delay the submission of others."""
    globus.fail_next(1, 502, "ExternalError", path="/transfer", method="POST")
    waits = guided.start(move(), grace=60)
    guided.live(seconds=0.5)
    assert waits.handle is None
    other = guided.start(move(origin="/tree", goal="/tree", recursive=True))
    guided.live(seconds=0.2)
    assert other.handle is not None
    guided.live()
    assert waits.future.result(0).state is other.future.result(0).state is TaskState.SUCCEEDED


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"denied": {"/file"}}, "PERMISSION_DENIED"),
        ({"quota": 3}, "QUOTA_EXCEEDED"),
        ({"connected": False}, "GC_NOT_CONNECTED"),
    ],
    ids=["permission", "quota", "disconnected"],
)
def test_troubles_that_do_not_heal_end_the_task(guided, globus, laptop, scratch, change, code):
    """A fault of permission, quota or connection cancels the task and reports its own code."""
    for name, value in change.items():
        setattr(globus.collection("hpc-scratch"), name, value)
    status = guided.run(move())
    assert (status.state, status.code) == (TaskState.FAILED, code)
    assert [task.status for task in globus.tasks.values()] == ["FAILED"]
    assert list(scratch.iterdir()) == []


def test_a_timeout_cancels_at_the_service(guided, globus, laptop):
    """A timeout also cancels the task at Globus, and the same transfer can be repeated."""
    globus.settings.bandwidth = 0.01
    with pytest.raises(TaskTimeoutError, match="not done within 120 seconds"):
        guided.run(move(), timeout=120)
    [task] = globus.tasks.values()
    assert task.document()["fatal_error"]["code"] in ("CANCELED", "EXPIRED")
    globus.settings.bandwidth = None
    assert guided.run(move()).state is TaskState.SUCCEEDED


# Submitting once


@pytest.mark.parametrize("lost", [{"status": 503}, {"status": 500}, {"drop": True}], ids=["503", "500", "dropped"])
@pytest.mark.parametrize("after", [True, False], ids=["reply lost", "request lost"])
def test_a_reply_that_is_lost_makes_no_second_task(guided, globus, laptop, scratch, lost, after):
    """Whether the request or the response is lost, retries use the same submission id and create one task."""
    globus.fail_next(7, path="/v0.10/transfer", after=after, **lost)
    status = guided.run(move())
    assert status.state is TaskState.SUCCEEDED
    assert requests(globus, "/v0.10/transfer") >= 8
    assert list(globus.tasks) == [status.handle.task_id]


def test_the_same_submission_in_a_new_process_finds_its_task(guided, backend, globus, laptop):
    """Submitting again with the same submission id, from any backend, returns the same task, even after it ends."""
    submission_id = backend.new_submission_id()
    first = backend.submit(move(), submission_id)
    another = GlobusBackend.from_config({name: dict(place) for name, place in backend._collections.places.items()}, {})
    assert another.submit(move(), submission_id) == first
    globus.clock.advance(60)
    assert another.submit(move(), submission_id) == first
    assert len(globus.tasks) == 1
    another.close()


@pytest.mark.parametrize("options", [{}, {"sync_level": "size"}, {"preserve_timestamp": True}])
def test_identical_paths_in_flight_are_waited_for(guided, backend, globus, laptop, options):
    """A request waits for a task with identical paths, which Globus would refuse, whatever that task's options."""
    globus.settings.task_latency = 30
    first = backend.submit(move(label="first"), backend.new_submission_id())
    with pytest.raises(PathsInUseError, match="wait for it, or cancel it") as caught:
        backend.submit(move(label="second", **options), backend.new_submission_id())
    assert caught.value.status.handle.task_id == first.task_id
    assert guided.run(move(**options)).state is TaskState.SUCCEEDED
    assert len(globus.tasks) == 2


@pytest.mark.parametrize("end", ["cancel", "fail", "expire"])
def test_the_end_of_another_process_s_task_is_not_that_of_a_request(guided, backend, globus, laptop, scratch, end):
    """A request that waits for a task with identical paths succeeds however that task ends."""
    globus.settings.task_latency = 30
    theirs = replace(move(), deadline=globus.clock.now() + timedelta(seconds=10 if end == "expire" else 3600))
    first = backend.submit(theirs, backend.new_submission_id())
    pending = guided.start(move())
    guided.live(seconds=5)
    assert "identical paths" in pending.status.reason
    if end == "cancel":
        backend.cancel(first)
    elif end == "fail":
        globus.task(first.task_id).fail()
    guided.live()
    assert pending.future.result(0).state is TaskState.SUCCEEDED
    assert (scratch / "file").exists()


def test_a_request_that_waits_for_another_task_has_its_own_timeout(guided, backend, globus, laptop):
    """A request that waits for another task ends after its own timeout."""
    globus.settings.task_latency = 1e6
    backend.submit(move(), backend.new_submission_id())
    pending = guided.start(move(), timeout=60)
    begun = globus.clock.time()
    guided.live()
    assert globus.clock.time() - begun < 61
    with pytest.raises(TaskTimeoutError, match=r"not done within 60 seconds .* identical paths"):
        pending.future.result(0)
    assert len(globus.tasks) == 1


def test_a_task_of_another_program_with_the_same_paths_is_not_ours(guided, globus, laptop):
    """A task with the same paths that Chiltepin did not create is not used; the message says what to do."""
    globus.settings.task_latency = 30
    client = globus.client()
    theirs = globus_sdk.TransferData(globus.collection("my-laptop").id, globus.collection("hpc-scratch").id)
    theirs.add_item("/file", "/file")
    client.submit_transfer(theirs)
    with pytest.raises(BackendError, match=r"which another program submitted; wait for it, or cancel it") as caught:
        guided.run(move())
    assert not caught.value.transient
    assert len(globus.tasks) == 1


def test_too_many_pending_tasks_wait_their_turn(guided, globus, laptop, scratch):
    """Requests over the service's limit on pending tasks are submitted when a slot is free."""
    globus.settings.pending_limit, globus.settings.task_latency = 3, 5
    # Requests with equal options would share a task.
    kinds = itertools.product((None, "exists", "size", "mtime", "checksum"), (True, False))
    pending_requests = [
        guided.start(move(goal=f"/{number}", sync_level=level, verify_checksum=verify))
        for number, (level, verify) in enumerate(kinds)
    ]
    guided.live()
    assert all(pending.future.result(0).state is TaskState.SUCCEEDED for pending in pending_requests)
    assert len(globus.tasks) == 10
    assert len(list(scratch.iterdir())) == 10


def test_metering_slows_down_and_breaks_nothing(guided, globus, laptop, scratch):
    """A request that is rejected with HTTP 429 is retried later."""
    globus.fail_next(5, status=429, code="TooManyRequests", headers={"Retry-After": "1"})
    assert guided.run(move()).state is TaskState.SUCCEEDED


def test_one_question_serves_fifty_tasks(backend, globus, laptop):
    """Polling 121 tasks takes three requests and returns their statuses in the order of the handles."""
    globus.settings.pending_limit, globus.settings.request_rate, globus.settings.task_latency = 1000, None, 1e6
    handles = [backend.submit(move(goal=f"/{n}"), backend.new_submission_id()) for n in range(120)]
    handles.append(backend.submit(delete_request(src_ep="b", src_path="/x"), backend.new_submission_id()))
    globus.clear_requests()
    assert [status.handle for status in backend.poll(handles[::-1])] == handles[::-1]
    assert len(globus.requests) == 3


@pytest.fixture
def silent(globus, monkeypatch):
    """An address that accepts connections and never answers, in place of the Transfer API."""
    monkeypatch.setattr("chiltepin.backends.globus.transport.CALL_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        monkeypatch.setenv("GLOBUS_SDK_SERVICE_URL_TRANSFER", f"http://127.0.0.1:{listener.getsockname()[1]}/")
        yield listener


@pytest.mark.parametrize(
    "call",
    [
        lambda backend, _: backend.new_submission_id(),
        lambda backend, _: backend.submit(move(), str(uuid4())),
        lambda backend, handle: backend.poll([handle]),
        lambda backend, handle: backend.cancel(handle),
    ],
    ids=["new_submission_id", "submit", "poll", "cancel"],
)
def test_a_silent_service_is_left_soon(backend, silent, call):
    """A call that the task manager repeats ends after one attempt and a short wait if Globus does not answer."""
    handle = TaskHandle(backend="globus", task_id=str(uuid4()), submission_id="")
    with pytest.raises(ServiceUnavailableError, match=r"did not respond within 0\.2 seconds; check that") as caught:
        call(backend, handle)
    assert caught.value.transient
    silent.accept()[0].close()
    with pytest.raises(BlockingIOError):
        silent.accept()


# Logins, and data that leaves the backend


def test_without_a_login_the_command_is_named(backend, globus, monkeypatch):
    """Without a login the error names the command, and no request is made."""
    monkeypatch.delenv("CHILTEPIN_CLIENT_ID")
    monkeypatch.delenv("CHILTEPIN_CLIENT_SECRET")
    with pytest.raises(LoginRequiredError, match="run: chiltepin login"):
        backend.ls("a", "/")
    assert globus.requests == []


def test_a_session_policy_names_the_domain(backend, globus):
    """If a site requires a fresh login, the error names the command and its options."""
    globus.collection("hpc-scratch").session_policy = "example.org"
    with pytest.raises(LoginRequiredError, match=r"run: chiltepin login --session-domain example\.org"):
        backend.ls("b", "/")


def test_a_consent_is_missed_before_anything_is_submitted(backend, globus, laptop, monkeypatch):
    """A missing consent is reported under the endpoint's name before the first submission."""
    import logins

    monkeypatch.delenv("CHILTEPIN_CLIENT_ID")
    monkeypatch.delenv("CHILTEPIN_CLIENT_SECRET")
    mapped = globus.collection("hpc-scratch")
    mapped.entity_type, mapped.needs_consent = "GCSv5_mapped_collection", True
    logins.log_in()
    with pytest.raises(ConsentRequiredError, match=r"run: chiltepin login --consent b$"):
        backend.submit(move(), backend.new_submission_id())
    assert globus.tasks == {}
    logins.log_in(mapped.id)
    assert backend.submit(move(), backend.new_submission_id()).task_id in globus.tasks


def test_service_credentials_consent_for_themselves(guided, globus, laptop):
    """Service credentials need no consent from a user."""
    mapped = globus.collection("hpc-scratch")
    mapped.entity_type, mapped.needs_consent = "GCSv5_mapped_collection", True
    assert guided.run(move()).state is TaskState.SUCCEEDED


def test_an_expired_token_is_renewed_silently(guided, globus, laptop):
    """Tokens that expire in the middle of a run are renewed, without an error."""
    pending = guided.start(move())
    globus.authority.expire_all()
    guided.live()
    assert pending.future.result(0).state is TaskState.SUCCEEDED


def test_a_client_of_the_callers_own_is_used(backend, globus, laptop):
    """Requests use the client that the caller gives, with its login; any other type is rejected."""
    with_theirs = backend.with_client(globus.client())
    globus.revoke_tokens()
    with pytest.raises(LoginRequiredError, match="client= must log in again; renew its token") as caught:
        with_theirs.ls("a", "/")
    assert "chiltepin login" not in str(caught.value)
    assert {entry.name for entry in backend.ls("a", "/")} == {"file", "tree"}
    with pytest.raises(TypeError, match=r"of type str; give a globus_sdk\.TransferClient"):
        backend.with_client("token")


def test_a_client_of_the_callers_own_that_lacks_a_consent_is_told_so(backend, globus, laptop):
    """If the caller's client lacks a consent, the error asks for another token of that client."""
    with_theirs = backend.with_client(globus.client())
    refused = {"code": "ConsentRequired", "message": "Missing", "required_scopes": ["x"]}
    globus.fail_next(9, 403, path="/operation/", body=json.dumps(refused).encode())
    with pytest.raises(ConsentRequiredError, match="client= lacks a consent; give it a token with that consent"):
        with_theirs.ls("a", "/")


def test_another_globus_in_the_environment_is_another_globus(backend, globus, tmp_path, monkeypatch):
    """When the environment names another Globus, cached data is discarded."""
    from chiltepin.testing.simulator import Simulator

    assert backend.ls("a", "/") == []
    with Simulator({"my-laptop": tmp_path / "other"}) as other:
        (tmp_path / "other" / "there").touch()
        for name, value in other.environment().items():
            monkeypatch.setenv(name, value)
        assert [entry.name for entry in backend.ls("my-laptop", "/")] == ["there"]


def _spoil(globus, **mishap):
    globus.fail_next(9, **mishap)


#: For each refusal: how to prepare the simulator, the folder to list, and the error that is raised.
REFUSALS = {
    "unknown endpoint": (lambda _: None, ("nowhere", "/"), EndpointNotFoundError),
    "missing folder": (lambda _: None, ("a", "/missing"), PathNotFoundError),
    "a file": (lambda _: None, ("a", "/file"), BackendError),
    "denied": (
        lambda globus: globus.collection("my-laptop").denied.add("/tree"),
        ("a", "/tree"),
        PermissionDeniedError,
    ),
    "off": (
        lambda globus: setattr(globus.collection("my-laptop"), "connected", False),
        ("a", "/"),
        EndpointUnavailableError,
    ),
    "down": (lambda globus: _spoil(globus, status=503), ("a", "/"), ServiceUnavailableError),
    "no JSON": (lambda globus: _spoil(globus, status=200, body=b"<html>"), ("a", "/"), ServiceUnavailableError),
    "no sense": (
        lambda globus: _spoil(globus, status=200, path="/ls", body=b'{"DATA": [{"name": 1}]}'),
        ("a", "/"),
        ServiceUnavailableError,
    ),
    "dropped": (lambda globus: _spoil(globus, drop=True), ("a", "/"), ServiceUnavailableError),
    "odd": (lambda globus: _spoil(globus, status=418, code="Teapot"), ("a", "/"), BackendError),
}


def test_a_token_that_ends_in_the_middle_of_a_hiccup_is_renewed(backend, globus):
    """A 401 that follows a 502 leads to a new token, as a 401 alone does."""
    backend.new_submission_id()
    globus.revoke_tokens()
    globus.fail_next(1, 502)
    assert backend.new_submission_id()
    assert [one.status for one in globus.requests if "submission_id" in one.path][1:] == [502, 401, 401, 200]


DEEP = b"[" * 100_000

#: For each path, responses with HTTP 200 that are invalid.
HALF = {
    "/submission_id": [b'{"value": null}', b'{"value": 7}', b'{"value": ""}', DEEP],
    "/transfer": [b'{"task_id": null}', b'{"task_id": 7}', b'{"task_id": "x"}', DEEP],
    "/task_list": [b'{"DATA": {}}', b'{"DATA": [7]}', DEEP],
    "/cancel": [b"{}", b'{"code": ""}', DEEP],
    "/skipped_errors": [b'{"DATA": {}}', b'{"DATA": [1]}', DEEP],
    "/endpoint_search": [b'{"DATA": {}}', DEEP],
    "/ls": [b'{"DATA": {}}', DEEP],
}


@pytest.mark.usefixtures("no_collection")
@pytest.mark.parametrize(("path", "body"), [(path, body) for path, bodies in HALF.items() for body in bodies])
def test_half_an_answer_is_no_answer(backend, globus, laptop, path, body):
    """An invalid response raises a transient ServiceUnavailableError, and the next call works."""
    request = move(origin="/file")
    request = replace(request, items=(*request.items, move("a", "b", "/no", "/no").items[0]), skip_source_errors=True)
    handle = backend.submit(request, backend.new_submission_id())
    globus.clock.advance(30)
    ask = {
        "/submission_id": backend.new_submission_id,
        "/transfer": lambda: backend.submit(move(goal="/other"), backend.new_submission_id()),
        "/task_list": lambda: backend.poll([handle]),
        "/cancel": lambda: backend.cancel(handle),
        "/skipped_errors": lambda: backend.outcomes(handle, request),
        "/endpoint_search": lambda: backend.ls("my-laptop", "/"),
        "/ls": lambda: backend.ls("a", "/"),
    }[path]
    globus.fail_next(1, 200, path=path, body=body)
    with pytest.raises(ServiceUnavailableError, match="could not parse") as caught:
        ask()
    assert caught.value.transient
    ask()


@pytest.fixture
def two(backend, globus, laptop):
    """Two tasks: one with a missing source and one that has succeeded."""
    handles = [backend.submit(move(origin=path, goal=path), backend.new_submission_id()) for path in ("/none", "/file")]
    globus.clock.advance(30)
    return handles


@pytest.mark.parametrize("body", [b'{"DATA": [{}]}', b'{"DATA": [{"task_id": null, "status": null}]}', b'{"DATA": []}'])
def test_a_list_that_leaves_a_task_out_is_not_the_last_word(backend, globus, two, body):
    """Each task that is missing from a list response is queried separately."""
    globus.fail_next(1, 200, path="/task_list", body=body)
    assert [status.state for status in backend.poll(two)] == [TaskState.ACTIVE, TaskState.SUCCEEDED]


def test_events_that_cannot_be_told_hold_no_task_up(backend, globus, two):
    """If reading one task's events fails, both tasks still report their states, and the events are not read again."""
    globus.fail_next(1000, 500, code="InternalError", path="event_list")
    for _ in range(2):
        assert [status.state for status in backend.poll(two)] == [TaskState.ACTIVE, TaskState.SUCCEEDED]
    assert len([one for one in globus.requests if "event_list" in one.path]) == 3, "once, and twice by the SDK"


def test_a_document_that_cannot_be_told_holds_no_task_up(backend, globus, two):
    """A task whose document is invalid counts as running; the end of the other task is reported."""

    def rewrite(_method, path, document):
        told = document["DATA"] if "task_list" in path else [document] if re.search(r"/task/[0-9a-f-]+$", path) else []
        for task in told:
            if task["nice_status"] == "FILE_NOT_FOUND":
                task["status"] = ["ACTIVE"]
        return document

    globus.rewrite_answers(rewrite)
    bad, good = backend.poll(two)
    assert (bad.state, good.state) == (TaskState.ACTIVE, TaskState.SUCCEEDED)
    assert "could not parse" in bad.reason


@pytest.mark.parametrize("key", ["task_id", "status", "subtasks_skipped_errors"])
def test_half_a_task_is_no_task(backend, globus, laptop, key):
    """A task document without a required key is ignored: the task counts as running."""
    handle = backend.submit(move(), backend.new_submission_id())
    globus.clock.advance(30)

    def rewrite(_method, path, document):
        for task in document["DATA"] if "task_list" in path else [document] if "/task/" in path else []:
            del task[key]
        return document

    globus.rewrite_answers(rewrite)
    [status] = backend.poll([handle])
    assert status.state is TaskState.ACTIVE
    assert "could not parse" in status.reason
    globus.rewrite_answers(None)
    assert backend.poll([handle])[0].state is TaskState.SUCCEEDED


@pytest.mark.parametrize(
    ("code", "said", "borne"),
    [
        ("ExternalError", "Unable to scan endpoint. The server may be too busy", True),
        ("ExternalError.DirListingFailed.ConnectFailed", "Connection refused", True),
        ("ExternalError.DirListingFailed.GCDisconnected", "Not connected", True),
        ("EndpointError", "Command timed out", True),
        ("ExternalError.DirListingFailed.PermissionDenied", "No", False),
        ("ExternalError.DirListingFailed.NotDirectory", "No", False),
        ("ExternalError.MkdirFailed.Exists", "No", False),
        ("ExternalError", "Error (list): Permission denied", False),
        ("ExternalError", "Error (stat): No such file or directory", False),
        ("ExternalError.DirListingFailed.LoginFailed", "No", False),
    ],
)
def test_an_endpoint_that_may_recover_is_told_from_one_that_will_not(backend, globus, laptop, code, said, borne):
    """An external error at submission is retried, unless its code or message says that retrying is useless."""
    body = json.dumps({"code": code, "message": said, "request_id": "x", "resource": "/transfer"}).encode()
    globus.fail_next(1, 502, path="/transfer", method="POST", body=body)
    with pytest.raises(BackendError) as caught:
        backend.submit(move(), backend.new_submission_id())
    assert isinstance(caught.value, EndpointUnavailableError) is borne
    assert not caught.value.transient


def test_one_path_can_be_asked_for(backend, globus, laptop):
    """Files and folders exist, missing paths do not, and an invalid response raises ServiceUnavailableError."""
    assert [backend.exists("a", path) for path in ("/file", "/", "/missing", "/file/below")] == [
        True,
        True,
        False,
        False,
    ]
    for body in (b"{}", b'{"type": null}', b'{"type": []}', b"[]", b"null"):
        globus.fail_next(1, 200, path="/stat", body=body)
        with pytest.raises(ServiceUnavailableError):
            backend.exists("a", "/file")


def test_what_is_over_is_forgotten(guided, backend, laptop):
    """No events are kept for tasks that have ended."""
    for number in range(3):
        guided.run(move(origin=f"/missing {number}"))
    assert backend._tasks._events == {}


@pytest.mark.parametrize("theirs", [False, True], ids=["our client", "their client"])
@pytest.mark.parametrize("refusal", REFUSALS)
def test_no_object_of_the_sdk_and_no_token_leaves(backend, globus, laptop, refusal, theirs):
    """Every refusal raises a Chiltepin error that can be pickled and holds no SDK error and no token."""
    token = globus.token
    backend = backend.with_client(globus.client()) if theirs else backend
    spoil, where, kind = REFUSALS[refusal]
    spoil(globus)
    with pytest.raises(ChiltepinError) as caught:
        backend.ls(*where)
    error = caught.value
    assert type(error) is kind
    assert error.__context__ is None
    assert error.__cause__ is None
    pickled = pickle.dumps(error)
    assert str(pickle.loads(pickled)) == str(error)  # noqa: S301 - our own
    assert b"globus_sdk" not in pickled
    for text in (pickled.decode("latin-1"), repr(error), json.dumps(vars(error), default=repr)):
        assert token not in text


def test_a_backend_stays_in_its_process(backend):
    """Pickling a backend, which holds a login, raises an error that says so."""
    with pytest.raises(TypeError, match="cannot be sent to another process"):
        pickle.dumps(backend)


@pytest.mark.parametrize(
    ("places", "options", "sentence"),
    [
        ({}, {"notfy": True}, "no option 'notfy'; did you mean 'notify'"),
        ({}, {"notify": "yes"}, "data.globus.notify is 'yes'; write true or false"),
        ({"x": {}}, {}, "Endpoint 'x' has no collection"),
    ],
)
def test_settings_that_make_no_sense_are_refused(places, options, sentence):
    """An invalid option, value or endpoint is named, with the correct form."""
    with pytest.raises(ConfigError, match=sentence):
        GlobusBackend.from_config(places, options)
