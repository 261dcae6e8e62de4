"""Sandboxes for pipelines as pytest fixtures; heavy modules are loaded only when a test uses one."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from chiltepin.testing.sandbox import Sandbox
    from chiltepin.testing.simulator import Simulator

__all__ = ["chiltepin_globus", "chiltepin_sandbox", "chiltepin_settings"]


@pytest.fixture
def chiltepin_settings() -> str | os.PathLike[str] | Mapping[str, Any] | None:
    """Return the settings of `chiltepin_sandbox`; a test suite overrides this fixture.

    It returns the settings file of the pipeline, as a path relative to the root folder of pytest, or a dict.
    """
    return None


@pytest.fixture
def chiltepin_sandbox(
    chiltepin_settings: str | os.PathLike[str] | Mapping[str, Any] | None,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Sandbox]:
    """Run a workflow whose endpoints are folders of ``tmp_path`` and whose resources are threads.

    While a test runs, the environment makes the settings and the journal of the sandbox the default.
    """
    from chiltepin.testing.sandbox import Sandbox  # noqa: PLC0415 - pytest loads this module in every test run

    if isinstance(chiltepin_settings, (str, os.PathLike)):
        chiltepin_settings = request.config.rootpath / chiltepin_settings
    monkeypatch.setenv("CHILTEPIN_BACKEND", "local")
    sandbox = Sandbox(tmp_path / "sandbox", chiltepin_settings)
    monkeypatch.setenv("CHILTEPIN_CONFIG", sandbox.file)
    monkeypatch.setenv("CHILTEPIN_JOURNAL", str(tmp_path / "sandbox" / "journal"))
    with sandbox:
        yield sandbox


@pytest.fixture
def chiltepin_globus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Simulator]:
    """Run a simulated Globus with the collections ``my-laptop`` and ``hpc-scratch``, folders of ``tmp_path``.

    While a test runs, the environment points the SDK, the ``globus`` command and Chiltepin at it, and the journal is in
    ``tmp_path``.
    """
    from chiltepin.testing.simulator import Simulator  # noqa: PLC0415 - pytest loads this module in every test run

    folders = {name: tmp_path / name for name in ("my-laptop", "hpc-scratch")}
    with Simulator(folders) as simulator:
        for name, value in simulator.environment().items():
            monkeypatch.setenv(name, value)
        # The user's own journal must not show simulated tasks.
        monkeypatch.setenv("CHILTEPIN_JOURNAL", str(tmp_path / "journal"))
        yield simulator
