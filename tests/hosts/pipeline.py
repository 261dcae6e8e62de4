"""A workflow on h1 over the nodes of Slurm: stage, process, copy back and clean up, over three routes.

``pipeline.py RUN_FOLDER`` prints, for each route, its name, the sum and the node that computed it; then the errors of a
transfer and of a task that fail on a node.
"""

from __future__ import annotations

import sys
import traceback
from itertools import pairwise
from pathlib import Path

from chiltepin import Workflow, delete_task, local_path, python_task, transfer_task

S3 = {"endpoint_url": "http://h4:9000", "key": {"env": "S3_KEY"}, "secret": {"env": "S3_SECRET"}, "region": "us-east-1"}

SETTINGS = {
    "compute": {
        "provider": "slurm",
        "partition": "debug",
        "nodes_per_block": 3,
        "exclusive": False,
        "max_workers_per_node": 1,
        "environment": ["export S3_KEY=key S3_SECRET=secret"],
    },
    "data": {
        "backend": "filesystem",
        "endpoints": {
            "shared": {"filesystem": "/shared/stage"},
            "h1": {"filesystem": "sftp://h1/home/me/project"},
            "project": {"filesystem": "/home/me/project"},
            "s3": {"filesystem": {"url": "s3://bucket/stage", "options": S3}},
        },
    },
}

#: The endpoints through which the data passes in both directions. Only h1 sees ``project``.
ROUTES = {"shared": ("project", "shared"), "sftp": ("h1", "shared"), "s3": ("project", "s3", "shared")}


@python_task
def add_up(table, total):
    """Write the sum of a table to a file; return the name of this host."""
    import socket

    with open(table, encoding="ascii") as lines, open(total, "w", encoding="ascii") as file:
        file.write(str(sum(int(line) for line in lines)))
    return socket.gethostname()


@python_task
def fail():
    """Raise an error."""
    raise ValueError("of no use")


def run(route):
    """Copy the table to the nodes, add it up, copy the sum back and clean up; return the futures."""
    home, *others = places = ROUTES[route]

    def path(place, name):
        return f"/{route}.{name}" if place == home else f"/{route}/{name}"

    def move(source, goal, name, after):
        executor = "local" if "project" in (source, goal) else "compute"
        return transfer_task(source, goal, path(source, name), path(goal, name), executor=executor, inputs=after)

    done = []
    for source, goal in pairwise(places):
        done = [move(source, goal, "in", done)]
    made = add_up(
        local_path("shared", path("shared", "in")),
        local_path("shared", path("shared", "sum")),
        inputs=done,
        executor="compute",
    )
    done = [made]
    for source, goal in pairwise(reversed(places)):
        done = [move(source, goal, "sum", done)]
    cleaned = [delete_task(place, f"/{route}", recursive=True, executor="compute", inputs=done) for place in others]
    return made, [*done, *cleaned]


def main(run_folder):
    """Run all routes at once."""
    project = Path.home() / "project"
    project.mkdir(exist_ok=True)
    for route in ROUTES:
        (project / f"{route}.in").write_text("1\n2\n3\n")
    with Workflow(SETTINGS, run_dir=run_folder):
        for route, (made, done) in [(route, run(route)) for route in ROUTES]:
            assert all(future.result() is True for future in done)
            sys.stdout.write(f"{route} {(project / f'{route}.sum').read_text()} {made.result()}\n")
        # The folder exists only on h1.
        moved = transfer_task("project", "shared", "/in", "/in", executor="compute")
        for error in (moved.exception(), fail(executor="compute").exception()):
            sys.stdout.write("".join(traceback.format_exception_only(error)).replace("\n", " ") + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
