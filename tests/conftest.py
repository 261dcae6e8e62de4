"""What holds for all tests: none of them comes near the login of the person who runs them."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def nobody_is_logged_in(tmp_path_factory, monkeypatch):
    """Keep tokens and the journal in empty folders, and forget service credentials of the environment."""
    monkeypatch.setenv("CHILTEPIN_TOKENS", str(tmp_path_factory.mktemp("login") / "tokens.json"))
    monkeypatch.setenv("CHILTEPIN_JOURNAL", str(tmp_path_factory.mktemp("journal")))
    for name in ("CHILTEPIN_CLIENT_ID", "CHILTEPIN_CLIENT_SECRET"):
        monkeypatch.delenv(name, raising=False)
