"""Identifiers of hosts, boots and processes."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from chiltepin.backends.processes import HOST, host_id, is_earlier_boot, machine_id, start_ticks

NAME = "from chiltepin.backends.processes import host_id; print(host_id())"


def test_all_processes_of_a_host_know_it_by_one_name():
    """Every process on a host computes the same host id."""
    said = subprocess.run([sys.executable, "-c", NAME], check=True, capture_output=True, text=True).stdout
    assert said == f"{host_id()}\n"
    assert len(host_id()) == HOST


def test_only_another_boot_of_this_host_is_an_earlier_one():
    """A machine id is an earlier boot if only its host part matches this machine's."""
    ours = machine_id()
    assert not is_earlier_boot(ours)
    assert is_earlier_boot(ours[:HOST] + "0" * (len(ours) - HOST))
    assert not is_earlier_boot("0" * HOST + ours[HOST:])
    # Earlier versions identified machines differently.
    for name in ("", ours[:16], "elsewhere"):
        assert not is_earlier_boot(name)


@pytest.mark.skipif(os.geteuid() != 0, reason="Only root can make the namespaces of another host.")
def test_a_set_of_processes_of_its_own_is_another_machine_of_the_same_host():
    """A new PID namespace on this host is another machine of the same host, not an earlier boot."""
    code = "from chiltepin.backends.processes import *; print(machine_id())"
    words = ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-c", code]
    done = subprocess.run(words, check=False, capture_output=True, text=True)
    if "unshare" in done.stderr:
        pytest.skip("this machine does not allow new namespaces")
    other = done.stdout.strip()
    assert other != machine_id()
    assert other[:HOST] == host_id()
    assert not is_earlier_boot(other)


def test_a_process_is_known_by_when_it_was_started():
    """The start time of a running process is constant, and an ended process has none."""
    assert start_ticks(os.getpid()) == start_ticks(os.getpid()) is not None
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        ended.wait(60)
    assert start_ticks(ended.pid) is None


AFTER_FAKE_FILES = """
from pyfakefs.fake_filesystem_unittest import Patcher
from chiltepin.backends import processes

processes.host_id()
with Patcher():
    processes.machine_id()
print(processes.machine_id())
"""


def test_the_id_after_fake_files_is_that_of_the_machine():
    """After a test with fake files, a process has the id of its machine, not that of an earlier boot."""
    said = subprocess.run([sys.executable, "-c", AFTER_FAKE_FILES], check=True, capture_output=True, text=True).stdout
    assert said == f"{machine_id()}\n"
