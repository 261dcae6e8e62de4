"""Settings as users of the upstream package write them: alias templates, `launcher:`, and dumped files."""

from __future__ import annotations

import warnings

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from chiltepin import settings
from chiltepin.errors import ConfigError
from chiltepin.settings import ConfigWarning

ANCHORS = """\
common_env: &common_env
  - "module load python/3.11"
  - "export PYTHONPATH=/my/path:$PYTHONPATH"
project: &project my-project
x-walltime: &walltime "01:00:00"
x-notes: written by hand
x-defaults: &defaults
  provider: slurm
  account: *project
x-lines:
  environment: &other [module load gcc]
one:
  environment: *common_env
two:
  <<: *defaults
  walltime: *walltime
  environment: *other
empty: &empty
"""


@pytest.fixture
def write(tmp_path):
    """Return a function that writes a settings file and returns its path."""

    def write(text):
        path = tmp_path / "chiltepin.yaml"
        path.write_text(text)
        return path

    return write


def check(config):
    """Check settings; a warning is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return settings.check(config, backends=())


def test_templates_are_not_resources(write):
    """Templates that serve only as anchors are not resources, and each alias expands to its template."""
    checked = check(settings.read(write(ANCHORS)))
    assert set(checked.resources) == {"local", "one", "two", "empty"}
    assert checked.resources["one"].environment[0] == "module load python/3.11"
    two = checked.resources["two"]
    assert (two.account, two.walltime, two.environment) == ("my-project", "01:00:00", ("module load gcc",))


def test_a_file_that_another_parser_has_read():
    """In a dict, which has no anchors, lists of lines and `x-` entries without resource keys are left out."""
    text = ANCHORS.replace("project: &project", "x-project: &project").replace("x-lines", "lines")
    checked = check(yaml.safe_load(text))
    assert {"one", "two", "empty"} < set(checked.resources)
    assert not {"common_env", "x-project", "x-notes", "x-walltime"} & set(checked.resources)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("compute: [provider]", r":1: compute is \['provider'\]; write the keys of a resource below it"),
        ("x-large: {provider: slrum}", r":1: x-large.provider is 'slrum'; did you mean 'slurm'"),
        ("x-env: &env [a]\ncompute: *env", r":2: compute is \['a'\]; write the keys of a resource below it"),
        ("data: &data [backend]", ":1: data is .*; write 'backend:' and 'endpoints:' below it"),
    ],
)
def test_mistakes_are_still_told(write, text, said):
    """A list without an anchor, an invalid resource under `x-` and a data section that is a list are errors."""
    with pytest.raises(ConfigError, match=said):
        check(settings.read(write(text)))


def test_a_resource_may_be_called_x(write):
    """Without an anchor, `x-large` is an ordinary resource name, even if the resource contains aliases."""
    text = "x-env: &env [module load gcc]\nx-large: {provider: slurm, environment: *env}\nx-all:\n"
    resources = check(settings.read(write(text))).resources
    assert set(resources) == {"local", "x-large", "x-all"}
    assert resources["x-large"].environment == ("module load gcc",)


def test_a_launcher_has_no_effect(write):
    """The `launcher` key of upstream's example is accepted, with a warning that says what to write instead."""
    with pytest.warns(ConfigWarning, match=r"^mpi.launcher has no effect; write mpi: true .*, and mpi_launcher: for"):
        checked = settings.check(settings.read(write("mpi: {provider: slurm, launcher: mpi}")), backends=())
    assert checked.resources["mpi"].provider == "slurm"


@pytest.mark.parametrize("dump", [yaml.safe_dump, yaml.dump])
def test_a_document_is_dumped_as_plain_yaml(write, dump):
    """PyYAML can dump a document that was read, and the dump has the same meaning."""
    document = settings.read(write(ANCHORS))
    text = dump(document)
    assert "!!" not in text
    again = settings.read(write(text))
    assert again == document
    assert check(again).resources == check(document).resources


_TEXT = st.text(st.characters(min_codepoint=32, max_codepoint=126) | st.sampled_from("éß日"))
_KEYS = _TEXT.filter(bool)
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.floats(allow_nan=False, allow_infinity=False) | _TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=3),
    max_leaves=10,
)
_LIKE_NUMBERS = st.from_regex(r"\A[-+]?[0-9.]{1,3}([eE][-+]?[0-9]{1,2})?\Z") | st.sampled_from(
    ["no", "~", "1:00:00", "<<", "0123"]
)


@given(content=st.dictionaries(_KEYS, _VALUES | _LIKE_NUMBERS, max_size=4))
def test_every_document_survives_a_dump(tmp_path_factory, content):
    """Text stays text, and numbers stay numbers, under the rules of YAML 1.2."""
    path = tmp_path_factory.mktemp("dumped") / "chiltepin.yaml"
    path.write_text(yaml.safe_dump(settings.Document(content), allow_unicode=True), encoding="utf-8")
    assert settings.read(path) == content
