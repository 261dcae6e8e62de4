"""The orderly end of a run of Parsl.

Parsl has no hook for the end of a run. Its ``cleanup`` stops the executors and abandons the tasks that they held:
their futures, and those of everything that depends on them, stay pending for ever, and whoever asks for a result
hangs. `ending_of` therefore puts an orderly end in front of ``cleanup`` (``docs/decisions/orderly-end.md``).
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import inspect
import logging
import os
import sys
import threading
import time
import weakref
from concurrent import futures
from typing import TYPE_CHECKING, Any

from parsl.app.futures import DataFuture
from parsl.dataflow.errors import PropagatedException
from parsl.dataflow.futures import AppFuture
from parsl.dataflow.states import States
from parsl.executors.threads import ThreadPoolExecutor

from chiltepin.backends import forks
from chiltepin.errors import TaskCanceledError
from chiltepin.parsl import signals
from chiltepin.parsl import task_guards as guards
from chiltepin.parsl.drain import LOOK, awaited, joined, unfinished
from chiltepin.transfers import callbacks
from chiltepin.transfers import interpreter_exit as exits
from chiltepin.transfers.unread_failures import Unread

if TYPE_CHECKING:
    from collections.abc import Callable

    from parsl.dataflow.dflow import DataFlowKernel
    from parsl.dataflow.taskrecord import TaskRecord

__all__ = ["Ending", "StandIn", "ending_of", "runs"]

logger = logging.getLogger(__name__)

_ATTENDING = threading.Lock()
_ENDING = "_chiltepin_ending"
# Seconds for which such an end waits for callbacks, which may wait for something that does not come.
_CALLBACKS = 1.0
_LONGEST_CHAIN = 20

_ENDED_FIRST = "the workflow ended first; ask for its result before the end, or load Parsl with exit_mode='wait'"
_ENDED_LAST = "Python ended, and nothing was about to end what it waits for"

#: All of this process.
runs: weakref.WeakSet[Ending] = weakref.WeakSet()


def _renew() -> None:
    global _ATTENDING  # noqa: PLW0603 - a thread of the parent may hold it
    _ATTENDING = threading.Lock()


forks.register(_renew)


def ending_of(dfk: DataFlowKernel) -> Ending:
    """Return the ending of a run, which from then on takes the place of its ``cleanup``; one for each run."""
    with _ATTENDING:
        ending: Ending | None = vars(dfk).get(_ENDING)
        if ending is None:
            ending = Ending(dfk)
            # Kept on the kernel itself, so that it goes when the kernel goes.
            setattr(dfk, _ENDING, ending)
            dfk.cleanup = ending.cleanup
            _shorten_chains(dfk)
            guards.put_on(dfk)
            runs.add(ending)
            signals.handle(_running, _name_left)
        return ending


def _running() -> bool:
    return any(not run.over for run in list(runs))


def _name_left() -> None:
    for run in list(runs):
        run.name_left()


def _release_logs() -> None:
    """Give back the locks of log handlers that an interrupt has left with this thread.

    ``logging.Handler.handle`` takes its lock before its ``try`` (Python 3.10 to 3.12): after a Ctrl-C between the two,
    every thread that logs would wait for ever, Parsl's among them. Seen once, with a loop of submissions.
    """
    loggers = [logging.getLogger(), *logging.getLogger().manager.loggerDict.values()]
    for handler in {handler for one in loggers for handler in getattr(one, "handlers", ())}:
        # A lock of another thread refuses to be released.
        with contextlib.suppress(RuntimeError):
            while handler.lock is not None:
                handler.lock.release()


class StandIn(futures.Future[Any]):
    """What Parsl waits for in the place of somebody else's future, which is left to its owner."""

    #: Whether it will end by itself.
    follows = False

    def end(self, error: TaskCanceledError) -> None:
        """End with `error`, unless it has ended."""
        with contextlib.suppress(futures.InvalidStateError):
            self.set_exception(error)

    def follow(self, theirs: futures.Future[Any], error: TaskCanceledError) -> None:
        """End as `theirs` ends; if that is cancelled, with `error`."""
        self.follows = True
        if theirs.running():
            self.set_running_or_notify_cancel()
        theirs.add_done_callback(functools.partial(self._copy, error))

    def _copy(self, error: TaskCanceledError, theirs: futures.Future[Any]) -> None:
        with contextlib.suppress(futures.InvalidStateError):
            if theirs.cancelled():
                self.set_exception(error)
            elif (failure := theirs.exception()) is not None:
                self.set_exception(failure)
            else:
                self.set_result(theirs.result())


