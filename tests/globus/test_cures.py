"""Every command that an error message about Globus names runs as printed and fixes the problem."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from browser_login import run_login
from waiting import until
from warm import warm_command

from chiltepin import transfer
from chiltepin.backends.globus import GlobusBackend
from chiltepin.errors import BackendError, LoginRequiredError, TaskError
from chiltepin.testing.simulator import Simulator
from chiltepin.testing.simulator.oauth import User

#: A command in a message: it ends at a parenthesis, the next sentence, `then:`, or the end of the message.
COMMAND = re.compile(r"(?:[Tt]ype|run)(?: again)?: (chiltepin .+?)(?= \(|\. See|\.$|, then: |$)")
THEN = re.compile(r"then: (chiltepin .+?)\.?$")

SETTINGS = """\
data:
  fault_grace: 0.2
  journal: false
  endpoints:
    laptop: {{globus: {laptop}}}
    site: {{globus: {site}}}
"""


@pytest.fixture
def globus(tmp_path, monkeypatch):
    """A simulated Globus with a file to transfer and settings, for a user without service credentials."""
    monkeypatch.chdir(tmp_path)
    with Simulator({"laptop": tmp_path / "laptop", "site": tmp_path / "site"}, request_rate=None) as simulator:
        for name, value in simulator.environment().items():
            monkeypatch.setenv(name, value)
        for name in ("CHILTEPIN_CLIENT_ID", "CHILTEPIN_CLIENT_SECRET"):
            monkeypatch.delenv(name)
        places = {name: simulator.collection(name).id for name in ("laptop", "site")}
        Path("chiltepin.yaml").write_text(SETTINGS.format(**places))
        Path("laptop/file").write_text("content")
        yield simulator


def run(command):
    """Run a command as printed; at a login, open the link and enter the code."""
    program, *words = shlex.split(command)
    assert program == "chiltepin"
    extra = ["--no-local-server"] if words[0] == "login" and "--no-local-server" not in words else []
    ended = run_login([warm_command(program), *words, *extra])
    assert ended.returncode == 0, ended.stdout


def move():
    """Transfer the file."""
    return transfer("laptop", "site", "/file", "/file", polling_interval=0.1)


def look():
    """List the site's folder with a new backend, as a new process would."""
    places = {name: {"collection": collection_id(name)} for name in ("site",)}
    backend = GlobusBackend.from_config(places, {})
    try:
        backend.ls("site", "/")
    finally:
        backend.close()
    return True


def collection_id(name):
    """Return the UUID of a collection from the settings."""
    return re.search(rf"{name}: {{globus: (\S+)}}", Path("chiltepin.yaml").read_text())[1]


def named(call):
    """Check that a call fails; return the commands that its message names."""
    with pytest.raises((BackendError, TaskError)) as caught:
        call()
    message = str(caught.value)
    return [COMMAND.search(message)[1], *THEN.findall(message)]


def cured(call):
    """Check that a call fails, then succeeds after the commands in its message; return the first command."""
    commands = named(call)
    for command in commands:
        run(command)
    assert call() is True
    return commands[0]


#: Authorization parameters of sites, by the command that the error has to name.
POLICIES = {
    "chiltepin login --session-domain uni.edu": "uni.edu",
    "chiltepin login --session-domain a.edu --session-domain b.lab.gov": {
        "session_required_single_domain": ["a.edu", "b.lab.gov"],
        "session_message": 'Say "friend" {and} enter.',
        "prompt": "login",
    },
    "chiltepin login --session-identity ada@uni.edu --session-identity 8a1f1a5e-1f5a-4f0e-9d7e-0123456789ab": {
        "session_required_identities": ["ada@uni.edu", "8a1f1a5e-1f5a-4f0e-9d7e-0123456789ab"]
    },
    "chiltepin login --session-policy 11111111-2222-4333-8444-555555555555": {
        "session_required_policies": ["11111111-2222-4333-8444-555555555555"]
    },
    "chiltepin login --session-mfa": {"session_required_mfa": True},
    "chiltepin login --session-domain a.edu --session-policy p1 --session-policy p2 --session-mfa": {
        "session_required_single_domain": ["a.edu"],
        "session_required_policies": ["p1", "p2"],
        "session_required_mfa": True,
        "session_required_identities": None,
    },
}


@pytest.mark.parametrize("command", POLICIES)
def test_a_session_policy_is_fulfilled_by_the_command(globus, command):
    """A transfer and a listing name the same command for a site's policy, and succeed after it."""
    run("chiltepin login")
    globus.collection("site").session_policy = POLICIES[command]
    assert named(look) == [command]
    assert cured(move) == command
    assert look() is True


def test_two_sites_with_policies_take_two_commands(globus):
    """If source and destination each require a session, the errors name one command after the other."""
    run("chiltepin login")
    globus.collection("laptop").session_policy = "one.edu"
    globus.collection("site").session_policy = {"session_required_mfa": True}
    with pytest.raises(TaskError) as caught:
        move()
    run(COMMAND.search(str(caught.value))[1])
    assert cured(move).startswith("chiltepin login --session-")


@pytest.mark.parametrize("kind", ["GCSv5_mapped_collection", "GCSv5_guest_collection", "GCP_mapped_collection"])
def test_a_consent_is_given_by_the_command(globus, kind):
    """The command adds consent for every kind of collection that requires it."""
    run("chiltepin login")
    site = globus.collection("site")
    site.entity_type, site.needs_consent = kind, True
    [command] = named(look)
    assert command.startswith("chiltepin login --consent ")
    assert cured(move) == command
    assert look() is True


