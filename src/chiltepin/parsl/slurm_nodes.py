"""Ask Slurm whether the nodes of silent workers still have a job."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = ["SlurmNodes"]

#: Time limit of a Slurm command, in seconds; the same as Parsl's.
_LIMIT = 10

#: State of a job that is over but whose processes may not have ended yet; its node may be down.
_COMPLETING = "CG"


class SlurmNodes:
    """The hosts of the workers of one executor, as Slurm knows them.

    A host counts as without a job only if Slurm has listed a job of this user there before: Slurm may know the host, or
    the user, by another name.
    """

    def __init__(self) -> None:
        self._asked: set[str] = set()
        self._confirmed: set[str] = set()

    def has_questions(self, hosts: Collection[str], silent: Collection[str]) -> bool:
        """Whether `lost` would query Slurm."""
        return not self._confirmed.isdisjoint(silent) or not self._asked.issuperset(hosts)

    def lost(self, hosts: set[str], silent: set[str]) -> set[str]:
        """Return the silent hosts on which this user has no running job, with one query for all."""
        asked = (hosts - self._asked) | (silent & self._confirmed)
        running = _with_job(asked)
        self._asked |= hosts
        if running is None:
            return set()
        lost = (silent & self._confirmed) - running
        self._confirmed |= running
        return lost


def _with_job(hosts: Collection[str]) -> set[str] | None:
    """Return the hosts on which a job of this user runs; None if Slurm does not respond."""
    names = {host.partition(".")[0]: host for host in hosts}
    which = ("--user", str(os.getuid()), "--nodelist", ",".join(names))
    listed = _ask("squeue", "--noheader", *which, "--format", "%t %N")
    if listed is None:
        return None
    nodes = [nodes for state, _, nodes in (line.partition(" ") for line in listed) if state != _COMPLETING]
    expanded = _ask("scontrol", "show", "hostnames", ",".join(nodes)) if nodes else []
    return None if expanded is None else {host for name, host in names.items() if name in expanded}


def _ask(*words: str) -> list[str] | None:
    """Return the lines that a command prints; None if it fails."""
    try:
        done = subprocess.run(  # noqa: S603 - no shell
            words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_LIMIT, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.splitlines() if done.returncode == 0 else None
