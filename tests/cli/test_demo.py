"""``chiltepin demo``: a complete pipeline, offline."""

from __future__ import annotations

import csv
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

COMMAND = str(Path(sys.executable).with_name("chiltepin"))

# Runs the command under an audit hook, which reports every connection and every name lookup.
WITNESSED = """
import sys
def witness(event, args):
    if event in ("socket.connect", "socket.sendto", "socket.getaddrinfo", "socket.gethostbyname"):
        print("witness", event, args[1:], file=sys.stderr)
sys.addaudithook(witness)
from chiltepin.cli.main import main
sys.argv = ["chiltepin", "demo"]
main()
"""


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    """A finished demo, in a separate folder."""
    folder = tmp_path_factory.mktemp("demo")
    environment = {**os.environ, "CHILTEPIN_BACKEND": "globus", "COLUMNS": "80"}
    run = subprocess.run(
        [sys.executable, "-c", WITNESSED],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    run.folder = folder / "chiltepin-demo"
    return run


def test_the_pipeline_runs_and_shows_each_step(ended):
    """The demo succeeds and prints each step with its files and bytes, and its settings file, within 80 columns."""
    assert ended.returncode == 0, ended.stderr
    for line in (
        r"Stage observations to hpc-scratch: 24 files, \d\.\d MB in .* \(.*/s\)",
        r"Summarize them there in ",
        r"Copy the summary back to my-laptop: 1 file, \d+ bytes in ",
        r"Clean up hpc-scratch: 25 files in ",
        r"210,240 rows summarized, every file compared",
        r"chiltepin\.yaml ",
    ):
        assert re.search(line, ended.stdout)
    assert max(len(line) for line in ended.stdout.splitlines()[1:]) <= 80


def test_it_is_offline(ended):
    """The demo opens no connection and looks up no name, even if the environment selects another backend."""
    assert "witness" not in ended.stderr


def test_the_bytes_are_where_it_says(ended):
    """The summary on the laptop is correct, scratch is empty, and no temporary files are left."""
    with open(ended.folder / "sandbox" / "my-laptop" / "results" / "summary.csv", newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert len(rows) == 24
    first = ended.folder / "sandbox" / "my-laptop" / "data" / "observations" / f"{rows[0]['station']}.csv"
    with open(first, newline="") as lines:
        temperatures = [float(row["temperature"]) for row in csv.DictReader(lines)]
    assert (float(rows[0]["lowest"]), float(rows[0]["highest"])) == (min(temperatures), max(temperatures))
    assert float(rows[0]["mean"]) == pytest.approx(sum(temperatures) / len(temperatures), abs=0.01)
    assert os.listdir(ended.folder / "sandbox" / "hpc-scratch") == []
    assert not [path for path in ended.folder.rglob("*") if path.name.startswith(".chiltepin-")]


def test_the_pipeline_it_leaves_runs_by_itself(ended):
    """The script in the folder runs again under plain Python, also after a change of backend in chiltepin.yaml."""
    (ended.folder / "chiltepin.yaml").write_text(
        (ended.folder / "chiltepin.yaml")
        .read_text()
        .replace("backend: local ", "backend: filesystem ")
        .replace("my-laptop:", "my-laptop: {filesystem: ./sandbox/my-laptop}")
        .replace("hpc-scratch:", "hpc-scratch: {filesystem: ./sandbox/hpc-scratch}")
    )
    again = subprocess.run(
        [sys.executable, "pipeline.py"], cwd=ended.folder, capture_output=True, text=True, check=False, timeout=60
    )
    assert again.returncode == 0, again.stderr
    assert "210,240 rows summarized" in again.stdout


def test_a_folder_that_is_not_its_own_is_left_alone(tmp_path):
    """The demo refuses a folder with other files, and changes nothing there."""
    (tmp_path / "mine").write_text("precious")
    ended = subprocess.run(
        [COMMAND, "demo", "--folder", str(tmp_path)], capture_output=True, text=True, check=False, timeout=60
    )
    assert ended.returncode == 1
    assert "choose another folder with --folder" in ended.stderr
    assert os.listdir(tmp_path) == ["mine"]
    (tmp_path / "chiltepin.yaml").write_text("data: {}")
    ended = subprocess.run(
        [COMMAND, "demo", "--folder", str(tmp_path)], capture_output=True, text=True, check=False, timeout=60
    )
    assert ended.returncode == 1
    assert (tmp_path / "chiltepin.yaml").read_text() == "data: {}"
