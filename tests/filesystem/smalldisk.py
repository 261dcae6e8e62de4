"""A real disk of one megabyte: a filesystem in memory, in a mount namespace of its own, that goes with its process."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest

RUN = """
import json, os, sys
from chiltepin.arguments import transfer_request
from chiltepin.backends.filesystem import FilesystemBackend
from chiltepin.transfers import Transfers
laptop, scratch, options = sys.argv[1:]
for name in os.listdir(laptop + "/before"):
    with open(f"{laptop}/before/{name}", "rb") as old, open(f"{scratch}/{name}", "wb") as new:
        new.write(old.read())
endpoints = {"laptop": {"url": laptop}, "scratch": {"url": scratch}}
request = transfer_request(src_ep="laptop", dst_ep="scratch", **json.loads(options))
status = Transfers(FilesystemBackend.from_config(endpoints, {})).run(request, timeout=60, polling_interval=1)
left = {}
for folder, _, names in os.walk(scratch):
    for name in names:
        with open(f"{folder}/{name}", "rb") as file:
            left[f"{folder}/{name}"[len(scratch):]] = file.read().decode("latin-1")
print(json.dumps([status.state.name, status.code, status.files_done, status.faults, left]))
"""

_WITH_DISK = 'mount -t tmpfs -o size=1m chiltepin "$2" && exec "$0" -c "$1" "$3" "$2" "$4"'


def transferred(laptop, scratch, **options):
    """Transfer to a disk of one megabyte that holds what is in ``laptop/before``.

    Returns
    -------
    tuple
        State, code, files that were done, faults, and what is on the disk then.
    """
    unshare = ["unshare", "--user", "--map-root-user", "--mount"]
    if shutil.which("unshare") is None or subprocess.run([*unshare, "true"], check=False).returncode:
        pytest.skip("no disk can be mounted here")
    command = [*unshare, "sh", "-c", _WITH_DISK, sys.executable, RUN, scratch, laptop, json.dumps(options)]
    ended = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    return json.loads(ended.stdout)
