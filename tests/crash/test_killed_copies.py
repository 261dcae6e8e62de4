"""Kill -9 of a workflow during a copy; CHILTEPIN_KILLS=100 runs a hundred kills of each kind."""

from __future__ import annotations

import pytest
from buckets_killed import BucketCase
from killing import kept_bytes, seeds

from chiltepin.backends.filesystem.local.writer import PART
from chiltepin.backends.filesystem.temp_names import TEMP_PREFIX

MIB = 1 << 20

# Each step waits for up to LIMIT seconds, and then reports what it waited for.
pytestmark = pytest.mark.timeout(900)

every_seed = pytest.mark.parametrize("seed", seeds(1), ids=lambda seed: f"seed {seed}")


@pytest.fixture
def bucket_case(folder, chance, bucket, monkeypatch):
    """A copy to a bucket."""
    return BucketCase(folder, chance, bucket, monkeypatch)


def killed(case, fork_server):
    """Kill the workflow during its copy."""
    case.hit(lambda: case.workflow(fork_server), lambda run: run.process)


@every_seed
def test_a_tree(fork_server, case):
    """A killed copy of a tree leaves only whole files; the next run copies the rest and leaves no temporary file."""
    case.tree(files=case.chance.randint(20, 300), largest=100_000, large=[case.chance.randint(1, 20) * MIB])
    if case.chance.random() < 0.3:
        case.outdate()
    killed(case, fork_server)
    case.finish(fork_server)


@every_seed
def test_a_large_file(fork_server, case):
    """After one or two kills, the next run copies only the unfinished parts of a large file."""
    size = case.chance.randint(3, 14) * PART + case.chance.randrange(PART)
    case.large(size)
    for _ in range(case.chance.choice([1, 1, 2])):
        killed(case, fork_server)
    temp_files = [path for path in (case.b / "out").glob("*") if path.name.startswith(TEMP_PREFIX)]
    assert len(temp_files) <= 1
    kept = kept_bytes(temp_files[0], size) if temp_files else 0
    inodes = {path.stat().st_ino for path in temp_files}
    said = case.finish(fork_server)
    # A temporary file without a whole part may be from the attempt to share blocks, which is not continued.
    assert not kept or (case.b / "out" / "big").stat().st_ino in inodes
    assert said["written"] <= size - kept + MIB, f"{kept} bytes were whole"


@every_seed
def test_a_tree_to_a_bucket(fork_server, bucket_case):
    """A killed copy to S3 leaves only whole objects; the next run copies the rest and leaves no upload."""
    case = bucket_case
    case.tree(files=case.chance.randint(10, 50), largest=100_000, large=[case.chance.randint(9, 20) * MIB])
    killed(case, fork_server)
    case.finish(fork_server)


@every_seed
def test_a_large_object(fork_server, bucket_case):
    """After one or two kills, the next run sends only the parts of a large object that S3 does not have."""
    case = bucket_case
    case.large(case.chance.randint(17, 48) * MIB)
    for _ in range(case.chance.choice([1, 1, 2])):
        killed(case, fork_server)
    case.finish(fork_server)
