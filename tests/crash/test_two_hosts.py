"""Several hosts that write to one disk without common locks; CHILTEPIN_KILLS=100 runs a hundred seeds."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from killing import LIMIT, kill, seeds

from chiltepin.backends.filesystem.local.claims import MARKED
from chiltepin.backends.filesystem.local.writer import PART
from chiltepin.backends.filesystem.temp_names import is_temp_name

HERE = Path(__file__).parent

# Each step waits for up to LIMIT seconds, and then reports what it waited for.
pytestmark = pytest.mark.timeout(900)

every_seed = pytest.mark.parametrize("seed", seeds(1), ids=lambda seed: f"seed {seed}")

MIB = 1 << 20

#: Seconds.
DAY = 86_400

#: The state, code and reason of a successful copy.
DONE = ["succeeded", "", ""]


class Host:
    """A process that copies as if it ran on a host with this name."""

    def __init__(self, name, case):
        self.name, self._case = name, case
        self.boot()

    def boot(self):
        """Start the process, without any lock."""
        locks = self._case.folder / f"locks of {self.name}"
        locks.mkdir(exist_ok=True)
        words = [sys.executable, str(HERE / "one_host.py"), self.name, str(locks), "0"]
        self.process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0, cwd=self._case.folder
        )
        self.say({end: {"url": str(self._case.folder / end)} for end in "ab"})
        assert self.hear() == "ready"

    def say(self, what):
        """Send a message."""
        self.process.stdin.write(json.dumps(what).encode() + b"\n")

    def hear(self):
        """Return the next message of the process; None if it has ended."""
        assert select.select([self.process.stdout], [], [], LIMIT)[0], f"nothing is heard of {self.name}"
        line = self.process.stdout.readline()
        return json.loads(line) if line else None

    def begin(self):
        """Start the copy."""
        self.say({"src_path": self._case.paths[2], "dst_path": self._case.paths[3], **self._case.options})
        assert self.hear() == "begins"

    def copy(self):
        """Copy, and return how the copy ended."""
        self.begin()
        return self.hear()

    def end(self):
        """Kill the process."""
        kill(self.process.pid)
        self.process.wait(LIMIT)
        self.process.stdin.close()
        self.process.stdout.close()


@contextmanager
def hosts(case, count=2):
    """Start some hosts, and end them afterwards. Their names look like those that a host gives itself."""
    up = [Host(f"{number:012x}", case) for number in range(1, count + 1)]
    try:
        yield up
    finally:
        for host in up:
            host.end()


@contextmanager
def watched(path, sizes):
    """Check continuously that a path has one of some sizes, if it exists."""
    seen, over = set(), threading.Event()

    def watch():
        while not over.is_set():
            with suppress(FileNotFoundError):
                seen.add(path.stat().st_size)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()
    assert seen <= set(sizes), "a file was seen that is not whole"


def temp_files(case):
    """Return the names of the temporary files at the destination."""
    return [path.name for path in case.b.rglob("*") if is_temp_name(path.name)]


@every_seed
def test_two_hosts_copy_one_large_file(case):
    """Two hosts that copy one file at once, one of which is killed, never write to the same temporary file."""
    size = case.chance.randint(4, 9) * PART + case.chance.randrange(PART)
    case.large(size)
    with hosts(case) as (one, other), watched(case.b / "out" / "big", [size]):
        for _ in range(4):
            one.begin()
            threading.Event().wait(case.chance.uniform(0, 0.1))
            other.begin()
            victim, survivor = case.chance.sample([one, other], 2)
            threading.Event().wait(case.chance.uniform(0, 0.1))
            victim.end()
            assert survivor.hear() == DONE
            assert case.present()["out/big"] == case.wanted["out/big"]
            victim.boot()
            assert victim.copy() == DONE
            case.check_whole()
            case.emptied()


@every_seed
def test_two_hosts_write_into_one_folder(case):
    """A host that copies a tree does not sweep the files that another host is writing to the same folders."""
    case.tree(files=case.chance.randint(20, 100), largest=100_000, large=[case.chance.randint(9, 20) * MIB] * 3)
    del case.options["sync_level"]
    with hosts(case) as (one, other):
        # A new folder is not swept.
        assert one.copy() == DONE
        for _ in range(4):
            other.end()
            other.boot()
            one.begin()
            threading.Event().wait(case.chance.uniform(0, 0.05))
            other.begin()
            assert (one.hear(), other.hear()) == (DONE, DONE)
            case.check_whole()


@every_seed
def test_a_temporary_file_of_another_host_stays_for_a_day(case):
    """The temporary file of a killed host is kept for a day by the clock of the disk, except on that host."""
    case.large(6 * PART)
    with hosts(case) as (one, other):
        # Before the file that can be continued, the disk is asked to clone the source, into another one.
        while [len(name.split("-")[2]) for name in temp_files(case)] != [MARKED]:
            case.emptied()
            one.begin()
            threading.Event().wait(case.chance.uniform(0, 0.1))
            one.end()
            one.boot()
        (left,) = temp_files(case)
        inode = (case.b / "out" / left).stat().st_ino
        assert other.copy() == DONE
        assert temp_files(case) == [left]
        if case.chance.random() < 0.5:
            assert one.copy() == DONE
            assert (case.b / "out" / "big").stat().st_ino == inode, "it was not continued"
        else:
            long_ago = time.time() - 2 * DAY
            os.utime(case.b / "out" / left, (long_ago, long_ago))
            other.end()
            other.boot()
            assert other.copy() == DONE
        case.check_whole()
