"""The specification's workflows on the nodes of a real Slurm, which also move the bytes."""

from __future__ import annotations

import pipelines
import pytest
from blocking_webserver import CONTENT, HeldWeb
from slurm_settings import LIMIT, WORKFLOWS, mover, node_of_this, settings
from slurmcluster import until
from specification_settings import write_settings

import chiltepin
from chiltepin import transfer_task


@pytest.fixture(scope="module")
def nodes(cluster, tmp_path_factory):
    """A workflow whose ``compute`` is one job on two nodes, kept for the tests of this file."""
    folder = tmp_path_factory.mktemp("nodes")
    keys = f"slurm\n  nodes_per_block: 2\n  environment: ['export PYTHONPATH={WORKFLOWS}:$PYTHONPATH']"
    file, place = write_settings(folder, backend="file", provider=keys)
    place.fill()
    with chiltepin.Workflow(file, run_dir=folder / "runinfo"):
        yield place
    until(lambda: not cluster.jobs(), "the job ends with the workflow")


@pytest.mark.parametrize("executor", ["compute", ["local", "compute"]], ids=str)
@pytest.mark.parametrize(
    "pipeline", pipelines.WITHOUT_PROGRAMS + pipelines.WITH_PROGRAMS, ids=lambda pipeline: pipeline.__name__
)
def test_each_workflow_runs_on_nodes(nodes, pipeline, executor):
    """Each workflow of the specification succeeds on the nodes of a job, or on nodes and locally."""
    nodes.fill()
    assert pipeline(executor) == nodes.scratch()


def test_the_bytes_flow_through_a_node(cluster, tmp_path):
    """The process that reads the file runs on the node of Parsl's tasks."""
    with HeldWeb() as web, chiltepin.Workflow(settings(tmp_path, web), run_dir=tmp_path / "runinfo"):
        future = transfer_task("web", "scratch", "/file", "/file", executor="compute")
        assert web.halfway.wait(LIMIT)
        node = mover(cluster, web).environ()["SLURMD_NODENAME"]
        web.go_on.set()
        assert future.result(LIMIT) is True
        assert node == node_of_this(executor="compute").result(LIMIT)
    assert (tmp_path / "scratch" / "file").read_bytes() == CONTENT
