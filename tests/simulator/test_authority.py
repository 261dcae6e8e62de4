"""The simulator's Globus Auth, tested with the real SDK and the real ``globus`` command."""

from __future__ import annotations

import re
import subprocess
import sys
import urllib.request
from pathlib import Path

import globus_sdk
import jwt
import pytest
from globus_sdk.scopes import AuthScopes, GCSCollectionScopes, TransferScopes
from globus_sdk.testing import get_response_set
from globus_sdk.transport import RetryConfig
from warm import GLOBUS

NATIVE = "61338d24-54d5-408f-a10d-66c06b59f6d2"
TRANSFER = TransferScopes.resource_server


@pytest.fixture
def auth(globus, monkeypatch):
    """The simulator's Globus Auth, with the SDK pointed at it."""
    for name, value in globus.environment().items():
        monkeypatch.setenv(name, value)
    return globus.authority


def fast():
    """Return a configuration without retries."""
    return RetryConfig(max_retries=0)


def native(client_id=NATIVE):
    """Return the client of a native app."""
    return globus_sdk.NativeAppAuthClient(client_id, retry_config=fast())


def service(authority, secret=None):
    """Return the client of the service credentials."""
    return globus_sdk.ConfidentialAppAuthClient(
        authority.client_id, secret or authority.client_secret, retry_config=fast()
    )


def page(url):
    """Return the text of a page."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=60) as answer:
        return answer.read().decode()


def code_of(url):
    """Return the code of a login page."""
    return re.search("<code>(.+?)</code>", page(url)).group(1)


def log_in(*scopes, refresh_tokens=True):
    """Log the user in to a native app; return the app and the token response."""
    client = native()
    client.oauth2_start_flow(list(scopes) or [TransferScopes.all, "openid", "profile"], refresh_tokens=refresh_tokens)
    return client, client.oauth2_exchange_code_for_tokens(code_of(client.oauth2_get_authorize_url()))


def refused(call, status, error):
    """Check that a call fails with a status and an OAuth error; return the exception."""
    with pytest.raises(globus_sdk.AuthAPIError) as caught:
        call()
    assert caught.value.http_status == status
    assert caught.value.raw_json["error"] == error
    return caught.value


def test_a_login_gives_tokens_and_a_signed_id(auth):
    """A code is exchanged for a token for each service, and an id token that the SDK can verify."""
    _, tokens = log_in()
    assert set(tokens.by_resource_server) == {TRANSFER, "auth.globus.org"}
    assert tokens.by_resource_server[TRANSFER]["scope"] == str(TransferScopes.all)
    decoded = tokens.decode_id_token()
    assert (decoded["sub"], decoded["aud"]) == (auth.user.identity_id, NATIVE)
    assert auth.check(tokens.by_resource_server[TRANSFER]["access_token"]).username == auth.user.username


def test_a_forged_id_is_found_out(auth):
    """The published key is the signing key: with another key, the SDK rejects the id token."""
    client, tokens = log_in()
    other = type(auth.signing)()
    with pytest.raises(jwt.InvalidSignatureError):
        tokens.decode_id_token(jwk=other.key.public_key(), openid_configuration=client.get_openid_configuration())


@pytest.mark.parametrize("spoil", ["verifier", "redirect", "client", "twice", "late"])
def test_a_code_is_good_once_and_for_its_client(auth, clock, spoil):
    """A code is rejected with a wrong PKCE verifier, redirect or client, on a second use, and after ten minutes."""
    client = native()
    flow = client.oauth2_start_flow([TransferScopes.all])
    code = code_of(client.oauth2_get_authorize_url())
    if spoil == "verifier":
        flow.verifier = "x" * 43
    elif spoil == "redirect":
        flow.redirect_uri = "http://localhost:1/"
    elif spoil == "client":
        flow.client_id = "11111111-2222-4333-8444-555555555555"
    elif spoil == "late":
        clock.advance(seconds=601)
    else:
        client.oauth2_exchange_code_for_tokens(code)
    refused(lambda: client.oauth2_exchange_code_for_tokens(code), 401, "invalid_grant")


def test_a_user_who_says_no(auth):
    """If the user denies access, the login page returns OAuth's access_denied error."""
    auth.approves = False
    client = native()
    client.oauth2_start_flow([TransferScopes.all])
    assert "access_denied" in page(client.oauth2_get_authorize_url())


