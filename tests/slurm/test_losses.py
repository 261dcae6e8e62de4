"""Loss of a job or a node, or the end of the walltime, during a transfer; a re-run completes it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from blocking_webserver import CONTENT, HeldWeb
from parsl.dataflow.errors import DependencyError
from parsl.executors.errors import BadStateException
from slurm_settings import LIMIT, mover, node_of_this, settings
from slurmcluster import Cluster, until

import chiltepin
from chiltepin import configure, transfer_task
from chiltepin.errors import TaskCanceledError, TaskLostError
from chiltepin.parsl.slurm import GuardedSlurmProvider

pytestmark = pytest.mark.timeout(600)

#: How often the tests lose the job and the node: CHILTEPIN_SLURM=20 means twenty times each.
ROUNDS = range(max(1, int(os.environ.get("CHILTEPIN_SLURM") or 1)))

#: Seconds within which Slurm ends a job with a walltime of one minute, and Parsl notices the loss.
A_MINUTE = 150


@pytest.fixture
def quick(tmp_path, monkeypatch):
    """Return a function that creates a configuration which notices a loss in seconds, not in minutes."""
    monkeypatch.setattr(GuardedSlurmProvider, "status_polling_interval", 2)

    def make(web, *, retries=0, **keys):
        config = configure.load(settings(tmp_path, web, **keys), run_dir=tmp_path / "runinfo")
        config.retries = retries
        executor = config.executors[1]
        executor.heartbeat_period, executor.heartbeat_threshold = 1, 6
        return config

    return make


@pytest.fixture
def web():
    """A web server that sends half of its file."""
    with HeldWeb() as server:
        yield server


@pytest.fixture(autouse=True)
def _clean(cluster):
    """Wait until no job or process of a workflow is left and all nodes are idle for the next test."""
    yield
    until(lambda: not cluster.jobs(), "the jobs end")
    until(lambda: not cluster.processes(), "their processes end")
    until(lambda: set(cluster.states().values()) == {"idle"}, "the nodes are idle")


def move():
    """Transfer the file to the folder, through a worker on a node."""
    return transfer_task("web", "scratch", "/file", "/file", executor="compute")


def lose(cluster, web, how):
    """Cancel the job or kill the node of the transfer; return the node to restart, if any."""
    if how == "job":
        cluster.ask("scancel", *cluster.jobs())
    if how != "node":
        # Slurm itself ends a job whose walltime is over.
        return None
    node = mover(cluster, web).environ()["SLURMD_NODENAME"]
    cluster.lose(node)
    return node


@pytest.mark.parametrize("how", [*(how for how in ("job", "node") for _ in ROUNDS), "walltime"])
def test_what_is_lost_says_so_and_a_rerun_completes_it(cluster, web, quick, tmp_path, how):
    """A lost transfer fails with its dependents and leaves no partial file; a re-run completes it."""
    node = None
    with chiltepin.Workflow(quick(web, walltime="00:01:00" if how == "walltime" else "00:10:00")):
        future = move()
        dependent = node_of_this(inputs=[future], executor="compute")
        assert web.halfway.wait(LIMIT)
        node = lose(cluster, web, how)
        error = future.exception(A_MINUTE)
        assert isinstance(error, TaskLostError)
        assert isinstance(dependent.exception(LIMIT), DependencyError)
        assert dependent.exception().__cause__ is error
    assert not (tmp_path / "scratch" / "file").exists()
    if node:
        cluster.begin(node)
    web.go_on.set()
    with chiltepin.Workflow(quick(web)):
        assert move().result(LIMIT) is True
    assert (tmp_path / "scratch" / "file").read_bytes() == CONTENT
    assert os.listdir(tmp_path / "scratch") == ["file"]


@pytest.mark.parametrize("_round", ROUNDS)
def test_a_retry_completes_the_transfer(cluster, web, quick, tmp_path, _round):
    """With retries, the next job completes the transfer of a canceled job, and its dependents run."""
    with chiltepin.Workflow(quick(web, retries=1)):
        future = move()
        dependent = node_of_this(inputs=[future], executor="compute")
        assert web.halfway.wait(LIMIT)
        web.go_on.set()
        lose(cluster, web, "job")
        assert future.result(LIMIT) is True
        assert dependent.result(LIMIT) in cluster.nodes
    assert (tmp_path / "scratch" / "file").read_bytes() == CONTENT


@pytest.fixture
def full(cluster):
    """Drain all nodes, so that submitted jobs wait in the queue."""
    names = ",".join(cluster.nodes)
    cluster.ask("scontrol", "update", f"NodeName={names}", "State=DRAIN", "Reason=test")
    yield
    cluster.ask("scontrol", "update", f"NodeName={names}", "State=RESUME")


def test_a_transfer_in_the_queue_can_be_cancelled(cluster, full, web, quick):
    """Canceling a transfer whose job waits in the queue ends it, and the workflow does not wait for the job."""
    with chiltepin.Workflow(quick(web)):
        future = move()
        until(cluster.jobs, "a job is in the queue")
        assert future.cancel() is True
        with pytest.raises(TaskCanceledError, match="was canceled before it began"):
            future.result(30)
        assert list(cluster.jobs().values()) == ["PD"]
    assert not web.halfway.is_set()


def test_a_job_that_is_cancelled_in_the_queue_ends_what_waits_for_it(cluster, full, web, quick):
    """If the only job is canceled before its worker starts, the transfer fails and says so."""
    with chiltepin.Workflow(quick(web)):
        future = move()
        until(cluster.jobs, "a job is in the queue")
        lose(cluster, web, "job")
        with pytest.raises((BadStateException, TaskLostError), match="No worker of executor 'compute' has started"):
            future.result(LIMIT)


@pytest.fixture
def other(monkeypatch):
    """Return a function that starts a cluster with more settings and directs the workflow to it."""
    clusters = []

    def start(more):
        clusters.append(Cluster(2, more=more))
        running = clusters[-1].__enter__()
        for name, value in running.environment.items():
            monkeypatch.setenv(name, value)
        return running

    yield start
    for running in clusters:
        running.stop()


def test_a_job_that_slurm_has_forgotten_is_replaced(cluster, other, web, quick):
    """If Slurm forgets a job before Parsl queries it, the next job still starts."""
    forgetful = other("MinJobAge=2")
    assert forgetful.says("squeue", "--job", "4711").endswith("Invalid job id specified\n")
    with chiltepin.Workflow(quick(web, retries=1)):
        future = move()
        assert web.halfway.wait(LIMIT)
        # Longer than Slurm remembers the job.
        GuardedSlurmProvider.status_polling_interval = 15
        web.go_on.set()
        lose(forgetful, web, "job")
        assert future.result(LIMIT) is True


#: A substitute for sacct, which Parsl needs, without Slurm's accounting database.
SACCT = """#!/bin/sh
for jobs; do :; done
case $jobs in
[0-9]*) for job in $(echo "$jobs" | tr , ' '); do
    scontrol --oneliner show job "$job" | sed -n "s/.*JobState=\\\\([A-Z_]*\\\\).*/$job \\\\1/p"
done ;;
esac
"""


def test_a_node_that_fails_does_not_end_its_executor(cluster, other, web, quick, tmp_path, monkeypatch):
    """If Slurm does not requeue the job of a lost node and reports NODE_FAIL, the next job runs the retry."""
    (tmp_path / "bin").mkdir()
    command = Path(tmp_path / "bin" / "sacct")
    command.write_text(SACCT)
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{command.parent}:{os.environ['PATH']}")
    strict = other("JobRequeue=0")
    with chiltepin.Workflow(quick(web, retries=1)):
        future = move()
        assert web.halfway.wait(LIMIT)
        [job] = strict.jobs()
        lose(strict, web, "node")
        web.go_on.set()
        until(lambda: "=NODE_FAIL" in strict.ask("scontrol", "show", "job", job), "Slurm knows of the loss")
        assert future.result(LIMIT) is True
