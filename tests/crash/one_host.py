"""Copies files as one of several hosts, on a disk whose locks work only between the processes of one host.

Some parallel file systems (Lustre with ``localflock``) and NFS with ``local_lock=flock`` have such locks. The arguments
are the name of the host, which is empty on a separate host, a folder for its locks, and the hours that its clock is
ahead. Each input line of JSON is a transfer from ``a`` to ``b``; the script prints when it begins and how it ended.
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
    """Lock a file of this host in place of the shared file."""
    facts = os.fstat(descriptor)
    if descriptor not in shadows:
        shadows[descriptor] = os.open(f"{LOCKS}/{facts.st_dev}-{facts.st_ino}", os.O_CREAT | os.O_RDWR)
    kernel_flock(shadows[descriptor], operation)


def close(descriptor: int) -> None:
    """Release the lock with the file."""
    shadow = shadows.pop(descriptor, None)
    try:
        kernel_close(descriptor)
    finally:
        if shadow is not None:
            kernel_close(shadow)


fcntl.flock, os.close = flock, close

# After the assignments above, because the modules import these names.
from chiltepin.backends.filesystem import FilesystemBackend  # noqa: E402
from chiltepin.transfers.arguments import transfer_request  # noqa: E402
from chiltepin.transfers.runner import Transfers  # noqa: E402


def tell(what) -> None:
    """Send a message to the test."""
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def main() -> None:
    """Run the transfers of the input."""
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
