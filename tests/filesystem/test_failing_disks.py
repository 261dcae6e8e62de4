"""A disk that fails at any of its operations; CHILTEPIN_DISK_FAULTS=200 runs 200 plans with many failures each."""

from __future__ import annotations

import errno
import os
import threading
from collections import Counter

import pytest
from faultrun import faults_of, rename_faults_of

from chiltepin.model import TaskState

#: Most failures of one plan, by default and with CHILTEPIN_DISK_FAULTS: three large files alone need 1000 writes.
FEW, MANY = 25, 300


def seeds() -> range:
    """The seeds of the plans: 6, or the number or range (such as 100:200) in CHILTEPIN_DISK_FAULTS."""
    first, _, last = os.environ.get("CHILTEPIN_DISK_FAULTS", "6").rpartition(":")
    return range(int(first or 0), int(last))


@pytest.fixture(scope="module")
def seen():
    """Counts the failures, and prints the counts at the end."""
    counted: Counter[str] = Counter()
    yield counted
    print(f"\n{counted.total()} faults: {dict(counted)}")  # noqa: T201 - shown with -s


@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", seeds(), ids=lambda seed: f"seed {seed}")
def test_a_disk_that_fails_at_any_operation(machine, faulty, seen, seed):
    """After any failure, the task reports it, counts what arrived and leaves no partial file; a second run succeeds."""
    most = MANY if "CHILTEPIN_DISK_FAULTS" in os.environ else FEW
    seen.update(machine(faults_of, faulty, seed, most))


@pytest.mark.parametrize("error", [errno.EACCES, errno.EIO])
def test_a_rename_that_fails_leaves_one_name(machine, faulty, error):
    """If any operation of a rename fails, the file has its old or its new path afterwards, and not both."""
    outcomes = machine(rename_faults_of, faulty, error)
    assert {"link", "unlink"} <= {kind for kind, _ in outcomes}
    assert [(kind, paths) for kind, paths in outcomes if len(paths) != 1] == []
    assert outcomes[-1] == ("none", {"d/new/f"})


@pytest.mark.parametrize("size", [50_000, 400_000])
def test_a_file_that_is_written_all_the_time(disk, size):
    """A file replaced by a rename is copied in one of its versions; a growing file is copied as it was, or fails."""
    tries = 20
    versions = [bytes([65 + number]) * (size + number) for number in range(10)]
    disk.put("laptop", "/replaced", versions[0])
    disk.put("laptop", "/grows", b"")
    ended = threading.Event()

    def write():
        while not ended.is_set():
            for version in versions:
                disk.put("laptop", "/new", version)
                os.replace(disk.path("laptop", "/new"), disk.path("laptop", "/replaced"))
            with open(disk.path("laptop", "/grows"), "ab") as file:
                file.write(b"line\n" * 2000)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(tries):
            assert disk.move("/replaced", "/replaced").state is TaskState.SUCCEEDED
            assert disk.get("scratch", "/replaced") in versions
            status = disk.move("/grows", "/grows")
            if status.state is TaskState.FAILED:
                assert status.code == "FILE_SIZE_CHANGED"
            else:
                assert set(disk.get("scratch", "/grows").splitlines()) <= {b"line"}
            assert disk.files("scratch") <= {"/replaced", "/grows"}
    finally:
        ended.set()
        writer.join()


@pytest.mark.timeout(900)
@pytest.mark.skipif("CHILTEPIN_DISK_FAULTS" not in os.environ, reason="a long run; see CHILTEPIN_DISK_FAULTS")
def test_100_000_files_in_one_folder(disk):
    """100,000 files in one folder are copied, listed, synced, mirrored and deleted, and counted exactly."""
    os.mkdir(disk.path("laptop", "/d"))
    for number in range(100_000):
        os.close(os.open(disk.path("laptop", f"/d/{number}"), os.O_CREAT | os.O_WRONLY))
    assert disk.move("/d", "/d", timeout=600, recursive=True).files_done == 100_000
    assert len(disk.transfers.ls("scratch", "/d")) == 100_000
    assert disk.move("/d", "/d", timeout=600, recursive=True, sync_level="mtime").files_skipped == 100_000
    disk.put("scratch", "/d/extra")
    status = disk.move("/d", "/d", timeout=600, recursive=True, sync_level="size", delete_destination_extra=True)
    assert (status.state, status.files_done, status.files_skipped) == (TaskState.SUCCEEDED, 1, 100_000)
    assert disk.remove("/d", recursive=True).files_done == 100_000
