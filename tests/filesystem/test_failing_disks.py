"""A disk that fails at any of its operations; CHILTEPIN_DISK_FAULTS=200 asks for all faults of so many plans."""

from __future__ import annotations

import os
from collections import Counter

import pytest
from faultrun import faults_of

#: Faults of one plan, where the environment does not ask for all.
FEW = 25


def seeds() -> range:
    """The seeds of the plans: six, so many as CHILTEPIN_DISK_FAULTS says, or those that it names, as in 100:200."""
    first, _, last = os.environ.get("CHILTEPIN_DISK_FAULTS", "6").rpartition(":")
    return range(int(first or 0), int(last))


@pytest.fixture(scope="module")
def seen():
    """Counts the faults, and tells of them at the end."""
    counted: Counter[str] = Counter()
    yield counted
    print(f"\n{counted.total()} faults: {dict(counted)}")  # noqa: T201 - seen with -s


@pytest.mark.parametrize("seed", seeds(), ids=lambda seed: f"seed {seed}")
def test_a_disk_that_fails_at_any_operation(machine, faulty, seen, seed):
    """Whatever fails is told, nothing half has a real name, what arrived is counted, and the next run completes it."""
    most = None if "CHILTEPIN_DISK_FAULTS" in os.environ else FEW
    seen.update(machine(faults_of, faulty, seed, most))