def test_both_consents_and_a_session_are_brought_one_by_one(globus):
    """The commands in the errors provide all that is missing: consents for two collections and a session."""
    run("chiltepin login")
    for name in ("laptop", "site"):
        one = globus.collection(name)
        one.entity_type, one.needs_consent = "GCSv5_mapped_collection", True
    globus.collection("site").session_policy = "uni.edu"
    for _ in range(2):
        with pytest.raises((BackendError, TaskError)) as caught:
            move()
        run(COMMAND.search(str(caught.value))[1])
    assert move() is True


def broken_file():
    """Write invalid JSON to the token file."""
    file = Path(os.environ["CHILTEPIN_TOKENS"])
    file.parent.mkdir(parents=True)
    file.write_text("{")


def transfer_token_ended(globus):
    """Revoke only the tokens for Transfer; those for Auth stay valid."""
    authority = globus.authority
    ended = {token for token, grant in authority._grants.items() if grant.resource_server == "transfer.api.globus.org"}
    for token in ended:
        authority._grants.pop(token)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda _globus: Path(os.environ["CHILTEPIN_TOKENS"]).unlink(),
        lambda globus: globus.authority.revoke_all(),
        transfer_token_ended,
    ],
    ids=["not logged in", "revoked", "transfer only"],
)
def test_a_login_is_made_by_the_command(globus, spoil):
    """The command logs in a user whose login is missing, revoked, or revoked only at Transfer."""
    run("chiltepin login")
    spoil(globus)
    assert cured(look).startswith("chiltepin login")


def test_a_broken_token_file_is_deleted_and_made_anew(globus):
    """The error for a corrupt token file says to delete it and then log in."""
    broken_file()
    with pytest.raises(LoginRequiredError, match=r"delete it and run: chiltepin login$"):
        look()
    Path(os.environ["CHILTEPIN_TOKENS"]).unlink()
    run("chiltepin login")
    assert look() is True


def test_another_identity_logs_out_first(globus):
    """The error for a login as another user names the two commands that switch users."""
    run("chiltepin login")
    globus.authority.user = User(username="other@example.org", identity_id=collection_id("laptop"))
    failed = subprocess.run(
        [warm_command("chiltepin"), "login", "--force", "--no-local-server"],
        input="x\n",
        capture_output=True,
        text=True,
        check=False,
    )
    assert "run again: chiltepin login" in failed.stderr
    run("chiltepin logout")
    run("chiltepin login")
    assert look() is True


def test_a_suspended_task_is_asked_for_again_after_the_command(globus):
    """A task whose credentials have expired is stopped; after a new login the same transfer works."""
    run("chiltepin login")
    globus.settings.task_latency = 1e6
    with ThreadPoolExecutor(1) as pool:
        moving = pool.submit(move)
        until(lambda: globus.tasks)
        next(iter(globus.tasks.values())).set_inactive()
        with pytest.raises(TaskError) as caught:
            moving.result(30)
    globus.settings.task_latency = 0.0
    run(COMMAND.search(str(caught.value))[1])
    assert move() is True


def test_a_login_that_covers_too_little_is_made_anew(globus):
    """The command replaces a login with too few scopes, such as one from an earlier version."""
    run("chiltepin login")
    file = Path(os.environ["CHILTEPIN_TOKENS"])
    text = file.read_text()
    assert "transfer.api.globus.org:all" in text
    file.write_text(text.replace("transfer.api.globus.org:all", "transfer.api.globus.org:monitor_ongoing"))
    assert cured(look) == "chiltepin login --force"


def test_wrong_service_credentials_are_unset_for_a_login(globus, monkeypatch):
    """After the rejected service credentials are unset, as the message says, the login works."""
    for name, value in {**globus.environment(), "CHILTEPIN_CLIENT_SECRET": "wrong"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(LoginRequiredError, match=r"or unset both and run: chiltepin login$"):
        look()
    for name in ("CHILTEPIN_CLIENT_ID", "CHILTEPIN_CLIENT_SECRET"):
        monkeypatch.delenv(name)
    run("chiltepin login")
    assert look() is True


def test_service_credentials_are_told_that_they_have_no_session(globus, monkeypatch):
    """With service credentials, the error for a session policy and the named command say which variables to unset."""
    for name, value in globus.environment().items():
        monkeypatch.setenv(name, value)
    globus.collection("site").session_policy = "uni.edu"
    with pytest.raises(LoginRequiredError, match=r"--session-domain uni\.edu \(unset CHILTEPIN_CLIENT_ID and CHILT"):
        look()
    refused = subprocess.run(
        [warm_command("chiltepin"), "login", "--session-domain", "uni.edu"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert refused.returncode == 4
    assert "unset CHILTEPIN_CLIENT_ID and CHILTEPIN_CLIENT_SECRET" in refused.stderr
    for name in ("CHILTEPIN_CLIENT_ID", "CHILTEPIN_CLIENT_SECRET"):
        monkeypatch.delenv(name)
    run("chiltepin login --session-domain uni.edu")
    assert look() is True


def test_service_credentials_consent_for_themselves(globus, monkeypatch):
    """With service credentials, the command consents without a browser."""
    for name, value in globus.environment().items():
        monkeypatch.setenv(name, value)
    site = globus.collection("site")
    site.entity_type, site.needs_consent = "GCSv5_guest_collection", True
    assert cured(move).startswith("chiltepin login --consent ")
