"""A workflow over the nodes of a Slurm cluster, with three routes for its data."""

from __future__ import annotations

import re
import sys

from hostset import python
from waiting import until


def test_a_pipeline_goes_by_each_route(hosts, slurm, bucket, stage):
    """By a shared folder, SFTP and S3 the data reaches a node and the result returns; nothing else is left.

    Errors of a node name the node.
    """
    environment = {"SLURM_CONF": slurm.config, "S3_KEY": "key", "S3_SECRET": "secret"}
    said = hosts["h1"].run(*python("pipeline.py", "/shared/runinfo"), timeout=100, **environment)
    *lines, moved, failed = said.splitlines()
    routes = {line.split()[0]: line.split()[1:] for line in lines}
    assert list(routes) == ["shared", "sftp", "s3"]
    assert all(total == "6" and node in ("h2", "h3", "h4") for total, node in routes.values())
    assert re.search(r"The root of the endpoint, /home/me/project, does not exist.* \(on host h[234]\)\. $", moved)
    # Exceptions have notes since Python 3.11.
    assert sys.version_info < (3, 11) or re.search(r"^ValueError: of no use It was raised on host h[234]\. $", failed)
    assert list(stage.iterdir()) == []
    until(lambda: not slurm.ask("squeue", "-h"))
