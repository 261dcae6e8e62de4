"""Open a folder of each host by SFTP, all at once, and print the errors: ``reach.py HOST...``."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor

from chiltepin.backends.filesystem.errors import Fault, fault_of
from chiltepin.backends.filesystem.stores.sftp.store import SftpStore


def reach(host: str) -> str:
    """Return why a host is not reached."""
    # Longer than the three seconds after which the kernel knows that an address does not answer.
    store = SftpStore(f"sftp://{host}/scratch", {"ssh_options": {"ConnectTimeout": 6}})
    try:
        store.folder(())
    except (OSError, Fault) as err:
        return fault_of(err, "Looking").reason
    return f"{host} is reached."


if __name__ == "__main__":
    with ThreadPoolExecutor() as pool:
        sys.stdout.writelines(f"{told}\n" for told in pool.map(reach, sys.argv[1:]))
