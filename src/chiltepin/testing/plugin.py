"""A simulated Globus as a pytest fixture; nothing heavy is loaded before a test asks for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from chiltepin.testing.simulator import Simulator

__all__ = ["chiltepin_globus"]


@pytest.fixture
def chiltepin_globus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Simulator]:
    """Run a simulated Globus with the collections ``my-laptop`` and ``hpc-scratch``, folders of ``tmp_path``.

    While a test runs, the environment points the SDK, the ``globus`` command and Chiltepin at it.
    """
    from chiltepin.testing.simulator import Simulator  # noqa: PLC0415 - pytest loads this module in every test run

    folders = {name: tmp_path / name for name in ("my-laptop", "hpc-scratch")}
    with Simulator(folders) as simulator:
        for name, value in simulator.environment().items():
            monkeypatch.setenv(name, value)
        yield simulator
