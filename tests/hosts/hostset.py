"""Several hosts on one machine, for tests: Linux namespaces, joined by a switch.

Each host has a separate network, loopback, name, process tree, boot id, ``/tmp``, ``/scratch``, ``/run`` and
``/home/me``. ``/shared`` is one folder for all hosts; the rest is the machine's, read-only. ``ssh hK`` works between
all hosts, which cannot reach the network of the machine.

Nothing outlives this process, even if it is killed: the kernel ends the first process of each host with it, and then
all other processes of the host.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from typing_extensions import Self

PROGRAMS = ("ip", "bridge", "tc", "unshare", "nsenter", "setpriv", "pivot_root", "sshd", "ssh-keygen", "pgrep", "ps")
PACKAGES = "iproute2 openssh-server procps util-linux"
#: Some of these programs are only on root's PATH.
PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])

NETWORK = "10.77.0"
REPOSITORY = Path(__file__).parents[2]
#: The folders of Python and of the repository; a path may contain symbolic links.
SEEN = sorted(
    {path for seen in (sys.prefix, sys.base_prefix, str(REPOSITORY)) for path in (seen, os.path.realpath(seen))}
)

#: Prefix of a command that ends with the process that has started it.
_BOUND = ("setpriv", "--pdeathsig", "KILL")
#: Prefix of a command that also runs in new namespaces.
_APART = (*_BOUND, "unshare", "--net", "--mount", "--uts", "--ipc", "--pid", "--kill-child")

#: What a host requires and a container may refuse.
_PROBE = """
mount -t tmpfs probe /mnt
mount -t sysfs -o ro sysfs /mnt
ip link add br0 type bridge
ip link add p1 type veth
tc qdisc add dev p1 root tbf rate 1mbit burst 64kb latency 100ms
"""

SSHD = """
HostKey /run/ssh/key
KexAlgorithms curve25519-sha256
AuthorizedKeysFile /run/ssh/key.pub
PidFile /run/sshd.pid
StrictModes no
UsePAM no
UseDNS no
PermitRootLogin yes
MaxSessions 100
MaxStartups 100
Subsystem sftp internal-sftp
"""


@cache
def missing() -> str:
    """Return why hosts cannot run here, as a sentence; empty if they can."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "Several hosts on one machine need Linux and root."
    for program in PROGRAMS:
        if shutil.which(program, path=PATH) is None:
            return f"There is no {program} here; install {PACKAGES}."
    tried = subprocess.run(
        [*_APART, "sh", "-ec", _PROBE], capture_output=True, text=True, env=_environment(), check=False
    )
    if tried.returncode:
        return f"This machine does not allow the namespaces of several hosts: {' '.join(tried.stderr.split())}"
    return ""


def _environment() -> dict[str, str]:
    return os.environ | {"PATH": PATH}


def _do(*words: str, check: bool = True) -> bool:
    """Run a command of the machine; return whether it succeeded."""
    said = None if check else subprocess.DEVNULL
    done = subprocess.run(words, check=check, stdin=subprocess.DEVNULL, stderr=said, env=_environment())
    return done.returncode == 0


