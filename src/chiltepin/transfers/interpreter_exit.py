"""Handle the end of the interpreter: callbacks while threads still run, the cause of the exit, and the exit code.

At exit, Python runs the callbacks of `threading`, the last registered first. It then waits for the threads that are not
daemons, and runs the callbacks of `atexit`. One of the first callbacks makes ``concurrent.futures``, and with it Parsl,
refuse further work. Code that still has work to do must therefore run before it.
"""

from __future__ import annotations

import atexit
import builtins
import concurrent.futures.thread  # imported first, so that its callback runs after ours
import contextlib
import io
import logging
import sys
import threading
from typing import TYPE_CHECKING, Any

from chiltepin.transfers import policy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = [
    "busy_threads",
    "cause",
    "fail",
    "interrupted",
    "is_interactive",
    "listed",
    "note",
    "say",
    "while_threads_work",
]

logger = logging.getLogger(__name__)

_noted: list[str] = []


def while_threads_work(callback: Callable[[], None]) -> Callable[[], None]:
    """Register a function to call when the interpreter begins to exit; a child process of `os.fork` calls it too.

    The last registered function is called first. Its errors are logged; an interrupt is recorded as the `cause`.
    """

    def guarded() -> None:
        try:
            callback()
        except (KeyboardInterrupt, SystemExit) as interrupt:
            interrupted(interrupt)
        except BaseException:
            logger.exception("%r failed while Python was ending.", callback)

    # Used by concurrent.futures since Python 3.9 (bpo-39812). The fallback, atexit, runs too late for tasks
    # in threads, but not for the processes that Parsl has started.
    register = getattr(threading, "_register_atexit", atexit.register)
    register(guarded)
    return callback


def note(name: str) -> None:
    """Record the name of the error or signal that ends the process."""
    _noted.append(name)


def interrupted(error: BaseException) -> None:
    """Record an interrupt during the exit, and make the exit code nonzero: Python no longer does."""
    note(type(error).__name__)
    fail()


def cause() -> str:
    """Return the name of the error or the signal that ends this process; empty if it ends normally."""
    return _noted[0] if _noted else _uncaught()


def _uncaught() -> str:
    """Return the name of the error that has ended the main thread."""
    # At an interactive prompt, an error does not end the process.
    if is_interactive():
        return ""
    # Set when Python prints an uncaught error, before the interpreter ends.
    last = getattr(sys, "last_type", None)
    return last.__name__ if last else ""


def is_interactive() -> bool:
    """Whether this is an interactive prompt or a notebook."""
    return hasattr(sys, "ps1") or hasattr(builtins, "__IPYTHON__")


def busy_threads() -> list[threading.Thread]:
    """Return the busy threads that the interpreter waits for."""
    frames = sys._current_frames()  # noqa: SLF001 - documented; "for internal and specialized purposes"
    return [
        thread
        for thread in threading.enumerate()
        if not thread.daemon
        and thread is not threading.main_thread()
        and thread is not threading.current_thread()
        and not _idles(thread, frames.get(thread.ident or 0))
    ]


def _idles(thread: threading.Thread, frame: Any) -> bool:
    """Whether a thread of a pool waits for work, or any thread for the end of the main thread."""
    if type(thread).__module__ == "concurrent.futures.process":
        return True
    if frame is not None and frame.f_code is concurrent.futures.thread._worker.__code__:  # noqa: SLF001
        return True
    while frame is not None:
        # globus_compute_sdk and other packages wait like this to run code at exit.
        if frame.f_code is threading.Thread.join.__code__ and frame.f_locals.get("self") is threading.main_thread():
            return True
        frame = frame.f_back
    return False


def listed(head: str, lines: Iterable[str]) -> str:
    """Return a headline, and one line for each entry; of a long list, the last line counts the rest."""
    every = list(lines)
    rest = (
        [f"... and {len(every) - policy.limits.LISTED_LINES} more"] if len(every) > policy.limits.LISTED_LINES else []
    )
    return "\n  ".join([head, *every[: policy.limits.LISTED_LINES], *rest])


def say(text: str) -> None:
    """Write to stderr, and make the exit code nonzero, unless the cause of the exit already does."""
    with contextlib.suppress(Exception):
        print(f"chiltepin: {text}", file=sys.stderr, flush=True)  # noqa: T201
    # An uncaught error, or a signal (chiltepin.parsl.signals), has already set it.
    if not _uncaught() and not cause().startswith("SIG"):
        fail()


class _LastFlushFails:
    """Wraps a stream so that its flush at exit fails."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def flush(self) -> None:
        """Write the buffered data, and fail."""
        self._stream.flush()
        raise OSError("The script ended before its transfers.")


_failed = threading.Event()


def fail() -> None:
    """Make the exit code of this process nonzero."""
    _failed.set()


@atexit.register
def _spoil_exit_code() -> None:
    # An error while the standard streams are flushed makes it 120 (docs.python.org, sys.exit), for stderr without a
    # message. os._exit would skip the exit handlers of other packages, such as the report of coverage.
    if _failed.is_set():
        sys.stderr = _LastFlushFails(sys.stderr or io.StringIO())
