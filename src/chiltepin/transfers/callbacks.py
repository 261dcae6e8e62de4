"""Threads that run the callbacks of futures, so that a callback delays only itself.

A callback is user code: it may wait for another transfer, sleep, raise or exit. On the thread that ends a future, it
would delay or end all other futures of that thread. So callbacks are queued, and one thread runs them in order as
long as each is short. When one has run for `CALLBACK_TURN` seconds, another thread continues with the next.
"""

from __future__ import annotations

import _thread
import contextvars
import functools
import logging
import threading
import time
import weakref
from collections import deque
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, TypeVar

from chiltepin.backends import forks, threads
from chiltepin.errors import BackendError, TaskLostError
from chiltepin.transfers import policy

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["INTERNAL", "CallbackFuture", "settled", "unfinished"]

logger = logging.getLogger(__name__)

T = TypeVar("T")

#: Packages whose callbacks run in place, and which do not read results for the user. Parsl adds a callback to every
#: task: switching threads for each would cost a tenth of an empty task.
INTERNAL = frozenset({"chiltepin", "parsl"})


class _Threads:
    """A queue of callbacks, and as many threads as there are blocking callbacks."""

    def __init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        """Start with an empty queue and no threads."""
        # Reentrant: a signal handler may end a future while this thread holds it.
        lock = threading.RLock()
        self._changed, self._ended = threading.Condition(lock), threading.Condition(lock)
        self._waiting: deque[tuple[Future[Any], Callable[[Any], object]]] = deque()
        #: What each thread runs; None while it waits.
        self._running: dict[threading.Thread, Future[Any] | None] = {}
        # The thread whose turn it is to run callbacks, and when its turn ends.
        self._turn: tuple[threading.Thread, float] | None = None

    def put(self, future: Future[Any], callback: Callable[[Any], object]) -> None:
        """Queue a callback, or run it now if no thread can be started for it."""
        with self._changed:
            waiting = future, callback
            self._waiting.append(waiting)
            try:
                self._attend()
            except BackendError:
                self._waiting.remove(waiting)
            else:
                if len(self._waiting) == 1:
                    # The thread that is woken here also handles later callbacks.
                    self._changed.notify()
                return
        _run(future, callback)

    def settled(self, concerns: Callable[[Future[Any]], bool], timeout: float) -> bool:
        """Wait until no callback of these futures waits or runs; see `chiltepin.transfers.callbacks.settled`."""
        me = threading.current_thread()

        def over() -> bool:
            running = self._running.copy()
            running.pop(me, None)
            return not any(map(concerns, [*filter(None, running.values()), *(one for one, _ in self._waiting.copy())]))

        with self._changed:
            return self._ended.wait_for(over, timeout)

    def _attend(self) -> None:
        """Start a thread for the queue if there is none; the caller holds the lock."""
        running = self._running.copy()
        if not any(future is None and thread.is_alive() for thread, future in running.items()):
            for thread in [thread for thread in running if not thread.is_alive()]:
                self._running.pop(thread, None)
            self._running[threads.start(self._serve, name="chiltepin-callbacks")] = None

    def _serve(self) -> None:
        me = threading.current_thread()
        while (taken := self._next(me)) is not None:
            _run(*taken)
            # A callback may refer to large objects, which must not stay in memory until the next one.
            del taken
            if not self._over(me):
                return

    def _next(self, me: threading.Thread) -> tuple[Future[Any], Callable[[Any], object]] | None:
        """Wait for a callback and for the turn to run it; return None if the thread has to end."""
        with self._changed:
            while True:
                now = time.monotonic()
                if self._waiting and (self._turn is None or now >= self._turn[1]):
                    taken = self._waiting.popleft()
                    self._running[me], self._turn = taken[0], (me, now + policy.wait_times.CALLBACK_TURN)
                    if self._waiting:
                        self._watched()
                    return taken
                pause = self._turn[1] - now if self._waiting and self._turn else policy.wait_times.CALLBACK_IDLE
                if not self._changed.wait(pause) and not self._waiting and pause == policy.wait_times.CALLBACK_IDLE:
                    del self._running[me]
                    return None

    def _watched(self) -> None:
        try:
            self._attend()
        except BackendError:
            # The next `put`, or the end of this callback, handles the waiting callbacks.
            logger.warning("Could not start a thread for more callbacks; they wait for a running one.")

    def _over(self, me: threading.Thread) -> bool:
        """Record that a callback has ended; return whether its thread continues."""
        with self._changed:
            # A callback may have forked: the child process has replaced the set of threads, without this one.
            if me not in self._running:
                return False
            self._running[me] = None
            self._ended.notify_all()
            if self._turn is not None and self._turn[0] is me:
                self._turn = None
            if sum(future is None for future in self._running.copy().values()) <= policy.limits.CALLBACK_SPARE:
                return True
            del self._running[me]
            self._changed.notify()
            return False


