"""Settings: valid files, and the errors for invalid ones."""

import json
import pickle
import re
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import pytest

from chiltepin import settings
from chiltepin.errors import ConfigError
from chiltepin.settings import ConfigWarning, Document

UUID = "87654321-4321-4321-4321-cba987654321"
INSTALLED = ("filesystem", "local")


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Return a function that writes ``c.yaml`` into an empty working directory and returns its name."""
    monkeypatch.chdir(tmp_path)

    def write_file(text, name="c.yaml"):
        data = text if isinstance(text, bytes) else text.encode()
        (tmp_path / name).write_bytes(data)
        return name

    return write_file


def check(config):
    """Check settings as on a machine without Globus."""
    return settings.check(config, backends=INSTALLED)


def resource(**keys):
    """Return the checked resource ``r`` with these keys."""
    return check({"r": keys}).resources["r"]


def refusal(config):
    """Return the error that these settings raise."""
    with pytest.raises(ConfigError) as caught:
        check(config)
    return caught.value


def test_run_keys_are_not_resources(write, tmp_path):
    """`run_dir` and `keep_runs` are settings, even with an anchor; if their value is a mapping, they are resources."""
    checked = check(settings.read(write("run_dir: &runs ./a/../runs\nkeep_runs: all\nx: {provider: threads}\n")))
    assert (checked.runs.run_dir, checked.runs.keep_runs) == (str(tmp_path / "runs"), "all")
    assert list(checked.resources) == ["local", "x"]
    checked = check({"run_dir": None, "keep_runs": {"provider": "threads"}})
    assert (checked.runs.run_dir, checked.runs.keep_runs) == ("runinfo", 20)
    assert list(checked.resources) == ["local", "keep_runs"]


# --- reading ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "# only this\n", "---\n", "~\n", "\ufeff# from Windows\n"])
def test_an_empty_file_says_nothing(write, text):
    """A file without a value is an empty document that keeps its file name."""
    document = settings.read(write(text))
    assert document == {}
    assert document.file == "c.yaml"


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("1:00:00", "1:00:00"),
        ("00:30:00", "00:30:00"),
        ("0123", "0123"),
        ("1_000", "1_000"),
        ("0x1F", "0x1F"),
        ("no", "no"),
        ("on", "on"),
        ("2024-01-01", "2024-01-01"),
        ("=", "="),
        ("false", False),
        ("True", True),
        ("12", 12),
        ("-1", -1),
        ("1.5", 1.5),
        ("1e3", 1000.0),
        ("~", None),
        ("", None),
        ('"12"', "12"),
        ("!!str 12", "12"),
        ("!!int '12'", 12),
    ],
)
def test_plain_values_mean_what_was_typed(write, typed, meant):
    """Of plain values only decimal numbers, true, false and null are special; all others stay text."""
    value = settings.read(write(f"a: {typed}\n"))["a"]
    assert value == meant
    assert type(value) is type(meant)


def test_keys_are_text_as_typed(write):
    """A key that looks like a number or a Boolean stays text."""
    assert list(settings.read(write("2024: 1\non: 2\n1.10: 3\nnull: 4\n"))) == ["2024", "on", "1.10", "null"]


def test_lines_are_known(write):
    """Every key and list item has a line number, even through an alias or a merge."""
    text = "# first\na: &a\n  b: 1\n  c:\n    - x\n    - y\nd:\n  <<: *a\n  b: 2\ne: *a\n"
    document = settings.read(write(text))
    assert document == {"a": {"b": 1, "c": ["x", "y"]}, "d": {"b": 2, "c": ["x", "y"]}, "e": {"b": 1, "c": ["x", "y"]}}
    lines = document.lines
    assert [lines["a",], lines["a", "b"], lines["a", "c", 1], lines["d", "b"], lines["d", "c"], lines["e", "b"]] == [
        2,
        3,
        6,
        9,
        4,
        3,
    ]


def test_the_first_of_several_merges_wins(write):
    """`<<` accepts a list of mappings, in order of precedence."""
    assert settings.read(write("a: &a {x: 1}\nb: &b {x: 2, y: 2}\nc: {<<: [*a, *b], z: 3}\n"))["c"] == {
        "x": 1,
        "y": 2,
        "z": 3,
    }


def test_a_document_can_be_pickled(write):
    """A pickled document keeps its file name and line numbers."""
    document = settings.read(write("a:\n  mpi: true\n"))
    copy = pickle.loads(pickle.dumps(document))  # noqa: S301
    assert (copy, copy.file, copy.lines) == (document, document.file, document.lines)


LAUGHS = "a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
    f"{name}: &{name} [{', '.join(['*' + before] * 10)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("a:\n  b: 1\n  c: 2\n  b: 3\n", 4, "the key 'b' appears here and in line 2; keep one"),
        ("- a\n- b\n", 1, "but this is a list"),
        ("\nhello\n", 1, "but this is one value"),
        ("a: 1\nb: !date 2024\n", 2, "the tag '!date' is not allowed"),
        ("a: !!python/name:os.system x\n", 1, "the tag '!!python/name:os.system' is not allowed"),
        ("a: !!set {x}\n", 1, "the tag '!!set' is not allowed"),
        ("!!set {x}\n", 1, "the tag '!!set' is not allowed"),
        ("a: !!int twelve\n", 1, "'twelve' is not of type int"),
        ("a: &a [*a]\n", 1, "contains its own alias"),
        ("a: &a {<<: *a}\n", 1, "contains its own alias"),
        ("a: {<<: 3}\n", 1, "merges mappings only"),
        ("? [x]\n: 1\n", 1, "a key is one piece of text"),
        ("a:\n\tb: 1\n", 2, "Indent with blanks, not with tabs"),
        ("a: 1\nb: c: d\n", 2, "put text that holds ': ' in quotes"),
        ("a: 1\n---\nb: 2\n", 2, "above the second '---'"),
        ("a: *b\n", 1, "found undefined alias"),
        ("a: [1\n", 2, "not valid YAML"),
        ("a: 1\nb: \x00\n", 2, "is not allowed in YAML"),
        (b"a: 1\nb: caf\xe9\n", 2, "the byte 0xe9 is not UTF-8"),
        (LAUGHS, 1, "more than 10000 values"),
    ],
)
def test_what_cannot_be_read_is_explained(write, text, line, said):
    """A file that is not a plain YAML mapping raises an error with the file name and the line."""
    file = write(text)
    with pytest.raises(ConfigError) as caught:
        settings.read(file)
    assert said in str(caught.value)
    assert str(caught.value).startswith(f"c.yaml:{line}: ")
    assert (caught.value.file, caught.value.line) == ("c.yaml", line)


@pytest.mark.parametrize("text", ["a: " + "[" * 999 + "]" * 999, "a: " + "{b: " * 999 + "}" * 999])
def test_bottomless_nesting_is_refused(write, text):
    """A file nested deeply enough to exhaust the stack raises ConfigError."""
    file = write(text)
    with pytest.raises(ConfigError, match="nested too deeply"):
        settings.read(file)


def test_a_file_that_is_not_there_is_explained(tmp_path, monkeypatch):
    """A missing file, a folder and an invalid name each raise a specific error."""
    monkeypatch.chdir(tmp_path)
    for path, said in [
        ("no.yaml", "No settings file '/.*/no.yaml' found"),
        (tmp_path, "is a folder"),
        ("\0", "read"),
    ]:
        with pytest.raises(ConfigError, match=said) as caught:
            settings.read(path)
        assert caught.value.file == str(path)


# --- resources -------------------------------------------------------------------------------------------------------


def test_defaults():
    """A resource without keys is a localhost resource; `local` is a thread pool."""
    found = check({"r": None, "s": {}}).resources
    assert list(found) == ["local", "r", "s"]
    assert found["r"] == found["s"]
    assert found["local"].provider == "threads"
    assert found["r"].model_dump() == {
        "provider": "localhost",
        "endpoint": None,
        "mpi": False,
        "max_mpi_apps": 1,
        "mpi_launcher": None,
        "max_threads": 8,
        "cores_per_worker": 1.0,
        "max_workers_per_node": None,
        "cores_per_node": None,
        "nodes_per_block": 1,
        "max_blocks": 1,
        "min_blocks": 0,
        "init_blocks": 0,
        "exclusive": True,
        "partition": None,
        "queue": None,
        "account": None,
        "walltime": "00:10:00",
        "environment": (),
        "working_dir": None,
    }


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("scratch", "write an endpoint and a folder on it, such as hpc-scratch:/project/parsl"),
        ("hpc-scratch:relative", "write an endpoint and a folder on it"),
        ("hpc-scratch:/a/../b", "write an endpoint and a folder on it"),
        ("hpc-scrach:/work", r"names the endpoint 'hpc-scrach', which is not declared; did you mean 'hpc-scratch'\?"),
    ],
)
def test_a_working_folder_is_one_of_an_endpoint(typed, said):
    """`working_dir` must name a folder on a declared endpoint."""
    with pytest.raises(ConfigError, match=said) as caught:
        check({"compute": {"working_dir": typed}, "data": {"endpoints": {"hpc-scratch": None}}})
    assert caught.value.key == "compute.working_dir"
    fine = check({"compute": {"working_dir": "hpc-scratch:/work/"}, "data": {"endpoints": {"hpc-scratch": None}}})
    assert fine.resources["compute"].working_dir == "hpc-scratch:/work"


@pytest.mark.parametrize("names", [["lab:/disk"], ["lab", "lab:/disk"], ["lab:/disk", "lab"]])
def test_a_working_folder_names_one_endpoint(names):
    """An endpoint name with ':/' raises an error in `working_dir`, and is never mistaken for another endpoint."""
    endpoints = {name: {"local": f"folder-{number}"} for number, name in enumerate(names)}
    with pytest.raises(ConfigError, match="cannot name the endpoint 'lab:/disk', because ':/' ends the name") as caught:
        check({"compute": {"working_dir": "lab:/disk:/work"}, "data": {"endpoints": endpoints}})
    assert caught.value.key == "compute.working_dir"


@pytest.mark.parametrize(
    ("name", "typed"),
    [
        ("lab:2", "lab:2:/work"),
        ("lab:", "lab::/work"),
        ("12345678-ABCD-1234-1234-123456789abc", "12345678-abcd-1234-1234-123456789ABC:/work"),
    ],
)
def test_a_working_folder_may_be_on_an_endpoint_with_an_odd_name(name, typed):
    """A colon is part of the endpoint name unless a slash follows, and UUIDs are case-insensitive."""
    settings = check({"compute": {"working_dir": typed}, "data": {"endpoints": {name: None}}})
    endpoint, _, folder = settings.resources["compute"].working_dir.partition(":/")
    assert (endpoint in settings.data.endpoints, folder) == (True, "work")


def test_the_users_local_replaces_the_built_in_one():
    """A `local` resource in the settings replaces the built-in one and stays first."""
    found = check({"a": {}, "local": {"provider": "localhost"}}).resources
    assert list(found) == ["local", "a"]
    assert found["local"].provider == "localhost"


def test_a_key_that_is_left_empty_has_its_default():
    """A key without a value, such as `walltime:`, has its default."""
    keys = dict.fromkeys(("provider", "mpi", "max_blocks", "init_blocks", "walltime", "environment", "account"))
    assert resource(**keys) == resource()


@pytest.mark.parametrize(
    ("key", "given", "meant"),
    [
        ("mpi", "false", False),
        ("mpi", "yes", True),
        ("exclusive", "no", False),
        ("account", 12345, "12345"),
        ("account", "", None),
        ("partition", " gpu ", "gpu"),
        ("max_blocks", "4", 4),
        ("cores_per_worker", "0.5", 0.5),
        ("walltime", "1:00:00", "01:00:00"),
        ("walltime", "100:00:00", "100:00:00"),
        ("environment", "module load x", ("module load x",)),
        ("environment", "a\nb\n", ("a", "b")),
        ("environment", ["a", "b"], ("a", "b")),
        ("environment", [], ()),
    ],
)
def test_values_are_understood(key, given, meant):
    """Booleans, numbers and text are accepted in every common spelling."""
    assert getattr(resource(provider="slurm", **({"mpi": False} | {key: given})), key) == meant


def test_as_many_blocks_at_the_start_as_at_least():
    """`init_blocks` defaults to `min_blocks`."""
    assert resource(min_blocks=2, max_blocks=3).init_blocks == 2


def test_an_mpi_launcher_follows_the_provider():
    """By default MPI programs start with srun under Slurm and with mpiexec elsewhere."""
    assert resource(provider="slurm", mpi=True).launcher == "srun"
    assert resource(provider="pbspro", mpi=True).launcher == "mpiexec"
    assert resource(mpi=True, mpi_launcher="aprun").launcher == "aprun"


STUMBLES = [
    ("partion: gpu", "partion", "did you mean 'partition'?"),
    ('"cores per node": 4', "cores per node", "did you mean 'cores_per_node'?"),
    ('"endpoint id": x', "endpoint id", "did you mean 'endpoint'?"),
    ('endpoint: ""', "endpoint", "is ''; write the UUID of a Globus Compute endpoint, or remove the key."),
    ("endpoint:", "endpoint", "is None; write the UUID of a Globus Compute endpoint, or remove the key."),
    ("endpoint: my laptop", "endpoint", "is 'my laptop'; write a UUID, such as 12345678-"),
    ("provider: slrum", "provider", "is 'slrum'; did you mean 'slurm'? Known: localhost, pbspro, slurm, threads."),
    (f"endpoint: {UUID}\n  provider: slrum", "provider", "did you mean 'slurm'?"),
    (f"endpoint: {UUID}\n  provider: threads", "endpoint", "remove the endpoint, or write another provider"),
    ("mpi: 2", "mpi", "is 2; write true or false."),
    ("mpi: maybe", "mpi", "is 'maybe'; write true or false."),
    ("mpi_launcher: mpirun", "mpi_launcher", "did you mean 'aprun'? Known: aprun, mpiexec, srun."),
    ("max_blocks: -1", "max_blocks", "is -1; write a whole number of at least 1."),
    ("max_blocks: 0", "max_blocks", "is 0; write a whole number of at least 1."),
    ("max_blocks: 1.5", "max_blocks", "is 1.5; write a whole number."),
    ("max_blocks: many", "max_blocks", "is 'many'; write a whole number."),
    ("max_blocks: true", "max_blocks", "is True; write a number."),
    ("max_blocks: [1]", "max_blocks", "is [1]; write a whole number."),
    ("min_blocks: 3\n  max_blocks: 2", "min_blocks", "is 3; max_blocks is 2, so write a number up to that"),
    ("init_blocks: 2", "init_blocks", "is 2; max_blocks is 1, so write a number up to that"),
    ("init_blocks: 0\n  min_blocks: 1", "init_blocks", "is 0; min_blocks is 1, so write at least 1"),
    ("cores_per_worker: 0", "cores_per_worker", "is 0; write a number of at least 0.01"),
    ("cores_per_worker: half", "cores_per_worker", "is 'half'; write a number."),
    ("walltime: 3600", "walltime", 'write "01:00:00" for that many seconds'),
    ("walltime: 90", "walltime", 'write "00:01:30" for that many seconds'),
    ("walltime: 30:00", "walltime", 'write "00:30:00" for minutes and seconds, or "30:00:00" for hours'),
    ("walltime: 1h", "walltime", "is '1h'; write hours, minutes and seconds, such as \"01:00:00\"."),
    ("walltime: 00:00:00", "walltime", "write hours, minutes and seconds"),
    ("walltime: true", "walltime", "write hours, minutes and seconds"),
    ("account: true", "account", 'write a name, and quote it if it is "true"'),
    ("account: 1.10", "account", "quote it, spelled as you need it"),
    ("account: [a]", "account", "is ['a']; write one piece of text."),
    ('account: "a\\nb"', "account", "write it on one line"),
    ("environment: {A: b}", "environment", "'- export NAME=value'"),
    ("environment: [module load x, 5]", "environment", "put the line 5 in quotes"),
]


@pytest.mark.parametrize(("body", "key", "said"), STUMBLES)
def test_a_stumbling_block_is_named_with_file_line_key_and_remedy(write, body, key, said):
    """A setting that upstream ignored or misread raises an error that names the file, line, key and remedy."""
    document = settings.read(write(f"# top\ncompute:\n  {body}\n"))
    error = refusal(document)
    line = document.lines["compute", key]
    assert str(error).startswith(f"c.yaml:{line}: compute.{key} ")
    assert said in str(error)
    assert "\n" not in str(error)
    assert (error.file, error.key, error.line) == ("c.yaml", f"compute.{key}", line)


@pytest.mark.parametrize(
    ("text", "key", "said"),
    [
        ("all: {}", "all", "executor='all' means all resources"),
        ("_parsl_internal: {}", "_parsl_internal", "names that start with '_' belong to Parsl"),
        ("my nodes: {}", "my nodes", "write letters, digits, '_', '-' and '.'"),
        ("../up: {}", "../up", "write letters, digits"),
        ("compute: 5", "compute", "is 5; write the keys of a resource below it"),
        ("compute: [slurm]", "compute", "is ['slurm']; write the keys"),
        ("provider: slurm", "provider", "belongs to a resource; indent it below the name of one"),
        ("run_dir: 5", "run_dir", "is 5; write a folder of this machine, such as /scratch/me/runinfo"),
        ("run_dir: s3://b/runs", "run_dir", "is 's3://b/runs'; write a folder of this machine"),
        ("run_dir: file://host/runs", "run_dir", "is 'file://host/runs'; write a folder of this machine"),
        ("run_dir: ~no-user/x", "run_dir", "because this machine has no user 'no-user'"),
        ("keep_runs: 0", "keep_runs", "is 0; write a whole number of at least 1, or 'all' to keep every run folder"),
        ("keep_runs: 2.5", "keep_runs", "is 2.5; write a whole number of at least 1"),
        ("keep_runs: true", "keep_runs", "is True; write a whole number of at least 1"),
        ("endpoints: {}", "endpoints", "belongs to the data section; indent it below 'data:'"),
        ("dta: {backend: local, endpoints: {}}", "dta", "holds keys of the data section, which is called 'data'"),
        (
            "data: {provider: slurm}",
            "data.provider",
            "is a key of a resource, but 'data' is the section about endpoints",
        ),
        ("data: {endpoint: {}}", "data.endpoint", "is a key of a resource; did you mean 'endpoints'?"),
    ],
)
def test_a_name_that_is_no_resource_is_explained(write, text, key, said):
    """Reserved names and misplaced sections are errors."""
    error = refusal(settings.read(write(text)))
    assert said in str(error)
    assert (error.file, error.key, error.line) == ("c.yaml", key, 1)


def test_all_problems_are_reported_at_once(write):
    """One error lists every problem in file order, and has the attributes of the first."""
    error = refusal(settings.read(write("b:\n  max_blocks: 0\n  mpi: 7\ndata:\n  bckend: x\na:\n  partion: p\n")))
    places = [sentence.split(" ", 2)[:2] for sentence in str(error).splitlines()]
    assert places == [
        ["c.yaml:2:", "b.max_blocks"],
        ["c.yaml:3:", "b.mpi"],
        ["c.yaml:5:", "data.bckend"],
        ["c.yaml:7:", "a.partion"],
    ]
    assert (error.key, error.line) == ("b.max_blocks", 2)


def test_a_dict_is_checked_like_a_file():
    """A dict raises the same errors as a file, without a file name and line."""
    error = refusal({"compute": {"max_blocks": 0}})
    assert str(error) == "compute.max_blocks is 0; write a whole number of at least 1."
    assert (error.file, error.key, error.line) == ("", "compute.max_blocks", 0)
    assert "is not text" in str(refusal({5: {}}))


@pytest.mark.parametrize("config", [[], 5, None, "text"])
def test_what_is_no_mapping_is_refused(config):
    """Settings that are not a mapping raise ConfigError."""
    with pytest.raises(ConfigError, match="Settings are a mapping"):
        check(config)


STAY = "remove it, unless you mean to change back."


@pytest.mark.parametrize(
    ("body", "key", "kind"),
    [
        ("partition: gpu", "partition", "provider 'localhost' without mpi"),
        ("walltime: 01:00:00", "walltime", "provider 'localhost' without mpi"),
        ("mpi_launcher: srun", "mpi_launcher", "provider 'localhost' without mpi"),
        ("max_threads: 3", "max_threads", "provider 'localhost' without mpi"),
        ("provider: threads\n  environment: x", "environment", "provider 'threads'"),
        ("provider: threads\n  mpi: true", "mpi", "provider 'threads'"),
        ("provider: pbspro\n  partition: gpu", "partition", "provider 'pbspro' without mpi"),
        ("provider: slurm\n  mpi: true\n  cores_per_node: 3", "cores_per_node", "provider 'slurm' and mpi: true"),
        (f"endpoint: {UUID}\n  cores_per_worker: 3", "cores_per_worker", "a Globus Compute endpoint"),
    ],
)
def test_a_key_of_another_provider_is_a_warning(write, body, key, kind):
    """A key that has no effect with the resource's provider is accepted with a warning."""
    document = settings.read(write(f"r:\n  {body}\n"))
    with pytest.warns(ConfigWarning) as caught:
        check(document)
    (message,) = [str(warning.message) for warning in caught]
    assert message == f"r.{key} has no effect with {kind}; {STAY}"
    assert (caught[0].filename, caught[0].lineno) == ("c.yaml", document.lines["r", key])


