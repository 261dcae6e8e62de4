"""A workflow on h1 whose workers on three nodes move one tree together: ``many_workers.py RUN_FOLDER FILES``.

The tree is copied from the shared folder to another one, to h1 over SFTP and to S3, and back from each. Each
destination has one extra file before. The script prints, for each way, its name, the files moved or removed, and
the number of differences at its ends; and last, why a missing folder and a folder that only h1 sees cannot be moved.
"""

from __future__ import annotations

import filecmp
import os
import sys
from pathlib import Path

from pipeline import SETTINGS

from chiltepin import Workflow, transfer_task

WAYS = ("shared", "h1", "s3")


def move(source, goal, path, other):
    """Move the tree with three workers; return the number of files that were moved or removed."""
    future = transfer_task(
        source, goal, path, other, recursive=True, executor="compute", workers=3, delete_destination_extra=True
    )
    assert future.result() is True
    return future.status().files_done


def names(top):
    """Return the paths of all files in a tree, including temporary files."""
    return {os.path.relpath(os.path.join(base, name), top) for base, _, files in os.walk(top) for name in files}


def differences(top, other):
    """Return the number of files that are in only one of two trees, or that have other content."""
    return len(names(top) ^ names(other)) + sum(
        not filecmp.cmp(top / name, other / name, shallow=False) for name in names(top) & names(other)
    )


def main(run_folder, files):
    """Move the tree each way, one after the other."""
    stage = Path("/shared/stage")
    (Path.home() / "project").mkdir(exist_ok=True)
    for number in range(int(files)):
        folder = stage / "tree" / str(number % 50) / "below"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / str(number)).write_bytes(b"%d" % number * (number % 500))
    with Workflow(SETTINGS, run_dir=run_folder):
        for way in WAYS:
            goal = f"/{way}-tree"
            back = stage / f"{way}-back"
            back.mkdir()
            (back / "extra").touch()
            assert transfer_task("shared", way, "/tree/0/below/0", f"{goal}/extra", executor="compute").result() is True
            moved = move("shared", way, "/tree", goal)
            returned = move(way, "shared", goal, f"/{way}-back")
            sys.stdout.write(f"{way} {moved} {returned} {differences(stage / 'tree', back)}\n")
            sys.stdout.flush()
        for source in ("shared", "project"):
            failed = transfer_task(source, "shared", "/no", "/other", recursive=True, executor="compute", workers=3)
            sys.stdout.write(f"{failed.exception()}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
