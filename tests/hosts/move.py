"""Run one transfer on a host: ``move.py SOURCE GOAL``, each a URL or a folder; prints each new status.

The file is ``/f`` on both sides. SFTP gives up on a server that is silent for two seconds.
"""

from __future__ import annotations

import sys
import threading

from chiltepin.backends.filesystem import FilesystemBackend
from chiltepin.transfers.arguments import transfer_request

QUICK = {"silence": 2, "ssh_options": {"ConnectTimeout": 1}}


def main(source: str, goal: str) -> None:
    """Transfer the file."""
    places = {
        name: {"url": url, "options": QUICK if url.startswith("sftp:") else {}}
        for name, url in {"source": source, "goal": goal}.items()
    }
    backend = FilesystemBackend.from_config(places, {})
    request = transfer_request(src_ep="source", dst_ep="goal", src_path="/f", dst_path="/f")
    handle = backend.submit(request, backend.new_submission_id())
    pause, last = threading.Event(), ""
    while True:
        [status] = backend.poll([handle])
        now = f"{status.state.value} faults={status.faults} {status.code} {status.reason}"
        if now != last:
            sys.stdout.write(f"{now}\n")
            sys.stdout.flush()
            last = now
        if status.state.final:
            break
        pause.wait(0.05)
    backend.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
