"""Parsl's interchange, changed to stop the workers and exit when its workflow has ended.

If the workflow is killed, Parsl's own interchange keeps running, and so do the workers and their tasks. It declares the
workers of a node lost two minutes after their last message; this one asks Slurm earlier.
It is run by the path of its folder, which contains no other module that an import could find.
"""

from __future__ import annotations

import os
from contextlib import suppress

# Before the slow imports: a signal to the workflow's process group or terminal (`timeout`, Ctrl-C) must not end this
# process, which has to stop the workers.
with suppress(PermissionError):
    os.setsid()

import pickle  # nosec B403
import sys
import threading
import time
from typing import Any

from parsl.executors.high_throughput.interchange import PKL_SHUTDOWN_CODE, Interchange
from parsl.utils import setproctitle

from chiltepin.parsl.slurm_nodes import SlurmNodes

#: Seconds during which workers that are just starting are stopped as well. Later workers find no interchange, and exit
#: after 30 s (parsl, process_worker_pool.py, ``address_probe_timeout``).
LINGER = 2.0

#: Seconds without a message from a node after which Slurm is asked, and between two queries: three heartbeats
#: (`htex`).
SILENCE = 15.0


class AttachedInterchange(Interchange):  # type: ignore[misc] # parsl has no types
    """An interchange that ends with its workflow, which has the process id ``workflow``.

    ``slurm`` tells whether the workers are Slurm jobs.
    """

    def __init__(self, workflow: int, *, slurm: bool, **config: Any) -> None:
        super().__init__(**config)
        self._workflow, self._nodes = workflow, SlurmNodes() if slurm else None
        self._deadline = float("inf")
        self._notified: set[bytes] = set()
        self._next_question = 0.0
        #: Managers whose node no longer has a job, each with the time of the query.
        self._lost: dict[bytes, float] = {}

    def process_command(self, monitoring_radio: Any) -> None:
        """Run one of about a hundred rounds a second, then check that the workflow is alive."""
        super().process_command(monitoring_radio)
        if os.getppid() == self._workflow:
            return
        self._deadline = min(self._deadline, time.monotonic() + LINGER)
        for manager in self._ready_managers.keys() - self._notified:
            self._notified.add(manager)
            self.manager_sock.send_multipart([manager, PKL_SHUTDOWN_CODE])
        if time.monotonic() >= self._deadline:
            # Discard the results, which the workflow can no longer receive.
            self.zmq_context.destroy(linger=500)
            sys.exit()

    def process_task_incoming(self) -> None:
        """Queue a task, or end a queued task with the error that `GuardedHTEX.withdraw` has sent."""
        super().process_task_incoming()
        # Its priority puts a message of `withdraw` first in the queue.
        if not self.pending_task_queue or "error" not in self.pending_task_queue[-1][2]:
            return
        message = self.pending_task_queue.pop()[2]
        waiting = (entry for entry in self.pending_task_queue if entry[2]["task_id"] == message["task_id"])
        if (entry := next(waiting, None)) is not None:
            self.pending_task_queue.remove(entry)
            answer = {"type": "result", "task_id": message["task_id"], "exception": message["error"]}
            self.results_outgoing.send(pickle.dumps(answer))

    def expire_bad_managers(self, *rest: Any) -> None:
        """Declare managers lost if Slurm no longer runs their job, or after a long silence."""
        if self._nodes and time.monotonic() >= self._next_question:
            self._ask_slurm(self._nodes)
        while self._lost:
            manager, asked = self._lost.popitem()
            record = self._ready_managers.get(manager)
            # The manager may have sent a message in the meantime.
            if record is not None and record["last_heartbeat"] < asked:
                record["last_heartbeat"] = 0.0
        super().expire_bad_managers(*rest)

    def _ask_slurm(self, nodes: SlurmNodes) -> None:
        """Start a thread that queries Slurm about the managers' hosts, if necessary."""
        # Not in every round: there are about a hundred a second.
        self._next_question = time.monotonic() + 1
        now = time.time()
        managers = {manager: record["hostname"] for manager, record in self._ready_managers.items()}
        silent = {
            manager: host
            for manager, host in managers.items()
            if now - self._ready_managers[manager]["last_heartbeat"] > SILENCE
        }
        if not nodes.has_questions(managers.values(), silent.values()):
            return

        def ask() -> None:
            gone = nodes.lost(set(managers.values()), set(silent.values()))
            self._lost.update({manager: now for manager, host in silent.items() if host in gone})

        self._next_question = time.monotonic() + SILENCE
        threading.Thread(target=ask, daemon=True).start()


if __name__ == "__main__":
    setproctitle("parsl: HTEX interchange")
    # The workflow that started this process sends it through a pipe, as in Parsl.
    config = pickle.load(sys.stdin.buffer)  # noqa: S301  # nosec B301
    AttachedInterchange(int(sys.argv[1]), slurm="slurm" in sys.argv[2:], **config).start()
