"""A folder of its own for each test of the pages."""

from __future__ import annotations

import pytest


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Run where nobody else does, without the settings of whoever runs the tests."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    for variable in ("CHILTEPIN_CONFIG", "CHILTEPIN_BACKEND", "MY_SECRET"):
        # Set first, so that what a page sets is taken back.
        monkeypatch.setenv(variable, "")
        monkeypatch.delenv(variable)
    return tmp_path
