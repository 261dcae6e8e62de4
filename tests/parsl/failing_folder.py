"""Transfers, cancellations and deletions while each operation on the run folder and the state folder fails in turn.

A separate program, because a Python audit hook, which sees every such operation just before it runs, cannot be
removed. It prints one line of JSON: the rounds in which an operation failed, and the futures that ended wrongly.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import sys
import threading
from pathlib import Path

from chiltepin import Workflow, delete_task, transfer_task
from chiltepin.errors import TaskCanceledError
from chiltepin.transfers import policy

LIMIT = 60
ERRORS = (errno.EIO, errno.ENOSPC, errno.EROFS, errno.EACCES, errno.ESTALE, errno.ENOTDIR)
#: Audit events whose first argument is a path.
EVENTS = {"open", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.scandir", "os.listdir", "os.truncate"}


class Folders:
    """Folders in which one operation fails, or every operation from it on."""

    def __init__(self, *folders: Path) -> None:
        self.folders = tuple(str(folder) for folder in folders)
        self.first = self.last = -1
        self.error = 0
        self.seen = self.failed = 0
        self.lock = threading.Lock()

    def arm(self, first: int, last: float, error: int) -> None:
        """Fail the operations from `first` to `last`, counted from now."""
        self.first, self.last, self.error, self.seen = first, last, error, 0

    def watch(self, event: str, args: tuple[object, ...]) -> None:
        """Raise the error if this operation is to fail; Python's audit hook."""
        if self.error and event in EVENTS and isinstance(args[0], str) and args[0].startswith(self.folders):
            with self.lock:
                self.seen += 1
                fails = self.first <= self.seen <= self.last
                self.failed += fails
            if fails:
                raise OSError(self.error, os.strerror(self.error), args[0])


def outcome(future, expected):
    """Return how a future ended wrongly; empty if it ended as expected."""
    try:
        result = future.result(LIMIT)
    except TimeoutError:
        return f"pending, Parsl says {future.task_status()}"
    except TaskCanceledError:
        result = "canceled"
    except Exception as error:  # noqa: BLE001 - to be told
        return repr(error)
    return "" if result in expected else f"ended with {result}"


def main(top: Path) -> None:
    """Fail each operation, once and permanently."""
    # Python's last-resort handler would print log messages.
    logging.disable(logging.CRITICAL)
    policy.wait_times.STATUS_FILE_INTERVAL = 0.0
    folders = Folders(top / "run", top / "state")
    os.environ["XDG_STATE_HOME"] = str(top / "state")
    settings = {
        "local": {"provider": "threads", "max_threads": 2},
        "data": {"backend": "local", "root": str(top / "data"), "endpoints": {"a": None, "b": None}},
    }
    wrong: list[str] = []
    failed: list[str] = []
    with Workflow(settings, run_dir=top / "run"):
        (top / "data/a").mkdir(parents=True)
        (top / "data/a/x").write_bytes(b"x" * 300_000)
        sys.addaudithook(folders.watch)
        for number in range(1, 9):
            for last in (number, float("inf")):
                folders.arm(number, last, ERRORS[number % len(ERRORS)])
                before = folders.failed
                moved = transfer_task("a", "b", "/x", f"/{number}", executor="local")
                again = transfer_task("a", "b", "/x", f"/{number}-again", executor="local", inputs=[moved])
                stopped = transfer_task("a", "b", "/x", f"/{number}-stopped", executor="local")
                try:
                    stopped.cancel()
                except OSError as error:
                    wrong.append(f"cancel(), operation {number} to {last}: {error!r}")
                gone = delete_task("b", f"/{number}", executor="local", inputs=[again])
                for name, future, expected in (
                    ("transfer", moved, (True,)),
                    ("dependent", again, (True,)),
                    ("cancelled", stopped, (True, "canceled")),
                    ("deletion", gone, (True,)),
                ):
                    if error := outcome(future, expected):
                        wrong.append(f"{name}, operation {number} to {last}, error {folders.error}: {error}")
                if folders.failed > before:
                    failed.append(f"{number} to {last}")
        folders.error = 0
    print(json.dumps({"failed": failed, "wrong": wrong}), flush=True)  # noqa: T201 - the result
    os._exit(0)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