@pytest.mark.parametrize(
    ("body", "line", "key", "name"),
    [
        ("root: ${SCRATCH}/data", 2, "root", "${SCRATCH}"),
        ("journal: $HOME/j", 2, "journal", "$HOME"),
        ("endpoints:\n    a:\n      local: $USER", 4, "endpoints.a.local", "$USER"),
        ("endpoints:\n    a:\n      filesystem: {url: '/lustre/$USER'}", 4, "endpoints.a.filesystem.url", "$USER"),
    ],
)
def test_a_shell_variable_in_a_path_is_a_warning(write, body, line, key, name):
    """A path with a shell variable is used as written, and a warning names the variable."""
    with pytest.warns(ConfigWarning) as caught:
        check(settings.read(write(f"data:\n  {body}\n")))
    (message,) = [str(warning.message) for warning in caught]
    assert message == f"data.{key} contains {name!r}, which is not expanded; write its value."
    assert caught[0].lineno == line


def test_keys_that_are_used_cause_no_warning():
    """A resource whose keys all have an effect gives no warning."""
    everywhere = {"max_blocks": 2, "environment": "x", "mpi": False}
    batch = everywhere | {
        "nodes_per_block": 2,
        "cores_per_node": 4,
        "queue": "q",
        "account": "a",
        "walltime": "1:00:00",
    }
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check(
            {
                "h": everywhere | {"cores_per_worker": 2, "max_workers_per_node": 3},
                "s": batch | {"provider": "slurm", "partition": "p", "exclusive": False, "cores_per_worker": 2},
                "p": batch | {"provider": "pbspro", "mpi": True, "max_mpi_apps": 2, "mpi_launcher": "srun"},
                "e": batch | {"endpoint": UUID, "mpi": True, "partition": "p"},
                "t": {"provider": "threads", "max_threads": 3, "mpi": False},
            }
        )


