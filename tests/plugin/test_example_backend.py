"""The example backend of the how-to is a separate package that keeps the laws and moves the data of a workflow."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "chiltepin-sqlite"

SETTINGS = """
data:
  backend: sqlite
  workers: 3
  endpoints:
    my-laptop: {sqlite: ~/laptop.db}
    hpc-scratch: {sqlite: ~/scratch.db}
"""

WORKFLOW = """
from chiltepin import Workflow, delete_task, transfer_task
from chiltepin.backends import registry
from chiltepin.errors import TaskFailedError
from chiltepin_sqlite.database import Database
import os

assert "sqlite" in registry.names()
laptop, scratch = (Database(os.path.expanduser(f"~/{name}.db")) for name in ("laptop", "scratch"))
laptop.write("/data/in.csv", b"1")
with Workflow("chiltepin.yaml"):
    sent = transfer_task("my-laptop", "hpc-scratch", "/data", "/run", executor="local", recursive=True)
    gone = delete_task("my-laptop", "/data/in.csv", executor="local", inputs=[sent])
    assert gone.result(60) is True
    lost = transfer_task("my-laptop", "hpc-scratch", "/data/in.csv", "/x", executor="local", inputs=[gone])
    assert "FILE_NOT_FOUND" in str(lost.exception(60))
assert scratch.read("/run/in.csv") == b"1"
"""


def install(target):
    """Install the package into a folder: with pip if its build backend is available, otherwise by hand, as pip does."""
    if find_spec("hatchling"):
        source = target.parent / "source"
        shutil.copytree(EXAMPLE, source)
        offline = ["--no-deps", "--no-index", "--no-build-isolation", "--disable-pip-version-check"]
        command = [sys.executable, "-m", "pip", "install", "-q", *offline, "--target", str(target), str(source)]
        subprocess.run(command, check=True, capture_output=True)
        return
    shutil.copytree(EXAMPLE / "src", target)
    described = target / "chiltepin_sqlite-0.1.0.dist-info"
    described.mkdir()
    project = (EXAMPLE / "pyproject.toml").read_text()
    [(group, points)] = re.findall(r'\[project\.entry-points\."([\w.]+)"\]\n((?:.+\n)+)', project)
    (described / "entry_points.txt").write_text(f"[{group}]\n{points.replace(chr(34), '')}")
    (described / "METADATA").write_text("Metadata-Version: 2.1\nName: chiltepin-sqlite\nVersion: 0.1.0\n")


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """Return an environment in which the package is installed."""
    folder = tmp_path_factory.mktemp("example")
    install(folder / "site")
    search = [str(folder / "site"), *(os.path.abspath(part) for part in sys.path if part)]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(search), "PYTEST_ADDOPTS": "", "HOME": str(folder)}


def run(environment, folder, *arguments):
    """Run Python in the environment, and return its output."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=environment,
        check=False,
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_example_keeps_the_laws(environment, tmp_path):
    """The whole suite passes on the installed package, and most laws are not skipped."""
    shutil.copy(EXAMPLE / "tests" / "test_laws.py", tmp_path)
    said = run(environment, tmp_path, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error", "test_laws.py")
    assert int(re.search(r"(\d+) passed", said)[1]) > 100


def test_the_example_moves_the_data_of_a_workflow(environment, tmp_path):
    """The backend moves the data of a workflow that only names it in the settings."""
    (tmp_path / "chiltepin.yaml").write_text(SETTINGS)
    (tmp_path / "workflow.py").write_text(WORKFLOW)
    run(environment, tmp_path, "workflow.py")
