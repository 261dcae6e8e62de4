"""The benchmarks of S3 run, in small."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def benchmark_bucket(bucket):
    """The bucket of the name that the benchmark wants."""
    bucket.client.create_bucket(Bucket="bucket")
    yield bucket
    for item in bucket.client.list_objects_v2(Bucket="bucket").get("Contents", ()):
        bucket.client.delete_object(Bucket="bucket", Key=item["Key"])
    bucket.client.delete_bucket(Bucket="bucket")


def test_the_benchmark_of_stores_moves_and_tells(benchmark_bucket, tmp_path):
    """Every job is done, and each has a separate table."""
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
    """Objects are moved by workers of Parsl and by processes, and compared."""
    run = subprocess.run(
        [
            *(sys.executable, BENCHMARKS / "many_workers.py", "--parts", "d", "--endpoint", benchmark_bucket.url),
            *("--folder", tmp_path, "--rounds", "1", "--objects", "3", "--rclone", "not installed"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert "2 workers of Parsl" in run.stdout
