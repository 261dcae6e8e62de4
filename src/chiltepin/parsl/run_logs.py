"""Parsl's log files, and the locks of log handlers, when a run ends."""

from __future__ import annotations

import contextlib
import logging
import os
from typing import TYPE_CHECKING

from parsl.log_utils import DEFAULT_FORMAT

from chiltepin.backends import forks

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from parsl.dataflow.dflow import DataFlowKernel

__all__ = ["also_to", "close", "files_of", "open_again", "release_locks"]


def release_locks() -> None:
    """Release the locks of log handlers that an interrupt has left with this thread.

    ``logging.Handler.handle`` takes its lock before its ``try`` (Python 3.10 to 3.12): after a Ctrl-C between the two,
    every thread that logs would hang, Parsl's among them. Seen once, with a loop of submissions.
    """
    loggers = [logging.getLogger(), *logging.getLogger().manager.loggerDict.values()]
    for handler in {handler for one in loggers for handler in getattr(one, "handlers", ())}:
        # A lock of another thread refuses to be released.
        with contextlib.suppress(RuntimeError):
            while handler.lock is not None:
                handler.lock.release()


@contextlib.contextmanager
def also_to(path: str | os.PathLike[str], level: int) -> Iterator[None]:
    """Append what Parsl and Chiltepin log from this level up to one more file."""
    handler = logging.FileHandler(path)
    handler.setLevel(level)
    handler.setFormatter(logging.Formatter(DEFAULT_FORMAT))
    loggers = [logging.getLogger(name) for name in ("parsl", "chiltepin")]
    # Python writes warnings to stderr only as long as a logger has no handler.
    stderr = logging.lastResort if not loggers[-1].hasHandlers() else None
    for one in loggers:
        one.addHandler(handler)
    if stderr is not None:
        loggers[-1].addHandler(stderr)
    try:
        yield
    finally:
        for one in loggers:
            one.removeHandler(handler)
        if stderr is not None:
            loggers[-1].removeHandler(stderr)
        close([handler])


def files_of(dfk: DataFlowKernel) -> list[logging.FileHandler]:
    """Return the log files of a run, which Parsl lets go at the end but does not close."""
    return [
        handler
        # A copy: the end of another workflow takes its own away meanwhile.
        for handler in list(logging.getLogger("parsl").handlers)
        if isinstance(handler, logging.FileHandler)
        and os.path.dirname(handler.baseFilename) == os.path.abspath(dfk.run_dir)
    ]


def open_again(logs: Iterable[logging.FileHandler]) -> None:
    """Have a child made by fork append to log files through streams of its own.

    A thread of the parent that was just writing holds the lock inside the stream, which a child cannot replace.
    """
    for log in logs:
        forks.leave(log.stream)
        log.stream = None


def close(logs: Iterable[logging.FileHandler]) -> None:
    """Close log files, which stay as they are from now on."""
    for log in logs:
        # What another thread is just about to write would open the file again (logging.FileHandler.emit).
        log.emit = _drop  # type: ignore[method-assign]
        log.close()


def _drop(record: logging.LogRecord) -> None:
    """Write nothing: the log is closed."""
