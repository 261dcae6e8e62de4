"""Each benchmark runs with small sizes and prints its tables."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from sshserver import daemon

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"

#: Whether this machine can simulate a disk with latency.
LATENCY = (
    os.access("/dev/fuse", os.W_OK)
    and all(map(shutil.which, ("cc", "pkg-config", "fusermount3")))
    and not subprocess.run(["pkg-config", "--exists", "fuse3"], check=False).returncode
)


@pytest.mark.parametrize(
    ("script", "options", "rows"),
    [
        ("startup.py", ["--rounds", "0"], ["chiltepin --help", "chiltepin ls", "import parsl", "globus --help"]),
        (
            "tasks.py",
            ["--files", "5", "--rounds", "0", "--threads", "2", "--log", "off"],
            ["Parsl no-op", "python_task no-op", "transfer_task", "transfer_task, watched", "copyfile in a loop"],
        ),
        (
            "copies.py",
            ["--mib", "1", "--middle", "2", "--middle-mib", "1", "--files", "20", "--folders", "2", "--rounds", "0"],
            ["1 file of 1 MiB", "2 files of 1 MiB", "20 files of 4096 bytes", "unchanged", "verified", "shutil"],
        ),
        (
            "trees.py",
            [
                *("--files", "20", "--folders", "2", "--rounds", "0"),
                *("--lagged", "20" if LATENCY else "0"),
            ],
            ["deletion of 20 files", *(["for each operation"] * LATENCY)],
        ),
        (
            "floors.py",
            ["--files", "20", "--folders", "2", "--unchanged", "20", "--rounds", "0"],
            ["20 files of 4096 bytes, copied", "deleted", "20 empty files, unchanged", "in C", "in Python"],
        ),
        (
            "many_workers.py",
            [
                *(
                    "--files",
                    "20",
                    "--folders",
                    "2",
                    "--million",
                    "50",
                    "--mib",
                    "1",
                    "--flat",
                    "20",
                    "--compared",
                    "20",
                ),
                *("--lagged", "20", "--lagged-size", "10", "--workers", "2", "--rounds", "0"),
                *("--before", sys.executable, "--parts", "abcefg" if LATENCY else "bcefg"),
            ],
            [
                *(
                    "2 workers of Parsl",
                    "peak MiB",
                    "1 file of 1 MiB",
                    "20 files of 4096 bytes, unchanged",
                ),
                *(["cores of the FUSE daemon"] * LATENCY),
            ],
        ),
        (
            "transfers.py",
            [
                *(
                    "--files",
                    "5",
                    "--blocking",
                    "5",
                    "--singles",
                    "1",
                    "--long",
                    "0.05",
                    "--no-ops",
                    "5",
                    "--slices",
                    "2",
                ),
                *("--log", "off", "--rounds", "0", "--task-latency", "0.05", "--latency", "0.001", "--look", "0.05"),
            ],
            ["one task by hand", "waiting app", "not batched", "end of the future", "5 transfers"],
        ),
        (
            "long_day.py",
            ["--transfers", "60", "--hours", "0.1", "--samples", "2", "--speed", "120"],
            ["0.1 hours, 60 transfers", "journal MB", "calls succeeded"],
        ),
        pytest.param(
            "sftp.py",
            ["--mib", "0", "--files", "5", "--rounds", "0"],
            ["chiltepin, verified", "5 files of 16384 bytes, up"],
            marks=pytest.mark.skipif(daemon() is None, reason="There is no sshd here; install openssh-server."),
        ),
    ],
)
def test_a_benchmark_ends_with_its_table(tmp_path, script, options, rows):
    """Each script measures all its candidates, prints its tables, and leaves no files behind."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CHILTEPIN_")}
    run = subprocess.run(
        [sys.executable, BENCHMARKS / script, *options, "--folder", tmp_path],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert run.returncode == 0, run.stderr
    for row in rows:
        assert row in run.stdout
    assert os.listdir(tmp_path) == []
