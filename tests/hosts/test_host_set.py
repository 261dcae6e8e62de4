"""The hosts of these tests: what is separate, what is shared, and that nothing is left."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from waiting import until

BOOT_ID = "/proc/sys/kernel/random/boot_id"

#: Starts two hosts, prints a line, and waits to be killed.
LEFT = """
import sys
from pathlib import Path
sys.path[:0] = sys.argv[2:]
from hostset import Hosts
with Hosts(Path(sys.argv[1]), 2) as hosts:
    hosts["h1"].start("sleep", "4711")
    print(*hosts.processes(), flush=True)
    sys.stdin.read()
"""


def test_hosts_differ_in_what_is_theirs_and_share_one_folder(hosts):
    """Each host has a separate name, boot id and disks, and all hosts share one folder."""
    h1, h2 = hosts["h1"], hosts["h2"]
    assert [host.run("hostname").strip() for host in (h1, h2)] == ["h1", "h2"]
    assert h1.run("cat", BOOT_ID) != h2.run("cat", BOOT_ID)
    h1.run("sh", "-c", "echo one >/scratch/file; echo both >/shared/file")
    assert not (h2.scratch / "file").exists()
    assert h2.run("ssh", "h1", "cat /scratch/file; hostname") == "one\nh1\n"
    assert h2.run("cat", "/shared/file") == "both\n"


def test_a_host_boots_again_with_its_disks(hosts):
    """A host that is killed and booted keeps its files and has another boot id."""
    host = hosts["h2"]
    before = host.run("sh", "-c", f"echo kept >/scratch/file; cat {BOOT_ID}")
    host.kill()
    hosts.boot()
    assert host.run("cat", "/scratch/file") == "kept\n"
    assert host.run("cat", BOOT_ID) != before


def test_a_host_is_cut_off_and_joined_again(hosts):
    """A host without its cable, or behind a network that drops everything, is unreachable until it is repaired."""
    h1, h3 = hosts["h1"], hosts["h3"]

    def reached(seconds: int) -> str:
        return h1.run("sh", "-c", f"ssh -o ConnectTimeout={seconds} h3 true 2>/dev/null && echo yes || echo no")

    for loss in (h3.cut, h3.mute):
        loss()
        assert reached(1) == "no\n"
        h3.mend()
        assert reached(30) == "yes\n"


def test_nothing_of_killed_tests_stays(all_hosts, tmp_path):
    """If the process of the tests is killed, every process of its hosts ends, and no mount is left."""
    folders = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
    words = [sys.executable, "-c", LEFT, str(tmp_path / "state"), *folders]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as tests:
        started = tests.stdout.readline().split()
        tests.kill()
    assert len(started) == 3
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in started))
    assert ["sleep", "4711"] not in _commands()
    assert str(tmp_path) not in Path("/proc/self/mounts").read_text()


def _commands() -> list[list[str]]:
    """Return the commands that are running on this machine."""
    told = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    return [line.split() for line in told.splitlines()]


def test_a_command_ends_with_its_caller(hosts):
    """A command that is killed from outside also ends on its host."""
    host = hosts["h1"]
    command = host.start("sleep", "4712")
    until(lambda: "4712" in host.run("ps", "-eo", "args"))
    command.send_signal(signal.SIGKILL)
    command.wait()
    command.stdout.close()
    until(lambda: "4712" not in host.run("ps", "-eo", "args"))


def test_a_slurm_runs_over_the_hosts(slurm):
    """A job of three nodes runs on three hosts."""
    assert sorted(slurm.ask("srun", "-N3", "hostname").split()) == ["h2", "h3", "h4"]
