"""A tree that workers on three nodes of a Slurm cluster move together."""

from __future__ import annotations

import os
import re

from hostset import python

#: The variable sets more files for a long run.
FILES = int(os.environ.get("CHILTEPIN_HOST_FILES", "300"))


def test_nodes_move_one_tree_together(hosts, slurm, bucket, stage):
    """To a shared folder, over SFTP, to S3 and back, no file differs, is extra or temporary; errors name the node."""
    environment = {"SLURM_CONF": slurm.config, "S3_KEY": "key", "S3_SECRET": "secret"}
    said = hosts["h1"].run(*python("many_workers.py", "/shared/trees", str(FILES)), timeout=100 + FILES, **environment)
    # One more than the files, because of the extra file.
    moved = f"{FILES + 1} {FILES + 1} 0"
    *ways, missing, unseen = said.splitlines()
    assert ways == [f"shared {moved}", f"h1 {moved}", f"s3 {moved}"]
    assert re.search(r"There is no /no on endpoint 'shared' \(on host h[234]\)\.$", missing)
    assert re.search(r"The root of the endpoint, /home/me/project, does not exist.* \(on host h[234]\)\.$", unseen)
