"""Shut down a Parsl run cleanly: for a `chiltepin.Workflow`, ``DataFlowKernel.cleanup``, or interpreter exit.

Parsl has no hook for the end of a run. Its ``cleanup`` stops the executors and abandons their tasks: the futures
of these tasks, and of all tasks that depend on them, stay pending, and a call of ``result()`` hangs. `shutdown_of`
therefore puts a `Shutdown` in front of ``cleanup`` (``docs/decisions/shutdown.md``).
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import logging
import os
import shutil
import sys
import threading
import time
import weakref
from concurrent import futures
from typing import TYPE_CHECKING, Any, TypeVar

import parsl
from parsl.dataflow.states import States
from parsl.errors import NoDataFlowKernelError

from chiltepin.backends import forks
from chiltepin.errors import ConfigError
from chiltepin.parsl import run_logs, signals, task_guards
from chiltepin.parsl.cancellation import CHECK_INTERVAL, TaskCanceller
from chiltepin.parsl.htex import fail_dead
from chiltepin.parsl.task_channels import FOLDER
from chiltepin.parsl.task_records import awaited, belongs_to, origin, unfinished
from chiltepin.transfers import callbacks, interpreter_exit
from chiltepin.transfers.service import manager
from chiltepin.transfers.unread_failures import UnreadFailures

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from parsl.dataflow.dflow import DataFlowKernel
    from parsl.dataflow.taskrecord import TaskRecord

__all__ = ["Shutdown", "attached", "ends_in_order", "install_shutdown", "shutdown_of", "wait_all"]

logger = logging.getLogger(__name__)

T = TypeVar("T")

#: Seconds to wait for futures and callbacks at interpreter exit, before threads are checked.
PAUSE = 0.25

#: Seconds to wait at interpreter exit for callbacks that do not return, and for tasks that wait for a future that
#: nothing in this process is about to complete.
PATIENCE = 5.0

_ENDED_FIRST = "the workflow ended first; ask for its result before the end, or load Parsl with exit_mode='wait'"
_ENDED_LAST = "Python ended, and nothing would have completed the future that it waits for"


def _left_by(name: str) -> str:
    return f"the workflow was ended by {name}"


_INTERRUPTED = _left_by(KeyboardInterrupt.__name__)

#: Our only attribute of a DataFlowKernel: the results of `attached`, keyed by ``make``.
_ATTACHED = "_chiltepin"
_attaching = threading.RLock()

#: All shutdowns of this process.
_shutdowns: weakref.WeakSet[Shutdown] = weakref.WeakSet()

#: The pending operation of each open block, as the start of a sentence.
_blocks: dict[object, str] = {}


def _renew() -> None:
    global _attaching  # noqa: PLW0603 - a thread of the parent may hold it
    _attaching = threading.RLock()


forks.register(_renew)


def attached(dfk: DataFlowKernel, make: Callable[[DataFlowKernel], T]) -> T:
    """Return the result of ``make(dfk)``; it is created once per run, and lives as long as the DataFlowKernel."""
    kept: dict[Any, Any] = vars(dfk).setdefault(_ATTACHED, {})
    if make not in kept:
        with _attaching:
            if make not in kept:
                kept[make] = make(dfk)
    return kept[make]  # type: ignore[no-any-return]


def install_shutdown(dfk: DataFlowKernel) -> Shutdown:
    """Make the run of `dfk` shut down cleanly, and return its shutdown; repeated calls return the same one.

    From then on ``dfk.cleanup()`` first ends every unfinished task, and every task that depends on it, with an error
    that gives the reason. Tasks that run in a thread are awaited, because they cannot be stopped; other tasks end at
    once, and their executor stops their processes.

    In a forked child, raise a ConfigError for a run of its parent.
    """
    shutdown = shutdown_of(dfk)
    if shutdown.forked:
        raise ConfigError(
            "This process was forked from one that runs a workflow, and that workflow runs there only; use transfer() "
            "and delete() here, or start a Workflow in this process."
        )
    return shutdown


def shutdown_of(dfk: DataFlowKernel) -> Shutdown:
    """Return the only shutdown of a run, which from then on replaces its ``cleanup``."""
    return attached(dfk, Shutdown)


@contextlib.contextmanager
def ends_in_order(what: str) -> Iterator[None]:
    """Make SIGTERM and SIGHUP raise SystemExit in this block; report `what` if it does not end in time."""
    key = object()
    _blocks[key] = what
    signals.handle(_running, _name_left)
    try:
        yield
    finally:
        del _blocks[key]


def wait_all(shutdowns: Sequence[Shutdown], *, last: bool = False) -> None:
    """Wait until runs are idle, including the tasks that their tasks and callbacks start meanwhile.

    In a forked child it returns at once: the runs belong to the parent. ``last`` tells whether the interpreter is
    exiting. Then threads may start tasks as long as Python waits for them, and a task may depend on a future that
    nothing in this process will complete; `PATIENCE` limits the wait for it.
    """

    def concerns(future: futures.Future[Any]) -> bool:
        return any(belongs_to(shutdown.dfk, future) for shutdown in shutdowns)

    until = time.monotonic() + PATIENCE
    while not any(shutdown.forked for shutdown in shutdowns):
        # In this order, because a thread or a callback may start a task and then end.
        threads = interpreter_exit.busy_threads() if last else []
        settled = callbacks.settled(concerns, 0)
        ending = callbacks.unfinished(concerns)
        records = [record for shutdown in shutdowns for record in unfinished(shutdown.dfk)]
        waiting = {*ending, *(record["app_fu"] for record in records)}
        if settled and not waiting and not threads:
            return
        if threads or any(map(_progresses, records)):
            until = time.monotonic() + PATIENCE
        elif last and time.monotonic() > until:
            return
        if waiting:
            # A Ctrl-C that arrives just before this wait is handled only after it.
            futures.wait(waiting, timeout=PAUSE if last else 1)
        elif callbacks.settled(concerns, PAUSE) and threads:
            time.sleep(CHECK_INTERVAL)


def _progresses(record: TaskRecord) -> bool:
    """Whether a task runs, is about to run, or waits for a future that runs outside Parsl."""
    if record["status"] not in (States.pending, States.joining):
        return True
    waits = awaited(record)
    return not waits or any(future.running() for future in waits)


class Shutdown:
    """The clean shutdown of one run.

    Attributes
    ----------
    unread : UnreadFailures
        Failures to list at the end, unless their results are read.
    apps : mapping
        The apps of the run by task, with weak keys: an app refers to its kernel, and must not keep it alive.
    watcher : callable or None
        Called with each new `chiltepin.data.TransferFuture` of the run.
    forked : bool
        Whether this is a forked child, which leaves the run to its parent.
    """

    def __init__(self, dfk: DataFlowKernel) -> None:
        self.dfk = dfk
        self.tasks = TaskCanceller(dfk)
        self.unread = UnreadFailures()
        self.apps: weakref.WeakKeyDictionary[Any, dict[Any, Callable[..., Any]]] = weakref.WeakKeyDictionary()
        self.watcher: Callable[[Any], object] | None = None
        self._parsl_cleanup: Callable[[], None] = dfk.cleanup
        self._callbacks: dict[object, Callable[[str], object]] = {}
        self._after_end: list[Callable[[], object]] = []
        self._said: set[int] = set()
        # Re-entrant: a signal handler may start a task, or end the run, while the run is ending.
        self._lock, self._turn = threading.RLock(), threading.RLock()
        self.forked = False
        forks.register(self._leave)
        dfk.cleanup = self.cleanup
        task_guards.install_guards(dfk)
        _shutdowns.add(self)
        signals.handle(_running, _name_left)

    def _leave(self) -> None:
        self.forked = True
        self._lock, self._turn = threading.RLock(), threading.RLock()
        self._callbacks.clear()
        run_logs.open_again(run_logs.files_of(self.dfk))

    def on_end(self, callback: Callable[[str], object]) -> Callable[[], object]:
        """Call `callback` when the run ends, before any of its tasks; return a function that removes the callback.

        Its argument is the reason, such as ``the workflow was ended by ValueError``. It is called in the thread that
        ends the run, or at once if the end has begun; it must not block, and its exceptions are logged.
        """
        key = object()
        with self._lock:
            begun = bool(self.tasks.reason)
            if not begun:
                self._callbacks[key] = callback
        if begun:
            self._call(callback)
        return functools.partial(self._callbacks.pop, key, None)

    def after_end(self, callback: Callable[[], object]) -> None:
        """Call `callback` after the run and its workers have ended; it may block, and must handle its errors."""
        self._after_end.append(callback)

    @property
    def over(self) -> bool:
        """Whether the run has ended, or belongs to a parent process."""
        return bool(self.forked or self.dfk.cleanup_called)

    def cleanup(self) -> None:
        """End every task, then let Parsl clean up; this replaces ``DataFlowKernel.cleanup``."""
        if self.forked:
            return
        with self._turn:
            if self.dfk.cleanup_called:
                # Parsl reports the repeated call.
                self._parsl_cleanup()
                return
            left_by = sys.exc_info()[0]
            self._end(_left_by(left_by.__name__) if left_by else _ENDED_FIRST)
            self.unread.warn(clean=left_by is None)

    def name_left(self) -> None:
        """List on stderr the failures, and the transfers and deletions that will not end."""
        for what in self._unfinished().values():
            self.unread.add(f"{what} had not ended: {self.tasks.reason or _left_by(interpreter_exit.cause())}.")
        self.unread.say()

    def _unfinished(self) -> dict[int, str]:
        """Return the unfinished transfers and deletions by task id, each as the start of a sentence."""
        unfinished = callbacks.unfinished(functools.partial(belongs_to, self.dfk))
        # Parsl's own future of the same task has no such text.
        said = [(origin(future).task_record["id"], getattr(future, "_what", "")) for future in unfinished]
        return {task: what for task, what in said if what}

    def _say_what_is_awaited(self) -> None:
        """List on stderr, once each, the tasks that are being stopped, and those in threads, which cannot be."""
        threads = {record["id"]: f"Task {record['func_name']!r}, in a thread" for record in self.tasks.in_threads()}
        begun = {record["id"] for record in unfinished(self.dfk) if record["status"] is not States.pending}
        moving = {task: what for task, what in self._unfinished().items() if task in begun}
        awaited = threads | moving
        if new := [what for task, what in awaited.items() if task not in self._said]:
            self._said.update(awaited)
            head = "Interrupted; press Ctrl-C again to quit now. Waiting for:"
            print(f"chiltepin: {interpreter_exit.listed(head, new)}", file=sys.stderr, flush=True)  # noqa: T201

    def finish(self) -> None:
        """End the run at interpreter exit; list failures on stderr, and raise no error."""
        cause = interpreter_exit.cause()
        try:
            with self._turn:
                if not self.over:
                    self._end(_left_by(cause) if cause else _ENDED_LAST)
        except (KeyboardInterrupt, SystemExit) as interrupt:
            interpreter_exit.interrupted(interrupt)
        except Exception:
            logger.exception("Parsl did not shut down cleanly.")
        self.unread.say()

    def _end(self, reason: str) -> None:
        try:
            run_logs.release_locks()
            self._begin(reason)
            # Report before each wait: Parsl may be starting a task while the end begins.
            self.tasks.end_all(patient=True, before_wait=self._say_what_is_awaited if reason == _INTERRUPTED else None)
        except BaseException as error:
            # Ctrl-C during the wait for threads: abandon the threads, but end everything else cleanly.
            self.tasks.leave_threads()
            self.tasks.end_all(patient=False)
            if reason == _INTERRUPTED and isinstance(error, KeyboardInterrupt):
                self.unread.say()
                signals.quit_by_interrupt()
            raise
        finally:
            self._clean_up()

    def _begin(self, reason: str) -> None:
        self.unread.end_begins()
        with self._lock:
            # Set first, because a callback that is added from now on is called at once.
            self.tasks.reason = reason
            callbacks = list(self._callbacks.values())
            self._callbacks.clear()
        # Before the callbacks, because one may free a thread, which would take the next task from its queue.
        self.tasks.begin()
        for callback in callbacks:
            self._call(callback)

    def _call(self, callback: Callable[[str], object]) -> None:
        try:
            callback(self.tasks.reason)
        except Exception:
            logger.exception("%r failed while the workflow was ending; the shutdown continues.", callback)

    def _clean_up(self) -> None:
        if self.dfk.cleanup_called:
            return
        logs = run_logs.files_of(self.dfk)
        fail_dead(self.dfk.executors.values())
        try:
            self._parsl_cleanup()
        finally:
            # No worker is left that would use this folder.
            shutil.rmtree(os.path.join(self.dfk.run_dir, FOLDER), ignore_errors=True)
            run_logs.close(logs)
            while self._after_end:
                self._after_end.pop(0)()


def _running() -> bool:
    return bool(_blocks) or any(not shutdown.over for shutdown in list(_shutdowns))


def _name_left() -> None:
    for what in list(_blocks.values()):
        interpreter_exit.say(f"{what} had not ended when {interpreter_exit.cause()} ended Python.")
    for shutdown in list(_shutdowns):
        shutdown.name_left()


def _loaded() -> DataFlowKernel | None:
    try:
        return parsl.dfk()
    except NoDataFlowKernelError:
        return None


def _left() -> list[Shutdown]:
    """Return the runs that have not ended."""
    # A run with our settings may not have had any of our tasks.
    if (dfk := _loaded()) is not None and hasattr(dfk.config, "data"):
        shutdown_of(dfk)
    return [shutdown for shutdown in list(_shutdowns) if not shutdown.over]


@interpreter_exit.while_threads_work
def _end_runs() -> None:
    """End the runs that a script left open as a `Workflow` would: wait, or cancel after an error or a signal."""
    if not interpreter_exit.cause():
        try:
            # A thread may be about to start the first task of a run.
            while (left := _left()) or (_loaded() and interpreter_exit.busy_threads()):
                wait_all(left, last=True)
                if left == _left():
                    break
        except (KeyboardInterrupt, SystemExit) as interrupt:
            interpreter_exit.interrupted(interrupt)
    _finish_runs()


# Again after the threads have ended: after an error or a signal they are not awaited, and may still start tasks.
@atexit.register
def _finish_runs() -> None:
    for shutdown in _left():
        shutdown.finish()
        manager.workflow_ended(str(shutdown.dfk.run_id), in_order=not interpreter_exit.cause())