class Host:
    """One host, which `boot` starts as often as needed.

    Parameters
    ----------
    hosts : Hosts
        The set that contains it.
    number : int
        Its number, from 1.
    """

    def __init__(self, hosts: Hosts, number: int) -> None:
        self.name, self.address = f"h{number}", f"{NETWORK}.{number}"
        self._hosts, self._port, self._number = hosts, f"p{number}", number
        #: The folder of its files, as seen from outside.
        self.disks = hosts.state / self.name
        self.scratch, self.home = self.disks / "scratch", self.disks / "home"
        self._init: subprocess.Popen[bytes] | None = None
        #: The id of its first process, as seen from outside.
        self.pid = ""

    def boot(self) -> None:
        """Start the host with its earlier disks, and wait until its sshd is ready."""
        for disk in ("tmp", "scratch", "run/sshd", "root", "home/.ssh"):
            (self.disks / disk).mkdir(parents=True, exist_ok=True)
        (self.disks / "tmp").chmod(0o1777)
        shutil.copytree(self._hosts.keys, self.disks / "run" / "ssh", dirs_exist_ok=True)
        ready = self.disks / "ready"
        ready.unlink(missing_ok=True)
        words = [*_APART, "bash", str(Path(__file__).with_name("host_init.sh")), self.name, str(self._hosts.state)]
        log = self.disks / "init.log"
        with open(log, "wb") as said:
            self._init = subprocess.Popen(
                [*words, *SEEN], stdin=subprocess.DEVNULL, stdout=said, stderr=said, env=_environment()
            )
        until(lambda: (ready.exists() and ready.read_text().endswith("\n")) or self._init.poll() is not None)
        assert self.is_up(), log.read_text()
        self.pid = ready.read_text().strip()
        self._plug_in()
        self.run("/usr/sbin/sshd", "-f", "/run/ssh/sshd_config", "-E", "/run/sshd.log")

    def _plug_in(self) -> None:
        switch = self._hosts.switch
        # The kernel removes the port of an earlier boot with a delay.
        switch("ip", "link", "delete", self._port, check=False)
        switch("ip", "link", "add", self._port, "type", "veth", "peer", "name", "eth0", "netns", self.pid)
        switch("ip", "link", "set", self._port, "master", "br0", "up")
        _do(*self._inside, "ip", "link", "set", "lo", "up")
        _do(*self._inside, "ip", "addr", "add", f"{self.address}/24", "dev", "eth0")
        _do(*self._inside, "ip", "link", "set", "eth0", "address", f"02:77:00:00:00:{self._number:02x}", "up")

    @property
    def _inside(self) -> tuple[str, ...]:
        return "nsenter", "-t", self.pid, "-n"

    def is_up(self) -> bool:
        """Whether the host is running."""
        return self._init is not None and self._init.poll() is None

    def command(self, *words: str) -> list[str]:
        """Return the arguments that run a command on the host; it ends with the process that has started it."""
        assert self.is_up(), f"{self.name} is down"
        inside = ["env", "-C", "/home/me", *_BOUND, *words]
        return ["nsenter", "-t", self.pid, "-m", "-u", "-i", "-n", "-p", "--", *inside]

    def environment(self, **more: str) -> dict[str, str]:
        """Return the environment of a command on the host."""
        kept = {name: os.environ[name] for name in ("LANG", "LC_ALL", "PYTHONPATH") if name in os.environ}
        scripts = os.path.join(sys.prefix, "bin")
        return {**kept, "PATH": f"{scripts}:/usr/bin:/bin:/usr/sbin:/sbin", "HOME": "/home/me", **more}

    def start(self, *words: str, output: int | None = subprocess.PIPE, **more: str) -> subprocess.Popen[str]:
        """Start a command on the host, with these additional variables; stdout and stderr are combined."""
        return subprocess.Popen(
            self.command(*words),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
            env=self.environment(**more),
        )

    def run(self, *words: str, timeout: float = 60, **more: str) -> str:
        """Run a command on the host, and return its output; raise AssertionError if it fails."""
        # A file instead of a pipe, which a daemon of the command would keep open.
        with open(self.disks / "said", "w+") as said:
            with self.start(*words, output=said.fileno(), **more) as process:
                try:
                    process.wait(timeout)
                finally:
                    process.kill()
            said.seek(0)
            text = said.read()
        assert process.returncode == 0, f"{words} on {self.name} ended with {process.returncode}:\n{text}"
        return text

    def kill(self) -> None:
        """Kill the host, as a power failure does."""
        if self.is_up():
            with suppress(ProcessLookupError):
                os.kill(int(self.pid), signal.SIGKILL)
            self._init.wait()

    def cut(self) -> None:
        """Disconnect its network cable."""
        self._hosts.switch("ip", "link", "set", self._port, "down")

    def mute(self) -> None:
        """Drop its network traffic in both directions, without a response."""
        self._hosts.switch("bridge", "link", "set", "dev", self._port, "state", "0")

    def slow(self, rate: str) -> None:
        """Limit its traffic in each direction, for example to ``40mbit``."""
        limit = ("root", "tbf", "rate", rate, "burst", "64kb", "latency", "100ms")
        self._hosts.switch("tc", "qdisc", "replace", "dev", self._port, *limit)
        _do(*self._inside, "tc", "qdisc", "replace", "dev", "eth0", *limit)

    def mend(self) -> None:
        """Undo `cut`, `mute` and `slow`."""
        switch = self._hosts.switch
        switch("ip", "link", "set", self._port, "up")
        # The link is up with a delay.
        until(lambda: switch("bridge", "link", "set", "dev", self._port, "state", "3", check=False))
        # This is the kernel's default, whether a limit was set or not.
        switch("tc", "qdisc", "replace", "dev", self._port, "root", "noqueue")
        _do(*self._inside, "tc", "qdisc", "replace", "dev", "eth0", "root", "noqueue")


