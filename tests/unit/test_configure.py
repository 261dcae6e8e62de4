"""Conversion of settings to a Parsl Config, and Parsl runs with that Config."""

import json
import os
import subprocess
import sys
import textwrap

import parsl
import pytest
from parsl.config import Config
from parsl.executors import ThreadPoolExecutor
from parsl.launchers import MpiExecLauncher, SimpleLauncher, SingleNodeLauncher, SrunLauncher
from parsl.providers import LocalProvider, PBSProProvider

from chiltepin import configure
from chiltepin.errors import ConfigError
from chiltepin.parsl.globus_compute import ComputeExecutor
from chiltepin.parsl.htex import GuardedHTEX, GuardedMPIExecutor
from chiltepin.parsl.slurm import GuardedSlurmProvider

UUID = "87654321-4321-4321-4321-cba987654321"


@pytest.fixture(autouse=True)
def _nothing_set(tmp_path, monkeypatch):
    """Start each test in an empty folder without any settings."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home" / "config"))
    monkeypatch.delenv("CHILTEPIN_CONFIG", raising=False)
    monkeypatch.delenv("CHILTEPIN_BACKEND", raising=False)


def executor(**keys):
    """Return the executor of one resource with these keys."""
    return configure.load({"r": keys}, include="r").executors[1]


def run(script, folder, **environment):
    """Run a Python script in a folder, and return the JSON value on its last line of output."""
    (folder / "flow.py").write_text(textwrap.dedent(script))
    done = subprocess.run(
        [sys.executable, str(folder / "flow.py")],
        cwd=folder,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=90,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


# --- parse_file and load ---------------------------------------------------------------------------------------------


def test_a_deleted_working_directory_is_an_error(tmp_path, monkeypatch):
    """In a deleted working directory, where Parsl cannot start, absolute paths do not help: it is a ConfigError."""
    (tmp_path / "c.yaml").write_text("data:\n  endpoints: {a: }\n")
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    for config in ({}, tmp_path / "c.yaml"):
        with pytest.raises(ConfigError, match="The working directory was deleted; change to another folder"):
            configure.load(config, run_dir=tmp_path / "runinfo")


def test_a_file_is_read_and_checked(tmp_path):
    """`parse_file` returns the settings as a dict, or raises an error that lists every problem."""
    (tmp_path / "c.yaml").write_text("a:\n  mpi: no\nb:\n  partion: x\n  mpi: 3\n")
    with pytest.raises(ConfigError, match=r"(?s)^c.yaml:4: b.partion .*\nc.yaml:5: b.mpi "):
        configure.parse_file("c.yaml")
    (tmp_path / "c.yaml").write_text("a:\n  provider: threads\n")
    document = configure.parse_file("c.yaml")
    assert document == {"a": {"provider": "threads"}}
    assert document.lines["a", "provider"] == 2


def test_no_settings_make_one_pool_of_threads():
    """Empty settings give a Config with one thread pool, `local`."""
    config = configure.load({})
    (only,) = config.executors
    assert isinstance(config, Config)
    assert isinstance(only, ThreadPoolExecutor)
    assert (only.label, only.max_threads) == ("local", 8)
    assert (config.exit_mode, config.strategy_period, config.run_dir) == ("wait", 0.5, "runinfo")
    assert config.data.backend == "globus"


def test_a_path_loads_like_its_content(tmp_path):
    """`load` accepts a path as text or as a `Path`, or the parsed settings."""
    (tmp_path / "c.yaml").write_text("a: {provider: threads, max_threads: 3}\ndata: {backend: local}\n")
    for config in (tmp_path / "c.yaml", "c.yaml", configure.parse_file("c.yaml")):
        loaded = configure.load(config, run_dir=tmp_path / "runs")
        assert [(each.label, each.max_threads) for each in loaded.executors] == [("local", 8), ("a", 3)]
        assert (loaded.data.backend, loaded.run_dir) == ("local", str(tmp_path / "runs"))
        assert loaded.data.root == str(tmp_path / "sandbox")


def test_the_repr_is_the_one_that_parsl_logs():
    """The repr of the Config, which Parsl logs, shows each provider and endpoint."""
    text = repr(configure.load({"far": {"endpoint": UUID}, "near": {"provider": "slurm"}}))
    assert text.startswith("WorkflowConfig(")
    assert UUID in text
    assert "GuardedSlurmProvider(" in text


@pytest.mark.parametrize("config", [[], 5, None])
def test_what_is_no_config_is_refused(config):
    """A config of the wrong type raises TypeError, which says what to pass."""
    with pytest.raises(TypeError, match="takes a dict or the path of a settings file"):
        configure.load(config)


@pytest.mark.parametrize(
    ("include", "labels"),
    [
        (None, ["local", "a", "b"]),
        ([], ["local"]),
        ("b", ["local", "b"]),
        (["b", "a", "b"], ["local", "b", "a"]),
        (("local",), ["local"]),
    ],
)
def test_include_chooses(include, labels):
    """`include` selects one label or several; `local` is always included, first."""
    config = configure.load({"a": {"provider": "threads"}, "b": {"provider": "threads"}}, include=include)
    assert [each.label for each in config.executors] == labels


def test_include_of_an_unknown_label_is_refused():
    """The error for unknown labels lists them, and suggests the nearest label to the first."""
    with pytest.raises(ConfigError, match=r"in config: 'comput', 'x'; did you mean 'compute'. Known: compute, local"):
        configure.load({"compute": {}}, include=["comput", "compute", "x"])


# --- the backend -----------------------------------------------------------------------------------------------------


def test_the_backend_is_chosen_by_argument_environment_or_file(monkeypatch):
    """The argument takes precedence over the environment, and both over the file."""
    config = {"data": {"backend": "globus"}}
    monkeypatch.setenv("CHILTEPIN_BACKEND", "local")
    assert configure.load(config).data.backend == "local"
    assert configure.load(config, backend="filesystem").data.backend == "filesystem"
    monkeypatch.setenv("CHILTEPIN_BACKEND", "")
    assert configure.load({"data": {"backend": "local"}}).data.backend == "local"


def test_a_backend_that_is_not_installed_is_refused(tmp_path, monkeypatch):
    """The error for a backend that is not installed says where its name was set."""
    (tmp_path / "c.yaml").write_text("data:\n  backend: lcal\n")
    with pytest.raises(ConfigError, match=r"^c.yaml:2: data.backend is 'lcal'.*did you mean 'local'"):
        configure.load("c.yaml")
    monkeypatch.setenv("CHILTEPIN_BACKEND", "filsystem")
    with pytest.raises(ConfigError, match=r"^The environment variable CHILTEPIN_BACKEND='filsystem' .*'filesystem'"):
        configure.load({})
    with pytest.raises(ConfigError, match=r"^The argument backend='loco' names a backend that is not installed here; "):
        configure.load({}, backend="loco")


def test_default_data_is_that_of_the_default_file(tmp_path, monkeypatch):
    """A workflow with a Parsl Config reads its endpoints from the current default file."""
    with pytest.raises(ConfigError, match=r"there is no chiltepin.yaml .* 'export CHILTEPIN_CONFIG="):
        configure.default_data()
    file = tmp_path / "chiltepin.yaml"
    file.write_text("data: {backend: local, endpoints: {a: }}\n")
    first = configure.default_data()
    assert (first.backend, list(first.endpoints)) == ("local", ["a"])
    assert configure.default_data() is first
    file.write_text("data: {backend: local, endpoints: {a: , b: }}\n")
    assert list(configure.default_data().endpoints) == ["a", "b"]
    monkeypatch.setenv("CHILTEPIN_BACKEND", "filesystem")
    assert configure.default_data().backend == "filesystem"


# --- executors -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "kind", "provider", "launcher"),
    [
        ({}, GuardedHTEX, LocalProvider, SingleNodeLauncher),
        ({"provider": "slurm"}, GuardedHTEX, GuardedSlurmProvider, SrunLauncher),
        ({"provider": "pbspro"}, GuardedHTEX, PBSProProvider, MpiExecLauncher),
        ({"mpi": True}, GuardedMPIExecutor, LocalProvider, SimpleLauncher),
        ({"mpi": True, "provider": "slurm"}, GuardedMPIExecutor, GuardedSlurmProvider, SimpleLauncher),
        ({"mpi": True, "provider": "pbspro"}, GuardedMPIExecutor, PBSProProvider, SimpleLauncher),
    ],
)
def test_a_provider_has_its_executor_and_launcher(keys, kind, provider, launcher):
    """Each provider gets a matching executor and launcher, and executors encrypt their connections."""
    made = executor(**keys)
    assert (type(made), type(made.provider), type(made.provider.launcher)) == (kind, provider, launcher)
    assert (made.label, made.encrypted) == ("r", True)
    assert (made.provider.init_blocks, made.provider.min_blocks, made.provider.max_blocks) == (0, 0, 1)


def test_every_key_of_a_batch_resource_arrives():
    """Every key of a batch resource reaches the Slurm or PBS provider."""
    keys = {
        "nodes_per_block": 2,
        "cores_per_node": 4,
        "init_blocks": 1,
        "min_blocks": 1,
        "max_blocks": 3,
        "queue": "fast",
        "account": 123,
        "walltime": "1:00:00",
        "environment": ["module load x", "conda activate y"],
        "cores_per_worker": 2,
        "max_workers_per_node": 5,
    }
    slurm = executor(provider="slurm", exclusive=False, partition="gpu", **keys)
    pbs = executor(provider="pbspro", **keys)
    for made in (slurm, pbs):
        provider = made.provider
        assert (made.cores_per_worker, made.max_workers_per_node) == (2, 5)
        assert (provider.nodes_per_block, provider.account, provider.walltime) == (2, "123", "01:00:00")
        assert (provider.init_blocks, provider.min_blocks, provider.max_blocks) == (1, 1, 3)
        assert "\nmodule load x\nconda activate y\n" in provider.worker_init
    assert (slurm.provider.qos, slurm.provider.partition) == ("fast", "gpu")
    assert (slurm.provider.cores_per_node, slurm.provider.exclusive) == (4, False)
    assert (pbs.provider.queue, pbs.provider.cpus_per_node) == ("fast", 4)


def test_mpi_keys_arrive():
    """The number of MPI programs and their launcher reach the executor."""
    made = executor(provider="slurm", mpi=True, max_mpi_apps=2)
    assert (made.max_workers_per_block, made.mpi_launcher, made.provider.cores_per_node) == (2, "srun", None)
    assert executor(mpi=True).mpi_launcher == "mpiexec"


def test_a_worker_finds_this_environment_unless_the_user_says_another(tmp_path, monkeypatch):
    """A worker finds this environment and the script's folder; the user's `environment` lines override both."""
    folder = tmp_path / "with blank's"
    folder.mkdir()
    monkeypatch.setattr(sys, "path", [str(folder), *sys.path[1:]])
    lines = executor(environment="export PATH=/theirs:$PATH PYTHONPATH=/own").provider.worker_init
    shell = ["env", "-i", "/bin/bash", "-c", f'PATH=/usr/bin\n{lines}\necho "$PATH|$PYTHONPATH"']
    path, _, python_path = (
        subprocess.run(shell, capture_output=True, text=True, check=True).stdout.strip().partition("|")
    )
    assert path.split(":")[0] == "/theirs"
    assert os.access(os.path.join(path.split(":")[1], "process_worker_pool.py"), os.X_OK)
    assert python_path == f"/own:{folder}"
    shell[-1] = f'{executor().provider.worker_init}\necho "$PYTHONPATH"'
    assert subprocess.run(shell, capture_output=True, text=True, check=True).stdout.strip() == str(folder)


def test_only_batch_workers_come_from_elsewhere():
    """Executors on this machine use only the loopback; executors on a cluster also listen on it."""
    near, far = executor(), executor(provider="slurm")
    assert (near.address, near.all_addresses) == ("127.0.0.1", {"127.0.0.1"})
    assert far.address is None
    assert "127.0.0.1" in far.all_addresses


LOCALHOST_FLOW = """\
    import json, os, psutil, parsl
    from parsl import python_app
    from chiltepin.configure import load

    @python_app(executors=["work"])
    def ask():
        import beside
        return beside.ANSWER

    def addresses():
        main = psutil.Process()
        family = {main, *main.children(recursive=True)}
        for process in psutil.process_iter():
            try:
                # The worker pool is no child: the shell that started it has ended.
                if process.environ().get("FLOW_MARK") == os.environ["FLOW_MARK"]:
                    family.add(process)
            except psutil.Error:
                pass
        for process in family:
            for each in process.net_connections(kind="inet"):
                yield process.name(), each.laddr.ip.removeprefix("::ffff:"), each.status

    with parsl.load(load({"work": {"max_workers_per_node": 1}})):
        answer = ask().result(timeout=60)
        seen = sorted(set(addresses()))
        late = ask()
    print(json.dumps({"answer": answer, "late": late.result(timeout=0), "seen": seen,
                      "left": [child.name() for child in psutil.Process().children(recursive=True)]}))
