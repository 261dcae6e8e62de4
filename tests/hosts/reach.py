"""Request a file at each URL, all at once, and print the errors: ``reach.py URL...``."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor

from chiltepin.backends.filesystem.errors import Fault, fault_of
from chiltepin.backends.filesystem.locations import place_of

#: Longer than the three seconds after which the kernel reports that an address is unreachable.
OPTIONS = {"sftp": {"ssh_options": {"ConnectTimeout": 6}}}


def reach(url: str) -> str:
    """Return why a URL cannot be reached."""
    options = OPTIONS.get(url.partition(":")[0], {})
    try:
        place_of("place", {"url": url, "options": options}).store().folder(()).entry("f")
    except (OSError, Fault) as err:
        return fault_of(err, "Looking").reason
    return f"{url} is reached."


if __name__ == "__main__":
    with ThreadPoolExecutor() as pool:
        sys.stdout.writelines(f"{told}\n" for told in pool.map(reach, sys.argv[1:]))
