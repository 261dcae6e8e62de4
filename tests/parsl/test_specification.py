"""The workflows of the specification, unchanged, on every executor and every kind of endpoint."""

from __future__ import annotations

import itertools
import os
import shutil
import sys

import pipelines
import pytest
from specification_settings import COLLECTIONS, Place, write_settings

import chiltepin
from chiltepin import configure
from chiltepin.testing.simulator import Simulator


@pytest.fixture(scope="module")
def htex(tmp_path_factory):
    """A workflow whose ``compute`` is two worker processes, kept for all tests of this file."""
    tmp_path = tmp_path_factory.mktemp("htex")
    file, place = write_settings(tmp_path, backend="local", provider="localhost")
    place.fill()
    # Workers can import the modules beside a script.
    sys.path.insert(0, os.path.dirname(pipelines.__file__))
    with chiltepin.Workflow(configure.parse_file(file), run_dir=tmp_path / "runinfo"):
        yield place
    sys.path.pop(0)


@pytest.mark.parametrize("executor", ["local", "compute", ["local", "compute"]], ids=str)
@pytest.mark.parametrize(
    "pipeline", pipelines.WITHOUT_PROGRAMS + pipelines.WITH_PROGRAMS, ids=lambda pipeline: pipeline.__name__
)
def test_each_workflow_runs_on_threads_and_on_worker_processes(htex, pipeline, executor):
    """Each workflow succeeds with transfers on threads, on worker processes, or on either."""
    htex.fill()
    assert pipeline(executor) == htex.scratch()


@pytest.fixture
def globus(tmp_path, monkeypatch):
    """A simulated Globus with the collections of the settings, selected by the environment."""
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
    """Each workflow runs on every backend with only the settings changed."""
    if backend == "globus":
        request.getfixturevalue("globus")
    file, place = write_settings(tmp_path, backend=backend)
    place.fill()
    with chiltepin.Workflow(file, run_dir=tmp_path / "runinfo"):
        assert place.scratch() == []
        assert pipeline("local") == place.scratch()


@pytest.mark.parametrize("by", ["key", "environment", "argument"])
def test_the_backend_is_swapped_without_touching_the_workflow(tmp_path, monkeypatch, by):
    """A key of the settings, an environment variable or an argument of Workflow selects the backend."""
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