"""


def test_a_localhost_resource_works_and_stays_on_this_machine(tmp_path):
    """Without this environment on PATH, a worker starts, imports a module beside the script, and uses no network."""
    (tmp_path / "beside.py").write_text("ANSWER = 42\n")
    said = run(LOCALHOST_FLOW, tmp_path, PATH="/usr/bin:/bin", FLOW_MARK=str(tmp_path))
    assert (said["answer"], said["late"], said["left"]) == (42, 42, [])
    assert len({name for name, _, _ in said["seen"]}) == 3, "the script, the interchange, the worker pool"
    assert {address for _, address, _ in said["seen"]} == {"127.0.0.1"}
    assert "LISTEN" in {status for _, _, status in said["seen"]}


# --- Globus Compute --------------------------------------------------------------------------------------------------


def test_a_compute_endpoint_is_told_all_keys():
    """The template of an endpoint receives every variable, with a default or an empty value for each unset key."""
    plain = executor(endpoint=UUID)
    assert plain.label == "r"
    assert plain.user_endpoint_config == {
        "mpi": False,
        "max_mpi_apps": 1,
        "mpi_launcher": "mpiexec",
        "provider": "localhost",
        "cores_per_node": 1,
        "nodes_per_block": 1,
        "init_blocks": 0,
        "min_blocks": 0,
        "max_blocks": 1,
        "exclusive": True,
        "partition": "",
        "queue": "",
        "account": "",
        "walltime": "00:10:00",
        "worker_init": "",
    }
    told = executor(endpoint=UUID, provider="slurm", environment=["a", "b"], account=5).user_endpoint_config
    assert (told["mpi_launcher"], told["worker_init"], told["account"]) == ("srun", "a\nb", "5")


def test_a_client_reaches_the_compute_executor():
    """`load` passes `client` to the Globus Compute executor."""
    client = object()
    made = configure.load({"far": {"endpoint": UUID}}, client=client).executors[1]
    assert isinstance(made, ComputeExecutor)
    assert made.client is client


COMPUTE_FLOW = """\
    import json, sys
    calls = []
    sys.addaudithook(lambda event, args: calls.append(event) if event in (
        "socket.connect", "socket.sendto", "socket.getaddrinfo", "socket.gethostbyname", "urllib.Request") else None)
    import parsl
    from chiltepin.configure import load
    config = load({"far": {"endpoint": "%s"}, "slurm": {"provider": "slurm"}, "pbs": {"provider": "pbspro"}})
    made = list(calls)
    config = load({"far": {"endpoint": "%s"}})
    with parsl.load(config) as dfk:
        far = dfk.executors["far"]
    print(json.dumps([made, calls, far.executor]))
