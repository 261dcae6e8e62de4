"""One tree that workers on three nodes of a Slurm move together."""

from __future__ import annotations

import os

from hostset import python

#: More with the variable, for a long run.
FILES = int(os.environ.get("CHILTEPIN_HOST_FILES", "300"))


def test_nodes_move_one_tree_together(hosts, slurm, bucket, stage):
    """To a shared folder, over SFTP and to S3, and back: equal bytes, extras removed once, and no temporary file."""
    environment = {"SLURM_CONF": slurm.config, "S3_KEY": "key", "S3_SECRET": "secret"}
    said = hosts["h1"].run(*python("many_workers.py", "/shared/trees", str(FILES)), timeout=100 + FILES, **environment)
    # One more than the files: the one too many.
    moved = f"{FILES + 1} {FILES + 1} 0"
    assert said.splitlines() == [f"shared {moved}", f"h1 {moved}", f"s3 {moved}"]