# --- data ------------------------------------------------------------------------------------------------------------

DATA = f"""\
data:
  backend: globus
  root: box
  check: "no"
  filesystem:
    block_size: 1000
  endpoints:
    laptop:
      home: /users/me
      globus: {UUID.upper()}
      filesystem: data/laptop
    hpc:
      globus: {{collection: 11111111-2222-3333-4444-555555555555, mount: /scratch/}}
      filesystem: {{url: "s3://bucket/scratch", mount: /s3, options: {{key: {{env: MY_KEY}}, anon: false}}}}
      local: {{folder: a/b}}
    plain:
"""


@pytest.fixture
def data(write):
    """Return the data settings of a file with three endpoints."""
    return check(settings.read(write(DATA))).data


def test_an_endpoint_is_where_each_backend_says(data, tmp_path):
    """Short and long forms give the same plain data, with relative paths resolved from the file's folder."""
    assert (data.file, data.backend, data.check, data.root) == ("c.yaml", "globus", False, f"{tmp_path}/box")
    assert data.places("globus") == {
        "laptop": {"collection": UUID, "home": "/users/me"},
        "hpc": {"collection": "11111111-2222-3333-4444-555555555555", "mount": "/scratch"},
    }
    laptop = {"url": f"{tmp_path}/data/laptop", "home": "/users/me"}
    hpc = {"url": "s3://bucket/scratch", "mount": "/s3", "options": {"key": {"env": "MY_KEY"}, "anon": False}}
    assert data.places("filesystem") == {
        "laptop": laptop,
        "hpc": hpc,
        UUID: laptop,
        "11111111-2222-3333-4444-555555555555": hpc,
    }