class Ending:
    """The orderly end of one DataFlowKernel."""

    def __init__(self, dfk: DataFlowKernel) -> None:
        self.dfk = dfk
        self.unread = Unread()
        self._parsl_cleanup: Callable[[], None] = dfk.cleanup
        self._reason = ""
        self._callbacks: dict[object, Callable[[str], object]] = {}
        self._lock = threading.Lock()
        # Re-entrant: a signal handler may end the run while the run is ending.
        self._turn = threading.RLock()
        #: Whether this is a child made by ``fork``: the run is then that of the parent, and is left to it.
        self.forked = False
        forks.register(self._leave)

    def _leave(self) -> None:
        self.forked = True
        self._lock, self._turn = threading.Lock(), threading.RLock()
        self._callbacks.clear()

    def add(self, callback: Callable[[str], object]) -> Callable[[], object]:
        """Register `callback`; return what takes it back."""
        key = object()
        with self._lock:
            begun = bool(self._reason)
            if not begun:
                self._callbacks[key] = callback
        if begun:
            self._tell(callback)
        return functools.partial(self._callbacks.pop, key, None)

    def give_up(self, record: TaskRecord, error: TaskCanceledError, *, far: bool) -> None:
        """End one task with `error`, as `chiltepin.parsl.kernel.give_up` has it."""
        if record["status"] is States.launched and (far or self._in_thread(record)):
            self._forbid_retry(record)
            self._end_launched(record, error, patient=True)

    @property
    def over(self) -> bool:
        """Whether there is nothing left to end here."""
        return bool(self.forked or self.dfk.cleanup_called)

    def cleanup(self) -> None:
        """End every task, then let Parsl clean up; takes the place of ``DataFlowKernel.cleanup``."""
        if self.forked:
            return
        with self._turn:
            if self.dfk.cleanup_called:
                # Parsl says itself that this is once too often.
                self._parsl_cleanup()
                return
            left_by = sys.exc_info()[0]
            self._end(_left_by(left_by.__name__) if left_by else _ENDED_FIRST)
            self.unread.warn(clean=left_by is None)

    def name_left(self) -> None:
        """Write to stderr what has failed, and what has not ended and will not."""
        for future in callbacks.unfinished(self.concerns):
            # That of a transfer or deletion says what it is.
            if what := vars(future).get("_what"):
                self.unread.add(f"{what} had not ended: {self._reason or _left_by(exits.cause())}.")
        self.unread.say()

    def finish(self) -> None:
        """End the run because the interpreter ends; what has failed goes to stderr, and no error leaves this."""
        cause = exits.cause()
        try:
            with self._turn:
                if not self.over:
                    self._end(_left_by(cause) if cause else _ENDED_LAST)
        except (KeyboardInterrupt, SystemExit) as interrupt:
            exits.interrupted(interrupt)
        except Exception:
            logger.exception("Parsl did not end in order.")
        self.unread.say()

    def _end(self, reason: str) -> None:
        try:
            _release_logs()
            self._begin(reason)
            self._end_tasks(patient=True)
        except BaseException:
            # Ctrl-C while threads were waited for: they are left alone now, all the rest still ends in order.
            self._leave_threads()
            self._end_tasks(patient=False)
            raise
        finally:
            self._clean_up()

    def _clean_up(self) -> None:
        if self.dfk.cleanup_called:
            return
        logs = _log_files(self.dfk)
        try:
            self._parsl_cleanup()
        finally:
            for log in logs:
                # What another thread is just about to write would open the file again (logging.FileHandler.emit).
                log.emit = _drop  # type: ignore[method-assign]
                log.close()

    def _begin(self, reason: str) -> None:
        self.unread.end_begins()
        with self._lock:
            self._reason = reason
            callbacks = list(self._callbacks.values())
            self._callbacks.clear()
        self.dfk.launch_task = self._refuse
        # Before a callback sets a thread free, which would take the next task from its queue.
        for record in unfinished(self.dfk):
            if record["status"] is States.launched and self._in_thread(record):
                self._stand_in(record, self._error(record))
        for callback in callbacks:
            self._tell(callback)

    def _tell(self, callback: Callable[[str], object]) -> None:
        try:
            callback(self._reason)
        except Exception:
            logger.exception("%r failed while the workflow was ending; the end goes on without it.", callback)

    def _error(self, record: TaskRecord) -> TaskCanceledError:
        return TaskCanceledError(f"Task {record['func_name']!r} was given up: {self._reason}.")

    def _refuse(self, record: TaskRecord) -> futures.Future[Any]:
        """Stand in for ``DataFlowKernel.launch_task``: nothing starts any more."""
        self._forbid_retry(record)
        raise self._error(record)

    def _forbid_retry(self, record: TaskRecord) -> None:
        record["fail_cost"] = self.dfk.config.retries + 1

    def _leave_threads(self) -> None:
        for executor in self.dfk.executors.values():
            if isinstance(executor, ThreadPoolExecutor):
                executor.shutdown = functools.partial(executor.shutdown, block=False)

    def concerns(self, future: futures.Future[Any]) -> bool:
        """Whether a future is that of a task of this run, or of a file that one makes."""
        while isinstance(future, DataFuture):
            future = future.parent
        return isinstance(future, AppFuture) and future.task_record["dfk"] is self.dfk

    def _end_tasks(self, *, patient: bool) -> None:
        """End every task, and those that callbacks make of the end of others."""
        until = time.monotonic() + _CALLBACKS
        while unfinished(self.dfk) or not callbacks.settled(self.concerns, 0):
            self._end_known(patient=patient)
            if not callbacks.settled(self.concerns, until - time.monotonic()) and time.monotonic() > until:
                return

    def _end_known(self, *, patient: bool) -> None:
        while records := unfinished(self.dfk):
            for record in records:
                self._forbid_retry(record)
                if record["status"] is States.launched:
                    self._end_launched(record, self._error(record), patient=patient)
                elif record["status"] is States.pending:
                    self._end_pending(record)
                elif record["status"] is States.joining:
                    self._end_joining(record)
            futures.wait([record["app_fu"] for record in records], timeout=LOOK)

    def _in_thread(self, record: TaskRecord) -> bool:
        return isinstance(self.dfk.executors.get(record["executor"]), ThreadPoolExecutor)

    def _end_launched(self, record: TaskRecord, error: TaskCanceledError, *, patient: bool) -> None:
        stand_in = self._stand_in(record, error)
        if stand_in is not None and not (patient and stand_in.follows):
            stand_in.end(error)

    def _stand_in(self, record: TaskRecord, error: TaskCanceledError) -> StandIn | None:
        """Return our future in the place of the executor's; None if the task is just starting or ending.

        The executor keeps its own and may set it whenever it likes. To end that one instead would break the executor:
        the result thread of a HighThroughputExecutor dies of the InvalidStateError when the worker answers after all.
        """
        theirs = record["exec_fu"]
        if theirs is None or isinstance(theirs, StandIn):
            return theirs
        # The only way to take Parsl's callback back; under this lock a future is either done or keeps its callbacks.
        with theirs._condition:  # noqa: SLF001
            if theirs.done():
                return None
            kept = [call for call in theirs._done_callbacks if not self._is_parsl(call)]  # noqa: SLF001
            theirs._done_callbacks = kept  # noqa: SLF001
        ours = StandIn()
        ours.add_done_callback(functools.partial(self.dfk.handle_exec_update, record))
        record["exec_fu"] = ours
        # What still queues for a thread is cancelled and never runs; what runs does not notice, and is waited for.
        if self._in_thread(record) and not theirs.cancel():
            ours.follow(theirs, error)
        return ours

    def _is_parsl(self, callback: object) -> bool:
        # What was launched before the run was attended has Parsl's own method.
        return isinstance(callback, functools.partial) and inspect.unwrap(callback.func) == inspect.unwrap(
            self.dfk.handle_exec_update
        )

    def _end_pending(self, record: TaskRecord) -> None:
        """End a task that waits for something which this end does not reach: a future of the user's own, say."""
        waits = awaited(record)
        # One that was tried already is stuck (see _shorten_chains), or is about to be retried.
        tried = record["exec_fu"] is not None
        if not tried and (not waits or any(self._reaches(future) for future in waits)):
            return
        with record["task_launch_lock"]:
            if record["status"] is not States.pending:
                return
            streams = {name: record["kwargs"][name] for name in ("stdout", "stderr") if name in record["kwargs"]}
            record.update(depends=[], args=(), kwargs=streams)
        # To be refused, as every launch is by now.
        self.dfk.launch_if_ready(record)

    def _end_joining(self, record: TaskRecord) -> None:
        """End a join task that waits for something which this end does not reach."""
        waits = awaited(record)
        # Parsl stumbles over a cancelled future and leaves the task joining for ever.
        stuck = waits or any(future.cancelled() for future in joined(record))
        if not stuck or any(self._reaches(future) for future in waits):
            return
        failed: futures.Future[Any] = futures.Future()
        failed.set_exception(self._error(record))
        record["joins"] = failed
        self.dfk.handle_join_update(record, failed)

    def _reaches(self, future: futures.Future[Any]) -> bool:
        """Whether the end of the tasks of this run ends `future` too."""
        while isinstance(future, DataFuture):
            future = future.parent
        if not isinstance(future, AppFuture):
            return False
        record = future.task_record
        return record["dfk"] is self.dfk and not record["app_fu"].done()


