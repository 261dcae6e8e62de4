"""Parsl's log files, and the locks of log handlers, when a run ends."""

from __future__ import annotations

import contextlib
import logging
import os
from typing import TYPE_CHECKING

from parsl.log_utils import DEFAULT_FORMAT

from chiltepin.backends import forks
from chiltepin.errors import ConfigError
from chiltepin.parsl.run_folders import checked_path

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from parsl.dataflow.dflow import DataFlowKernel

__all__ = ["also_to", "close", "files_of", "open_again", "release_locks"]


def release_locks() -> None:
    """Release the locks of log handlers that this thread still holds after an interrupt.

    ``logging.Handler.handle`` takes its lock before its ``try`` (Python 3.10 to 3.12): after a Ctrl-C between the two,
    every thread that logs would hang, including Parsl's. Seen once, in a loop of submissions.
    """
    loggers = [logging.getLogger(), *logging.getLogger().manager.loggerDict.values()]
    for handler in {handler for one in loggers for handler in getattr(one, "handlers", ())}:
        # A lock that another thread holds raises this.
        with contextlib.suppress(RuntimeError):
            while handler.lock is not None:
                handler.lock.release()


@contextlib.contextmanager
def also_to(path: str | os.PathLike[str], level: int) -> Iterator[None]:
    """Also append the log messages of Parsl and Chiltepin, from this level up, to a file."""
    name = checked_path("log_file", path, "file")
    try:
        handler, reason = logging.FileHandler(name), ""
    except OSError as error:
        reason = error.strerror or type(error).__name__
    if reason:
        raise ConfigError(
            f"log_file={name!r} cannot be written ({reason}); name a file in a folder that you can write to."
        )
    handler.setLevel(level)
    handler.setFormatter(logging.Formatter(DEFAULT_FORMAT))
    loggers = [logging.getLogger(name) for name in ("parsl", "chiltepin")]
    # Python writes warnings to stderr only while a logger has no handler.
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
    """Return the log handlers of a run, which Parsl removes at the end but does not close."""
    return [
        handler
        # A copy: another workflow that ends removes its handlers at the same time.
        for handler in list(logging.getLogger("parsl").handlers)
        if isinstance(handler, logging.FileHandler)
        and os.path.dirname(handler.baseFilename) == os.path.abspath(dfk.run_dir)
    ]


def open_again(logs: Iterable[logging.FileHandler]) -> None:
    """Give a forked child new streams for the log files, opened for appending.

    A writing thread of the parent may have held the lock inside the stream, which a child cannot replace.
    """
    for log in logs:
        forks.leave(log.stream)
        log.stream = None


def close(logs: Iterable[logging.FileHandler]) -> None:
    """Close log files; later messages are dropped."""
    for log in logs:
        # A message from another thread would reopen the file (logging.FileHandler.emit).
        log.emit = _drop  # type: ignore[method-assign]
        log.close()


def _drop(record: logging.LogRecord) -> None:
    """Drop a message: the log is closed."""
