"""The benchmarks start, end and print their table; what they measure is told in benchmarks/README.md."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.mark.parametrize(
    ("script", "options", "lines"),
    [
        (
            "tasks.py",
            "--files 3 --rounds 1 --threads 1 --log off",
            ["Parsl no-op", "python_task no-op", "transfer_task"],
        ),
        ("copies.py", "--mib 1 --files 4 --folders 2 --rounds 1", ["cp", "cp -r", "transfer, not verified"]),
    ],
)
def test_a_benchmark_prints_its_table(script, options, lines, tmp_path):
    """A tiny run of each script ends well, prints a row for each line of its table and leaves nothing behind."""
    command = [sys.executable, BENCHMARKS / script, *options.split(), "--folder", tmp_path]
    ran = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
    assert [line for line in lines if f"│ {line} " not in ran.stdout] == []
    assert list(tmp_path.iterdir()) == []
