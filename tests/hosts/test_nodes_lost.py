"""The errors of a workflow on one host about nodes that do not see its run folder, or that are lost."""

from __future__ import annotations

import time

import pytest
from hostset import python
from waiting import until


@pytest.fixture
def hold(hosts, slurm):
    """Return a function that starts a task which waits on a node."""
    held = hosts.shared / "held"
    held.mkdir(exist_ok=True)
    for file in held.iterdir():
        file.unlink()
    return lambda folder: hosts["h1"].start(*python("held.py", folder), SLURM_CONF=slurm.config)


def until_told(process):
    """Return the error of the task."""
    return next(line for line in process.stdout if "Error" in line or "Exception" in line or "Lost" in line)


def test_a_run_folder_that_nodes_do_not_see_is_named(hosts, slurm, hold):
    """If the nodes do not see the run folder, the error says so soon after the job has failed."""
    with hold("/home/me/runinfo") as workflow:
        until(lambda: "JobState=FAILED" in slurm.ask("scontrol", "-o", "show", "job"))
        failed = time.monotonic()
        said = until_told(workflow)
        assert time.monotonic() - failed < 15
        assert "most likely because its nodes do not see the run folder /home/me/runinfo/000: a job ran on h" in said
        assert workflow.wait(60) == 0


def test_a_node_that_slurm_knows_to_be_down_is_lost_at_once(hosts, slurm, hold):
    """If Slurm reports a node as down, its tasks end long before Parsl's timeout of two minutes."""
    with hold("/shared/runinfo") as workflow:
        until(lambda: list((hosts.shared / "held").iterdir()))
        [node] = (file.name for file in (hosts.shared / "held").iterdir())
        # Slurm is queried for a new node within a second; only a node that it knew then can be reported as down.
        known = time.monotonic() + 3
        until(lambda: time.monotonic() > known)
        hosts[node].kill()
        slurm.ask("scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=test")
        lost = time.monotonic()
        said = until_told(workflow)
        assert time.monotonic() - lost < 60
        assert "ManagerLost: Task failure due to loss of manager" in said
        assert f"on host {node}" in said
        assert workflow.wait(60) == 0
