"""``chiltepin task``: list, show, wait for and cancel the tasks of other processes."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from waiting import until
from warm import warm_command


@pytest.fixture
def moved(world):
    """A completed transfer; returns the world and the task id."""
    (world.a / "x").write_bytes(b"12345")
    done = world.json("transfer", "a:/x", "b:/x", "--label", "Spring run")
    return world, done["task_ids"][0]


def detached(service):
    """Submit a task that stays active; return its id."""
    service.simulator.settings.task_latency = 3600.0
    (service.a / "x").write_bytes(b"12345")
    return service.json("transfer", "a:/x", "b:/x", "--detach", "--label", "slow")[0]["task_id"]


# On each backend.


def test_a_task_is_listed_shown_and_awaited(moved):
    """An ended task is listed with its label and shown with its results; waiting for it exits with 0 at once."""
    world, task_id = moved
    [listed] = world.json("task", "list")
    assert (listed["task_id"], listed["state"], listed["kind"]) == (task_id, "succeeded", "transfer")
    assert (listed["label"], listed["backend"]) == ("Spring run", world.backend)
    shown = world.run("task", "show", task_id)
    assert shown.code == 0
    assert "Status:            SUCCEEDED\n" in shown.out
    assert "Bytes Transferred: 5\n" in shown.out
    waited = world.run("task", "wait", task_id)
    assert (waited.code, waited.out, waited.err) == (0, "", "")
    assert world.json("task", "wait", task_id) == world.json("task", "show", task_id)


def test_the_table_has_a_line_for_each_task(moved):
    """The table has the columns of ``globus task list``; filters select tasks."""
    world, task_id = moved
    assert world.run("delete", "b:/x", "--yes").code == 0
    head, newest, older = world.run("task", "list").out.splitlines()
    assert head.split("  ")[0] == "Task ID"
    assert newest.split()[1:4] == ["SUCCEEDED", "DELETE", "b"]
    assert older.split()[:5] == [task_id, "SUCCEEDED", "TRANSFER", "a", "b"]
    for words, found in {
        ("--limit", 1): ["delete"],
        ("--filter-type", "TRANSFER"): ["transfer"],
        ("--filter-status", "FAILED"): [],
        ("--filter-status", "FAILED", "--filter-status", "SUCCEEDED"): ["delete", "transfer"],
        ("--filter-label", "spring*"): ["transfer"],
    }.items():
        assert [one["kind"] for one in world.json("task", "list", *words)] == found, words


def test_a_failure_has_its_reason(world):
    """A failed task is shown with its reason and its error events; waiting for it exits with 1."""
    assert world.run("transfer", "a:/missing", "b:/x").code == 1
    [listed] = world.json("task", "list", "--filter-status", "FAILED")
    task_id = listed["task_id"]
    shown = world.json("task", "show", task_id)
    assert shown["reason"]
    waited = world.run("task", "wait", task_id)
    assert waited.code == 1
    assert task_id in waited.err
    errors = world.json("task", "events", task_id, "--filter-errors")
    assert errors
    assert all(event["is_error"] for event in errors)
    others = world.json("task", "events", task_id, "--filter-non-errors")
    assert len(world.json("task", "events", task_id, "--limit", 100)) == len(errors) + len(others)


@pytest.mark.parametrize("words", [(), ("-r",), ("-r", "--workers", "2")], ids=str)
def test_a_refused_option_leaves_no_task(local, words):
    """An option that the backend lacks is refused with the backend's name and records no task."""
    ended = local.run("transfer", "a:/x", "b:/x", "--source-local-user", "ada", *words)
    assert ended.code
    assert "--source-local-user 'ada' is not possible on backend 'local'" in ended.err
    assert local.json("task", "list") == []


def test_a_request_that_the_service_cannot_do_leaves_no_task(service):
    """Options that Globus cannot combine safely are refused before anything is submitted or recorded."""
    (service.a / "folder").mkdir()
    words = ("-r", "--delete-destination-extra", "--exclude", "*.tmp")
    ended = service.run("transfer", "a:/folder", "b:/folder", *words)
    assert ended.code
    assert "use either filters or" in ended.err
    assert service.json("task", "list") == []
    assert not [request for request in service.simulator.requests if request.path.endswith("/transfer")]


def test_an_unknown_task_is_exit_code_1(world):
    """Each command about one task exits with 1 for an unknown id."""
    for words in (("show",), ("wait",), ("cancel",), ("events",)):
        ended = world.run("task", *words, "12345678-1234-1234-1234-123456789abc")
        assert (ended.code, ended.out) == (1, ""), words
        assert ended.err.count("\n") == 1


@pytest.mark.parametrize("task_id", ["", "none", "../../x", "a?b#c", "12345678-1234-1234-1234-123456789abc/cancel"])
def test_an_id_that_is_not_a_uuid_is_not_sent(service, task_id):
    """Each command about one task rejects an id that is not a UUID, and sends no request with it."""
    for words in ("show", "wait", "cancel", "events"):
        service.simulator.clear_requests()
        ended = service.run("task", words, task_id)
        assert (ended.code, ended.out) == (1, ""), words
        assert "is not the id of a Globus task; give a UUID from: chiltepin task list" in ended.err
        assert not [one.path for one in service.simulator.requests if one.path != "/v2/oauth2/token"]


def test_a_task_that_has_ended_is_not_canceled(moved):
    """Canceling an ended task succeeds and reports that the task was already complete."""
    world, task_id = moved
    assert world.json("task", "cancel", task_id) == [{"task_id": task_id, "code": "TaskComplete"}]
    assert world.run("task", "cancel", "--all").code == 1
    assert world.run("task", "cancel").code == 2
    assert world.run("task", "cancel", task_id, "--all").code == 2


