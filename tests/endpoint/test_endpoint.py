"""Compute endpoints on this machine, with a stand-in for the program and, if installed, with the real program.

Registration with the service and tasks from it are not tested, because they need a Globus login.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
import yaml

from chiltepin import endpoint
from chiltepin.errors import ChiltepinError, EndpointNotFoundError, LoginRequiredError
from chiltepin.parsl.executors import _endpoint_config
from chiltepin.settings import Resource

PROGRAM = Path(__file__).with_name("program.py")
REAL = shutil.which("globus-compute-endpoint")
needs_the_program = pytest.mark.skipif(REAL is None, reason="globus-compute-endpoint is not installed")


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """An empty home folder."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """Put the stand-in on PATH."""
    program = tmp_path / "bin" / "globus-compute-endpoint"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} {PROGRAM} "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")


@pytest.fixture(params=["home", "folder"])
def config_dir(request, tmp_path, stand_in):
    """The folder of the endpoints, default or given, with a Globus Compute login in the user's home."""
    (tmp_path / "home" / ".globus_compute").mkdir()
    (tmp_path / "home" / ".globus_compute" / "storage.db").touch()
    yield None if request.param == "home" else tmp_path / "endpoints"
    # An endpoint that a test left running ends when its folder is removed.
    shutil.rmtree(tmp_path / "endpoints", ignore_errors=True)
    shutil.rmtree(tmp_path / "home" / ".globus_compute")


def test_from_configure_to_delete(config_dir, home):
    """An endpoint is configured, started, listed, stopped, started again with the same UUID, and deleted."""
    assert endpoint.show(config_dir) == {}
    assert endpoint.configure("one", config_dir) is True
    endpoint.configure("two", config_dir)
    assert endpoint.show(config_dir)["one"] == {"id": None, "status": "Initialized"}
    files = (config_dir or home / ".globus_compute") / "one"
    assert yaml.safe_load((files / "config.yaml").read_text()) == {"display_name": "one", "debug": True}
    path = yaml.safe_load((files / "user_environment.yaml").read_text())["PATH"].split(":")
    assert path[0] == os.path.dirname(os.path.abspath(sys.executable))
    assert "/bin" in path
    endpoint.start("one", config_dir, timeout=30)
    assert endpoint.is_running("one", config_dir)
    first = endpoint.show(config_dir)
    assert str(uuid.UUID(first["one"]["id"])) == first["one"]["id"]
    assert first["two"]["status"] == "Initialized"
    with pytest.raises(RuntimeError, match="'one' is running; stop it first"):
        endpoint.delete("one", config_dir)
    (files / "slow").touch()
    endpoint.stop("one", config_dir, timeout=30)
    assert endpoint.show(config_dir)["one"] == {"id": first["one"]["id"], "status": "Stopped"}
    endpoint.start("one", config_dir)
    assert endpoint.show(config_dir)["one"] == first["one"]
    endpoint.stop("one", config_dir)
    endpoint.delete("one", config_dir)
    assert not endpoint.exists("one", config_dir)
    assert endpoint.exists("two", config_dir)


def test_an_endpoint_that_was_killed(config_dir, home):
    """An endpoint whose pid file is old is shown as Disconnected."""
    endpoint.configure("one", config_dir)
    folder = (config_dir or home / ".globus_compute") / "one"
    (folder / "endpoint.json").write_text(json.dumps({"endpoint_id": str(uuid.uuid4())}))
    (folder / "daemon.pid").write_text("1")
    os.utime(folder / "daemon.pid", (0, 0))
    assert endpoint.show(config_dir)["one"]["status"] == "Disconnected"


@pytest.mark.usefixtures("stand_in")
class TestMistakes:
    """Mistakes raise clear errors."""

    def test_an_unknown_name(self):
        """An unknown name raises an error that suggests a configured endpoint."""
        endpoint.configure("my-endpoint")
        for call in (endpoint.start, endpoint.stop, endpoint.delete):
            with pytest.raises(EndpointNotFoundError, match=r"No compute endpoint 'my-endpont' .* mean 'my-endpoint'"):
                call("my-endpont")

    def test_a_name_that_exists(self):
        """An existing endpoint cannot be configured again."""
        endpoint.configure("one")
        with pytest.raises(RuntimeError, match=r"'one' exists in .*; choose another name"):
            endpoint.configure("one")

    def test_what_the_program_says(self):
        """If the program fails, the error contains its last line."""
        with pytest.raises(endpoint.ComputeEndpointError, match="configure' of 'a/b' failed: Error: Invalid"):
            endpoint.configure("a/b")

    def test_no_login(self):
        """Without a Globus Compute login, the error names the login command."""
        endpoint.configure("one")
        with pytest.raises(LoginRequiredError, match="run: globus-compute-endpoint login"):
            endpoint.start("one")

    def test_a_start_that_takes_too_long(self, home):
        """An endpoint that does not start in time raises a TimeoutError that names its log."""
        endpoint.configure("one")
        (home / ".globus_compute" / "storage.db").touch()
        (home / ".globus_compute" / "one" / "never-starts").touch()
        with pytest.raises(ChiltepinError, match=r"'one' did not start in time; see .*one/endpoint\.log") as caught:
            endpoint.start("one", timeout=2)
        assert isinstance(caught.value, TimeoutError)

    def test_no_program(self, monkeypatch, tmp_path):
        """Without the program, each call fails and says what to install."""
        endpoint.configure("one")
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.setattr("sysconfig.get_path", lambda _: str(tmp_path))
        for call, name in ((endpoint.configure, "two"), (endpoint.start, "one"), (endpoint.stop, "one")):
            with pytest.raises(RuntimeError, match=r"run: pip install globus-compute-endpoint"):
                call(name)


