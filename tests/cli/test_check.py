"""``chiltepin check``."""

from __future__ import annotations

import json
import os

import pytest
from terminals import Terminal


def rows(out):
    """The cells of the table, by endpoint."""
    return {line.split()[0]: line.split()[1:] for line in out.splitlines()[2:] if len(line.split()) > 2}


def test_all_is_well(world):
    """Each stage of each endpoint is ok; a backend without logins has no login stage."""
    ended = world.run("check")
    assert (ended.code, ended.err) == (0, "")
    login = "ok" if world.simulator else "-"
    assert rows(ended.out) == {name: ["ok", login, login, "ok", "ok"] for name in "ab"}


def test_write_moves_a_file_and_leaves_nothing(world):
    """--write copies a small file to each endpoint and deletes it; existing files are kept."""
    (world.a / "mine").write_bytes(b"1")
    found = world.json("check", "--write")
    assert [("write" in one["passed"], one["ok"]) for one in found] == [(True, True)] * 2
    assert (os.listdir(world.a), os.listdir(world.b)) == (["mine"], [])
    if world.simulator:
        assert {task.document()["type"] for task in world.simulator.tasks.values()} == {"TRANSFER", "DELETE"}


def test_write_where_there_is_nothing_to_copy(service):
    """If there is no small file to copy, the message says so, and nothing is created."""
    ended = service.run("check", "--write", "a")
    assert ended.code == 1
    assert "put a file of less than a megabyte" in ended.out


def test_a_new_sandbox_is_well(local):
    """A sandbox folder that does not exist yet is ok, because the first transfer creates it."""
    local.a.rmdir()
    local.b.rmdir()
    ended = local.run("check")
    assert (ended.code, rows(ended.out)["b"]) == (0, ["ok", "-", "-", "ok", "ok"])
    assert f"b: Its folder {local.b} does not exist yet; the first transfer creates it." in ended.out.replace("\n", " ")
    ended = local.run("check", "--write")
    assert ended.code == 0, ended.out + ended.err


def test_the_check_of_one_endpoint_does_not_fail_another(local, set_switch_interval):
    """Endpoints whose folders do not exist yet are ok, although the check of one makes the folder of another."""
    local.write(endpoints={f"e{number}": {} for number in range(8)})
    set_switch_interval(1e-6)
    for _ in range(20):
        ended = local.run("check", "--write")
        assert ended.code == 0, ended.out + ended.err
        for folder in local.a.parent.glob("e?"):
            folder.rmdir()


@pytest.mark.parametrize("settled", [True, False], ids=["below a root", "a root"])
def test_the_cure_of_a_missing_folder_cures(world, settled):
    """The check is right about whether the first transfer creates a missing folder."""
    if world.backend == "globus":
        pytest.skip("there the folders are not ours")
    (world.a / "x").write_bytes(b"1")
    if settled:
        endpoints = world.data["endpoints"]
        world.write(endpoints={**endpoints, "b": {**endpoints["b"], "home": "/project"}})
    else:
        world.b.rmdir()
    said = world.run("check", "b").out.replace("\n", "")
    made = world.run("transfer", "a:/x", "b:x").code == 0
    assert ("he first transfer creates it" in said) is made is (settled or world.backend == "local")
    assert str(world.b / "project" if settled else world.b) in said


def test_a_missing_bucket_has_one_cure(local, bucket, monkeypatch):
    """A bucket that does not exist fails the listing, with advice about the bucket and not about folders."""
    for name in ("key", "secret"):
        monkeypatch.setenv(name.upper(), bucket.login[name])
    bucket.name = "no-such-bucket"
    place = bucket.settings(key={"env": "KEY"}, secret={"env": "SECRET"})
    local.write(backend="filesystem", endpoints={"s": {"filesystem": place}, "d": {"filesystem": str(local.a / "no")}})
    ended = local.run("check", "-F", "json")
    disk, cloud = json.loads(ended.out)
    assert (cloud["failed"], cloud["cure"], disk["failed"]) == ("list", None, "list")
    assert "The bucket does not exist; create it, or correct the URL of the endpoint" in cloud["trouble"]


