"""The login that a workflow uses: how Chiltepin finds, refreshes, loses and protects it."""

from __future__ import annotations

import pickle
import subprocess
import sys
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import globus_sdk
import pytest
from logins import log_in

from chiltepin.backends.globus import auth, login
from chiltepin.backends.globus.credentials import COMPUTE_VARIABLES, ID_VARIABLE, SECRET_VARIABLE, choose_credentials
from chiltepin.backends.globus.token_storage import FILE_VARIABLE
from chiltepin.errors import (
    BackendError,
    ConfigError,
    ConsentRequiredError,
    LoginRequiredError,
    ServiceUnavailableError,
)
from chiltepin.testing.simulator import Simulator
from chiltepin.testing.simulator.oauth import Signing, User


def point_at(simulator, monkeypatch):
    """Point this process and its children at a simulator, without service credentials."""
    for name, value in simulator.environment().items():
        monkeypatch.setenv(name, value)
    for name in (ID_VARIABLE, SECRET_VARIABLE):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def globus(tmp_path, monkeypatch):
    """A simulated Globus with a collection that requires consent and one that does not, and a user without a login."""
    monkeypatch.setenv(FILE_VARIABLE, str(tmp_path / "state" / "tokens.json"))
    with Simulator({"laptop": tmp_path / "laptop"}, request_rate=None) as simulator:
        for name in ("scratch", "archive"):
            simulator.add_collection(name, tmp_path / name, entity_type="GCSv5_mapped_collection", needs_consent=True)
        point_at(simulator, monkeypatch)
        yield simulator


def service_credentials(globus, monkeypatch, secret=None):
    """Set the simulator's service credentials, optionally with a wrong secret."""
    monkeypatch.setenv(ID_VARIABLE, globus.authority.client_id)
    monkeypatch.setenv(SECRET_VARIABLE, secret or globus.authority.client_secret)


def tokens_asked_for(globus):
    """Count the requests for a token."""
    return sum(served.path == "/v2/oauth2/token" for served in globus.requests)


def works(client):
    """Return whether the Transfer service accepts a client's request."""
    return client.get_submission_id()["value"] is not None


def test_without_a_login_there_is_no_client(globus):
    """Without a login, creating a client fails at once, names the command, and sends no request."""
    with pytest.raises(LoginRequiredError, match=r"run: chiltepin login$") as caught:
        auth.transfer_client()
    assert caught.value.backend == "globus"
    assert globus.requests == []


def test_a_login_serves_this_process_and_the_next(globus):
    """A stored login gives working clients in this process and in a later one, without a new token."""
    log_in()
    globus.clear_requests()
    assert works(auth.transfer_client())
    later = "from chiltepin.backends.globus import auth; print(auth.transfer_client().get_submission_id()['value'])"
    run = subprocess.run([sys.executable, "-c", later], capture_output=True, text=True, check=False, timeout=60)
    assert (run.returncode, run.stderr) == (0, "")
    assert tokens_asked_for(globus) == 0


def test_an_access_token_that_the_service_refuses_is_fetched_anew_each_time(globus):
    """A rejected access token is refreshed silently with one request, and later clients use the new token."""
    log_in()
    client = auth.transfer_client()
    for _ in range(2):
        globus.authority.expire_all()
        globus.clear_requests()
        assert works(client)
        assert tokens_asked_for(globus) == 1
    globus.clear_requests()
    assert works(auth.transfer_client())
    assert tokens_asked_for(globus) == 0


def test_many_threads_fetch_a_token_for_all(globus):
    """Sixteen threads that share a client with an expired token succeed with one token request."""
    log_in()
    client = auth.transfer_client()
    client.authorizer.handle_missing_authorization()
    globus.clear_requests()
    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(lambda _: works(client), range(16)))
    assert tokens_asked_for(globus) == 1


def test_a_login_that_was_revoked_ends_and_a_new_one_heals_the_same_client(globus):
    """After a login is revoked, the error names the command; after a new login, the same client works."""
    log_in()
    client = auth.transfer_client()
    globus.authority.revoke_all()
    for _ in range(2):
        with pytest.raises(LoginRequiredError, match=r"has expired: .* run: chiltepin login$") as caught:
            client.get_submission_id()
        assert caught.value.code == "invalid_grant"
    log_in()
    assert works(client)


def test_a_login_of_one_service_is_not_one_of_another(globus, tmp_path, monkeypatch):
    """Tokens of one Globus are never sent to another, and still work when the first one is configured again."""
    log_in()
    with Simulator({"laptop": tmp_path / "other"}) as other:
        point_at(other, monkeypatch)
        with pytest.raises(LoginRequiredError):
            auth.transfer_client()
        assert other.requests == []
    point_at(globus, monkeypatch)
    assert works(auth.transfer_client())


