"""The pytest plugin that provides a simulated Globus to a test suite."""

from __future__ import annotations

import os
import subprocess
import sys

import globus_sdk

from chiltepin.testing.plugin import chiltepin_globus  # noqa: F401 - the fixture under test


def test_the_fixture_is_a_globus(chiltepin_globus, tmp_path):  # noqa: F811 - pytest requests fixtures by argument name
    """The fixture has two collections in tmp_path, and its environment points the SDK to them."""
    (tmp_path / "my-laptop" / "in").write_bytes(b"data")
    assert os.environ["GLOBUS_SDK_SERVICE_URL_TRANSFER"] == chiltepin_globus.url
    token = globus_sdk.AccessTokenAuthorizer(chiltepin_globus.token)
    with globus_sdk.TransferClient(authorizer=token) as client:
        listing = client.operation_ls(chiltepin_globus.collection("my-laptop").id, "/")
        assert [file["name"] for file in listing] == ["in"]


def test_the_environment_is_complete(globus, monkeypatch):
    """The environment adds the loopback to NO_PROXY, and its credentials get a token from the simulator."""
    monkeypatch.setenv("NO_PROXY", "example.org")
    environment = globus.environment()
    assert environment["NO_PROXY"] == "example.org,127.0.0.1,localhost"
    assert environment["GLOBUS_SDK_SERVICE_URL_AUTH"].endswith("/")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    secret = environment["CHILTEPIN_CLIENT_SECRET"]
    with globus_sdk.ConfidentialAppAuthClient(environment["CHILTEPIN_CLIENT_ID"], secret) as auth:
        tokens = auth.oauth2_client_credentials_tokens(globus_sdk.TransferClient.scopes.all)
    token = tokens.by_resource_server["transfer.api.globus.org"]["access_token"]
    with globus_sdk.TransferClient(authorizer=globus_sdk.AccessTokenAuthorizer(token)) as client:
        assert client.task_list()["total"] == 0


def test_the_plugin_is_light():
    """Loading the plugin loads neither the simulator nor the sandbox, nor their dependencies."""
    heavy = "{'flask', 'globus_sdk', 'jwt', 'parsl', 'pydantic', 'yaml', 'fsspec', 'chiltepin.testing.simulator'}"
    probe = f"import sys, chiltepin.testing.plugin; sys.exit(bool({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", probe], check=False).returncode == 0
