"""A separate Slurm for these tests, if they are selected and its packages are installed."""

from __future__ import annotations

import os
import sys

import pytest
from slurm_settings import WORKFLOWS
from slurmcluster import Cluster, missing

sys.path.append(str(WORKFLOWS))


@pytest.fixture(scope="session")
def cluster():
    """Four nodes on the loopback, used by the Slurm commands that this process runs."""
    if not os.environ.get("CHILTEPIN_SLURM"):
        pytest.skip("The tests of Slurm run where CHILTEPIN_SLURM=1 asks for them, as `tox -e slurm` does.")
    if reason := missing():
        pytest.skip(reason)
    with pytest.MonkeyPatch.context() as patch, Cluster() as running:
        for name, value in running.environment.items():
            patch.setenv(name, value)
        yield running