def test_a_login_of_one_client_is_not_one_of_another(globus, monkeypatch):
    """A native app, set by the user in the settings or the environment, has separate logins."""
    log_in()
    mine = "11111111-2222-4333-8444-555555555555"
    with pytest.raises(LoginRequiredError):
        auth.transfer_client(mine)
    monkeypatch.setenv(ID_VARIABLE, mine)
    log_in()
    assert globus.authority.logins[-1]["client_id"] == mine
    assert works(auth.transfer_client("99999999-2222-4333-8444-555555555555"))


def test_a_missing_consent_affects_only_its_endpoints(globus):
    """A missing data access consent names the endpoints that lack it, and does not affect other transfers."""
    scratch, archive = globus.collection("scratch").id, globus.collection("archive").id
    log_in(scratch)
    client = auth.transfer_client()
    auth.require_data_access(client, [scratch])
    with pytest.raises(ConsentRequiredError) as caught:
        auth.require_data_access(client, {scratch: "hpc-scratch", archive: "the archive"})
    assert str(caught.value).endswith(
        "to access the data of 'the archive'; run: chiltepin login --consent 'the archive'"
    )
    assert caught.value.code == "ConsentRequired"
    assert works(client)
    assert client.operation_ls(scratch, path="/")["DATA"] == []
    log_in(archive)
    auth.require_data_access(client, [scratch, archive])
    assert client.operation_ls(archive, path="/")["DATA"] == []


def test_consents_that_are_known_are_not_asked_for_again(globus):
    """A second transfer between the same collections costs no request to Globus Auth."""
    scratch = globus.collection("scratch").id
    log_in(scratch)
    client = auth.transfer_client()
    auth.require_data_access(client, [scratch])
    globus.clear_requests()
    auth.require_data_access(client, [scratch])
    auth.require_data_access(client, [])
    assert globus.requests == []


def test_a_client_of_the_callers_own_is_left_alone(globus):
    """A client that the caller provides needs no login in Chiltepin."""
    globus.clear_requests()
    auth.require_data_access(globus.client(), [globus.collection("scratch").id])
    assert globus.requests == []


def test_service_credentials_need_no_login_write_nothing_and_consent_themselves(globus, tmp_path, monkeypatch):
    """Service credentials give a client that works, also after its tokens expire, and create no token file."""
    service_credentials(globus, monkeypatch)
    scratch = globus.collection("scratch").id
    client = auth.transfer_client()
    with pytest.raises(globus_sdk.TransferAPIError, match="ConsentRequired"):
        client.operation_ls(scratch)
    auth.require_data_access(client, [scratch])
    for _ in range(2):
        assert client.operation_ls(scratch, path="/")["DATA"] == []
        globus.authority.expire_all()
    assert login.whoami().is_service
    assert login.logout() is False
    assert not (tmp_path / "state").exists()


def test_service_credentials_that_are_refused_name_the_variables(globus, monkeypatch):
    """An error about a wrong secret names both variables and shows neither value."""
    service_credentials(globus, monkeypatch, "wrong-secret")
    with pytest.raises(LoginRequiredError, match=f"{ID_VARIABLE} and {SECRET_VARIABLE}") as caught:
        auth.transfer_client()
    assert "wrong-secret" not in str(caught.value)
    assert "wrong-secret" not in repr(choose_credentials())


def test_the_credentials_of_globus_compute(globus, monkeypatch):
    """Globus Compute's variables apply if the secret is set and Chiltepin's are not; an error names the ones in use."""
    identity, secret = globus.authority.client_id, globus.authority.client_secret
    monkeypatch.setenv(COMPUTE_VARIABLES[1], secret)
    with pytest.raises(ConfigError, match=f"{COMPUTE_VARIABLES[1]} is set and {COMPUTE_VARIABLES[0]} is not"):
        choose_credentials()
    monkeypatch.delenv(COMPUTE_VARIABLES[1])
    monkeypatch.setenv(COMPUTE_VARIABLES[0], identity)
    assert not choose_credentials().is_service
    monkeypatch.setenv(COMPUTE_VARIABLES[1], secret)
    assert works(auth.transfer_client())
    assert login.whoami().is_service
    monkeypatch.setenv(COMPUTE_VARIABLES[1], "wrong-secret")
    with pytest.raises(LoginRequiredError, match=" and ".join(COMPUTE_VARIABLES)):
        auth.transfer_client()
    service_credentials(globus, monkeypatch)
    assert works(auth.transfer_client())
    monkeypatch.delenv(SECRET_VARIABLE)
    assert not choose_credentials().is_service