def test_a_login_that_is_missing_is_exit_code_4(service, monkeypatch):
    """Without a login the login stage fails, the message gives the command to run, and the exit code is 4."""
    monkeypatch.delenv("CHILTEPIN_CLIENT_ID")
    monkeypatch.delenv("CHILTEPIN_CLIENT_SECRET")
    ended = service.run("check", "a")
    assert ended.code == 4
    assert rows(ended.out)["a"] == ["ok", "failed", "-", "-", "-"]
    assert "run: chiltepin login" in ended.out


SCOPE = "urn:globus:auth:scope:transfer.api.globus.org:all[*https://auth.globus.org/scopes/{}/data_access]"


def test_a_consent_that_is_missing_is_exit_code_4(service):
    """A missing consent fails the consent stage, the message gives the command, and the exit code is 4."""
    wanted = service.simulator.collection("a").id
    answer = {"code": "ConsentRequired", "message": "Missing consent", "required_scopes": [SCOPE.format(wanted)]}
    service.simulator.fail_next(status=403, path="/ls", body=json.dumps(answer).encode())
    ended = service.run("check", "a")
    assert ended.code == 4
    assert rows(ended.out)["a"] == ["ok", "ok", "failed", "-", "-"]
    assert f"chiltepin login --consent {wanted}" in ended.out


@pytest.mark.parametrize(
    ("trouble", "stage", "code"),
    [
        ({"connected": False}, "reach", 1),
        ({"session_policy": "example.edu"}, "login", 4),
        ({"denied": {"/"}}, "list", 1),
        ({"default_directory": "/nowhere"}, "list", 1),
        ({"paused": True}, "reach", 1),
    ],
    ids=str,
)
def test_a_trouble_of_a_collection_fails_its_stage(service, trouble, stage, code):
    """A problem with one collection fails the stage that it concerns and does not affect the other endpoint."""
    collection = service.simulator.collection("a")
    for name, value in trouble.items():
        setattr(collection, name, value)
    ended = service.run("check", "-F", "json")
    a, b = json.loads(ended.out)
    assert (a["failed"], b["ok"], ended.code) == (stage, True, code)


def test_a_hostile_message_does_not_reach_the_terminal(service):
    """A message of the service is shown on one line with its escape sequences escaped."""
    answer = {"code": "ExternalError.DirListingFailed", "message": "\x1b[2Jgone\nb: ok"}
    service.simulator.fail_next(status=502, path="/ls", body=json.dumps(answer).encode())
    ended = service.run("check", "a")
    assert ended.code == 1
    assert "\x1b" not in ended.out
    assert not [line for line in ended.out.splitlines() if line.startswith("b: ok")]


def test_an_unknown_collection_fails_at_the_settings(service):
    """A UUID that Globus does not know fails the settings stage."""
    service.write(endpoints={"a": {"globus": "12345678-1234-1234-1234-123456789abc"}})
    [found] = json.loads(service.run("check", "-F", "json").out)
    assert (found["failed"], found["ok"]) == ("settings", False)


def test_an_endpoint_of_another_backend_is_no_failure(local):
    """An endpoint that is not configured for the backend is reported; the exit code is 0 unless it was named."""
    ended = local.run("check", "--backend", "globus")
    assert ended.code == 0
    assert "a: it is not configured for backend 'globus'; to use it there, add 'globus:' below it." in ended.out
    assert local.run("check", "a", "--backend", "globus").code == 1


@pytest.mark.parametrize(("words", "code", "said"), [(("nowhere",), 1, "known: a, b"), (("--backend", "no"), 2, "no")])
def test_an_unknown_endpoint_is_named(local, words, code, said):
    """An unknown endpoint fails the check; an unknown backend is a usage error."""
    ended = local.run("check", *words)
    assert (ended.code, said in ended.out + ended.err) == (code, True)


@pytest.mark.parametrize("columns", [80, 120])
def test_the_table_on_a_terminal(local, columns):
    """On a terminal the table has a frame that fits the width, and the advice is below it."""
    local.b.rmdir()
    local.write(backend="filesystem")
    with Terminal(local, "check", "--write", columns=columns) as terminal:
        assert terminal.ended() == 1
    table = [line for line in terminal.shown.splitlines() if line.split()[:1] in (["Endpoint"], ["a"], ["b"])]
    assert [line.split()[-1] for line in table] == ["Write", "ok", "-"]
    assert all(len(line.rstrip()) <= columns for line in table)
    assert "mkdir -p" in terminal.shown
