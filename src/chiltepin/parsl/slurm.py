"""Batch systems: what their answers mean where Parsl takes them for something else.

Only jobs are meant, which Parsl calls blocks. What runs in them is the business of the executor.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from parsl.jobs.states import JobState
from parsl.providers import SlurmProvider

from chiltepin.errors import ChiltepinError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from parsl.executors.status_handling import BlockProviderExecutor
    from parsl.jobs.states import JobStatus

__all__ = ["GuardedSlurmProvider", "fail_unstarted"]

#: What squeue says, with exit code 1, if it is asked for one job only and has forgotten it: after MinJobAge seconds,
#: 300 unless the site says otherwise (slurm.conf). Of several jobs it tells those that it knows, and says nothing.
_FORGOTTEN = "Invalid job id specified"


class GuardedSlurmProvider(SlurmProvider):  # type: ignore[misc] # parsl has no types
    """The jobs of a Slurm; it takes the arguments of Parsl's own."""

    def execute_wait(self, cmd: str, timeout: int | None = None) -> tuple[int | None, str, str]:
        """Run a command of Slurm; as Parsl's own, but a job that is forgotten has ended.

        Parsl takes the answer for a Slurm that is out of order for a moment. It would believe that the job runs, and
        start no other one for the tasks that wait, for ever.
        """
        code, out, err = super().execute_wait(cmd, timeout)
        if code and cmd.startswith("squeue") and _FORGOTTEN in err:
            return 0, out, err
        return code, out, err


def fail_unstarted(executor: BlockProviderExecutor, jobs: Mapping[str, JobStatus]) -> None:
    """Fail all tasks of an executor if each of its jobs has ended, or was refused, before a worker came from it.

    To be its ``block_error_handler``. Parsl's own also counts jobs that had workers and then failed. One node that goes
    down would therefore end all tasks of the executor, although the next job would do them.

    Parameters
    ----------
    executor : BlockProviderExecutor
        Gets no task any more, in this case.
    jobs : mapping of str to JobStatus
        How its jobs stand, by the names of their blocks.
    """
    unstarted = [job for block, job in jobs.items() if _is_unstarted(executor, block, job)]
    if not jobs or len(unstarted) < len(jobs) or len(jobs) < executor.provider.init_blocks:
        return
    last = unstarted[-1]
    said = " ".join((last.stderr_summary or last.message or "").split())
    executor.set_bad_state_and_fail_all(
        ChiltepinError(
            f"No worker of executor {executor.label!r} has started: its job was refused, was cancelled, or ended by "
            f"itself; see what it has written in {executor.provider.script_dir}, and the settings of "
            f"{executor.label!r}. {said}".rstrip()
        )
    )


def _is_unstarted(executor: BlockProviderExecutor, block: str, job: JobStatus) -> bool:
    # A job that was refused has no number; one that has ended without a worker is MISSING, at the next look.
    return job.state is JobState.MISSING or (job.state is JobState.FAILED and block not in executor.blocks_to_job_id)
