"""Futures of transfers that end without the run folder and the state folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from parsl_configs import HERE

from chiltepin import delete_task, transfer_task
from chiltepin.workflow import Workflow

LIMIT = 60


@pytest.mark.timeout(300)
def test_futures_end_whatever_operation_on_the_run_folder_fails(tmp_path):
    """Futures end normally when an operation on the run or state folder fails, once or permanently."""
    words = [sys.executable, os.path.join(HERE, "failing_folder.py"), str(tmp_path)]
    run = subprocess.run(words, capture_output=True, text=True, check=True, timeout=280)
    report = json.loads(run.stdout.splitlines()[-1])
    assert report["wrong"] == []
    # The number of operations in a round depends on how its transfers overlap; it is at least four.
    assert {f"{number} to {last}" for number in range(1, 5) for last in (number, "inf")} <= set(report["failed"])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts")
def test_a_run_folder_that_becomes_read_only(tmp_path):
    """A transfer succeeds after the file system of the run folder has become read-only."""
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "none", run_dir], check=False, capture_output=True).returncode:
        pytest.skip("this container does not let root mount")
    try:
        settings = {
            "local": {"provider": "threads"},
            "data": {"backend": "local", "root": str(tmp_path / "d"), "journal": False, "endpoints": {"a": None}},
        }
        with Workflow(settings, run_dir=run_dir) as running:
            (tmp_path / "d/a").mkdir(parents=True)
            (tmp_path / "d/a/x").write_text("x")
            os.mkdir(os.path.join(running.dfk.run_dir, "chiltepin"))
            subprocess.run(["mount", "--bind", run_dir, run_dir], check=True)
            subprocess.run(["mount", "-o", "remount,ro,bind", run_dir], check=True)
            moved = transfer_task("a", "a", "/x", "/y", executor="local")
            gone = delete_task("a", "/x", executor="local", inputs=[moved])
            assert moved.result(timeout=LIMIT) is True
            assert gone.result(timeout=LIMIT) is True
            subprocess.run(["umount", run_dir], check=True)
    finally:
        while not subprocess.run(["umount", "-l", run_dir], check=False, capture_output=True).returncode:
            pass
    assert (tmp_path / "d/a/y").read_text() == "x"