@pytest.mark.parametrize(
    ("environment", "option", "said"),
    [
        ({SECRET_VARIABLE: "x"}, None, "CHILTEPIN_CLIENT_ID is not"),
        ({ID_VARIABLE: "my-app"}, None, "CHILTEPIN_CLIENT_ID is 'my-app'"),
        ({}, "my-app", "data.globus.client_id is 'my-app'"),
    ],
)
def test_half_a_set_of_credentials_is_a_wrong_setting(globus, monkeypatch, environment, option, said):
    """A secret without a client id, or an invalid client id, is rejected before any request, and the error names it."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=said):
        auth.transfer_client(option)


def test_an_auth_that_is_down_is_no_lost_login(globus):
    """An outage of Globus Auth raises a transient error and keeps the login."""
    log_in()
    client = auth.transfer_client()
    client.authorizer.handle_missing_authorization()
    globus.fail_next(3, path="/v2/oauth2/token")
    with pytest.raises(ServiceUnavailableError, match="HTTP 503") as caught:
        client.get_submission_id()
    assert caught.value.transient
    globus.fail_next(3, path="/v2/oauth2/token", drop=True)
    with pytest.raises(ServiceUnavailableError, match="could not be reached"):
        client.get_submission_id()
    assert works(client)


def test_another_identity_does_not_slip_into_a_login(globus):
    """A login as another user is refused while a login is stored, and the stored login is kept."""
    log_in()
    globus.authority.user = User(username="other@example.org", identity_id="00000000-0000-4000-8000-000000000001")
    with pytest.raises(LoginRequiredError, match="run: chiltepin logout, then: chiltepin login"):
        log_in()
    assert works(auth.transfer_client())


class Tomorrow(Signing):
    """A service whose clock is a day ahead of this machine."""

    def sign(self, claims):
        """Sign claims that are dated tomorrow."""
        return super().sign({**claims, "iat": claims["iat"] + 86400})


def test_a_login_that_the_clock_contradicts_says_so(globus):
    """An id token from the future raises an error that mentions the clock."""
    globus.authority.signing = Tomorrow()
    with pytest.raises(LoginRequiredError, match="clock of this machine"):
        log_in()


def test_logging_out_ends_the_login_here_and_there(globus):
    """A logout ends the login for all clients and revokes its tokens at the service."""
    log_in()
    client = auth.transfer_client()
    assert login.logout() is True
    assert login.logout() is False
    with pytest.raises(LoginRequiredError):
        client.get_submission_id()
    with pytest.raises(LoginRequiredError):
        auth.transfer_client()


def test_a_logout_that_globus_does_not_hear_keeps_the_login(globus):
    """If revoking the tokens fails, the login is kept, so that the logout can be repeated."""
    log_in()
    globus.fail_next(3, path="/revoke")
    with pytest.raises(ServiceUnavailableError):
        login.logout()
    assert login.whoami().username == globus.authority.user.username
    assert login.logout() is True


def test_no_error_carries_a_token_away(globus, tmp_path):
    """Errors of every kind, their pickles and their messages contain no token and no SDK error."""
    log_in()
    client = auth.transfer_client()
    secrets = [
        word for word in Path(tmp_path / "state" / "tokens.json").read_text().split('"') if word.startswith("Ag")
    ]
    assert len(secrets) == 4
    errors = []
    for spoil in (
        lambda: globus.fail_next(3, path="/v2/oauth2/token"),
        lambda: globus.fail_next(1, status=400, path="/v2/oauth2/token"),
        globus.authority.revoke_all,
    ):
        client.authorizer.handle_missing_authorization()
        spoil()
        with pytest.raises(BackendError) as caught:
            client.get_submission_id()
        errors.append(caught.value)
    for error in errors:
        seen = pickle.dumps(error) + "".join(traceback.format_exception(error)).encode() + repr(vars(error)).encode()
        assert not any(secret.encode() in seen for secret in secrets)
        assert b"globus_sdk.exc" not in pickle.dumps(error)
        assert error.__context__ is None
        assert str(pickle.loads(pickle.dumps(error))) == str(error)  # noqa: S301 - our own


def test_a_client_does_not_leave_its_process(globus):
    """Pickling a client raises TypeError, because the pickle would contain its tokens."""
    log_in()
    with pytest.raises(TypeError, match="stay in the process"):
        pickle.dumps(auth.transfer_client())
