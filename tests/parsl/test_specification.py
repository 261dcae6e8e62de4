"""The workflows of the specification, on every executor and on every kind of endpoint, not one byte changed."""

from __future__ import annotations

import itertools
import os
import shutil
import sys
import uuid

import fsspec
import pipelines
import pytest

import chiltepin
from chiltepin import configure
from chiltepin.testing.simulator import Simulator

FILES = {
    "/Users/me/data/dataset.csv": b"a,b\n1,2\n3,4\n",
    "/Users/me/data/more/sim1.dat": b"1",
    "/Users/me/data/more/sim2.dat": b"22",
    "/Users/me/data/more/sim3.dat": b"333",
    "/Users/me/raw.csv": b"a,b\n1,\n5,6\n",
}

SETTINGS = """\
compute:
  provider: {provider}
  init_blocks: 1
  max_workers_per_node: 2

data:
  backend: {backend}
  root: {top}/sandbox
  endpoints:
    my-laptop:
      globus: 12345678-1234-1234-1234-123456789abc
      filesystem: {base}/my-laptop
    hpc-scratch:
      globus: {{collection: 87654321-4321-4321-4321-cba987654321, mount: {top}/endpoints/hpc-scratch}}
      filesystem: {base}/hpc-scratch
    HPC Scratch Space:
      globus: 11111111-2222-3333-4444-555555555555
      filesystem: {base}/HPC Scratch Space
"""

#: The collections of a simulated Globus: those that the settings and the workflows name.
COLLECTIONS = {
    "my-laptop": "12345678-1234-1234-1234-123456789abc",
    "hpc-scratch": "87654321-4321-4321-4321-cba987654321",
    "HPC Scratch Space": "11111111-2222-3333-4444-555555555555",
}


class Place:
    """Where the endpoints of a settings file are, seen from behind."""

    def __init__(self, filesystem, base):
        self.filesystem, self.base = filesystem, base

    def fill(self):
        """Make the endpoints anew, with the laptop's files."""
        if self.filesystem.exists(self.base):
            self.filesystem.rm(self.base, recursive=True)
        for name in ("my-laptop", "hpc-scratch", "HPC Scratch Space"):
            self.filesystem.makedirs(f"{self.base}/{name}")
        for path, content in FILES.items():
            place = f"{self.base}/my-laptop{path}"
            self.filesystem.makedirs(place.rsplit("/", 1)[0], exist_ok=True)
            self.filesystem.pipe_file(place, content)

    def scratch(self):
        """The files of hpc-scratch, by their paths."""
        root = f"{self.base}/hpc-scratch"
        return sorted(name[len(root) :] for name in self.filesystem.find(root))


def write_settings(tmp_path, *, backend, provider="threads"):
    """Write a settings file; return it with the place of its endpoints."""
    if provider == "threads":
        provider = "threads  # and nothing more"
    base = f"{tmp_path}/sandbox" if backend == "local" else f"{tmp_path}/endpoints"
    filesystem = fsspec.filesystem("file")
    url = base
    if backend == "memory":
        base, backend, filesystem = f"/{uuid.uuid4().hex}", "filesystem", fsspec.filesystem("memory")
        url = f"memory:/{base}"
    elif backend == "file":
        backend, url = "filesystem", f"file://{base}"
    text = SETTINGS.format(provider=provider, backend=backend, top=tmp_path, base=url)
    if provider.startswith("threads"):
        text = text.replace("  init_blocks: 1\n  max_workers_per_node: 2\n", "")
    file = tmp_path / "chiltepin.yaml"
    file.write_text(text)
    return file, Place(filesystem, base)


@pytest.fixture(scope="module")
def htex(tmp_path_factory):
    """A workflow whose ``compute`` is two worker processes, kept for all tests of this file."""
    tmp_path = tmp_path_factory.mktemp("htex")
    file, place = write_settings(tmp_path, backend="local", provider="localhost")
    place.fill()
    # What a script finds beside itself, its workers find too.
    sys.path.insert(0, os.path.dirname(pipelines.__file__))
    with chiltepin.Workflow(configure.parse_file(file), run_dir=tmp_path / "runinfo"):
        yield place
    sys.path.pop(0)


@pytest.mark.parametrize("executor", ["local", "compute", ["local", "compute"]], ids=str)
@pytest.mark.parametrize(
    "pipeline", pipelines.WITHOUT_PROGRAMS + pipelines.WITH_PROGRAMS, ids=lambda pipeline: pipeline.__name__
)
def test_each_workflow_runs_on_threads_and_on_worker_processes(htex, pipeline, executor):
    """Each workflow does its work with the bytes flowing through threads, through worker processes, or either."""
    htex.fill()
    assert pipeline(executor) == htex.scratch()


@pytest.fixture
def globus(tmp_path, monkeypatch):
    """A simulated Globus with the collections of the settings, and an environment that leads to it."""
    with Simulator({}) as globus:
        for name, value in globus.environment().items():
            monkeypatch.setenv(name, value)
        for name, collection_id in COLLECTIONS.items():
            globus.add_collection(name, tmp_path / "endpoints" / name, id=collection_id)
        yield globus


@pytest.mark.parametrize(
    ("backend", "pipeline"),
    [
        *itertools.product(["memory"], pipelines.WITHOUT_PROGRAMS),
        *itertools.product(["local", "file", "globus"], pipelines.WITHOUT_PROGRAMS + pipelines.WITH_PROGRAMS),
    ],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_each_workflow_runs_on_each_backend(request, tmp_path, backend, pipeline):
    """Folders of one root, file: URLs, memory: and Globus: the same workflow, another line in the settings."""
    if backend == "globus":
        request.getfixturevalue("globus")
    file, place = write_settings(tmp_path, backend=backend)
    place.fill()
    with chiltepin.Workflow(file, run_dir=tmp_path / "runinfo"):
        assert place.scratch() == []
        assert pipeline("local") == place.scratch()


@pytest.mark.parametrize("by", ["key", "environment", "argument"])
def test_the_backend_is_swapped_without_touching_the_workflow(tmp_path, monkeypatch, by):
    """A key of the settings, an environment variable, or an argument of load decides where the bytes go."""
    file, endpoints = write_settings(tmp_path, backend="file")
    endpoints.fill()
    sandbox = Place(endpoints.filesystem, f"{tmp_path}/sandbox")
    sandbox.fill()
    backend = None
    if by == "key":
        file.write_text(file.read_text().replace("backend: filesystem", "backend: local"))
    elif by == "environment":
        monkeypatch.setenv("CHILTEPIN_BACKEND", "local")
    else:
        backend = "local"
    with chiltepin.Workflow(file, run_dir=tmp_path / "runinfo", backend=backend):
        expected = pipelines.stage_process_clean_up("local") + pipelines.single_file("local")
    assert (sandbox.scratch(), endpoints.scratch()) == (expected, [])
    shutil.rmtree(tmp_path / "sandbox")
