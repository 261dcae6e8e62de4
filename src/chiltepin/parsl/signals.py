"""Make SIGTERM and SIGHUP end a workflow as Ctrl-C does: cancel unfinished transfers, and list them on stderr."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from typing import TYPE_CHECKING

from chiltepin.backends import forks, threads
from chiltepin.parsl import child_processes
from chiltepin.transfers import interpreter_exit

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

__all__ = ["handle", "quit_by_interrupt"]

#: Seconds for a clean shutdown; `timeout` and batch systems send SIGKILL some time after SIGTERM.
ORDERLY = 4.0


class SIGTERM(SystemExit):
    """Raised in the main thread."""


class SIGHUP(SystemExit):
    """Raised in the main thread."""


#: The handlers that `handle` has set, by signal.
_handled: dict[int, Callable[..., object]] = {}

_ENDS = {SIGTERM.__name__: SIGTERM, SIGHUP.__name__: SIGHUP}


def handle(running: Callable[[], bool], name_left: Callable[[], object]) -> None:
    """Handle both signals where they still have their default action.

    If no workflow is ``running``, they end the process at once. If the shutdown takes too long, ``name_left`` lists the
    canceled tasks on stderr. A forked child has the default action again.
    """

    def stop(number: int, _: FrameType | None) -> None:
        # A second signal ends the process at once.
        signal.signal(number, signal.SIG_DFL)
        name = signal.Signals(number).name
        if not running():
            os.kill(os.getpid(), number)
            return
        interpreter_exit.note(name)
        with contextlib.suppress(Exception):
            threads.start(_insist, number, name_left, name="chiltepin-deadline")
        raise _ENDS[name](128 + number)

    if threading.current_thread() is threading.main_thread():
        for name in _ENDS:
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) == signal.SIG_DFL:
                signal.signal(number, stop)
                _handled[number] = stop


def quit_by_interrupt() -> None:
    """End this process and its children as a second Ctrl-C does; do nothing at a prompt or with another handler.

    It prints no traceback, and waits for no thread.
    """
    if interpreter_exit.is_interactive() or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        return
    with contextlib.suppress(Exception):
        child_processes.end_descendants(kept=())
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGINT)


@forks.register
def _restore_defaults() -> None:
    """Let both signals end a forked child at once.

    A Python handler runs only between two Python instructions: a signal that arrives just before the child waits for a
    lock, as the processes of a `multiprocessing.Pool` do when they are told to end, would not wake it.
    """
    for number, handler in _handled.items():
        if signal.getsignal(number) is handler:
            signal.signal(number, signal.SIG_DFL)
    _handled.clear()


def _insist(number: int, name_left: Callable[[], object]) -> None:
    """End this process and its children, although a task or a bare ``except`` blocks the end."""
    time.sleep(ORDERLY)
    with contextlib.suppress(Exception):
        name_left()
    with contextlib.suppress(Exception):
        child_processes.end_descendants(kept=())
    os.kill(os.getpid(), number)
