"""End the tasks of one run with an error.

Parsl cannot cancel a task: its future ends only when the executor's future ends. So a `ProxyFuture` replaces the
executor's future of each launched task. A task that waits for other tasks is launched without them, which fails.
"""

from __future__ import annotations

import functools
import inspect
import threading
import time
from concurrent import futures
from typing import TYPE_CHECKING, Any

from parsl.dataflow.states import States
from parsl.executors.threads import ThreadPoolExecutor

from chiltepin.errors import TaskCanceledError
from chiltepin.parsl.htex import GuardedHTEX
from chiltepin.parsl.proxy_future import ProxyFuture
from chiltepin.parsl.task_guards import follow_launches
from chiltepin.parsl.task_records import awaited, belongs_to, joined, origin, runs_in_thread, unfinished
from chiltepin.transfers import callbacks

if TYPE_CHECKING:
    from collections.abc import Callable

    from parsl.dataflow.dflow import DataFlowKernel
    from parsl.dataflow.taskrecord import TaskRecord

__all__ = ["CHECK_INTERVAL", "TaskCanceller"]

#: Seconds between two checks of the tasks of a run that ends: a task that is being launched, or was just created by
#: another task, is found only by the next check.
CHECK_INTERVAL = 0.05

# Seconds to wait for callbacks at the end of a run; a callback may wait for an event that never happens.
_CALLBACKS = 1.0

#: Seconds to wait for launches that have begun, which call an executor's code, and between two checks: one launch takes
#: some tenths of a millisecond.
_LAUNCHES, _LAUNCH = 1.0, 0.001


