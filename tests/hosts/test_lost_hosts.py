"""A host is lost during a transfer: the destination has no partial file, and the next run completes it."""

from __future__ import annotations

import os

import pytest
from hostset import python
from waiting import until

CONTENT = os.urandom(24 << 20)

#: Slow enough that the file takes seconds.
RATE = "80mbit"


@pytest.fixture
def source(hosts):
    """A file on h1, and an empty folder on h3."""
    for host in (hosts["h1"], hosts["h3"]):
        for file in host.scratch.glob("[.f]*"):
            file.unlink()
    (hosts["h1"].scratch / "f").write_bytes(CONTENT)
    return hosts["h1"]


def half_done(host):
    """Return whether part of the file is there, under a temporary name only."""
    assert not (host.scratch / "f").exists()
    # A temporary file has its final size at once, because the digests of its parts are at the end.
    return sum(file.stat().st_blocks * 512 for file in host.scratch.iterdir()) > len(CONTENT) / 8


def move(host, *, start=False):
    """Transfer the file from h1 to h3."""
    words = python("move.py", "/scratch", "sftp://h3/scratch")
    return host.start(*words) if start else host.run(*words)


def last_line(process):
    """Return the last line that a process prints."""
    said, _ = process.communicate(timeout=60)
    return said.splitlines()[-1]


def whole(host):
    """Return whether the whole file is there, and nothing else."""
    files = [file for file in host.scratch.iterdir() if file.is_file()]
    return [file.name for file in files] == ["f"] and files[0].read_bytes() == CONTENT


@pytest.mark.parametrize("loss", ["cut", "mute"])
def test_a_host_that_is_back_gets_the_rest(hosts, source, loss):
    """A transfer to a host that is unplugged or silent for some seconds reconnects and completes the file."""
    goal = hosts["h3"]
    goal.slow(RATE)
    with move(source, start=True) as moving:
        until(lambda: half_done(goal))
        getattr(goal, loss)()
        assert moving.stdout.readline().startswith("active faults=0")
        assert moving.stdout.readline().startswith("active faults=1")
        assert not (goal.scratch / "f").exists()
        goal.mend()
        assert last_line(moving).startswith("succeeded")
    assert whole(goal)


def test_a_host_that_is_switched_off_is_named(hosts, source):
    """While a host is off, the transfer fails and names it; after the boot, the next run completes the file."""
    goal = hosts["h3"]
    goal.slow(RATE)
    with move(source, start=True) as moving:
        until(lambda: half_done(goal))
        goal.kill()
        said = last_line(moving)
    assert said.startswith("failed")
    assert "h3 could not be reached (ssh: connect to host h3 port 22: " in said
    assert "refused" not in said
    assert not (goal.scratch / "f").exists()
    hosts.boot()
    assert move(source).splitlines()[-1].startswith("succeeded")
    assert whole(goal)


def test_the_mover_is_switched_off(hosts, source):
    """If the host that runs the transfer is lost, no partial file is left; after its boot, it completes the file."""
    goal = hosts["h3"]
    goal.slow(RATE)
    with move(source, start=True) as moving:
        until(lambda: half_done(goal))
        source.kill()
        moving.communicate(timeout=60)
    assert not (goal.scratch / "f").exists()
    hosts.boot()
    assert move(source).splitlines()[-1].startswith("succeeded")
    assert (goal.scratch / "f").read_bytes() == CONTENT


def test_why_a_host_is_not_reached(hosts):
    """Different errors report a host that is off, silent, without a server, or unknown."""
    hosts["h2"].kill()
    hosts["h3"].mute()
    hosts["h4"].run("pkill", "-o", "sshd")
    urls = [f"sftp://{host}/scratch" for host in ("h2", "h3", "h4", "nowhere")]
    off, silent, refused, unknown, web = hosts["h1"].run(*python("reach.py", *urls, "http://h2/")).splitlines()
    for host, told, reasons in (
        # The kernel waits longer for a neighbor that it reached a moment ago.
        ("h2", off, ("No route to host", "Connection timed out")),
        ("h3", silent, ("No route to host", "Connection timed out")),
        ("h4", refused, ("Connection refused",)),
    ):
        said = [f"ssh: connect to host {host} port 22: {reason}" for reason in reasons]
        assert told in [
            f"Looking: {host} could not be reached ({words}); check that `ssh {host}` works here." for words in said
        ]
    assert web == "Looking: the web server for /f could not be reached (No route to host); run the transfer again."
    assert "nowhere" in unknown
    assert "refused" not in unknown
