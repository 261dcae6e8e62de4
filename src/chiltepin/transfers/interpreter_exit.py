"""The end of the interpreter: what runs while threads still work, what ended the process, and its exit code.

Python ends in this order: the callbacks of `threading`, the last registered first; the threads that are not daemons;
the callbacks of `atexit`. One of the first kind makes ``concurrent.futures``, and with it Parsl, refuse work from then
on. What still has work to do must therefore come before it.
"""

from __future__ import annotations

import atexit
import builtins
import concurrent.futures.thread  # its callback is registered when it is imported: ours are called before it
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
    """Register a function to call when the interpreter begins to end; a child of `os.fork` calls it too.

    The last one registered is called first. What it raises is logged; an interrupt is noted as the `cause`.
    """

    def guarded() -> None:
        try:
            callback()
        except (KeyboardInterrupt, SystemExit) as interrupt:
            interrupted(interrupt)
        except BaseException:
            logger.exception("%r failed while Python was ending.", callback)

    # Used by concurrent.futures since Python 3.9 (bpo-39812). Without it, atexit has to do: it comes too late for tasks
    # in threads, but not for the processes that Parsl has started.
    register = getattr(threading, "_register_atexit", atexit.register)
    register(guarded)
    return callback


def note(name: str) -> None:
    """Note that an error or a signal of this name ends the process."""
    _noted.append(name)


def interrupted(error: BaseException) -> None:
    """Note an interrupt of the end itself: the exit code that Python has by then is not its."""
    note(type(error).__name__)
    fail()


def cause() -> str:
    """Return the name of the error or the signal that ends this process; empty if it ends by itself."""
    return _noted[0] if _noted else _uncaught()


def _uncaught() -> str:
    """Return the name of the error that has ended the main thread."""
    # At an interactive prompt an error ends nothing.
    if is_interactive():
        return ""
    # Set when Python prints an uncaught error, before the interpreter ends.
    last = getattr(sys, "last_type", None)
    return last.__name__ if last else ""


def is_interactive() -> bool:
    """Whether this is an interactive prompt or a notebook."""
    return hasattr(sys, "ps1") or hasattr(builtins, "__IPYTHON__")


def busy_threads() -> list[threading.Thread]:
    """Return the threads that the interpreter waits for and that have something to do."""
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
        # The way of globus_compute_sdk, and of others, to be called at the end.
        if frame.f_code is threading.Thread.join.__code__ and frame.f_locals.get("self") is threading.main_thread():
            return True
        frame = frame.f_back
    return False


def listed(head: str, lines: Iterable[str]) -> str:
    """Return a headline, and one line for each entry; of many entries, the rest is counted."""
    every = list(lines)
    rest = (
        [f"... and {len(every) - policy.limits.LISTED_LINES} more"] if len(every) > policy.limits.LISTED_LINES else []
    )
    return "\n  ".join([head, *every[: policy.limits.LISTED_LINES], *rest])


def say(text: str) -> None:
    """Write to stderr, and make the exit code report a failure; after an uncaught error it already does."""
    with contextlib.suppress(Exception):
        print(f"chiltepin: {text}", file=sys.stderr, flush=True)  # noqa: T201
    # An uncaught error, or a signal (chiltepin.parsl.signals), has already set it.
    if not _uncaught() and not cause().startswith("SIG"):
        fail()


class _LastFlushFails:
    """A stream that behaves like another one, but whose last flush fails."""

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
    # An error while the standard streams are flushed makes it 120 (docs.python.org, sys.exit), at stderr without a
    # word. os._exit would leave out what other packages have to do at the end, coverage's report for one.
    if _failed.is_set():
        sys.stderr = _LastFlushFails(sys.stderr or io.StringIO())
