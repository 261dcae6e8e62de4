"""A real Slurm on the loopback of one machine, from the packages of a distribution, for tests.

It needs neither systemd nor root: it starts its daemons as the current user, on its own ports, with settings, keys and
logs in one folder. Each ``slurmd`` stands for one node (Slurm's ``MULTIPLE_SLURMD``, which Debian's build has).
"""

from __future__ import annotations

import getpass
import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from typing_extensions import Self

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel", "sinfo")
#: Their packages on Debian and Ubuntu.
PACKAGES = "slurmctld slurmd slurm-client munge"
#: Daemons are only on root's PATH.
PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin", "/sbin"])

#: No accounts, no limits, nodes that may claim more cores and memory than the machine has, and minimal delays, because
#: a test waits for each.
QUICK = """\
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
MailProg=/bin/true
SwitchType=switch/none
MpiDefault=none
PropagateResourceLimits=NONE
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
ReturnToService=2
SchedulerParameters=batch_sched_delay=0,sched_min_interval=0,bf_interval=1
KillWait=2
CompleteWait=0
InactiveLimit=0
SlurmctldTimeout=30
SlurmdTimeout=10"""

SETTINGS = """
ClusterName=loop
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser={user}
SlurmdUser={user}
# Bind to what the name of this machine means, and not to all of its interfaces.
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
StateSaveLocation={folder}/state
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmdSpoolDir={folder}/%n
{quick}
{more}
{nodes}
PartitionName=debug Nodes=ALL Default=YES MaxTime=60 DefaultTime=10 State=UP
"""


def missing_programs() -> str:
    """Return a sentence that names a missing Slurm program; empty if all are installed."""
    absent = [name for name in PROGRAMS if shutil.which(name, path=PATH) is None]
    return f"There is no {absent[0]} here; install {PACKAGES}." if absent else ""


def missing() -> str:
    """Return a sentence that says why a cluster cannot run here; empty if it can."""
    if reason := missing_programs():
        return reason
    if not _named_on_loopback() and not _can_rename():
        return f"{socket.gethostname()!r} is no name of 127.0.0.1; put it beside localhost in /etc/hosts."
    return ""


def _named_on_loopback() -> bool:
    with suppress(OSError):
        return socket.gethostbyname(socket.gethostname()).startswith("127.")
    return False


def _can_rename() -> bool:
    """Return whether the daemons can run with a different host name."""
    return subprocess.run(["unshare", "--uts", "true"], capture_output=True, check=False).returncode == 0


def until(true: Callable[[], object], what: str, limit: float = 60) -> None:
    """Wait until `true` returns a true value, for at most `limit` seconds."""
    pause = threading.Event()
    for _ in range(int(limit / 0.05)):
        if true():
            return
        pause.wait(0.05)
    raise TimeoutError(f"{what}: not within {limit:g} seconds.")


def _parents(process: psutil.Process) -> list[psutil.Process]:
    with suppress(psutil.Error):
        return process.parents()
    return []


def free_ports(count: int) -> list[int]:
    """Return free loopback ports below the ephemeral range (ip(7))."""
    ports: list[int] = []
    for port in secrets.SystemRandom().sample(range(20_000, 32_000), 12_000):
        with suppress(OSError):
            socket.create_server(("127.0.0.1", port)).close()
            ports.append(port)
            if len(ports) == count:
                break
    return ports


