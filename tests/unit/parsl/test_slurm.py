"""Interpretation of Slurm's responses; scripts imitate its commands (tests/slurm runs the real ones)."""

from __future__ import annotations

import os

import pytest
from parsl.executors.errors import BadStateException
from parsl.jobs.states import JobState, JobStatus

import chiltepin
from chiltepin import configure, python_task
from chiltepin.parsl.slurm_nodes import SlurmNodes

LIMIT = 60

#: The response of Slurm 22.05 about an unknown or forgotten job.
FORGOTTEN = "echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1"
#: The response when the controller cannot be reached.
SILENT = "echo 'slurm_load_jobs error: Unable to contact slurm controller (connect failure)' >&2; exit 1"
NO_ACCOUNTING = "echo 'Slurm accounting storage is disabled' >&2; exit 1"
REFUSED = "echo 'sbatch: error: invalid partition specified: nope' >&2; exit 1"


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """Return a function that writes scripts named like Slurm commands into the first folder on PATH."""
    commands = tmp_path / "bin"
    commands.mkdir()
    monkeypatch.setenv("PATH", f"{commands}:{os.environ['PATH']}")

    def make(**said):
        for name, script in {"sacct": NO_ACCOUNTING, "sbatch": "echo Submitted batch job 7", **said}.items():
            (commands / name).write_text(f"#!/bin/sh\n{script}\n")
            (commands / name).chmod(0o755)

    make(squeue=SILENT, scancel="exit 0")
    return make


@pytest.fixture
def executor(slurm, tmp_path):
    """The executor of a resource on Slurm."""
    made = configure.load({"r": {"provider": "slurm"}}).executors[1]
    made.provider.script_dir = str(tmp_path)
    return made


@pytest.mark.parametrize(
    ("said", "state"),
    [
        (FORGOTTEN, JobState.COMPLETED),
        (SILENT, JobState.PENDING),
        ("echo '7 R'", JobState.RUNNING),
        ("exit 0", JobState.COMPLETED),
    ],
)
def test_a_job_that_slurm_has_forgotten_has_ended(executor, slurm, said, state):
    """A job that squeue no longer knows has ended; if the controller cannot be reached, the state is unchanged."""
    provider = executor.provider
    assert provider.submit("true", 1) == "7"
    slurm(squeue=said)
    [status] = provider.status(["7"])
    assert status.state is state


@pytest.mark.parametrize(
    ("jobs", "given_up"),
    [
        ({}, False),
        ({"0": JobState.RUNNING}, False),
        # With accounting, Slurm reports FAILED for a job whose node went down.
        ({"0": JobState.FAILED}, False),
        ({"0": JobState.FAILED, "1": JobState.MISSING}, False),
        ({"0": JobState.COMPLETED, "1": JobState.MISSING}, False),
        ({"0": JobState.MISSING}, True),
        ({"0": JobState.MISSING, "refused": JobState.FAILED}, True),
    ],
)
def test_an_executor_is_given_up_if_no_worker_has_ever_come(executor, jobs, given_up):
    """An executor is given up only if its jobs have ended and none of them ever had a worker."""
    executor.blocks_to_job_id.update({"0": "7", "1": "8"})
    executor.handle_errors({block: JobStatus(state, "some reason") for block, state in jobs.items()})
    assert executor.bad_state_is_set is given_up


@pytest.mark.parametrize(
    ("listed", "shown", "gone"),
    [
        ("echo 'R h[2-3]'", "echo h2; echo h3", {"h4.example.org"}),
        ("echo 'CG h2'; echo 'R h3'", "echo h3", {"h2", "h4.example.org"}),
        ("exit 0", "exit 1", {"h2", "h3", "h4.example.org"}),
        # If Slurm cannot tell, the state of the workers is unknown.
        ("echo 'squeue: error: Invalid node name' >&2; exit 1", "exit 1", set()),
        ("echo 'R h[2-3]'", "exit 1", set()),
        (SILENT, "exit 1", set()),
    ],
)
def test_a_node_without_a_job_is_told_only_by_slurm(slurm, listed, shown, gone):
    """A silent host is lost once Slurm no longer lists a job of this user on it; if Slurm cannot tell, none is lost."""
    nodes, hosts = SlurmNodes(), {"h2", "h3", "h4.example.org"}
    slurm(squeue="echo 'R h[2-4]'", scontrol="echo h2; echo h3; echo h4")
    assert nodes.has_questions(hosts, [])
    assert nodes.lost(hosts, set()) == set()
    assert not nodes.has_questions(hosts, [])
    slurm(squeue=listed, scontrol=shown)
    assert nodes.has_questions(hosts, hosts)
    assert nodes.lost(hosts, hosts) == gone


@pytest.mark.parametrize("listed", ["exit 0", "echo 'squeue: error: Invalid node name' >&2; exit 1"])
def test_a_host_that_slurm_does_not_know_as_ours_is_not_lost(slurm, listed):
    """Slurm is not queried about a silent host on which it never listed a job of this user."""
    slurm(squeue=listed)
    nodes = SlurmNodes()
    assert nodes.lost({"h2"}, set()) == set()
    assert not nodes.has_questions({"h2"}, {"h2"})
    assert nodes.lost({"h2"}, {"h2"}) == set()


@pytest.mark.parametrize(
    ("shown", "output", "named"),
    [
        ("echo 'JobId=7 JobState=FAILED NodeList=h2 BatchHost=h2'", False, True),
        ("echo 'JobId=7 JobState=FAILED NodeList=h2 BatchHost=h2'", True, False),
        ("echo 'JobId=7 JobState=CANCELLED NodeList= NumNodes=1'", False, False),
        ("echo 'JobId=7 JobState=CANCELLED NodeList=(null) NumNodes=1'", False, False),
        (FORGOTTEN, False, False),
    ],
)
def test_a_job_that_left_no_output_has_not_seen_the_run_folder(executor, slurm, tmp_path, shown, output, named):
    """If a job ran on a node and left no output here, the error says that nodes do not see the run folder."""
    slurm(scontrol=shown)
    executor.blocks_to_job_id["0"] = executor.provider.submit("true", 1)
    if output:
        [script] = tmp_path.glob("parsl.slurm.*")
        script.with_name(f"{script.name}.stdout").touch()
    executor.handle_errors({"0": JobStatus(JobState.MISSING)})
    said = str(executor.executor_exception)
    assert ("nodes do not see the run folder" in said) is named, said


def test_what_slurm_says_of_a_job_that_it_refuses_is_in_the_error(slurm, tmp_path):
    """An invalid partition fails current and later tasks of the executor at once, with Slurm's message."""

    @python_task
    def work():
        return True

    slurm(sbatch=REFUSED)
    config = configure.load({"compute": {"provider": "slurm", "partition": "nope"}}, run_dir=tmp_path / "runinfo")
    config.initialize_logging = False
    with chiltepin.Workflow(config):
        first = work(executor="compute")
        with pytest.raises(BadStateException, match="invalid partition specified: nope"):
            first.result(LIMIT)
        with pytest.raises(BadStateException, match=r"No worker of executor 'compute' has started.*invalid partition"):
            work(executor="compute").result(LIMIT)