"""


def test_an_unused_compute_endpoint_makes_no_request(tmp_path):
    """A workflow that never uses its compute endpoint needs neither a login nor the network, from load to exit."""
    assert run(COMPUTE_FLOW % (UUID, UUID), tmp_path) == [[], [], None]
    assert not (tmp_path / "home").exists()


EXTRA_FLOW = """\
    import json, sys
    sys.modules["globus_compute_sdk"] = None
    from chiltepin.configure import load
    load({"far": {"endpoint": "%s"}}, include=[])
    try:
        load({"far": {"endpoint": "%s"}})
    except ValueError as err:
        print(json.dumps([str(err), err.key]))
"""


def test_a_missing_extra_is_named(tmp_path):
    """Without the extra, including a compute endpoint raises an error with the install command."""
    said, key = run(EXTRA_FLOW % (UUID, UUID), tmp_path)
    assert said.endswith("run: pip install globus-compute-sdk")
    assert key == "far.endpoint"


def test_parsl_runs_with_the_config(tmp_path):
    """A clean exit of Parsl waits for running tasks."""
    config = configure.load({}, run_dir=tmp_path / "runs")
    config.initialize_logging = False
    with parsl.load(config):
        answer = parsl.python_app(sum, executors=["local"])([1, 2])
    assert answer.result(timeout=0) == 3


def test_the_executor_of_one_resource():
    """The `create_*` functions of the upstream package make one executor or provider from the keys of a resource."""
    made = configure.create_htex_executor("mine", {"cores_per_worker": 4, "max_workers_per_node": 8})
    assert (made.label, made.cores_per_worker, made.max_workers_per_node) == ("mine", 4, 8)
    assert type(made.storage_access[-1]) is type(executor().storage_access[-1])
    assert isinstance(configure.create_mpi_executor("mine", {"mpi": True}), GuardedMPIExecutor)
    client = object()
    far = configure.create_globus_compute_executor("mine", {"endpoint": UUID}, client=client)
    assert (far.endpoint, far.client) == (UUID, client)
    provider = configure.create_provider({"provider": "slurm", "account": "me", "max_blocks": 3, "endpoint": UUID})
    assert isinstance(provider, GuardedSlurmProvider)
    assert (provider.account, provider.max_blocks) == ("me", 3)
    assert isinstance(configure.create_provider({}), LocalProvider)
    with pytest.raises(ConfigError, match="Unsupported provider 'threads'; known: localhost, pbspro, slurm"):
        configure.create_provider({"provider": "threads"})
    with pytest.raises(ConfigError, match=r"mine\.provider is 'slrum'; did you mean 'slurm'"):
        configure.create_executor("mine", {"provider": "slrum"})
