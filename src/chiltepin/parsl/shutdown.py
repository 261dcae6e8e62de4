"""The orderly end of a run of Parsl: of a `chiltepin.Workflow`, of ``DataFlowKernel.cleanup``, and of the interpreter.

Parsl has no hook for the end of a run. Its ``cleanup`` stops the executors and abandons the tasks that they held:
their futures, and those of everything that depends on them, stay pending, and a call of ``result()`` hangs.
`shutdown_of` therefore puts a `Shutdown` in front of ``cleanup`` (``docs/decisions/shutdown.md``).
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

#: Seconds for which futures and callbacks are waited for when the interpreter ends, before threads are looked at.
PAUSE = 0.25

#: Seconds after which, when the interpreter ends, nothing more is expected of callbacks that do not return, and of
#: tasks that wait for a future which nothing in this process is about to end.
PATIENCE = 5.0

_ENDED_FIRST = "the workflow ended first; ask for its result before the end, or load Parsl with exit_mode='wait'"
_ENDED_LAST = "Python ended, and nothing would have completed the future that it waits for"


def _left_by(name: str) -> str:
    return f"the workflow was ended by {name}"


_INTERRUPTED = _left_by(KeyboardInterrupt.__name__)

#: The one attribute of a DataFlowKernel that is ours: what `attached` has made, by what has made it.
_ATTACHED = "_chiltepin"
_attaching = threading.RLock()

#: All of this process.
_shutdowns: weakref.WeakSet[Shutdown] = weakref.WeakSet()

#: What blocks are to do at their end, as the start of a sentence, by block.
_blocks: dict[object, str] = {}


def _renew() -> None:
    global _attaching  # noqa: PLW0603 - a thread of the parent may hold it
    _attaching = threading.RLock()


forks.register(_renew)


def attached(dfk: DataFlowKernel, make: Callable[[DataFlowKernel], T]) -> T:
    """Return what ``make(dfk)`` has made for a run; it is made once, and kept on the DataFlowKernel as long as that."""
    kept: dict[Any, Any] = vars(dfk).setdefault(_ATTACHED, {})
    if make not in kept:
        with _attaching:
            if make not in kept:
                kept[make] = make(dfk)
    return kept[make]  # type: ignore[no-any-return]


def install_shutdown(dfk: DataFlowKernel) -> Shutdown:
    """Make the run of `dfk` end in order, and return its shutdown; later calls for the same run do nothing.

    From then on ``dfk.cleanup()`` first ends every task that is not done, and every task that depends on it, with an
    error that says so. Tasks that run in a thread are awaited, because they cannot be stopped; tasks elsewhere are
    ended at once, and the executor that holds them stops their processes.

    In a child made by ``fork``, for a run of its parent, that is a ConfigError.
    """
    shutdown = shutdown_of(dfk)
    if shutdown.forked:
        raise ConfigError(
            "This process was forked from one that runs a workflow, and that workflow runs there only; use transfer() "
            "and delete() here, or start a Workflow in this process."
        )
    return shutdown


def shutdown_of(dfk: DataFlowKernel) -> Shutdown:
    """Return the shutdown of a run, which from then on takes the place of its ``cleanup``; one for each run."""
    return attached(dfk, Shutdown)


@contextlib.contextmanager
def ends_in_order(what: str) -> Iterator[None]:
    """Within this block, SIGTERM and SIGHUP raise SystemExit; `what` is named if it is not done in time."""
    key = object()
    _blocks[key] = what
    signals.handle(_running, _name_left)
    try:
        yield
    finally:
        del _blocks[key]


def wait_all(shutdowns: Sequence[Shutdown], *, last: bool = False) -> None:
    """Wait until runs have nothing to do, including what their tasks and callbacks start meanwhile.

    In a child made by ``fork`` it returns at once: the runs are those of the parent. ``last`` tells whether the
    interpreter ends. Then threads may start tasks as long as Python waits for them, and a task that needs a future
    which nothing in this process will end waits in vain.
    """

    def concerns(future: futures.Future[Any]) -> bool:
        return any(belongs_to(shutdown.dfk, future) for shutdown in shutdowns)

    until = time.monotonic() + PATIENCE
    while not any(shutdown.forked for shutdown in shutdowns):
        # In this order: a thread or a callback starts a task, and ends.
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
            # A Ctrl-C that comes just before this wait begins is noticed only after it.
            futures.wait(waiting, timeout=PAUSE if last else 1)
        elif callbacks.settled(concerns, PAUSE) and threads:
            time.sleep(CHECK_INTERVAL)


def _progresses(record: TaskRecord) -> bool:
    """Whether a task runs, is about to run, or waits for what runs elsewhere than in Parsl."""
    if record["status"] not in (States.pending, States.joining):
        return True
    waits = awaited(record)
    return not waits or any(future.running() for future in waits)


class Shutdown:
    """The orderly end of one run.

    Attributes
    ----------
    unread : Unread
        Failures that the end names, unless their results are read.
    apps : mapping
        The apps of the run by task, weakly: an app refers to its kernel, and must not keep it alive.
    watcher : callable or None
        Called with each new `chiltepin.data.TransferFuture` of the run.
    forked : bool
        Whether this is a child made by ``fork``: the run is then left to the parent.
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
        self._lock = threading.Lock()
        # Re-entrant: a signal handler may end the run while the run is ending.
        self._turn = threading.RLock()
        self.forked = False
        forks.register(self._leave)
        dfk.cleanup = self.cleanup
        task_guards.install_guards(dfk)
        _shutdowns.add(self)
        signals.handle(_running, _name_left)

    def _leave(self) -> None:
        self.forked = True
        self._lock, self._turn = threading.Lock(), threading.RLock()
        self._callbacks.clear()
        run_logs.open_again(run_logs.files_of(self.dfk))

    def on_end(self, callback: Callable[[str], object]) -> Callable[[], object]:
        """Call `callback` when the run ends, before any of its tasks is ended; return a function that undoes this.

        It gets the reason, a clause such as ``the workflow was left by ValueError``. It is called in the thread that
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
        """Call `callback` when the run has ended, and its workers with it; it may block, and handles its errors."""
        self._after_end.append(callback)

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
        for what in self._unfinished().values():
            self.unread.add(f"{what} had not ended: {self.tasks.reason or _left_by(interpreter_exit.cause())}.")
        self.unread.say()

    def _unfinished(self) -> dict[int, str]:
        """Return the transfers and deletions that have not ended, as the start of a sentence, by their task."""
        unfinished = callbacks.unfinished(functools.partial(belongs_to, self.dfk))
        # Parsl's own future of the same task has no such text.
        said = [(origin(future).task_record["id"], getattr(future, "_what", "")) for future in unfinished]
        return {task: what for task, what in said if what}

    def _say_what_is_awaited(self) -> None:
        """Write to stderr what is being stopped, and what runs in threads, which cannot be stopped; each task once."""
        threads = {record["id"]: f"Task {record['func_name']!r}, in a thread" for record in self.tasks.in_threads()}
        begun = {record["id"] for record in unfinished(self.dfk) if record["status"] is not States.pending}
        moving = {task: what for task, what in self._unfinished().items() if task in begun}
        awaited = threads | moving
        if new := [what for task, what in awaited.items() if task not in self._said]:
            self._said.update(awaited)
            head = "Interrupted; press Ctrl-C again to quit now. Waiting for:"
            print(f"chiltepin: {interpreter_exit.listed(head, new)}", file=sys.stderr, flush=True)  # noqa: T201

    def finish(self) -> None:
        """End the run because the interpreter ends; what has failed goes to stderr, and no error leaves this."""
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
            # Before each wait: Parsl may be starting a task while the end begins.
            self.tasks.end_all(patient=True, before_wait=self._say_what_is_awaited if reason == _INTERRUPTED else None)
        except BaseException as error:
            # Ctrl-C while threads were waited for: they are left alone now, all the rest still ends in order.
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
            # First: a callback that is added from now on is called at once.
            self.tasks.reason = reason
            callbacks = list(self._callbacks.values())
            self._callbacks.clear()
        # Before a callback sets a thread free, which would take the next task from its queue.
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
            # No worker is left that would read or write there.
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
    # One with settings of ours may have had no task of ours.
    if (dfk := _loaded()) is not None and hasattr(dfk.config, "data"):
        shutdown_of(dfk)
    return [shutdown for shutdown in list(_shutdowns) if not shutdown.over]


@interpreter_exit.while_threads_work
def _end_runs() -> None:
    """End the runs that a script has left as a `Workflow` ends: wait, or cancel after an error or a signal."""
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


# Once more when the threads have ended: after an error or a signal they are not waited for, and go on to start tasks.
@atexit.register
def _finish_runs() -> None:
    for shutdown in _left():
        shutdown.finish()
        manager.workflow_ended(str(shutdown.dfk.run_id), in_order=not interpreter_exit.cause())
