"""A workflow on h1 with one task that waits on a node: ``held.py RUN_FOLDER``; prints the error of the task.

The task makes the file ``/shared/held/NODE`` when it begins.
"""

from __future__ import annotations

import sys

from chiltepin import Workflow, python_task

SETTINGS = {
    "compute": {
        "provider": "slurm",
        "partition": "debug",
        "exclusive": False,
        "max_workers_per_node": 1,
        "max_blocks": 1,
    }
}


@python_task
def hold():
    """Wait for longer than the test does."""
    import pathlib
    import socket
    import time

    pathlib.Path("/shared/held", socket.gethostname()).touch()
    time.sleep(600)


if __name__ == "__main__":
    with Workflow(SETTINGS, run_dir=sys.argv[1]):
        error = hold(executor="compute").exception()
        sys.stdout.write(f"{type(error).__name__}: {error}\n")
        sys.stdout.flush()
