"""Run folders: where they are created, and which old ones a new run removes."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from chiltepin import Workflow


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Return a function that runs a workflow and returns its run folder; two are kept."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "chiltepin.yaml").write_text("run_dir: logs/runs\nkeep_runs: 2\ndata: {backend: local}\n")

    def run_once(settings=tmp_path / "chiltepin.yaml", **options):
        with Workflow(settings, **options) as workflow:
            return Path(workflow.dfk.run_dir)

    return run_once


def test_the_newest_are_kept(run, tmp_path):
    """A run folder is created as set in the settings, and a new run removes all but the newest of Chiltepin's."""
    runs = tmp_path / "logs" / "runs"
    assert [run().relative_to(runs).name for _ in range(4)] == ["000", "001", "002", "003"]
    assert sorted(os.listdir(runs)) == ["002", "003"]


def test_the_argument_wins(run, tmp_path):
    """The run_dir of a Workflow overrides the run_dir of the settings."""
    assert run(run_dir="mine").parent == tmp_path / "mine"


def test_all_are_kept_on_request(run, tmp_path):
    """With `keep_runs: all` no run folder is removed."""
    settings = {"keep_runs": "all", "run_dir": "every"}
    assert len({run(settings) for _ in range(3)}) == len(os.listdir(tmp_path / "every")) == 3


def test_only_ended_runs_of_chiltepin_are_removed(run, tmp_path):
    """A new run keeps folders in use, of other hosts or programs, with checkpoints, and behind symbolic links."""
    runs = tmp_path / "logs" / "runs"
    keeping = {"run_dir": "logs/runs", "keep_runs": "all"}
    ended, restored, elsewhere, killed = (run(keeping) for _ in range(4))
    with Workflow(keeping) as running:
        used = Path(running.dfk.run_dir)
        mark = (used / "chiltepin-run").read_text()
        (restored / "checkpoint").mkdir()
        (elsewhere / "chiltepin-run").write_text("0" * mark.index("-") + mark[mark.index("-") :])
        (killed / "chiltepin-run").write_text(f"{mark.rpartition('-')[0]}-1")
        shutil.move(ended, tmp_path / "moved")
        os.symlink(tmp_path / "moved", runs / "0")
        for name in ("1", "not-a-run"):
            (runs / name).mkdir()
        newest = [run(), run()]
    assert {*os.listdir(runs)} == {"0", "1", "not-a-run", *(one.name for one in (restored, elsewhere, used, *newest))}
    assert (tmp_path / "moved" / "parsl.log").exists()
