"""A login for Globus Compute, Groups and a custom service, as programs of the upstream package request it."""

from __future__ import annotations

import globus_sdk
import pytest

from chiltepin.testing.simulator import Simulator

#: The scopes of upstream's three apps (chiltepin 0.1.7, ``endpoint.py``), and the scope of Groups.
SCOPES = {
    "funcx_service": "https://auth.globus.org/scopes/facd7ccc-c5f4-42aa-916b-a0e270e2c2a9/all",
    "auth.globus.org": "urn:globus:auth:scope:auth.globus.org:manage_projects",
    "transfer.api.globus.org": "urn:globus:auth:scope:transfer.api.globus.org:all",
    "groups.api.globus.org": "urn:globus:auth:scope:groups.api.globus.org:view_my_groups_and_memberships",
    "ca1e2fbf-4e73-40a6-b2ab-c9458e5fcf99": (
        "https://auth.globus.org/scopes/ca1e2fbf-4e73-40a6-b2ab-c9458e5fcf99/academy_exchange"
    ),
}


@pytest.fixture
def simulator(tmp_path, monkeypatch):
    """A simulator that the environment points to."""
    with Simulator({"here": tmp_path / "here"}) as simulator:
        for name, value in simulator.environment().items():
            monkeypatch.setenv(name, value)
        yield simulator


def test_a_client_logs_in_to_all_services_at_once(simulator):
    """The SDK's app gets a token for each service, needs no further login, and can log out."""
    config = globus_sdk.GlobusAppConfig(
        token_storage=globus_sdk.token_storage.MemoryTokenStorage(), request_refresh_tokens=True
    )
    known = simulator.authority
    app = globus_sdk.ClientApp(
        "upstream",
        client_id=known.client_id,
        client_secret=known.client_secret,
        config=config,
        scope_requirements=SCOPES,
    )
    assert not app.login_required()
    for server, scope in SCOPES.items():
        token = app.get_authorizer(server).get_authorization_header().removeprefix("Bearer ")
        assert scope in known.check(token).scope
    app.logout()
    app.close()