def _left_by(name: str) -> str:
    return f"the workflow was left by {name}"


def _shorten_chains(dfk: DataFlowKernel) -> None:
    """Let tasks end that need a task that needs a task ... that failed, however long the chain is.

    Parsl keeps the ``repr`` of each DependencyError, which holds that of the one before, and so on. From some 250 on
    that is a RecursionError in a callback, and that task and all behind it stay pending for ever.
    """
    resolver = dfk.dependency_resolver

    def unwrap(value: object) -> object:
        try:
            return resolver.traverse_to_unwrap(value)
        except PropagatedException as error:
            failure = error
        raise _shortened(failure)

    dfk.dependency_resolver = dataclasses.replace(resolver, traverse_to_unwrap=unwrap)


def _shortened(failure: PropagatedException) -> PropagatedException:
    """Return `failure`, or one that leads straight to its cause if it does so by too many others."""
    error: BaseException = failure
    for _ in range(_LONGEST_CHAIN):
        if not isinstance(error, PropagatedException):
            return failure
        error, name = error.dependent_exceptions_tids[0]
    while isinstance(error, PropagatedException):
        error, name = error.dependent_exceptions_tids[0]
    return type(failure)([(error, f"... <- {name}")], failure.task_id)


def _log_files(dfk: DataFlowKernel) -> list[logging.FileHandler]:
    """Return the log files of a run, which Parsl lets go at the end but does not close."""
    return [
        handler
        # A copy: the end of another workflow takes its own away meanwhile.
        for handler in list(logging.getLogger("parsl").handlers)
        if isinstance(handler, logging.FileHandler)
        and os.path.dirname(handler.baseFilename) == os.path.abspath(dfk.run_dir)
    ]


def _drop(record: logging.LogRecord) -> None:
    """Write nothing: the log is over."""
