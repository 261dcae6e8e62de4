"""Waiting for what runs of Parsl still have to do: their tasks, and what callbacks and threads start meanwhile."""

from __future__ import annotations

import time
from concurrent import futures
from typing import TYPE_CHECKING, Any

from parsl.dataflow.states import States

from chiltepin.transfers import callbacks
from chiltepin.transfers import interpreter_exit as exits

if TYPE_CHECKING:
    from collections.abc import Sequence

    from parsl.dataflow.dflow import DataFlowKernel
    from parsl.dataflow.taskrecord import TaskRecord

    from chiltepin.parsl.shutdown import Ending

__all__ = ["awaited", "drain", "joined", "unfinished"]

#: Seconds between two looks at the tasks of a run that ends, and at threads: a task that is just being launched, or
#: made by another task, shows up only in the next look.
LOOK = 0.05

#: Seconds for which futures and callbacks are waited for when the interpreter ends, before threads are looked at.
PAUSE = 0.25

#: Seconds after which, when the interpreter ends, nothing more is expected of callbacks that do not return, and of
#: tasks that wait for a future which nothing in this process is about to end.
PATIENCE = 5.0


def unfinished(dfk: DataFlowKernel) -> list[TaskRecord]:
    """Return the records of the tasks whose futures are not done."""
    return [record for record in list(dfk.tasks.values()) if not record["app_fu"].done()]


def joined(record: TaskRecord) -> list[futures.Future[Any]]:
    """Return the futures that a join task has returned."""
    return record["joins"] if isinstance(record["joins"], list) else [record["joins"]]


def awaited(record: TaskRecord) -> list[futures.Future[Any]]:
    """Return the futures that a task waits for."""
    needed = joined(record) if record["status"] is States.joining else record["depends"]
    return [future for future in needed if not future.done()]


def drain(runs: Sequence[Ending], *, last: bool = False) -> None:
    """Wait until runs have nothing to do; at once in a child made by ``fork``, where the runs are those of the parent.

    Parameters
    ----------
    runs : sequence of Ending
        The runs.
    last : bool
        Whether the interpreter ends. Then threads may start tasks as long as Python waits for them, and a task that
        needs a future which nothing in this process is about to end waits in vain.
    """

    def concerns(future: futures.Future[Any]) -> bool:
        return any(run.concerns(future) for run in runs)

    until = time.monotonic() + PATIENCE
    while not any(run.forked for run in runs):
        # In this order: a thread or a callback starts a task, and ends.
        threads = exits.busy_threads() if last else []
        settled = callbacks.settled(concerns, 0)
        ending = callbacks.unfinished(concerns)
        records = [record for run in runs for record in unfinished(run.dfk)]
        waiting = {*ending, *(record["app_fu"] for record in records)}
        if settled and not waiting and not threads:
            return
        if threads or any(map(_moves, records)):
            until = time.monotonic() + PATIENCE
        elif last and time.monotonic() > until:
            return
        if waiting:
            # A Ctrl-C that comes just before this wait begins is noticed only after it.
            futures.wait(waiting, timeout=PAUSE if last else 1)
        elif callbacks.settled(concerns, PAUSE) and threads:
            time.sleep(LOOK)


def _moves(record: TaskRecord) -> bool:
    """Whether a task runs, is about to run, or waits for what runs elsewhere than in Parsl."""
    if record["status"] not in (States.pending, States.joining):
        return True
    waits = awaited(record)
    return not waits or any(future.running() for future in waits)
