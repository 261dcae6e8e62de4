"""The benchmark of S3 runs, in small."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

STORES = Path(__file__).parents[2] / "benchmarks" / "stores.py"


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
            *(sys.executable, STORES, "--endpoint", benchmark_bucket.url, "--folder", tmp_path, "--rounds", "1"),
            *("--mib", "1", "--files", "2", "--tools", "chiltepin"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.count("chiltepin") == 5
