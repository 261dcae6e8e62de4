"""Two endpoints on each of the three backends, and a runner of the command."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
import yaml

from chiltepin.cli import main

BACKENDS = ("local", "filesystem", "globus")


class World:
    """A user with two endpoints, ``a`` and ``b``, which are local folders.

    Attributes
    ----------
    a, b : Path
        The folders of the endpoints.
    simulator : Simulator or None
        The simulated Globus, for the backend ``globus``.
    """

    def __init__(self, backend, folder, monkeypatch, capsys, simulator=None):
        self.backend, self.folder, self.simulator = backend, folder, simulator
        self._monkeypatch, self._capsys = monkeypatch, capsys
        self.a, self.b = folder / "sandbox" / "a", folder / "sandbox" / "b"
        self.data = {"backend": backend, "fault_grace": 0.5, "endpoints": {name: self._place(name) for name in "ab"}}
        self.write()

    def _place(self, name):
        place = {"filesystem": str(self.folder / "sandbox" / name)}
        if self.simulator:
            place["globus"] = self.simulator.collection(name).id
        return place

    def write(self, **data):
        """Update these keys of the data section, and write the settings."""
        self.data |= data
        (self.folder / "chiltepin.yaml").write_text(yaml.safe_dump({"data": self.data}))

    def run(self, *words, stdin=""):
        """Run the command in this process; return its exit code and output. Without ``stdin``, it is closed."""
        self._monkeypatch.setattr(sys, "argv", ["chiltepin", *map(str, words)])
        given = None if stdin is None else stdin if isinstance(stdin, bytes) else stdin.encode()
        opened = None if given is None else io.TextIOWrapper(io.BytesIO(given))
        self._monkeypatch.setattr(sys, "stdin", opened)
        self._capsys.readouterr()
        code = None
        try:
            main.main()
        except SystemExit as err:
            code = err.code or 0
        out, err = self._capsys.readouterr()
        return SimpleNamespace(code=code, out=out, err=err)

    def json(self, *words, **options):
        """Run the command with ``-F json``, check that it succeeds, and return the parsed output."""
        ended = self.run(*words, "-F", "json", **options)
        assert ended.code == 0, ended.err
        return json.loads(ended.out)

    def process(self, *words, **options):
        """Start the command in a new process."""
        return subprocess.Popen(
            [sys.executable, "-c", "from chiltepin.cli.main import main; main()", *map(str, words)],
            cwd=self.folder,
            **options,
        )


@pytest.fixture
def user(tmp_path, monkeypatch):
    """A working folder without the settings of the user who runs the tests."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith(("GLOBUS_", "CHILTEPIN_C", "CHILTEPIN_B"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("COLUMNS", "80")
    for name in "ab":
        (tmp_path / "sandbox" / name).mkdir(parents=True)
    return tmp_path


@pytest.fixture
def simulator(user, monkeypatch):
    """A simulated Globus with the two folders; the environment points to it."""
    from chiltepin.testing.simulator import Simulator

    folders = {name: user / "sandbox" / name for name in "ab"}
    with Simulator(folders, request_rate=None) as simulator:
        for name, value in simulator.environment().items():
            monkeypatch.setenv(name, value)
        yield simulator


@pytest.fixture(params=BACKENDS)
def world(request, user, monkeypatch, capsys):
    """Two endpoints on each backend in turn."""
    simulator = request.getfixturevalue("simulator") if request.param == "globus" else None
    return World(request.param, user, monkeypatch, capsys, simulator)


@pytest.fixture
def local(user, monkeypatch, capsys):
    """Two endpoints on the backend ``local``."""
    return World("local", user, monkeypatch, capsys)


@pytest.fixture
def service(user, monkeypatch, capsys, simulator, quick_retries):
    """Two endpoints on the simulated Globus."""
    return World("globus", user, monkeypatch, capsys, simulator)
