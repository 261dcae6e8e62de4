"""Faults that a test can inject: responses, connections, tokens, rate limiting."""

from __future__ import annotations

import globus_sdk
import pytest
from globus_sdk.transport import RetryConfig
from simulated import refused

from chiltepin.testing.simulator import RunningClock, Simulator


def patient(world):
    """Return a client that retries like the SDK by default, but without delay."""
    return world.globus.client(retry_config=RetryConfig(backoff=lambda _: 0.0))


def statuses(world):
    """Return the statuses of all requests."""
    return [served.status for served in world.globus.requests]


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_an_answer_can_fail(world, status):
    """The next responses have the requested status, code and headers; later ones succeed."""
    world.globus.fail_next(2, status, "Broken", headers={"Retry-After": "7"})
    for _ in range(2):
        error = refused(world.client.task_list)
        assert (error.http_status, error.code, error.headers["Retry-After"]) == (status, "Broken", "7")
    assert world.client.task_list()["total"] == 0


def test_the_sdk_retries_what_it_should(world):
    """The SDK retries through five server errors, but does not retry an endpoint error."""
    world.globus.fail_next(5, 503)
    assert patient(world).task_list()["total"] == 0
    assert statuses(world) == [503] * 5 + [200]
    world.globus.clear_requests()
    world.globus.fail_next(5, 502, "ExternalError.DirListingFailed")
    assert refused(patient(world).task_list).http_status == 502
    assert statuses(world) == [502]


def test_only_what_matches_fails(world):
    """A fault for one method and path does not affect other requests."""
    world.globus.fail_next(1, 500, method="POST", path="/transfer")
    world.put("/in")
    assert world.client.task_list()["total"] == 0
    assert refused(world.transfer, ("/in", "/out")).http_status == 500
    assert world.moved(("/in", "/out"))["status"] == "SUCCEEDED"


def test_a_connection_can_be_dropped(world):
    """A dropped connection raises GlobusConnectionError, and the request is not executed."""
    world.put("/in")
    world.globus.fail_next(path="/transfer", drop=True)
    with pytest.raises(globus_sdk.GlobusConnectionError):
        world.transfer(("/in", "/out"))
    assert world.globus.tasks == {}
    assert statuses(world)[-1] == 0


@pytest.mark.parametrize("how", [{"drop": True}, {"status": 500, "code": "InternalError"}])
def test_a_reply_can_be_lost(world, how):
    """If the response is lost, the task exists, and the SDK's retry finds it by its submission id."""
    world.put("/in")
    world.globus.fail_next(path="/transfer", after=True, **how)
    answer = patient(world).submit_transfer(world.transfer_data(("/in", "/out")))
    assert (answer["code"], list(world.globus.tasks)) == ("Duplicate", [answer["task_id"]])


def test_an_answer_can_be_garbage(world):
    """A truncated body reaches the client unchanged."""
    world.globus.fail_next(1, 200, body=b'{"DATA": [')
    assert world.client.task_list().text == '{"DATA": ['


def test_an_answer_can_be_cut(world):
    """A body that is shorter than its Content-Length raises a network error in the client."""
    world.globus.fail_next(1, 200, body=b"{}", headers={"Content-Length": "99", "Connection": "close"})
    with pytest.raises(globus_sdk.NetworkError):
        world.client.task_list()
    assert world.client.task_list()["total"] == 0


def test_an_answer_can_be_late(world):
    """A slow request is executed before the delay, and its response is sent after it."""
    world.put("/in")
    world.globus.slow_next(40, path="/transfer")
    before = world.clock.time()
    task = world.task(world.transfer(("/in", "/out")))
    assert world.clock.time() - before == 40
    assert (task["status"], world.at("/out").exists()) == ("SUCCEEDED", True)


def test_a_running_clock_is_late_by_its_own_seconds(tmp_path):
    """A delay on a running clock lasts that many of the clock's seconds."""
    with Simulator({"a": tmp_path / "a"}, clock=RunningClock(speed=1000)) as globus:
        globus.slow_next(20)
        before = globus.clock.time()
        globus.client().task_list()
        assert globus.clock.time() - before >= 20


def test_connections_can_be_refused(world):
    """While the simulator is unplugged, every request fails; afterward, the same address works again."""
    world.put("/in")
    task_id = world.transfer(("/in", "/out"))
    for _ in range(2):
        world.globus.unplug()
    with pytest.raises(globus_sdk.GlobusConnectionError):
        world.client.task_list()
    world.clock.advance(1)
    for _ in range(2):
        world.globus.plug_in()
    assert world.task(task_id)["status"] == "SUCCEEDED"
    world.globus.unplug()


def test_a_token_can_be_revoked(world):
    """Revoked, expired, unknown and missing tokens get 401 AuthenticationFailed."""
    assert world.client.task_list()["total"] == 0
    world.globus.revoke_tokens()
    clients = [
        world.client,
        world.globus.client(authorizer=globus_sdk.AccessTokenAuthorizer("nonsense")),
        world.globus.client(authorizer=globus_sdk.NullAuthorizer()),
    ]
    for client in clients:
        error = refused(client.task_list)
        assert (error.http_status, error.code) == (401, "AuthenticationFailed")
    assert world.globus.client().task_list()["total"] == 0
    late = world.globus.client()
    world.clock.advance(49 * 3600)
    assert refused(late.task_list).http_status == 401


def test_requests_are_metered(world):
    """The request after 200 in ten seconds gets 429 with Retry-After, and succeeds after that time."""
    for _ in range(200):
        world.client.get_submission_id()
    error = refused(world.client.get_submission_id)
    assert error.http_status == 429
    world.clock.advance(int(error.headers["Retry-After"]))
    assert world.client.get_submission_id()["value"]


def test_metering_can_be_switched_off(world):
    """Without a request rate, no request is rejected."""
    world.globus.settings.request_rate = None
    for _ in range(250):
        world.client.get_submission_id()
    assert len(world.globus.requests) == 250


def test_requests_are_noted(world):
    """The list of requests records method, path, query and status, and contains no token."""
    world.client.task_list(limit=5)
    (served,) = world.globus.requests
    assert (served.method, served.path, served.query, served.status) == ("GET", "/v0.10/task_list", "limit=5", 200)
    assert served.time == world.clock.time()
    assert world.globus.token not in repr(world.globus.requests)
    world.globus.clear_requests()
    assert world.globus.requests == []
