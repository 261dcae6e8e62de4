"""The conformance suite on disks of other kinds, whose limits show only in their errors."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from elsewhere import NoDiskError, mounted
from worlds import world_of

LAWS = Path(__file__).parent.parent / "conformance" / "test_filesystem.py"

#: MiB of each disk; the suite leaves about 30 behind.
KINDS = {"btrfs": 120, "xfs": 300, "vfat": 60, "exfat": 60}


def laws_on(kind):
    """Run the conformance suite for local folders with both on a disk; return its exit code and output."""
    with mounted(kind, KINDS[kind]) as disk:
        words = ["-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", "--basetemp", f"{disk}/t", str(LAWS)]
        ended = subprocess.run(
            [sys.executable, *words, "-k", "TestFolders"], capture_output=True, text=True, check=False
        )
        return ended.returncode, ended.stdout


def names_in_two_cases(kind):
    """Copy files whose names differ only in case to a disk twice; return the outcomes and files."""
    with mounted(kind, KINDS[kind]) as disk, tempfile.TemporaryDirectory() as top:
        world = world_of({"laptop": f"{top}/laptop", "scratch": disk})
        os.makedirs(f"{top}/laptop/d")
        for name in ("A", "a"):
            Path(f"{top}/laptop/d/{name}").write_text(f"in {name}")
        said = [world.move("/d", "/d", recursive=True) for _ in range(2)]
        left = {name: Path(f"{disk}/d/{name}").read_text() for name in os.listdir(f"{disk}/d")}
        return [(status.state.name, status.code) for status in said], left


@pytest.mark.parametrize("kind", ["vfat", "exfat"])
def test_names_that_are_one_on_a_disk_do_not_replace_each_other(machine, kind):
    """On a disk that treats two names as one, only one file arrives and the transfer fails, also over FUSE."""
    try:
        said, left = machine(names_in_two_cases, kind)
    except NoDiskError as err:
        pytest.skip(str(err))
    assert said == [("FAILED", "AMBIGUOUS_PATH")] * 2
    assert len(left) == 1
    assert all(text == f"in {name}" for name, text in left.items())


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", KINDS)
def test_the_laws_hold_on_a_disk(machine, kind):
    """The conformance suite passes on each disk, whatever names, times, modes and links it supports."""
    try:
        code, said = machine(laws_on, kind)
    except NoDiskError as err:
        pytest.skip(str(err))
    assert code == 0, said[-5000:]
    assert "passed" in said
