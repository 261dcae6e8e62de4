"""Let a signal handler, or a finalizer, make a call while it interrupts another call.

Python runs a signal handler between two instructions of the main thread, and a finalizer (``__del__``) between two
instructions of any thread. If the interrupted call holds a lock, a call of the handler would wait for it forever. So if
the program has signal handlers, a call of its main thread runs on another thread, and the main thread takes no lock. A
call that interrupts another one on the same thread also runs on another thread, and is waited for only until its
timeout.
"""

from __future__ import annotations

import _thread
import contextvars
import signal
import threading
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from chiltepin.backends import forks, threads
from chiltepin.errors import BackendError, TaskTimeoutError
from chiltepin.transfers import policy
from chiltepin.transfers.callbacks import CallbackFuture

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["call"]

T = TypeVar("T")

#: `signal.getsignal` itself needs as long for all signals as the transfer of a small file.
_handler_of = getattr(signal.getsignal, "__wrapped__", signal.getsignal)
_SIGNALS = sorted(int(number) for number in signal.valid_signals())

#: Prefixes of the names of threads that hold locks of all calls.
_LOCKING = ("chiltepin-mover", "chiltepin-task-manager")

#: Threads that are inside a call that may hold locks.
_inside: set[int] = set()

#: Locks for which interrupted calls wait.
_waits: set[_thread.LockType] = set()


@forks.register
def _renew() -> None:
    """Let a call of the parent end in a child made by ``fork``; its future has ended with an error."""
    _inside.clear()
    for ended in _waits:
        if ended.locked():
            ended.release()


def call(work: Callable[[Callable[[], bool]], T], *, timeout: float) -> T:
    """Return the result of ``work``, which has to end in ``timeout`` seconds.

    ``work`` gets a function that returns True once the caller no longer needs its result.
    """
    me = _thread.get_ident()
    nested = me in _inside or threading.current_thread().name.startswith(_LOCKING)
    if not nested and not _has_handlers():
        return _marked(work, lambda: False)
    # Not the lock of the future: `threading.Condition` fails if an error of a signal handler interrupts it.
    future: CallbackFuture[T] = CallbackFuture()
    ended, stops = _thread.allocate_lock(), threading.Event()
    ended.acquire()
    _waits.add(ended)
    run = partial(_end, future, ended, partial(contextvars.copy_context().run, _marked, work, stops.is_set))
    try:
        _start(run)
        limit = min(timeout + policy.wait_times.STOP_GRACE, threading.TIMEOUT_MAX) if nested else -1
        if ended.acquire(timeout=limit):
            return future.result(timeout=0)
    finally:
        if not future.done():
            stops.set()
            ended.acquire(timeout=0 if nested else 2 * policy.wait_times.WORKER_POLL)
        _waits.discard(ended)
        # The traceback of its error refers to this frame.
        del future, run
    raise TaskTimeoutError(
        "A call made by a finalizer (__del__) or a signal handler was not done in time, because it had interrupted "
        "Chiltepin; make the call outside finalizers and signal handlers."
    )


def _end(future: CallbackFuture[T], ended: _thread.LockType, work: Callable[[], T]) -> None:
    """End a future with the result of ``work``, or with its error."""
    try:
        result = work()
    except BaseException as error:  # noqa: BLE001 - raised in the caller
        future.set_exception(error)
    else:
        future.set_result(result)
    finally:
        ended.release()


def _marked(work: Callable[[Callable[[], bool]], T], stopped: Callable[[], bool]) -> T:
    me = _thread.get_ident()
    _inside.add(me)
    try:
        return work(stopped)
    finally:
        _inside.discard(me)


def _has_handlers() -> bool:
    """Whether this is the main thread, and the program has a signal handler that may make a call."""
    if threading.current_thread() is not threading.main_thread():
        return False
    handlers = filter(callable, map(_handler_of, _SIGNALS))
    return any(
        handler is not signal.default_int_handler
        and not str(getattr(handler, "__module__", "")).startswith("chiltepin.")
        for handler in handlers
    )


def _start(run: Callable[[], None]) -> None:
    """Run a function on another thread or, if none can be started, on this one.

    `threading.Thread.start` holds a lock of all threads, which a signal handler may need. So a thread without a
    `threading.Thread` calls it.
    """

    def start() -> None:
        try:
            threads.start(run, name="chiltepin-call")
        except BackendError:
            run()

    try:
        _thread.start_new_thread(start, ())
    except RuntimeError:
        run()
