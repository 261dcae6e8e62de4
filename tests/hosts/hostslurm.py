"""A real Slurm cluster over several hosts: h1 controls it, and the rest are its nodes."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from slurmcluster import QUICK
from waiting import until

if TYPE_CHECKING:
    from hostset import Host, Hosts

SETTINGS = """
ClusterName=hosts
SlurmctldHost=h1
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=/run/munge/socket
StateSaveLocation=/scratch/slurmctld
SlurmctldPidFile=/run/slurmctld.pid
SlurmdPidFile=/run/slurmd.pid
SlurmdSpoolDir=/scratch/slurmd
{quick}
NodeName={nodes} CPUs=2 RealMemory=4000 State=UNKNOWN
PartitionName=debug Nodes=ALL Default=YES MaxTime=60 DefaultTime=10 State=UP
"""


class HostSlurm:
    """A Slurm cluster over hosts, which ends with them."""

    #: The path of its settings on a host, for ``SLURM_CONF``.
    config = "/shared/slurm/slurm.conf"

    def __init__(self, hosts: Hosts) -> None:
        self._control, *self._nodes = hosts
        folder = hosts.shared / "slurm"
        folder.mkdir()
        (folder / "key").touch(mode=0o600)
        (folder / "key").write_bytes(secrets.token_bytes(128))
        nodes = ",".join(node.name for node in self._nodes)
        (folder / "slurm.conf").write_text(SETTINGS.format(quick=QUICK, nodes=nodes))

    def start(self) -> None:
        """Start the daemons that do not run, and wait until all nodes are idle."""
        files = {"socket": "socket", "seed-file": "seed", "pid-file": "pid", "log-file": "log"}
        munge = [f"--{option}=/run/munge/{name}" for option, name in files.items()]
        for host in (self._control, *self._nodes):
            for folder in ("run/munge", "scratch/slurmctld", "scratch/slurmd"):
                (host.disks / folder).mkdir(parents=True, exist_ok=True)
                (host.disks / folder).chmod(0o755)
            # With --force, a world-writable folder above the key causes only a warning.
            self._daemon(host, "munged", "--force", "--key-file=/shared/slurm/key", *munge)
        self._daemon(self._control, "slurmctld", "-f", self.config)
        for node in self._nodes:
            self._daemon(node, "slurmd", "-N", node.name, "-f", self.config)
        until(lambda: set(self.states().values()) == {"idle"})

    def _daemon(self, host: Host, *words: str) -> None:
        host.run("sh", "-c", 'pgrep -x "$1" || "$@"', "-", *words)

    def ask(self, *words: str) -> str:
        """Return the output of a Slurm command on the controlling host."""
        return self._control.run(*words, SLURM_CONF=self.config)

    def states(self) -> dict[str, str]:
        """Return the state of each node, as Slurm names it."""
        return dict(line.split() for line in self.ask("sinfo", "-hN", "-o", "%N %t").splitlines())
