"""The S3 benchmarks run with small sizes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def benchmark_bucket(bucket):
    """Create the bucket with the name that the benchmark expects."""
    bucket.client.create_bucket(Bucket="bucket")
    yield bucket
    for item in bucket.client.list_objects_v2(Bucket="bucket").get("Contents", ()):
        bucket.client.delete_object(Bucket="bucket", Key=item["Key"])
    bucket.client.delete_bucket(Bucket="bucket")


def test_the_benchmark_of_stores_moves_and_tells(benchmark_bucket, tmp_path):
    """The store benchmark runs every job and prints a table for each."""
    run = subprocess.run(
        [
            *(
                sys.executable,
                BENCHMARKS / "stores.py",
                "--endpoint",
                benchmark_bucket.url,
                "--folder",
                tmp_path,
                "--rounds",
                "1",
            ),
            *("--mib", "1", "--files", "2", "--tools", "chiltepin"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.count("chiltepin") == 5


def test_the_benchmark_of_many_workers_gets_objects(benchmark_bucket, tmp_path):
    """The benchmark compares Parsl workers with plain processes that move objects."""
    run = subprocess.run(
        [
            *(sys.executable, BENCHMARKS / "many_workers.py", "--parts", "d", "--endpoint", benchmark_bucket.url),
            *("--folder", tmp_path, "--rounds", "0", "--objects", "3", "--rclone", "not installed"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert "2 workers of Parsl" in run.stdout
