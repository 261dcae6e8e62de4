"""Start threads; if the system refuses, raise an error with the reason."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from chiltepin.errors import BackendError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["begin", "start"]


def start(target: Callable[..., object], *args: Any, name: str) -> threading.Thread:
    """Start a daemon thread and return it; a BackendError if the system refuses, for example due to ``ulimit -u``."""
    thread = threading.Thread(target=target, args=args, name=name, daemon=True)
    begin(thread)
    return thread


def begin(thread: threading.Thread) -> None:
    """Start an existing thread; errors are those of `start`."""
    try:
        thread.start()
    except (RuntimeError, MemoryError) as err:
        reason = str(err)
    else:
        return
    raise BackendError(
        f"Could not start a thread ({reason}); raise the limit of processes (ulimit -u), or run fewer tasks at a time.",
        code="NO_THREAD",
        transient=True,
    )