def _run(future: Future[Any], callback: Callable[[Any], object]) -> None:
    try:
        callback(future)
    except BaseException:
        # Includes SystemExit: sys.exit() in a callback ends only that callback.
        logger.exception("A callback of %r failed.", future)


_threads = _Threads()
#: Futures that have not ended. Not a WeakSet: its Python code would add a tenth to the cost of an empty task.
_open: set[weakref.ref[Future[Any]]] = set()


class _SmallCondition(_thread.RLock, threading.Condition):  # type: ignore[misc] # final in typeshed only
    """A condition that is its own lock, and whose queue is a list.

    A workflow may keep 100,000 futures. The lock, the queue and the methods of each condition of `threading` are nine
    objects of 1.3 KB, which Python's garbage collector visits again and again.
    """

    def __init__(self) -> None:
        self._waiters: list[_thread.LockType] = []


class CallbackFuture(Future[T]):
    """A future whose callbacks run on separate threads, in order, each guarded separately.

    A callback runs in the context (`contextvars`) in which it was added, and so in the workflow of that place. A thread
    that waits for the result is woken at once. In a child made by ``fork``, the future ends with `TaskLostError`.
    """

    #: The callbacks of ``concurrent.futures.Future``, which has no public way to change how they run.
    _done_callbacks: list[Callable[[Any], object]]

    #: Whether a new future follows another one, whose thread may end it before ``__init__`` returns.
    follows_at_once = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # First, because a future that follows another one may already have ended.
        _note(self)
        super().__init__(*args, **kwargs)
        if not self.follows_at_once:
            self._condition = _SmallCondition()

    def add_done_callback(self, fn: Callable[[Any], object]) -> None:
        """Call a function when the future ends; like ``concurrent.futures.Future.add_done_callback``."""
        if not (_is_internal(fn) or self.done()):
            run: Callable[..., object] = contextvars.copy_context().run
            fn = functools.partial(run, fn)
        super().add_done_callback(fn)

    def _invoke_callbacks(self) -> None:
        for callback in self._done_callbacks:
            (_run if _is_internal(callback) else _threads.put)(self, callback)
        # Only now, so that `settled` never returns too early.
        _open.discard(weakref.ref(self))

    @classmethod
    def adopt(cls, future: Future[Any]) -> None:
        """Change the class of a future to this one; both must have the same layout."""
        # First, because another thread may end it at any time, and then removes it.
        _note(future)
        future.__class__ = cls
        if future.done():
            _open.discard(weakref.ref(future))

    def abandon(self, error: TaskLostError) -> None:
        """End in a child process made by ``fork``, with an error and without the callbacks of the parent."""
        # A thread of the parent may hold the lock.
        before: Any = self._condition
        self._condition = threading.Condition()
        self._waiters.clear()
        self._done_callbacks.clear()
        if not self.done():
            self.set_exception(error)
        # The thread that forked may wait for the result, if a signal handler has interrupted it to fork.
        waiting = list(before._waiters)  # noqa: SLF001 - `Condition` has no public name for it
        before._at_fork_reinit()  # noqa: SLF001
        for waiter in waiting:
            if waiter.locked():
                waiter.release()


def _note(future: Future[Any]) -> None:
    _open.add(weakref.ref(future, _open.discard))


def _is_internal(callback: Callable[[Any], object]) -> bool:
    """Whether a callback belongs to Parsl or Chiltepin; these only end or launch other tasks, and are fast."""
    function = callback.func if isinstance(callback, functools.partial) else callback
    if isinstance(getattr(function, "__self__", None), CallbackFuture):
        return True
    return str(getattr(function, "__module__", "")).partition(".")[0] in INTERNAL


def unfinished(concerns: Callable[[Future[Any]], bool]) -> list[CallbackFuture[Any]]:
    """Return the futures for which ``concerns`` is true and that have not ended."""
    futures = [reference() for reference in _open.copy()]
    return [future for future in futures if isinstance(future, CallbackFuture) and concerns(future)]


def settled(concerns: Callable[[Future[Any]], bool], timeout: float) -> bool:
    """Wait until no callback of these futures waits or runs; return False after the time limit.

    A callback that runs in the calling thread is ignored.
    """
    return _threads.settled(concerns, timeout)


def _begin_anew() -> None:
    futures = unfinished(lambda _: True)
    forks.leave(vars(_threads).copy())
    _threads.renew()
    for future in futures:
        future.abandon(TaskLostError("It belongs to the parent process of this fork; use it there."))


forks.register(_begin_anew)