class Hosts:
    """Hosts h1, h2, ..., which run for a ``with`` block.

    Parameters
    ----------
    state : Path
        An empty folder for their disks.
    count : int
        The number of hosts.
    """

    def __init__(self, state: Path, count: int) -> None:
        self.state, self.shared, self.keys = state, state / "shared", state / "keys"
        self._hosts = [Host(self, number) for number in range(1, count + 1)]
        self._switch: subprocess.Popen[bytes] | None = None

    def __getitem__(self, name: str) -> Host:
        return next(host for host in self._hosts if host.name == name)

    def __iter__(self) -> Iterator[Host]:
        return iter(self._hosts)

    def __enter__(self) -> Self:
        try:
            self._prepare()
            self._switch = subprocess.Popen([*_BOUND, "unshare", "--net", "sleep", "infinity"])
            own = os.readlink("/proc/self/ns/net")
            until(lambda: os.readlink(f"/proc/{self._switch.pid}/ns/net") != own)
            self.switch("ip", "link", "add", "br0", "type", "bridge", "forward_delay", "0")
            self.switch("ip", "link", "set", "br0", "up")
            self.boot()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _prepare(self) -> None:
        for folder in (self.shared, self.keys, self.state / "etc"):
            folder.mkdir(parents=True)
        self.shared.chmod(0o1777)
        names = "".join(f"{host.address} {host.name}\n" for host in self)
        (self.state / "etc" / "hosts").write_text(f"127.0.0.1 localhost\n{names}")
        users = [line for line in Path("/etc/passwd").read_text().splitlines() if not line.startswith("root:")]
        users.insert(0, "root:x:0:0:root:/home/me:/bin/bash")
        (self.state / "etc" / "passwd").write_text("\n".join(users) + "\n")
        # One key for all hosts and logins, because the tests do not examine them.
        key = self.keys / "key"
        _do("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "hosts", "-f", str(key))
        (self.keys / "sshd_config").write_text(SSHD)
        for host in self:
            folder = host.home / ".ssh"
            folder.mkdir(parents=True, mode=0o700)
            shutil.copy(key, folder / "id_ed25519")
            (folder / "known_hosts").write_text(f"h* {key.with_suffix('.pub').read_text()}")

    def switch(self, *words: str, check: bool = True) -> bool:
        """Run a command in the network namespace of the switch; return whether it succeeded."""
        return _do("nsenter", "-t", str(self._switch.pid), "-n", *words, check=check)

    def boot(self) -> None:
        """Boot each host that is down, and repair the network of all hosts."""
        for host in self:
            if not host.is_up():
                host.boot()
            host.mend()

    def processes(self) -> list[str]:
        """Return the ids of the processes that end with this one, and all hosts with them."""
        return [str(self._switch.pid), *(host.pid for host in self)]

    def stop(self) -> None:
        """End all hosts, and remove their files."""
        for host in self:
            host.kill()
        if self._switch is not None:
            self._switch.kill()
            self._switch.wait()
        shutil.rmtree(self.state, ignore_errors=True)


def python(*words: str) -> Sequence[str]:
    """Return the arguments that run a script of this folder with the Python of these tests."""
    return sys.executable, str(Path(__file__).with_name(words[0])), *words[1:]
