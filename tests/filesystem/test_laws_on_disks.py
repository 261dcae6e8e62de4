"""The laws of a backend on disks of other kinds: what a disk lacks is told by what it refuses."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from elsewhere import NoDiskError, mounted

LAWS = Path(__file__).parent.parent / "conformance" / "test_filesystem.py"

#: MiB of each kind; the laws leave some 30 behind.
KINDS = {"btrfs": 120, "xfs": 300, "vfat": 60, "exfat": 60}


def laws_on(kind):
    """Run the laws about folders of this machine with both folders on a disk; return how it ended and what it said."""
    with mounted(kind, KINDS[kind]) as disk:
        words = ["-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", "--basetemp", f"{disk}/t", str(LAWS)]
        ended = subprocess.run(
            [sys.executable, *words, "-k", "TestFolders"], capture_output=True, text=True, check=False
        )
        return ended.returncode, ended.stdout


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", KINDS)
def test_the_laws_hold_on_a_disk(machine, kind):
    """Whatever a disk keeps of names, times, modes and links, the laws that it can be asked are kept on it."""
    try:
        code, said = machine(laws_on, kind)
    except NoDiskError as err:
        pytest.skip(str(err))
    assert code == 0, said[-5000:]
    assert "passed" in said