class TaskCanceller:
    """Ends the tasks of one run.

    Attributes
    ----------
    reason : str
        Why the run ends, as a clause; empty until the end begins.
    """

    def __init__(self, dfk: DataFlowKernel) -> None:
        self._dfk = dfk
        self.reason = ""
        #: Callbacks by task id, called once the task has been launched, and the threads that launch tasks now.
        self._at_launch, self._launching = follow_launches(dfk)

    def begin(self) -> None:
        """Launch no further task, and cancel the tasks that are queued for a thread."""
        self._dfk.launch_task = self._refuse
        self._wait_for_launches()
        for record in unfinished(self._dfk):
            if record["status"] is States.launched and runs_in_thread(record):
                self._proxy(record, self._error(record))

    def _wait_for_launches(self) -> None:
        """Wait until the tasks that other threads have begun to launch are known as launched."""
        me, until = threading.get_ident(), time.monotonic() + _LAUNCHES
        begun = [task for task, thread in list(self._launching.items()) if thread != me]
        while any(task in self._launching for task in begun) and time.monotonic() < until:
            time.sleep(_LAUNCH)

    def abandon(self, record: TaskRecord, error: TaskCanceledError, *, far: bool = False) -> None:
        """End a task that its executor has not started with `error`; it is not retried.

        A task that runs in a thread continues until it ends; a pending task ends when it is launched. ``far`` also
        ends tasks of other processes, although this process does not know whether they have begun.
        """
        if record["exec_fu"] is None:
            self._at_launch[record["id"]] = functools.partial(self.abandon, record, error, far=far)
        # The task may have been launched in the meantime.
        if record["exec_fu"] is None or record["status"] is not States.launched:
            return
        executor = self._dfk.executors.get(record["executor"])
        if far or runs_in_thread(record):
            self._forbid_retry(record)
            self._end_launched(record, error, patient=True)
        elif isinstance(executor, GuardedHTEX):
            self._forbid_retry(record)
            executor.withdraw(record["exec_fu"], error)

    def end_all(self, *, patient: bool, before_wait: Callable[[], object] | None = None) -> None:
        """End every task, and the tasks that callbacks start meanwhile.

        ``patient`` tells whether to wait for the tasks that threads run, which cannot be stopped. ``before_wait`` is
        called before each wait for tasks that have not ended.
        """
        concerns = functools.partial(belongs_to, self._dfk)
        until = time.monotonic() + _CALLBACKS
        while unfinished(self._dfk) or not callbacks.settled(concerns, 0):
            self._end_known(patient=patient, before_wait=before_wait)
            if not callbacks.settled(concerns, until - time.monotonic()) and time.monotonic() > until:
                return

    def in_threads(self) -> list[TaskRecord]:
        """Return the tasks that still run in threads after the end has begun."""
        return [
            record
            for record in unfinished(self._dfk)
            if isinstance(record["exec_fu"], ProxyFuture) and record["exec_fu"].followed is not None
        ]

    def leave_threads(self) -> None:
        """Make Parsl shut down without waiting for threads."""
        for executor in self._dfk.executors.values():
            if isinstance(executor, ThreadPoolExecutor):
                executor.shutdown = functools.partial(executor.shutdown, block=False)

    def _error(self, record: TaskRecord) -> TaskCanceledError:
        return TaskCanceledError(f"Task {record['func_name']!r} was canceled: {self.reason}.")

    def _refuse(self, record: TaskRecord) -> futures.Future[Any]:
        """Replace ``DataFlowKernel.launch_task``: no further task starts."""
        self._forbid_retry(record)
        raise self._error(record)

    def _forbid_retry(self, record: TaskRecord) -> None:
        record["fail_cost"] = self._dfk.config.retries + 1

    def _end_known(self, *, patient: bool, before_wait: Callable[[], object] | None) -> None:
        while records := unfinished(self._dfk):
            for record in records:
                self._forbid_retry(record)
                if record["status"] is States.launched:
                    self._end_launched(record, self._error(record), patient=patient)
                elif record["status"] is States.pending:
                    self._end_pending(record)
                elif record["status"] is States.joining:
                    self._end_joining(record)
            if before_wait is not None:
                before_wait()
            futures.wait([record["app_fu"] for record in records], timeout=CHECK_INTERVAL)

    def _end_launched(self, record: TaskRecord, error: TaskCanceledError, *, patient: bool) -> None:
        proxy = self._proxy(record, error)
        if proxy is not None and not (patient and proxy.followed is not None):
            proxy.end(error)

    def _proxy(self, record: TaskRecord, error: TaskCanceledError) -> ProxyFuture | None:
        """Replace the executor's future by a proxy and return it; None if the task is just starting or ending.

        The executor keeps its own future and may still set it. Ending that future instead would break the executor:
        InvalidStateError ends the result thread of a HighThroughputExecutor when the worker's result arrives.
        """
        theirs = record["exec_fu"]
        if theirs is None or isinstance(theirs, ProxyFuture):
            return theirs
        # The only way to remove Parsl's callback; under this lock a future is either done or keeps its callbacks.
        with theirs._condition:  # noqa: SLF001
            if theirs.done():
                return None
            kept = [call for call in theirs._done_callbacks if not self._is_parsl(call)]  # noqa: SLF001
            theirs._done_callbacks = kept  # noqa: SLF001
        ours = ProxyFuture()
        ours.add_done_callback(functools.partial(self._dfk.handle_exec_update, record))
        record["exec_fu"] = ours
        # A task that is queued for a thread is canceled and never runs; a running task does not notice and is awaited.
        if runs_in_thread(record) and not theirs.cancel():
            ours.follow(theirs, error)
        return ours

    def _is_parsl(self, callback: object) -> bool:
        # A task that was launched before the shutdown was installed has Parsl's own method.
        return isinstance(callback, functools.partial) and inspect.unwrap(callback.func) == inspect.unwrap(
            self._dfk.handle_exec_update
        )

    def _end_pending(self, record: TaskRecord) -> None:
        """End a task that waits for a future that the end of this run does not end, such as a user's future."""
        waits = awaited(record)
        # A task that was tried before is stuck (`task_guards.install_guards`), or is about to be retried.
        tried = record["exec_fu"] is not None
        if not tried and not waits:
            self._launch(record)
        if not tried and (not waits or any(self._reaches(future) for future in waits)):
            return
        with record["task_launch_lock"]:
            if record["status"] is not States.pending:
                return
            streams = {name: record["kwargs"][name] for name in ("stdout", "stderr") if name in record["kwargs"]}
            record.update(depends=[], args=(), kwargs=streams)
        self._launch(record)

    def _launch(self, record: TaskRecord) -> None:
        """Launch a task, which by now fails for every task."""
        try:
            self._dfk.launch_if_ready(record)
        except RuntimeError:
            # Python has ended Parsl's thread that launches tasks.
            self._dfk._launch_if_ready_async(record)  # noqa: SLF001

    def _end_joining(self, record: TaskRecord) -> None:
        """End a join task that waits for a future that the end of this run does not end."""
        waits = awaited(record)
        # Parsl fails on a canceled future and leaves the task joining.
        stuck = waits or any(future.cancelled() for future in joined(record))
        if not stuck or any(self._reaches(future) for future in waits):
            return
        failed: futures.Future[Any] = futures.Future()
        failed.set_exception(self._error(record))
        record["joins"] = failed
        self._dfk.handle_join_update(record, failed)

    def _reaches(self, future: futures.Future[Any]) -> bool:
        """Whether `future` ends with the tasks of this run."""
        return belongs_to(self._dfk, future) and not origin(future).task_record["app_fu"].done()
