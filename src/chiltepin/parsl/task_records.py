"""Query Parsl's records of the tasks of a run, and the run that a future belongs to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from parsl.app.futures import DataFuture
from parsl.dataflow.futures import AppFuture
from parsl.dataflow.states import States
from parsl.executors.threads import ThreadPoolExecutor

from chiltepin.parsl.proxy_future import ProxyFuture

if TYPE_CHECKING:
    from concurrent.futures import Future

    from parsl.dataflow.dflow import DataFlowKernel
    from parsl.dataflow.taskrecord import TaskRecord

__all__ = ["awaited", "belongs_to", "joined", "origin", "runs_in_thread", "unfinished", "waits_for_itself"]


def unfinished(dfk: DataFlowKernel) -> list[TaskRecord]:
    """Return the records of the tasks whose futures are not done."""
    return [record for record in list(dfk.tasks.values()) if not record["app_fu"].done()]


def joined(record: TaskRecord) -> list[Future[Any]]:
    """Return the futures that a join task has returned."""
    return record["joins"] if isinstance(record["joins"], list) else [record["joins"]]


def awaited(record: TaskRecord) -> list[Future[Any]]:
    """Return the unfinished futures that a task waits for."""
    needed = joined(record) if record["status"] is States.joining else record["depends"]
    return [future for future in needed if not future.done()]


def runs_in_thread(record: TaskRecord) -> bool:
    """Whether the executor of a task runs it in a thread of this process."""
    return isinstance(record["dfk"].executors.get(record["executor"]), ThreadPoolExecutor)


def origin(future: Any) -> Any:
    """Return the future that a file's future or a proxy follows; return any other future unchanged."""
    while True:
        if isinstance(future, DataFuture):
            future = future.parent
        elif isinstance(future, ProxyFuture) and future.followed is not None:
            future = future.followed
        else:
            return future


def belongs_to(dfk: DataFlowKernel, future: Future[Any]) -> bool:
    """Whether a future belongs to a task of a run, or to a file that such a task writes."""
    task = origin(future)
    return isinstance(task, AppFuture) and task.task_record["dfk"] is dfk


def waits_for_itself(record: TaskRecord) -> bool:
    """Whether a task waits, directly or through other tasks, for its own future."""
    seen: set[int] = set()
    waiting = awaited(record)
    while waiting:
        task = origin(waiting.pop())
        if not isinstance(task, AppFuture) or task.done():
            continue
        other = task.task_record
        if other is record:
            return True
        if id(other) not in seen:
            seen.add(id(other))
            waiting.extend(awaited(other))
    return False
