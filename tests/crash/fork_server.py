"""A process that has imported everything a workflow needs, and runs each workflow in a forked process.

It reads lines of JSON: the first configures a workflow, each further line describes a copy, and an empty object ends
the workflow. It writes lines of JSON: its process id, when it is ready, when a copy begins, how each copy ended and
how many seconds it took, and how the workflow ended.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import boto3  # noqa: F401 - loaded once for all
import obstore.store  # noqa: F401
from worker_tasks import process_id

from chiltepin import Workflow, transfer_task
from chiltepin.backends.filesystem.stores.s3 import store as s3  # noqa: F401
from chiltepin.transfers import policy

LIMIT = 120
# Unbuffered, because parent and child read from one pipe.
LINES, TOLD = os.fdopen(0, "rb", 0), os.dup(1)


def tell(**what) -> None:
    """Send a message to the test."""
    os.write(TOLD, json.dumps(what).encode() + b"\n")


def written() -> int:
    """Return the bytes that this process has written, including those that the kernel copied for it."""
    return int(Path("/proc/self/io").read_text(encoding="ascii").split("wchar: ")[1].split()[0])


def outcome(future) -> str:
    """Return the result or error of a future on one line."""
    try:
        return repr(future.result(LIMIT))
    except Exception as err:  # noqa: BLE001 - the test compares any error
        return f"{type(err).__name__}: {err}"


def work(asked: dict) -> None:
    """Run a workflow with the requested copies; copies by several workers have many small shards."""
    policy.limits.SHARD_RANGE = 1 << 20
    policy.wait_times.SHARD_FIRST = policy.wait_times.SHARD_SHORT = policy.wait_times.SHARD_LONG = 0.02
    with Workflow(asked["config"], run_dir="runinfo"):
        tell(ready=outcome(process_id(executor=asked["executor"])))
        while copy := json.loads(LINES.readline()):
            before = written()
            futures = [transfer_task(*copy["paths"], executor=copy["executor"], **copy["options"])]
            tell(moving=True)
            start = time.monotonic()
            ends = [outcome(future) for future in futures]
            facts = {"took": time.monotonic() - start, "written": written() - before}
            tell(ends=ends, **facts, worker=outcome(process_id(executor=copy["executor"])))


def main() -> None:
    """Fork a process for each workflow."""
    while said := LINES.readline():
        asked = json.loads(said)
        child = os.fork()
        if not child:
            os.chdir(asked["folder"])
            os.environ.update(asked["environment"])
            output = os.open("output", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(output, 1)
            os.dup2(output, 2)
            tell(process=os.getpid())
            work(asked)
            sys.exit()
        tell(ended=os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


if __name__ == "__main__":
    main()
