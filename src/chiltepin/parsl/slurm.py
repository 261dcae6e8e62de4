"""Handle Slurm output that Parsl misinterprets, and jobs that end before a worker starts.

A job is a block in Parsl's terms.
"""

from __future__ import annotations

import os
import re
import time
from typing import TYPE_CHECKING

from parsl.jobs.states import JobState
from parsl.providers import SlurmProvider

from chiltepin.errors import ChiltepinError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from parsl.executors.status_handling import BlockProviderExecutor
    from parsl.jobs.states import JobStatus

__all__ = ["GuardedSlurmProvider", "fail_unstarted"]

#: squeue prints this, with exit code 1, for a single job that Slurm has purged: after MinJobAge seconds, 300 by default
#: (slurm.conf). For several jobs it lists those that it knows, without an error.
_FORGOTTEN = "Invalid job id specified"


#: Seconds between two polls of the jobs: once a minute as in Parsl, and more often while one is new, since a job that
#: cannot start its workers ends at once.
_INTERVAL, _NEW_INTERVAL = 60, 5

#: Seconds for which a job is new.
_NEW = 20.0

#: scontrol prints this for a job with allocated nodes; otherwise the list is empty, or "(null)".
_NODES = re.compile(r" NodeList=([^ (\n]+)")


class GuardedSlurmProvider(SlurmProvider):  # type: ignore[misc] # parsl has no types
    """Parsl's provider for Slurm, which also handles jobs that Slurm has purged."""

    _submitted = -_NEW

    @property
    def status_polling_interval(self) -> int:
        """Seconds between two polls of the state of jobs."""
        return _NEW_INTERVAL if time.monotonic() - self._submitted < _NEW else _INTERVAL

    def submit(self, command: str, tasks_per_node: int, job_name: str = "parsl.slurm") -> str:
        """Submit a job; like ``SlurmProvider.submit``."""
        self._submitted = time.monotonic()
        job: str = super().submit(command, tasks_per_node, job_name)
        return job

    def nodes_without_output(self, job: str) -> str:
        """Return the nodes of a job that has ended without output here; empty otherwise, or if unknown."""
        if job not in self.resources or os.path.exists(self.resources[job]["job_stdout_path"]):
            return ""
        code, out, _ = self.execute_wait(f"scontrol --oneliner show job {job}")
        found = _NODES.search(out) if code == 0 else None
        return found.group(1) if found else ""

    def execute_wait(self, cmd: str, timeout: int | None = None) -> tuple[int | None, str, str]:
        """Run a Slurm command; treat a job that Slurm has purged as ended.

        Parsl takes squeue's error for a temporary failure of Slurm: it would assume that the job still runs, and start
        no other job for the waiting tasks.
        """
        code, out, err = super().execute_wait(cmd, timeout)
        if code and cmd.startswith("squeue") and _FORGOTTEN in err:
            return 0, out, err
        return code, out, err


def fail_unstarted(executor: BlockProviderExecutor, jobs: Mapping[str, JobStatus]) -> None:
    """Fail all tasks of an executor if each of its jobs was rejected or ended before a worker started in it.

    For its ``block_error_handler``. Parsl's default handler also counts jobs that had workers and then failed, so a
    failed node would end all tasks of the executor, although the next job would run them.
    """
    unstarted = [job for block, job in jobs.items() if _is_unstarted(executor, block, job)]
    if not jobs or len(unstarted) < len(jobs) or len(jobs) < executor.provider.init_blocks:
        return
    executor.set_bad_state_and_fail_all(ChiltepinError(_why_unstarted(executor, unstarted[-1])))


def _why_unstarted(executor: BlockProviderExecutor, last: JobStatus) -> str:
    provider, nodes = executor.provider, ""
    if isinstance(provider, GuardedSlurmProvider):
        nodes = next(filter(None, map(provider.nodes_without_output, executor.blocks_to_job_id.values())), "")
    if nodes:
        # Slurm opens the output file of a job on its first node (sbatch(1), --output).
        return (
            f"No worker of executor {executor.label!r} has started, most likely because its nodes do not see the run "
            f"folder {os.path.dirname(provider.script_dir)}: a job ran on {nodes} and left no output there; "
            "set run_dir to a folder on a disk that this machine and the nodes share."
        )
    said = " ".join((last.stderr_summary or last.message or "").split())
    return (
        f"No worker of executor {executor.label!r} has started: its job was refused or canceled, or it ended early; "
        f"see its output in {provider.script_dir}, and the settings of {executor.label!r}. {said}".rstrip()
    )


def _is_unstarted(executor: BlockProviderExecutor, block: str, job: JobStatus) -> bool:
    # A rejected job has no number; a job that has ended without a worker is MISSING, at the next poll.
    return job.state is JobState.MISSING or (job.state is JobState.FAILED and block not in executor.blocks_to_job_id)