def test_local_serves_every_endpoint(data, tmp_path):
    """On `local` each endpoint is a folder, named after it by default, and its UUID finds the same folder."""
    assert data.places("local") == {
        "laptop": {"folder": "laptop", "home": "/users/me"},
        "hpc": {"folder": "a/b"},
        "plain": {"folder": "plain"},
        UUID: {"folder": "laptop", "home": "/users/me"},
        "11111111-2222-3333-4444-555555555555": {"folder": "a/b"},
    }
    assert data.options("local") == {"root": f"{tmp_path}/box"}
    assert data.options("filesystem") == {"block_size": 1000}
    assert data.options("globus") == {}


def test_the_chosen_backend_can_be_made_anywhere(data, tmp_path):
    """`setup` is one JSON text that describes the chosen backend; `active_places` adds the mounts."""
    local = replace(data, backend="local")
    assert json.loads(local.setup) == {
        "backend": "local",
        "endpoints": local.places("local"),
        "options": {"root": f"{tmp_path}/box"},
        "batch": True,
        "journal": local.journal,
    }
    assert local.setup == replace(data, backend="local").setup
    assert local.active_places["hpc"] == {"folder": "a/b", "mount": f"{tmp_path}/box/a/b"}
    stores = replace(data, backend="filesystem").active_places
    assert (stores["laptop"]["mount"], stores["hpc"]["mount"]) == (f"{tmp_path}/data/laptop", "/s3")
    assert data.active_places == data.places("globus")


