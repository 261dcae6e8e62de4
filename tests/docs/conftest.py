"""A separate folder for each test of the pages."""

from __future__ import annotations

import os

import pytest


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Run in a separate folder, without the user's home and settings; restore the environment afterwards."""
    before = dict(os.environ)
    monkeypatch.chdir(tmp_path)
    os.environ["HOME"] = os.environ["XDG_CONFIG_HOME"] = str(tmp_path)
    for variable in ("CHILTEPIN_CONFIG", "CHILTEPIN_BACKEND", "MY_SECRET"):
        os.environ.pop(variable, None)
    yield tmp_path
    os.environ.clear()
    os.environ.update(before)
