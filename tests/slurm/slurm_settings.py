"""What the tests of Slurm have in common: settings, a task, and how long they wait for anything."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import psutil

from chiltepin import python_task

HERE = Path(__file__).parent
#: Where the specification's workflows are, for these tests and for their workers.
WORKFLOWS = HERE.parent / "parsl"

#: Seconds for which a test waits: worker processes of a busy machine take some to start.
LIMIT = 100


def settings(folder, web, **keys):
    """Return settings with a web server, a folder, and jobs of one worker on one node."""
    (folder / "scratch").mkdir(exist_ok=True)
    return {
        "compute": {
            "provider": "slurm",
            "max_workers_per_node": 1,
            # For the tasks defined here: with all tests in one process this folder is not the first of its path.
            "environment": [f"export PYTHONPATH={HERE}:$PYTHONPATH"],
            **keys,
        },
        "data": {
            "backend": "filesystem",
            "endpoints": {"web": {"filesystem": web.url}, "scratch": {"filesystem": str(folder / "scratch")}},
        },
    }


@python_task
def node_of_this():
    """Return the node that runs this."""
    import os

    return os.environ["SLURMD_NODENAME"]


def mover(cluster, web):
    """Return the process that reads from the web server."""
    port = int(web.url.rpartition(":")[2].strip("/"))
    for process in cluster.processes():
        with suppress(psutil.Error):
            if any(line.raddr and line.raddr.port == port for line in process.net_connections("tcp")):
                return process
    return None
