"""Copies files as one of several hosts, on whose disk locks count between the processes of one host only.

So they do on some parallel file systems (Lustre with ``localflock``) and on NFS with ``local_lock=flock``. It is
started with the name of the host, which is empty where it runs on a host of its own, a folder for its locks, and the
hours that its clock is ahead. Each line of JSON that it reads is a transfer from ``a`` to ``b``; it tells when it
begins, and how the transfer ended.
"""

from __future__ import annotations

import fcntl
import json
import os
import sys
import time

from chiltepin.backends import processes

HOST, LOCKS, AHEAD = sys.argv[1:]
if HOST:
    processes.host_id = lambda: HOST

right_time = time.time
time.time = lambda: right_time() + 3600 * float(AHEAD)

kernel_flock, kernel_close, shadows = fcntl.flock, os.close, {}


def flock(descriptor: int, operation: int) -> None:
    """Lock a file of this host in the place of one that all hosts see."""
    facts = os.fstat(descriptor)
    if descriptor not in shadows:
        shadows[descriptor] = os.open(f"{LOCKS}/{facts.st_dev}-{facts.st_ino}", os.O_CREAT | os.O_RDWR)
    kernel_flock(shadows[descriptor], operation)


def close(descriptor: int) -> None:
    """Let the lock go with the file."""
    shadow = shadows.pop(descriptor, None)
    try:
        kernel_close(descriptor)
    finally:
        if shadow is not None:
            kernel_close(shadow)


fcntl.flock, os.close = flock, close

# After these, as the modules take their names from there.
from chiltepin.backends.filesystem import FilesystemBackend  # noqa: E402
from chiltepin.transfers.arguments import transfer_request  # noqa: E402
from chiltepin.transfers.runner import Transfers  # noqa: E402


def tell(what) -> None:
    """Say something to the test."""
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def main() -> None:
    """Do what is asked for until the end of the input."""
    endpoints = json.loads(sys.stdin.readline())
    transfers = Transfers(FilesystemBackend.from_config(endpoints, {}))
    tell("ready")
    for line in sys.stdin:
        request = transfer_request(src_ep="a", dst_ep="b", **json.loads(line))
        tell("begins")
        status = transfers.run(request, timeout=120, polling_interval=1)
        tell([status.state.value, status.code, status.reason])


if __name__ == "__main__":
    main()