# On this machine.


class Slowly(BaseHTTPRequestHandler):
    """Serves a file of 100 MB slowly, in small pieces."""

    never = threading.Event()

    def do_HEAD(self):
        """Send the size of the file."""
        self.send_response(200)
        self.send_header("Content-Length", "100000000")
        self.end_headers()

    def do_GET(self):
        """Send the file until the client disconnects."""
        self.do_HEAD()
        with contextlib.suppress(OSError):
            for _ in range(1000):
                self.wfile.write(b"x" * 100_000)
                self.never.wait(0.05)

    def log_message(self, *words):
        """Log nothing."""


@pytest.fixture
def web():
    """The URL of this web server."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Slowly) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_what_another_process_moves_is_canceled(local, web):
    """A transfer of this machine stops when another process cancels it, says so, and leaves no file."""
    endpoints = {"a": {"filesystem": web}, "b": {"filesystem": str(local.b)}}
    local.write(backend="filesystem", endpoints=endpoints)
    with local.process("transfer", "a:/big", "b:/big", stderr=subprocess.PIPE, text=True) as mover:
        live = []
        until(lambda: live.extend(local.json("task", "list", "--filter-status", "ACTIVE")) or live, 60)
        task_id = live[0]["task_id"]
        assert local.json("task", "cancel", task_id) == [{"task_id": task_id, "code": "Canceled"}]
        _, said = mover.communicate(timeout=60)
    assert mover.returncode == 1
    assert "was canceled" in said
    assert local.json("task", "show", task_id)["state"] == "canceled"
    assert local.run("task", "wait", task_id).code == 1
    assert list(local.b.iterdir()) == []
    assert not list(Path(os.environ["CHILTEPIN_JOURNAL"]).glob("*.stop"))


# At a service.


def test_a_detached_task_is_canceled(service):
    """Another process can cancel a detached task and see how it ended."""
    task_id = detached(service)
    assert service.json("task", "show", task_id)["state"] == "active"
    assert service.json("task", "cancel", "--all") == [{"task_id": task_id, "code": "Canceled"}]
    assert service.json("task", "show", task_id)["state"] == "canceled"
    assert service.run("task", "wait", task_id).code == 1


@pytest.mark.parametrize(("words", "code"), [((), 1), (("--timeout-exit-code", 75), 75)])
def test_a_timeout_has_its_exit_code(service, words, code):
    """A task continues after the timeout of a wait, which exits with the requested code."""
    task_id = detached(service)
    waited = service.run("task", "wait", task_id, "--timeout", 0.3, "--polling-interval", 0.1, "-H", *words)
    assert (waited.code, waited.out) == (code, "")
    assert waited.err.startswith("..")
    assert service.json("task", "show", task_id)["state"] == "active"
    assert service.run("task", "wait", task_id, "--timeout-exit-code", 2).code == 2


def test_waiting_ends_with_the_task(service):
    """A wait ends when its task ends."""
    task_id = detached(service)
    ending = threading.Timer(0.5, service.simulator.task(task_id).fail, ["QUOTA_EXCEEDED", "the disk is full"])
    ending.start()
    waited = service.run("task", "wait", task_id, "--polling-interval", 0.1)
    ending.join()
    assert waited.code == 1
    assert "QUOTA_EXCEEDED" in waited.err


def test_administrators_are_quoted(service):
    """An administrator's messages about a pause and a cancellation are shown."""
    task_id = detached(service)
    service.simulator.task(task_id).pause("Maintenance until Monday")
    assert "Maintenance until Monday" in service.run("task", "show", task_id).out
    service.simulator.task(task_id).cancel_as_admin("Scratch is gone", "DESTINATION")
    assert (
        "An administrator of the destination canceled it: Scratch is gone" in service.run("task", "wait", task_id).err
    )


@pytest.mark.parametrize(
    "words",
    [("show",), ("wait",), ("wait", "--timeout", "1"), ("cancel",)],
    ids=" ".join,
)
@pytest.mark.parametrize("state", ["active", "failed", "succeeded", "unknown"])
def test_the_exit_codes_are_those_of_globus(service, words, state):
    """``globus task`` and ``chiltepin task`` exit with the same code for the same task."""
    if words == ("wait",) and state == "active":
        pytest.skip("does not end")
    codes = []
    for tool in ("globus", "chiltepin"):
        task_id = detached(service)
        control = service.simulator.task(task_id)
        if state == "failed":
            control.fail()
        elif state == "succeeded":
            service.simulator.settings.task_latency = 0.0
            control.cancel_as_admin("")
            task_id = service.json("transfer", "a:/x", f"b:/{tool}", "--detach")[0]["task_id"]
            assert service.run("task", "wait", task_id, "--polling-interval", 0.1).code == 0
        elif state == "unknown":
            task_id = "12345678-1234-1234-1234-123456789abc"
        typed = [warm_command(tool), "task", words[0], task_id, *words[1:]]
        codes.append(subprocess.run(typed, capture_output=True, check=False, timeout=60).returncode)
        if state in ("active", "unknown"):
            control.cancel_as_admin("")
    assert codes[0] == codes[1]


def test_a_list_of_many_tasks_is_complete(service):
    """A list contains each of several tasks once."""
    (service.a / "x").write_bytes(b"1")
    for number in range(12):
        service.simulator.settings.pending_limit = 1000
        assert service.run("transfer", "a:/x", f"b:/{number}", "--detach").code == 0
    listed = json.loads(service.run("task", "list", "--limit", 1000, "-F", "json").out)
    assert {one["task_id"] for one in listed} == set(service.simulator.tasks)
