"""Settings, a task and a time limit that the Slurm tests share."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import psutil

from chiltepin import python_task

HERE = Path(__file__).parent
#: The folder of the specification's workflows, for these tests and their workers.
WORKFLOWS = HERE.parent / "parsl"

#: Seconds for which a test waits: worker processes start slowly on a busy machine.
LIMIT = 100


def settings(folder, web, **keys):
    """Return settings with a web server, a folder, and jobs of one worker on one node."""
    (folder / "scratch").mkdir(exist_ok=True)
    return {
        "compute": {
            "provider": "slurm",
            "max_workers_per_node": 1,
            # For the tasks defined here: if one process runs all tests, this folder is not first on its path.
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
    """Return the name of the node that runs this."""
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