def test_the_commands(config_dir):
    """`chiltepin endpoint` does the same, and lists in upstream's format."""
    where = ["-c", str(config_dir)] if config_dir else []

    def run(*words):
        command = [sys.executable, "-m", "chiltepin.cli.main", "endpoint", *where, *words]
        code = "import sys; from chiltepin.cli.main import main; main()"
        return subprocess.run(
            [sys.executable, "-c", code, *command[3:]], capture_output=True, text=True, check=False, timeout=60
        )

    assert run("list").stdout == "No endpoints are configured\n"
    assert run("configure", "my-endpoint").returncode == 0
    assert run("list").stdout == f"my-endpoint {'None':<36} Initialized\n"
    assert run("start", "my-endpoint").returncode == 0
    assert run("list").stdout == f"my-endpoint {endpoint.show(config_dir)['my-endpoint']['id']} Running\n"
    refused = run("delete", "my-endpoint")
    assert (refused.returncode, "stop it first" in refused.stderr) == (1, True)
    assert run("stop", "my-endpoint").returncode == 0
    assert run("delete", "my-endpoint").returncode == 0
    assert run("list").stdout == "No endpoints are configured\n"


def test_both_logins(chiltepin_globus, home, monkeypatch, tmp_path):
    """`login` logs in to both services, here with credentials, and returns their clients; `logout` ends the logins."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home))
    for name in ("CHILTEPIN_CLIENT_ID", "CHILTEPIN_CLIENT_SECRET"):
        monkeypatch.delenv(name)
    assert endpoint.login_required()
    monkeypatch.setenv("GLOBUS_COMPUTE_CLIENT_ID", chiltepin_globus.authority.client_id)
    monkeypatch.setenv("GLOBUS_COMPUTE_CLIENT_SECRET", chiltepin_globus.authority.client_secret)
    clients = endpoint.login()
    assert {name: type(client).__name__ for name, client in clients.items()} == {
        "compute": "Client",
        "transfer": "TransferClient",
    }
    assert clients["transfer"].endpoint_search("my-laptop")["DATA"][0]["display_name"] == "my-laptop"
    assert not endpoint.login_required()
    endpoint.logout()
    clients["compute"].app.token_storage.close()


@needs_the_program
def test_the_real_program(tmp_path):
    """The real program configures and deletes an endpoint that was never started, without network access."""
    endpoint.configure("one", tmp_path)
    assert endpoint.show(tmp_path) == {"one": {"id": None, "status": "Initialized"}}
    endpoint.delete("one", tmp_path)
    assert endpoint.show(tmp_path) == {}


@needs_the_program
@pytest.mark.parametrize("mpi", [False, True])
@pytest.mark.parametrize("provider", ["localhost", "slurm", "pbspro"])
def test_the_template_takes_every_resource(tmp_path, provider, mpi):
    """The real program renders the template with the options of a resource, for each provider."""
    endpoint.configure("one", tmp_path)
    keys = {"provider": provider, "mpi": mpi, "endpoint": str(uuid.UUID(int=1)), "environment": ["a=1", 'b="2"']}
    sent = _endpoint_config(Resource(**keys, account="me: too", queue="q", walltime="01:00:00", cores_per_node=4))
    (tmp_path / "options.json").write_text(json.dumps(sent))
    rendered = subprocess.run(
        [REAL, "-c", tmp_path, "render-user-config", "-e", "one", "-o", tmp_path / "options.json"],
        capture_output=True,
        text=True,
        check=True,
    )
    engine = yaml.safe_load(rendered.stdout.partition("config:\n")[2] or rendered.stdout)["engine"]
    assert engine["type"] == ("GlobusMPIEngine" if mpi else "GlobusComputeEngine")
    kind = {"localhost": "LocalProvider", "slurm": "SlurmProvider", "pbspro": "PBSProProvider"}[provider]
    assert engine["provider"]["type"] == kind
    assert engine["provider"]["worker_init"] == 'a=1\nb="2"'
    assert engine["provider"].get("account", "me: too") == "me: too"
