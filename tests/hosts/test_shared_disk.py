"""Several hosts on one disk without common locks: what they write, sweep, continue and store."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import pytest
from waiting import until

from chiltepin.backends.filesystem.local.writer import PART
from chiltepin.backends.filesystem.temp_names import is_temp_name, temporary

ONE_HOST = str(Path(__file__).parents[1] / "crash" / "one_host.py")

#: The messages of a successful copy.
DONE = ["begins", ["succeeded", "", ""]]

#: Stores twenty tokens on a disk without locks, or with locks that work on one host only.
STORE = """
import fcntl, os, sys
from globus_sdk.token_storage import TokenStorageData
from chiltepin.backends.globus.token_storage import FileTokenStorage
if sys.argv[1] == "missing":
    def flock(*_):
        raise OSError(38, os.strerror(38))
else:
    flock = lambda *_: None
fcntl.flock = flock
for number in range(20):
    server = f"{os.uname().nodename}-{number}"
    FileTokenStorage("/shared/home/tokens.json", namespace="n").store_token_data_by_resource_server({
        server: TokenStorageData(resource_server=server, identity_id=None, scope="s", access_token="t",
                                 refresh_token=None, expires_at_seconds=1, token_type=None)})
"""


@pytest.fixture
def disk(hosts):
    """The shared folder, with a large file and a small file to copy, and nothing else."""
    for name in ("a", "b", "home"):
        (hosts.shared / name).mkdir()
    (hosts.shared / "a" / "big").write_bytes(os.urandom(20 * PART + 5))
    (hosts.shared / "a" / "small").write_bytes(b"small")
    yield hosts.shared
    hosts.boot()
    for host in hosts:
        host.run("sh", "-c", "rm -rf /shared/a /shared/b /shared/home /tmp/locks")


def copying(host, name="big", *, to="/shared/b", ahead=0):
    """Start to copy a file on a host."""
    endpoints = {"a": {"url": "/shared/a"}, "b": {"url": to}}
    lines = [json.dumps(endpoints), json.dumps({"src_path": f"/{name}", "dst_path": f"/{name}"})]
    script = 'mkdir -p /tmp/locks; printf "%s\\n" "$1" "$2" | "$3" "$4" "" /tmp/locks "$5"'
    return host.start("sh", "-c", script, "sh", *lines, sys.executable, ONE_HOST, str(ahead))


def ended(process):
    """Return the messages of a copy."""
    said, _ = process.communicate(timeout=120)
    return [json.loads(line) for line in said.splitlines()][1:]


def temp_files(folder):
    """Return the temporary files in a folder."""
    return [path for path in folder.iterdir() if is_temp_name(path.name)]


def killed_in_the_middle(hosts, host, disk):
    """Kill a host while it copies the large file; return the temporary file that it leaves."""
    while not temp_files(disk / "b"):
        (disk / "b" / "big").unlink(missing_ok=True)
        with copying(host) as process:
            until(lambda: process.poll() is not None or any(path.stat().st_size for path in temp_files(disk / "b")))
            host.kill()
        hosts.boot()
    (left,) = temp_files(disk / "b")
    return left


def test_hosts_copy_one_file_at_once(hosts, disk):
    """Three hosts that copy one file at once do not disturb each other, and each ends with the whole file."""
    with copying(hosts["h1"]) as one, copying(hosts["h2"]) as two, copying(hosts["h3"]) as three:
        sizes = set()

        def over():
            sizes.update(path.stat().st_size for path in (disk / "b").glob("big"))
            return all(process.poll() is not None for process in (one, two, three))

        until(over, 120)
        assert [ended(process) for process in (one, two, three)] == [DONE] * 3
    assert sizes == {20 * PART + 5}
    assert (disk / "b" / "big").read_bytes() == (disk / "a" / "big").read_bytes()
    assert temp_files(disk / "b") == []


def test_what_a_host_left_is_continued_when_it_is_back(hosts, disk):
    """Another host keeps the temporary file of a killed host, which continues it after its boot."""
    left = killed_in_the_middle(hosts, hosts["h2"], disk)
    inode = left.stat().st_ino
    with copying(hosts["h3"]) as process:
        assert ended(process) == DONE
    assert temp_files(disk / "b") == [left]
    with copying(hosts["h2"]) as process:
        assert ended(process) == DONE
    assert (disk / "b" / "big").stat().st_ino == inode
    assert (disk / "b" / "big").read_bytes() == (disk / "a" / "big").read_bytes()
    assert temp_files(disk / "b") == []


def test_what_a_host_left_is_swept_by_another_after_a_day(hosts, disk):
    """A temporary file of another host is swept when it is a day old by the clock of the disk, not of the host."""
    left = killed_in_the_middle(hosts, hosts["h2"], disk)
    with copying(hosts["h3"], "small", ahead=26) as process:
        assert ended(process) == DONE
    assert temp_files(disk / "b") == [left]
    long_ago = time.time() - 25 * 3600
    os.utime(left, (long_ago, long_ago))
    with copying(hosts["h3"], "small", ahead=-26) as process:
        assert ended(process) == DONE
    assert temp_files(disk / "b") == []


def test_the_clock_of_a_server_decides_over_sftp(hosts, disk):
    """Over SFTP, a host whose clock is ahead sweeps only the files that are a day old on the server."""
    young, old = (disk / "b" / temporary(f"0-elsewhere-{number}-1-00000000") for number in range(2))
    for path in (young, old):
        path.write_bytes(b"half")
    os.utime(old, (0, 0))
    with copying(hosts["h1"], "small", to="sftp://h2/shared/b", ahead=26) as process:
        assert ended(process) == DONE
    assert temp_files(disk / "b") == [young]


def test_a_host_has_one_name_at_each_boot(hosts):
    """The host id differs between hosts and is the same after a boot; the machine id changes with a boot."""

    def names(host):
        code = "from chiltepin.backends.processes import *; print(host_id(), machine_id())"
        return host.run(sys.executable, "-c", code).split()

    before = [names(hosts[name]) for name in ("h1", "h2")]
    hosts["h2"].kill()
    hosts.boot()
    after = [names(hosts[name]) for name in ("h1", "h2")]
    assert before[0] == after[0]
    assert before[1][0] == after[1][0] != before[0][0]
    assert before[1][1] != after[1][1]


@pytest.mark.parametrize("locks", ["missing", "of one host"])
def test_hosts_store_tokens_at_once(hosts, disk, locks):
    """Four hosts that store tokens in one home folder lose none, even if locks do not work between hosts."""
    writers = [host.start(sys.executable, "-c", STORE, locks) for host in hosts]
    assert [writer.communicate(timeout=120)[0] for writer in writers] == [""] * 4
    document = json.loads((disk / "home" / "tokens.json").read_text())
    assert len(document["logins"]["n"]) == 4 * 20
