"""Ask Slurm which nodes have no job any more, about workers that are silent."""

from __future__ import annotations

import getpass
import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = ["without_job"]

#: Seconds for a command of Slurm; Parsl has the same limit.
_LIMIT = 10

#: A job that is over and whose processes may not have ended yet; its node may be down.
_COMPLETING = "CG"


def without_job(hosts: Collection[str]) -> set[str]:
    """Return those of some hosts on which no job of this user runs; none where Slurm does not know.

    A host that Slurm knows by another name makes it refuse the question.
    """
    names = {host.partition(".")[0]: host for host in hosts}
    listed = _ask(
        "squeue", "--noheader", "--user", getpass.getuser(), "--nodelist", ",".join(names), "--format", "%t %N"
    )
    if listed is None:
        return set()
    running = [nodes for state, _, nodes in (line.partition(" ") for line in listed) if state != _COMPLETING]
    expanded = _ask("scontrol", "show", "hostnames", ",".join(running)) if running else []
    if expanded is None:
        return set()
    return {host for name, host in names.items() if name not in expanded}


def _ask(*words: str) -> list[str] | None:
    """Return the lines that a command prints; None if it fails."""
    try:
        done = subprocess.run(  # noqa: S603 - no shell
            words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_LIMIT, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.splitlines() if done.returncode == 0 else None