def test_data_settings_are_plain(data):
    """Data settings can be pickled, are immutable, and return copies."""
    data.places("filesystem")["hpc"]["options"]["key"] = "changed"
    data.options("filesystem")["block_size"] = 2
    assert data.places("filesystem")["hpc"]["options"]["key"] == {"env": "MY_KEY"}
    assert data.options("filesystem") == {"block_size": 1000}
    assert pickle.loads(pickle.dumps(data)) == data  # noqa: S301
    with pytest.raises(AttributeError):
        data.backend = "local"


def test_without_a_data_section_there_is_still_a_root(tmp_path, monkeypatch):
    """Without a data section the root is `sandbox` in the working directory."""
    monkeypatch.chdir(tmp_path)
    for config in ({}, {"data": None}, {"data": {"endpoints": None, "root": None, "backend": None}}):
        found = check(config).data
        assert (found.backend, found.check, found.root, found.places("local")) == (
            "globus",
            True,
            f"{tmp_path}/sandbox",
            {},
        )


def test_relative_paths_count_from_the_file(write, tmp_path, monkeypatch):
    """Relative paths start at the folder of the settings file, not at the working directory."""
    (tmp_path / "sub").mkdir()
    write(
        "data: {endpoints: {a: {filesystem: ../x}, b: {filesystem: 'file:y'}, c: {filesystem: 'file:///z'}}}",
        "sub/c.yaml",
    )
    document = settings.read("sub/c.yaml")
    found = check(document).data
    assert found.root == f"{tmp_path}/sub/sandbox"
    assert [place["url"] for place in found.places("filesystem").values()] == [
        f"{tmp_path}/x",
        f"{tmp_path}/sub/y",
        "/z",
    ]


@pytest.mark.parametrize("url", ["s3://b/x", "memory://x", "sftp://me@host/x", "zip::s3://b/x", "ssh://h:22/x"])
def test_urls_of_other_stores_are_left_alone(url):
    """The URL of another store stays as written."""
    assert check({"data": {"endpoints": {"a": {"filesystem": url}}}}).data.places("filesystem")["a"]["url"] == url


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("file:///a%20b", "/a b"),
        ("file://localhost/x/", "/x"),
        ("file:/a%20b", "/a%20b"),
        ("/a%20b", "/a%20b"),
        ("local:///x", "/x"),
        ("FILE:///x", "/x"),
        ("file://LOCALHOST/x", "/x"),
        ("file:///a?b#c%3F%25", "/a?b#c?%"),
        ("file:///a%2Fb/%FF", "/a/b/\udcff"),
        ("/runs/case::01", "/runs/case::01"),
        ("file:///runs/case::01", "/runs/case::01"),
        ("/runs/s3://x", "/runs/s3:/x"),
        ("/runs/x://me:secret@h?token=1", "/runs/x:/me:secret@h?token=1"),
        ("/a*[b]{c}?#% ", "/a*[b]{c}?#% "),
        ("//a//b/./c/../d", "/a/b/d"),
        ("/a\nb", "/a\nb"),
    ],
)
def test_a_url_of_this_machine_is_a_path(url, path):
    """A complete URL of this machine is decoded to a path; a plain path is not decoded."""
    assert check({"data": {"endpoints": {"a": {"filesystem": url}}}}).data.places("filesystem")["a"]["url"] == path


