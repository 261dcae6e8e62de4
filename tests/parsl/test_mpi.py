"""Transfers on the workers of a resource for MPI programs."""

from __future__ import annotations

import pytest
from parsl.executors.errors import InvalidResourceSpecification

import chiltepin
from chiltepin import delete_task, python_task, transfer_task

LIMIT = 60


@python_task
def plain():
    """Do nothing."""


def test_a_resource_for_mpi_moves_data(tmp_path):
    """Without a resource specification, transfers and deletions run on one node; a user's task is refused."""
    (tmp_path / "nodes").write_text("localhost\n")
    (tmp_path / "f").write_bytes(b"data")
    settings = {
        # Parsl reads the nodes of a PBS job from this file.
        "mpi": {"mpi": True, "environment": [f"export PBS_NODEFILE={tmp_path}/nodes"]},
        "data": {"backend": "filesystem", "endpoints": {"disk": {"filesystem": str(tmp_path)}}},
    }
    with chiltepin.Workflow(settings, run_dir=tmp_path / "runinfo"):
        moved = transfer_task("disk", "disk", "/f", "/d/g", executor="mpi")
        assert moved.result(LIMIT) is True
        assert (tmp_path / "d" / "g").read_bytes() == b"data"
        together = {"recursive": True, "executor": "mpi", "workers": 2}
        assert transfer_task("disk", "disk", "/d", "/e", **together).result(LIMIT) is True
        assert (tmp_path / "e" / "g").read_bytes() == b"data"
        assert delete_task("disk", "/e", **together).result(LIMIT) is True
        assert delete_task("disk", "/d", recursive=True, executor="mpi", inputs=[moved]).result(LIMIT) is True
        with pytest.raises(InvalidResourceSpecification):
            plain(executor="mpi").result(LIMIT)
    assert not any((tmp_path / name).exists() for name in "de")