def test_tokens_end_with_the_clock(auth, clock):
    """An access token lasts 48 hours; a refresh token works until half a year after its last use."""
    client, tokens = log_in(TransferScopes.all)
    entry = tokens.by_resource_server[TRANSFER]
    clock.advance(seconds=172799)
    assert auth.check(entry["access_token"])
    clock.advance(seconds=1)
    assert auth.check(entry["access_token"]) is None
    for _ in range(2):
        clock.advance(86400 * 177)
        renewed = client.oauth2_refresh_token(entry["refresh_token"]).by_resource_server[TRANSFER]
        assert renewed["refresh_token"] == entry["refresh_token"]
        assert auth.check(renewed["access_token"])
    clock.advance(86400 * 180)
    refused(lambda: client.oauth2_refresh_token(entry["refresh_token"]), 401, "invalid_grant")


def test_revoking_a_refresh_token_ends_what_came_of_it(auth):
    """Revoking a refresh token ends its access tokens, an access token ends alone, and an unknown token is no error."""
    client, tokens = log_in()
    transfer, other = (tokens.by_resource_server[name] for name in (TRANSFER, "auth.globus.org"))
    client.oauth2_revoke_token(other["access_token"])
    assert client.oauth2_refresh_token(other["refresh_token"])["access_token"] != other["access_token"]
    client.oauth2_revoke_token(transfer["refresh_token"])
    assert auth.check(transfer["access_token"]) is None
    refused(lambda: client.oauth2_refresh_token(transfer["refresh_token"]), 401, "invalid_grant")
    client.oauth2_revoke_token("")
    assert client.oauth2_refresh_token(other["refresh_token"])["access_token"]


def test_a_refresh_token_belongs_to_its_client_and_opens_no_service(auth):
    """Another client cannot use a refresh token, and it is not valid as an access token."""
    _, tokens = log_in(TransferScopes.all)
    refresh_token = tokens.by_resource_server[TRANSFER]["refresh_token"]
    stranger = native("11111111-2222-4333-8444-555555555555")
    refused(lambda: stranger.oauth2_refresh_token(refresh_token), 401, "invalid_grant")
    assert auth.check(refresh_token) is None


def test_without_offline_access_there_is_no_refresh_token(auth):
    """A login that does not request refresh tokens gets none."""
    _, tokens = log_in(TransferScopes.all, refresh_tokens=False)
    assert tokens.by_resource_server[TRANSFER]["refresh_token"] is None


def test_credentials_of_a_service(auth):
    """The secret gives tokens for the client itself; a wrong or missing secret is rejected."""
    tokens = service(auth).oauth2_client_credentials_tokens([TransferScopes.all])
    grant = auth.check(tokens["access_token"])
    assert (grant.identity_id, grant.username) == (auth.client_id, f"{auth.client_id}@clients.auth.globus.org")
    refused(lambda: service(auth, "wrong").oauth2_client_credentials_tokens(TransferScopes.all), 401, "invalid_client")
    form = {"grant_type": "client_credentials", "scope": str(TransferScopes.all)}
    refused(lambda: native().oauth2_token(form | {"client_id": auth.client_id}), 401, "invalid_client")
    refused(lambda: native().oauth2_token(form | {"client_id": NATIVE}), 401, "invalid_client")


def test_consents_add_up_for_each_client(auth, globus):
    """A user's consents add up in all tokens of one client, and do not apply to other clients."""
    scopes = []
    for name in ("one", "two"):
        collection = globus.add_collection(name, globus.collection("my-laptop").folder, needs_consent=True)
        scopes.append(TransferScopes.all.with_dependency(GCSCollectionScopes(collection.id).data_access))
    _, first = log_in(AuthScopes.openid, scopes[0])
    log_in(AuthScopes.openid, scopes[1])
    token = first.by_resource_server["auth.globus.org"]["access_token"]
    with globus_sdk.AuthClient(authorizer=globus_sdk.AccessTokenAuthorizer(token)) as client:
        forest = client.get_consents(auth.user.identity_id).to_forest()
    assert forest.meets_scope_requirements(scopes)
    complete = auth.check(first.by_resource_server[TRANSFER]["access_token"]).scope
    assert complete.count("data_access") == 2
    assert "data_access" not in auth.check(auth.issue(str(TransferScopes.all))).scope
    assert "data_access" in auth.check(auth.issue(str(scopes[0]))).scope
    auth.forget_consents()
    assert auth.check(first.by_resource_server[TRANSFER]["access_token"]).scope == str(TransferScopes.all)


