"""Four hosts on this machine for the tests of this folder, and a Slurm over them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hostset import Hosts, missing

# Where the settings of Slurm are that both Slurms of these tests share.
sys.path.append(str(Path(__file__).parents[1] / "slurm"))

#: How many there are.
COUNT = 4


@pytest.fixture(scope="session")
def all_hosts(tmp_path_factory):
    """Four hosts, once for each process that runs tests: two sets do not see each other."""
    if reason := missing():
        pytest.skip(reason)
    with Hosts(tmp_path_factory.mktemp("hosts") / "state", COUNT) as running:
        yield running


@pytest.fixture
def hosts(all_hosts):
    """Four hosts that are up and reach each other, also after the test, whatever it does to them."""
    yield all_hosts
    all_hosts.boot()


@pytest.fixture(scope="session")
def all_slurm(all_hosts):
    """A Slurm whose nodes are all hosts but the first one, which controls it."""
    from hostslurm import HostSlurm
    from slurmcluster import missing_programs

    if reason := missing_programs():
        pytest.skip(reason)
    running = HostSlurm(all_hosts)
    running.start()
    return running


@pytest.fixture
def slurm(all_slurm, hosts):
    """A Slurm whose nodes are idle, also after the test."""
    yield all_slurm
    hosts.boot()
    all_slurm.start()