@pytest.mark.parametrize("path", ["case::01", "C:\\data", "a:b", "run/s3://x", "x::", "::", "%41", "~~"])
def test_a_relative_path_may_hold_anything(path, tmp_path, monkeypatch):
    """A value that does not start with a URL scheme is a path relative to the folder of the settings."""
    monkeypatch.chdir(tmp_path)
    found = check({"data": {"endpoints": {"a": {"filesystem": path}}}}).data.places("filesystem")["a"]["url"]
    assert found == f"{tmp_path}/{path.replace('//', '/')}"


def test_a_path_goes_up_from_where_a_link_leads(tmp_path, monkeypatch):
    """`..` after a symbolic link in an endpoint's path is left to the kernel; elsewhere it is resolved."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to("elsewhere/deep")
    found = [
        check({"data": {"endpoints": {"a": {"filesystem": path}}}}).data.places("filesystem")["a"]["url"]
        for path in ("link/../x", "sub/../x", "../x", "sub/link/../../x")
    ]
    assert found == [f"{tmp_path}/link/../x", f"{tmp_path}/x", f"{tmp_path.parent}/x", f"{tmp_path}/x"]


@pytest.mark.parametrize("url", ["file://otherhost/x", "file://x", "file:///a%00b", "local://x/y"])
def test_a_url_of_another_machine_is_no_folder(url):
    """A URL that names a host or contains an invalid path is an error."""
    with pytest.raises(ConfigError, match=r"is not a folder of this machine"):
        check({"data": {"endpoints": {"a": {"filesystem": url}}}})


def test_a_home_in_the_paths_is_the_users(monkeypatch):
    """`~` in a path of this machine is the home folder of the user who runs the workflow."""
    monkeypatch.setenv("HOME", "/home/me")
    found = check({"data": {"root": "~/box", "endpoints": {"a": {"filesystem": "~/x"}}}}).data
    assert (found.root, found.places("filesystem")["a"]["url"]) == ("/home/me/box", "/home/me/x")


def test_a_backend_of_a_third_party_has_its_own_words():
    """For a third-party backend, text is a location and a mapping is passed unchanged."""
    config = {
        "data": {
            "backend": "irods",
            "irods": {"zone": 1},
            "endpoints": {"a": {"irods": "/z"}, "b": {"irods": {"r": 2}}},
        }
    }
    found = settings.check(config, backends=("irods",)).data
    assert found.places("irods") == {"a": {"location": "/z"}, "b": {"r": 2}}
    assert found.options("irods") == {"zone": 1}


#: URLs of other machines and stores, for a folder of this machine, and the advice for the home of an unknown user.
ELSEWHERE = ("s3://bucket/x", "simplecache::s3://b/x", "file://otherhost/x", "file://x")
NO_USER = "write an absolute path, because this machine has no user 'no-user'."


@pytest.mark.parametrize(
    ("body", "key", "said"),
    [
        ("bakend: local", "bakend", "did you mean 'backend'?"),
        ("backend: globs", "backend", "did you mean 'globus'? Known: filesystem, globus, local."),
        ("check: perhaps", "check", "write true or false"),
        ("root: 5", "root", "is 5; write a path"),
        *((f"root: {url}", "root", f"is '{url}'; write a folder of this machine") for url in ELSEWHERE),
        *((f"journal: {url}", "journal", f"is '{url}'; write a folder of this machine") for url in ELSEWHERE),
        *((f"{key}: ~no-user/x", key, f"'~no-user/x'; {NO_USER}") for key in ("root", "journal")),
        ("endpoints: [a]", "endpoints", "is ['a']; write the names of endpoints below it"),
        ("filesystem: 5", "filesystem", "is 5; write options of this backend below it"),
        ("local: {root: x}", "local.root", "write 'root:' directly below 'data:'"),
        ("globus: {client_secret: abc123}", "globus.client_secret", "its name here: {env: MY_CLIENT_SECRET}"),
    ],
)
def test_a_wrong_data_section_is_explained(write, body, key, said):
    """Keys of the data section are validated like those of a resource."""
    error = refusal(settings.read(write(f"data:\n  {body}\n")))
    assert said in str(error)
    assert "abc123" not in str(error)
    assert (error.file, error.key, error.line) == ("c.yaml", f"data.{key}", 2)


@pytest.mark.parametrize(
    ("body", "key", "said"),
    [
        (f"a: {UUID}", "a", "write below it where it is on each backend"),
        ("a: {globs: x}", "a.globs", "did you mean 'globus'?"),
        ("a: {collection: x}", "a.collection", "is one level too high; write it below 'globus:'"),
        ("a: {globus: my laptop}", "a.globus", "is 'my laptop'; write a UUID"),
        ("a: {globus: }", "a.globus", "is empty; write where the endpoint is"),
        ("a: {globus: {mount: /x}}", "a.globus.collection", "is missing"),
        (f"a: {{globus: {{collection: {UUID}, mount: x}}}}", "a.globus.mount", "write the absolute path"),
        (f"a: {{globus: {{colection: {UUID}}}}}", "a.globus.colection", "did you mean 'collection'?"),
        ("a: {home: ../x}", "a.home", "write a path from the root of the endpoint"),
        ("a: {home: ~/x}", "a.home", "write a path from the root of the endpoint"),
        ("a: {local: ../x}", "a.local", "write the name of a folder inside root"),
        ("a: {local: /x}", "a.local", "write the name of a folder inside root"),
        ("a: {local: .}", "a.local", "write the name of a folder inside root"),
        ("a: {local: {folder: x, mount: /y}}", "a.local.mount", "is not a valid key of a location on the backend"),
        ("..:", "..", "cannot be the name of a folder for the backend 'local'; add 'local: some-folder'"),
        ("a/b:", "a/b", "cannot be the name of a folder"),
        ("a: {filesystem: ~no-user/x}", "a.filesystem", f"'~no-user/x'; {NO_USER}"),
        ("a: {filesystem: {url: ~no-user}}", "a.filesystem.url", f"'~no-user'; {NO_USER}"),
        ("a: {filesystem: [x]}", "a.filesystem", "is ['x']; write where the endpoint is"),
        (
            "a: {filesystem: {url: s3://b, options: {secret: abc123}}}",
            "a.filesystem.options.secret",
            "{env: MY_SECRET}",
        ),
        ("a: {filesystem: {url: s3://b, options: {key: 5}}}", "a.filesystem.options.key", "{env: MY_KEY}"),
        (
            "a: {filesystem: {url: s3://b, options: {client_kwargs: {aws_secret_access_key: abc123}}}}",
            "a.filesystem.options.client_kwargs.aws_secret_access_key",
            "is a secret",
        ),
        ("a: {filesystem: {url: s3://b, options: {auth: [me, abc123]}}}", "a.filesystem.options.auth.0", "is a secret"),
        (
            "a: {filesystem: {url: s3://b, options: {token: {env: ab-12}}}}",
            "a.filesystem.options.token.env",
            "is not the name of an env",
        ),
        ("a: {filesystem: 'sftp://me:abc123@host/x'}", "a.filesystem", "is a URL with a secret"),
        ("a: {filesystem: 'https://h/x?sig=abc123'}", "a.filesystem", "is a URL with a secret"),
        ("a: 'sftp://me:abc123@host/x'", "a", "is 'sftp://***@host/x'; write"),
    ],
)
def test_a_wrong_endpoint_is_explained(write, body, key, said):
    """Locations, names and secrets of an endpoint are validated, and errors never contain a secret."""
    error = refusal(settings.read(write(f"data:\n  endpoints:\n    {body}\n")))
    assert said in str(error)
    assert "abc123" not in str(error)
    assert (error.file, error.line) == ("c.yaml", 3)
    assert error.key == f"data.endpoints.{key}"


@pytest.mark.parametrize(
    "options",
    [
        {"token": "anon"},
        {"key": None, "anon": True},
        {"key_filename": "/home/me/.ssh/id"},
        {"client_kwargs": {"endpoint_url": "http://localhost:9000"}},
        {"password": {"env": "MY_PASSWORD"}, "port": 22},
        {"auth": [{"env": "WHO"}, {"env": "WORD"}]},
    ],
)
def test_options_without_a_secret_are_kept(options):
    """Switches, paths of key files and names of environment variables are accepted as options."""
    config = {"data": {"endpoints": {"a": {"filesystem": {"url": "s3://b", "options": options}}}}}
    assert check(config).data.places("filesystem")["a"]["options"] == options


def test_a_name_that_is_no_folder_may_say_its_folder():
    """An endpoint may have any name if its `local` entry gives a folder."""
    found = check({"data": {"endpoints": {"a/b": {"local": "ab"}}}}).data
    assert found.places("local") == {"a/b": {"folder": "ab"}}


@pytest.mark.parametrize(
    ("first", "second"),
    [(UUID, UUID.upper()), (UUID[:-3] + "aBc", UUID[:-3] + "Abc"), ("caf\u00e9", "cafe\u0301"), ("\u212b", "\u00c5")],
    ids=["a UUID in capitals", "a UUID in mixed case", "a combining accent", "a letter that is another one"],
)
def test_one_name_in_two_spellings_is_refused(write, first, second):
    """Two spellings of one endpoint name raise an error that quotes both, with the line of the second."""
    body = f"    {first}: {{local: one}}\n    {second}: {{local: two}}\n"
    error = refusal(settings.read(write(f"data:\n  endpoints:\n{body}")))
    assert f"{second} is the same name as {first!r} above" in str(error)
    assert error.line == 4


def test_names_that_are_two_stay_two():
    """Case, spaces and escapes distinguish names that are not UUIDs."""
    names = ["data", "Data", "data ", "data%20", "a%2Fb", "12345678"]
    assert list(check({"data": {"endpoints": dict.fromkeys(names)}}).data.endpoints) == names


@pytest.mark.parametrize("folder", ["a", "a/b", "a/./b"])
def test_a_folder_is_not_shared_by_accident(folder):
    """A default folder that another endpoint already uses is an error; two endpoints may share a folder explicitly."""
    error = refusal({"data": {"endpoints": {"b": {"local": folder}, "a": {}}}})
    assert "has the folder 'a' on the backend 'local', and endpoint 'b' has" in str(error)
    assert "'local: a' if that is intended" in str(error)
    assert check({"data": {"endpoints": {"b": {"local": folder}, "a": {"local": "a"}}}})


def test_the_first_of_two_names_has_the_collection():
    """A UUID finds the first endpoint with that collection, unless an endpoint is declared under the UUID."""
    endpoints = {"a": {"globus": UUID}, "b": {"globus": UUID}, UUID: {}}
    found = check({"data": {"endpoints": endpoints}}).data.places("local")
    assert found == {name: {"folder": name} for name in ("a", "b", UUID)}
    del endpoints[UUID]
    assert check({"data": {"endpoints": endpoints}}).data.places("local")[UUID] == {"folder": "a"}


# --- the default file ------------------------------------------------------------------------------------------------


def test_the_default_file_is_looked_for_in_order(tmp_path, monkeypatch):
    """The variable takes precedence over the working directory, and both over the user's config folder."""
    here, user = tmp_path / "here", tmp_path / "config"
    for folder in (here, user / "chiltepin"):
        folder.mkdir(parents=True)
    monkeypatch.chdir(here)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(user))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv(settings.FILE_VARIABLE, raising=False)
    assert settings.default_file() is None
    for path in (settings.user_folder() / "chiltepin.yaml", here / "chiltepin.yaml", tmp_path / "named.yaml"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        if path.name == "named.yaml":
            monkeypatch.setenv(settings.FILE_VARIABLE, str(path))
        assert settings.default_file() == path


def test_a_deleted_working_directory_has_no_file(tmp_path, monkeypatch):
    """In a deleted working directory, the file of the user is found, and settings without a file are an error."""
    gone, user = tmp_path / "gone", tmp_path / "config" / "chiltepin"
    for folder in (gone, user):
        folder.mkdir(parents=True)
    monkeypatch.chdir(gone)
    gone.rmdir()
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv(settings.FILE_VARIABLE, raising=False)
    assert settings.default_file() is None
    (user / "chiltepin.yaml").write_text("data:\n  endpoints: {a: }\n")
    assert settings.default_file() == user / "chiltepin.yaml"
    assert set(settings.check(settings.read(user / "chiltepin.yaml"), backends=()).data.endpoints) == {"a"}
    monkeypatch.setenv(settings.FILE_VARIABLE, "chiltepin.yaml")
    for call in (
        lambda: settings.check({}, backends=()),
        lambda: settings.read("chiltepin.yaml"),
        settings.default_file,
    ):
        with pytest.raises(ConfigError, match="The working directory was deleted; change to another folder"):
            call()


def test_a_default_file_that_is_named_must_be_there(tmp_path, monkeypatch):
    """A CHILTEPIN_CONFIG that names a missing file is an error; no other location is tried."""
    monkeypatch.setenv(settings.FILE_VARIABLE, str(tmp_path / "no.yaml"))
    with pytest.raises(ConfigError, match=r"CHILTEPIN_CONFIG names '.*no.yaml', and there is no such file"):
        settings.default_file()


def test_a_default_file_of_an_unknown_user_is_an_error(monkeypatch):
    """A CHILTEPIN_CONFIG in the home folder of an unknown user is an error like any missing file."""
    monkeypatch.setenv(settings.FILE_VARIABLE, "~no-user/c.yaml")
    with pytest.raises(ConfigError, match=r"CHILTEPIN_CONFIG names '~no-user/c.yaml', and there is no such file"):
        settings.default_file()


def test_a_plain_document_can_be_made():
    """A document without a file is checked like a dict."""
    assert check(Document({"a": {}})).resources.keys() == {"local", "a"}


# --- the reference ---------------------------------------------------------------------------------------------------

PAGE = (Path(__file__).parents[3] / "docs" / "reference" / "config.md").read_text()


@pytest.mark.parametrize("block", re.findall(r"^```yaml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL))
def test_every_example_of_the_reference_is_right(write, block):
    """Every YAML block of the reference is a valid settings file that gives no warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check(settings.read(write(block)))


def test_the_reference_has_every_key_with_its_default():
    """The tables of the reference list every key with its actual default."""
    rows = dict(re.findall(r"^\| `(\w+)` \| [^|]* \| ([^|]*) \|", PAGE, re.MULTILINE))
    plain = resource().model_dump(exclude={"init_blocks", "mpi_launcher"})
    for key, value in plain.items():
        assert rows[key].strip().startswith("`") is (value not in (None, ())), key
        assert rows[key].strip() in {f"`{value}`", f"`{str(value).lower()}`"} or value in (None, ()), key
    assert set(rows) >= set(settings.Resource.model_fields)
    assert {"backend", "root", "check", "endpoints", "home"} <= set(rows)


@pytest.mark.parametrize(("typed", "said"), re.findall(r"^\| `([^`]+)` \| `(compute[^`]*)` \|", PAGE, re.MULTILINE))
def test_the_reference_quotes_what_is_said(write, typed, said):
    """The reference quotes the actual error message for each mistake."""
    error = refusal(settings.read(write("compute:\n  " + typed.replace(" / ", "\n  ") + "\n")))
    assert said in str(error)


def test_settings_are_light():
    """Importing the settings loads neither Parsl, the Globus SDK nor fsspec."""
    probe = "import sys, chiltepin.settings; print({'parsl', 'globus_sdk', 'fsspec'} & {*sys.modules})"
    assert subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True).stdout == "set()\n"


def test_globus_has_defaults_of_the_options_of_a_transfer():
    """Globus options and an endpoint's local user become plain data; an invalid option is an error with a remedy."""
    options = {
        "notify": "failed,inactive",
        "encrypt_data": True,
        "fail_on_quota_errors": False,
        "checksum_algorithm": "SHA1",
    }
    endpoint = {"globus": {"collection": UUID, "local_user": "ada"}}
    data = check({"data": {"globus": options, "endpoints": {"a": endpoint}}}).data
    assert data.options("globus") == options | {"notify": ["failed", "inactive"], "checksum_algorithm": "sha1"}
    assert data.places("globus")["a"]["local_user"] == "ada"
    bad = {
        "encrypt_data": ("certainly", "true or false"),
        "checksum_algorithm": ("crc", "write one of md5, sha1, sha256, sha512"),
        "notify": (["started"], "write true or false, or a list of succeeded, failed, inactive"),
        "skip_source_errors": (True, "checksum_algorithm, client_id, encrypt_data"),
    }
    for name, (value, words) in bad.items():
        with pytest.raises(ConfigError, match=f"data.globus.{name}.*{words}"):
            check({"data": {"globus": {name: value}}})