class Cluster:
    """Nodes c1, c2, ... of four cores each; they and the processes of their jobs end with the ``with`` block.

    Parameters
    ----------
    nodes : int
        Number of nodes.
    more : str
        More lines for the settings; if a key is repeated, Slurm uses the last value.
    """

    def __init__(self, nodes: int = 4, *, more: str = "") -> None:
        # Not a pytest folder: munge requires a folder that all users can enter, and a short socket path.
        self.folder = Path(tempfile.mkdtemp(prefix="slurm-"))
        self.folder.chmod(0o755)
        self.nodes = [f"c{number}" for number in range(1, nodes + 1)]
        self.environment = {"SLURM_CONF": str(self.folder / "slurm.conf")}
        self._more, self._daemons = more, dict[str, subprocess.Popen[bytes]]()
        # With setpriv, daemons end with the process that started them, even if it is killed.
        self._prefix = ["setpriv", "--pdeathsig", "TERM"] if shutil.which("setpriv") else []
        self._renamed = not _named_on_loopback()
        if self._renamed:
            self._prefix += ["unshare", "--uts", "sh", "-c", 'hostname localhost && exec "$0" "$@"']

    def __enter__(self) -> Self:
        try:
            self._configure()
            self._start("munged", *self._munge())
            until((self.folder / "munge" / "socket").exists, "munged listens")
            self._start("slurmctld", "slurmctld", "-D")
            until(lambda: "is UP" in self.ask("scontrol", "ping"), "slurmctld answers")
            for node in self.nodes:
                self.begin(node)
            until(lambda: set(self.states().values()) == {"idle"}, "the nodes are idle")
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _configure(self) -> None:
        host = "localhost" if self._renamed else socket.gethostname().partition(".")[0]
        control, *ports = free_ports(1 + len(self.nodes))
        lines = [
            f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=4 RealMemory=4000 State=UNKNOWN"
            for node, port in zip(self.nodes, ports, strict=True)
        ]
        for name in ("munge", "state", *self.nodes):
            (self.folder / name).mkdir(mode=0o755)
        key = self.folder / "munge" / "key"
        key.touch(mode=0o600)
        key.write_bytes(secrets.token_bytes(128))
        text = SETTINGS.format(
            host=host,
            port=control,
            user=getpass.getuser(),
            folder=self.folder,
            more=self._more,
            nodes="\n".join(lines),
            quick=QUICK,
        )
        (self.folder / "slurm.conf").write_text(text)

    def _munge(self) -> list[str]:
        folder = self.folder / "munge"
        files = {"key-file": "key", "socket": "socket", "seed-file": "seed", "pid-file": "pid", "log-file": "log"}
        # With --force, munged only warns that all users can write to /tmp.
        return ["munged", "--foreground", "--force", *(f"--{name}={folder / file}" for name, file in files.items())]

    def _start(self, name: str, *words: str) -> None:
        with open(self.folder / f"{name}.out", "ab") as out:
            self._daemons[name] = subprocess.Popen(
                [*self._prefix, *words],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                cwd=self.folder,
                env={**os.environ, **self.environment, "PATH": PATH},
                start_new_session=True,
            )

    def begin(self, node: str) -> None:
        """Start a node, for the first time or after `lose`."""
        self._start(node, "slurmd", "-D", "-N", node)

    def lose(self, node: str) -> None:
        """Kill a node and all its processes, as a power failure would."""
        daemon = self._daemons.pop(node)
        daemon.kill()
        daemon.wait()
        for process in self.processes(node):
            with suppress(psutil.NoSuchProcess):
                process.kill()

    def ask(self, *words: str) -> str:
        """Return the output of a Slurm command; empty if it fails."""
        done = self._run(words)
        return done.stdout if done.returncode == 0 else ""

    def says(self, *words: str) -> str:
        """Return what a Slurm command prints on stderr."""
        return self._run(words).stderr

    def _run(self, words: Sequence[str]) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, **self.environment, "PATH": PATH}
        return subprocess.run(words, capture_output=True, text=True, env=environment, timeout=60, check=False)

    def states(self) -> dict[str, str]:
        """Return the state of each node, in Slurm's words."""
        return dict(line.split() for line in self.ask("sinfo", "-hN", "-o", "%N %t").splitlines())

    def jobs(self) -> dict[str, str]:
        """Return the state of each pending, running or completing job, by job id."""
        return dict(line.split() for line in self.ask("squeue", "-h", "-o", "%A %t").splitlines())

    def processes(self, node: str = "") -> list[psutil.Process]:
        """Return the processes of the jobs on one node or all nodes, Slurm's own process of each step first."""
        tasks = [process for process in psutil.process_iter() if self._is_of(process, node)]
        # The title of a slurmstepd overwrites its environment, so that only its children identify its cluster.
        steps = {parent for task in tasks for parent in _parents(task) if parent.name() == "slurmstepd"}
        return [*steps, *tasks]

    def _is_of(self, process: psutil.Process, node: str) -> bool:
        with suppress(psutil.Error):
            environment = process.environ()
            ours = environment.get("SLURM_CONF") == self.environment["SLURM_CONF"] and "SLURM_JOB_ID" in environment
            return ours and (not node or environment.get("SLURMD_NODENAME") == node)
        return False

    def stop(self) -> None:
        """End all jobs and daemons, and remove the folder."""
        with suppress(TimeoutError):
            if self.jobs():
                self.ask("scancel", *self.jobs())
                until(lambda: not self.jobs(), "the jobs end", 60)
        for name in sorted(self._daemons, key=["munged", "slurmctld"].__contains__):
            self._end(self._daemons[name])
        for process in self.processes():
            with suppress(psutil.NoSuchProcess):
                process.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _end(self, daemon: subprocess.Popen[bytes]) -> None:
        daemon.terminate()
        try:
            daemon.wait(60)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()

    def logs(self) -> Iterator[str]:
        """Yield the ends of the logs, to find out why a node does not start."""
        for log in sorted(self.folder.glob("*.out")):
            yield f"{log.name}: {log.read_text(errors='replace')[-2000:]}"