def test_an_unknown_scope_is_refused_and_not_recorded(auth, globus):
    """A data access scope of a collection that has none is refused, and no consent is recorded."""
    unknown = GCSCollectionScopes(globus.collection("my-laptop").id).data_access
    scope = TransferScopes.all.with_dependency(unknown)
    failure = refused(lambda: service(auth).oauth2_client_credentials_tokens(scope), 400, "unknown_scope")
    assert "Unknown Scope" in failure.message
    tokens = service(auth).oauth2_client_credentials_tokens(TransferScopes.all)
    assert auth.check(tokens["access_token"]).scope == str(TransferScopes.all)


def test_the_bearer_is_told_who_he_is(auth):
    """Userinfo and identities accept only a token for Globus Auth."""
    _, tokens = log_in()
    good, wrong = (tokens.by_resource_server[name]["access_token"] for name in ("auth.globus.org", TRANSFER))
    with globus_sdk.AuthClient(authorizer=globus_sdk.AccessTokenAuthorizer(good), retry_config=fast()) as client:
        assert client.userinfo()["preferred_username"] == auth.user.username
        assert client.get_identities(usernames=auth.user.username)["identities"][0]["id"] == auth.user.identity_id
        assert client.get_identities(ids="00000000-0000-4000-8000-000000000001")["identities"] == []
        with pytest.raises(globus_sdk.AuthAPIError, match="403"):
            client.get_consents("00000000-0000-4000-8000-000000000001")
        auth.revoke_all()
        assert refused(client.userinfo, 401, "unauthorized").code == "UNAUTHORIZED"
    with globus_sdk.AuthClient(authorizer=globus_sdk.AccessTokenAuthorizer(wrong), retry_config=fast()) as client:
        refused(client.userinfo, 401, "unauthorized")


def test_documents_have_the_keys_of_those_that_the_sdk_ships(auth):
    """Token, consent, introspection and error documents have the keys and types of those in globus_sdk.testing."""
    client, tokens = log_in()
    transfer, other = (tokens.by_resource_server[name]["access_token"] for name in (TRANSFER, "auth.globus.org"))
    given = {
        "oauth2_exchange_code_for_tokens": tokens.data,
        "oauth2_client_credentials_tokens": service(auth).oauth2_client_credentials_tokens(TransferScopes.all).data,
        "oauth2_token_introspect": service(auth).oauth2_token_introspect(transfer).data,
        "oauth2_revoke_token": client.oauth2_revoke_token("x").data,
    }
    with globus_sdk.AuthClient(authorizer=globus_sdk.AccessTokenAuthorizer(other), retry_config=fast()) as reader:
        given["get_consents"] = reader.get_consents(auth.user.identity_id).data
        given["get_identities"] = reader.get_identities(usernames=auth.user.username).data
        auth.revoke_all()
        given["userinfo"] = refused(reader.userinfo, 401, "unauthorized").raw_json
    for name, document in given.items():
        case = "unauthorized" if name == "userinfo" else "default"
        check_keys(get_response_set(f"auth.{name}").lookup(case).json, document, name)


def check_keys(wanted, given, where):
    """Check recursively that a document has the keys and types of another."""
    if isinstance(wanted, dict):
        assert set(wanted) <= set(given), where
        for key, value in wanted.items():
            check_keys(value, given[key], f"{where}.{key}")
    elif isinstance(wanted, list) and wanted:
        check_keys(wanted[0], given[0], f"{where}[0]")
    elif wanted is not None:
        assert type(wanted) is type(given), where


def test_the_real_globus_login(auth, globus, tmp_path):
    """``globus login``, ``whoami``, ``session show`` and ``logout`` work with the simulator from start to finish."""
    names = ("GLOBUS_CLI_CLIENT_ID", "GLOBUS_CLI_CLIENT_SECRET")
    environment = {"PATH": str(Path(sys.executable).parent), "HOME": str(tmp_path), **globus.environment()}
    for name in names:
        del environment[name]
    command = GLOBUS or str(Path(sys.executable).with_name("globus"))
    with subprocess.Popen(
        [command, "login", "--no-local-server"],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        said = ""
        for line in process.stdout:
            said += line
            if link := re.search(r"http://\S+/authorize\S+", line):
                process.stdin.write(f"{code_of(link.group())}\n")
                process.stdin.flush()
    assert process.returncode == 0, said

    def run(*words):
        return subprocess.run(
            [command, *words], env=environment, capture_output=True, text=True, check=False, timeout=60
        )

    assert run("whoami").stdout.strip() == auth.user.username
    assert auth.user.username in run("session", "show").stdout
    assert run("endpoint", "search", "my-laptop").returncode == 0
    assert run("logout", "--yes").returncode == 0
    assert run("whoami").returncode != 0
