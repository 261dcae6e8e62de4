"""Generated trees and paths, also while links are swapped in: nothing outside the roots is touched.

CHILTEPIN_TREES sets the number of seeds, or a range such as 1000:2000. Each seed generates a tree for each of two
endpoints and eight pairs of paths to request.
"""

from __future__ import annotations

import os
import random
import shutil
import stat
import tempfile
from pathlib import Path

import pytest
from hostiletrees import MARK, Outside, Swapper, Tally, ask_all, nothing_came_in, odd_path, plant

from chiltepin.backends.filesystem import FilesystemBackend, LocalBackend
from chiltepin.transfers.runner import Transfers

ROOTS = ("laptop", "scratch")

#: Pairs of paths requested for each seed.
PATHS = 8

#: A folder in memory, if this machine has one.
MEMORY = "/dev/shm" if os.path.isdir("/dev/shm") else None  # noqa: S108 - a new folder is created in it

SFTP = shutil.which("sftp-server", path="/usr/lib/openssh:/usr/libexec/openssh:/usr/libexec:/usr/lib/ssh")

#: For each kind of endpoint, n: every n-th seed is tested.
KINDS = {"local": 1, "file": 1, "linked": 4, "sftp": 4}


def seeds():
    """Return the seeds: 8, or the number or range in CHILTEPIN_TREES, such as 100:200."""
    first, _, last = os.environ.get("CHILTEPIN_TREES", "8").rpartition(":")
    return range(int(first or 0), int(last))


@pytest.fixture
def base():
    """A folder that contains the two roots."""
    folder = tempfile.mkdtemp(dir=MEMORY)
    for root in ROOTS:
        os.mkdir(os.path.join(folder, root))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def outside(base):
    """Files that must not be touched, on a disk that records reads."""
    made = Outside(base, ROOTS)
    probe = os.path.join(base, "laptop", "probe")
    with open(probe, "w") as file:
        file.write("read me")
    os.utime(probe, (1000, 1000))
    with open(probe) as file:
        file.read()
    noted = os.stat(probe).st_atime != 1000
    os.unlink(probe)
    if not noted:
        pytest.skip("This disk does not note who reads (mounted with noatime).")
    made.check()
    return made


def opened(kind, base, tmp_path, monkeypatch):
    """Return transfers between endpoints of one kind."""
    if kind == "local":
        return Transfers(LocalBackend.from_config({name: {"folder": name} for name in ROOTS}, {"root": base}))
    scheme = {"file": "file://", "linked": "hostile://", "sftp": "sftp://nobody@nowhere"}[kind]
    if kind == "sftp":
        # OpenSSH's server at the other end of a pipe, without encryption.
        ssh = tmp_path / "ssh"
        ssh.write_text(f"#!/bin/sh\nexec {SFTP}\n")
        ssh.chmod(ssh.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    places = {name: {"url": f"{scheme}{base}/{name}", "home": "/a"} for name in ROOTS}
    return Transfers(FilesystemBackend.from_config(places, {}))


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", KINDS)
def test_no_generated_tree_leads_out(base, outside, tmp_path, monkeypatch, kind):
    """Whatever the links and paths, transfer, delete and ls neither touch nor reveal anything outside the roots."""
    if kind == "sftp" and SFTP is None:
        pytest.skip("There is no sftp-server here; install openssh-sftp-server.")
    transfers, tally = opened(kind, base, tmp_path, monkeypatch), Tally()
    for seed in seeds()[:: KINDS[kind]]:
        chance = random.Random(f"{kind} {seed}")  # noqa: S311 - repeatable, not secret
        tally.trees += 2
        for root, other in (ROOTS, ROOTS[::-1]):
            plant(chance, os.path.join(base, root), base, root, other)
        for _ in range(PATHS):
            ask_all(chance, transfers, tally, odd_path(chance, f"{base}/laptop"), odd_path(chance, f"{base}/scratch"))
            outside.check()
        for root in ROOTS:
            nothing_came_in(os.path.join(base, root))
    transfers.backend.close()
    print(f"{kind}: {tally}")  # noqa: T201 - the count of a long run
    # Refusing every request would also pass the checks above.
    assert tally.succeeded > tally.tries / 2
    assert tally.refused
    assert tally.listed


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", ["local", "file"])
def test_no_link_that_is_swapped_in_leads_out(base, outside, tmp_path, monkeypatch, kind):
    """While a process keeps replacing folders and files with links, no request touches anything outside the roots."""
    transfers, tally = opened(kind, base, tmp_path, monkeypatch), Tally()
    for seed in seeds():
        chance = random.Random(f"{kind} swapped {seed}")  # noqa: S311 - repeatable, not secret
        tally.trees += 2
        for root, other in (ROOTS, ROOTS[::-1]):
            plant(chance, os.path.join(base, root), base, root, other)
        # Chosen first, since the swapped links could lead odd_path out of the roots.
        paths = [(odd_path(chance, f"{base}/laptop"), odd_path(chance, f"{base}/scratch")) for _ in range(PATHS)]
        with Swapper(random.Random(seed), base, ROOTS) as swapper:  # noqa: S311 - as above
            for path, goal in paths:
                ask_all(chance, transfers, tally, path, goal)
        tally.swaps += swapper.swaps
        outside.check()
        for root in ROOTS:
            nothing_came_in(os.path.join(base, root))
    transfers.backend.close()
    print(f"{kind}: {tally}")  # noqa: T201 - the count of a long run
    assert tally.succeeded > tally.tries / 10
    assert tally.swaps > tally.tries


def test_a_read_outside_the_root_is_detected(base, outside):
    """The check of the files outside detects a read, a listing, a change and a removal."""
    place = os.path.join(base, "outside", "folder")
    for deed in (
        lambda: Path(place, MARK).read_bytes(),
        lambda: os.listdir(place),
        lambda: os.chmod(os.path.join(place, "key"), 0o600),
        lambda: os.unlink(os.path.join(place, "key")),
    ):
        before = outside
        deed()
        with pytest.raises((AssertionError, FileNotFoundError)):
            before.check()
        shutil.rmtree(os.path.join(base, "outside"))
        for root in ROOTS:
            shutil.rmtree(os.path.join(base, f"{root}-twin"))
        outside = Outside(base, ROOTS)
        outside.check()
