"""Parsl's interchange, which here stops the workers and ends when its workflow has ended.

Parsl's own goes on when the workflow is killed, and so do the workers with their tasks.
It is run by the path of its folder, which holds no other module that an import could find.
"""

from __future__ import annotations

import os
from contextlib import suppress

# First, for the imports take a while: a signal to the workflow's process group or terminal (`timeout`, Ctrl-C) must not
# end this process, which has to stop the workers.
with suppress(PermissionError):
    os.setsid()

import pickle  # nosec B403
import sys
import time
from typing import Any

from parsl.executors.high_throughput.interchange import PKL_SHUTDOWN_CODE, Interchange
from parsl.utils import setproctitle

#: Seconds for which workers that are just starting are stopped as well. Later ones find no interchange, and end after
#: 30 s (parsl, process_worker_pool.py, ``address_probe_timeout``).
LINGER = 2.0


class AttachedInterchange(Interchange):  # type: ignore[misc] # parsl has no types
    """An interchange that ends with its workflow, which has the process id ``workflow``."""

    def __init__(self, workflow: int, **config: Any) -> None:
        super().__init__(**config)
        self._workflow = workflow
        self._deadline = float("inf")
        self._notified: set[bytes] = set()

    def process_command(self, monitoring_radio: Any) -> None:
        """Do one round, of some hundred a second; then check that the workflow lives."""
        super().process_command(monitoring_radio)
        if os.getppid() == self._workflow:
            return
        self._deadline = min(self._deadline, time.monotonic() + LINGER)
        for manager in self._ready_managers.keys() - self._notified:
            self._notified.add(manager)
            self.manager_sock.send_multipart([manager, PKL_SHUTDOWN_CODE])
        if time.monotonic() >= self._deadline:
            # No more results are kept for the workflow.
            self.zmq_context.destroy(linger=500)
            sys.exit()


if __name__ == "__main__":
    setproctitle("parsl: HTEX interchange")
    # From the workflow that has started this process, by a pipe: Parsl's way.
    config = pickle.load(sys.stdin.buffer)  # noqa: S301  # nosec B301
    AttachedInterchange(int(sys.argv[1]), **config).start()
