"""How tests wait for what others do, and have no thread to do it."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def until(true: Callable[[], object], limit: float = 60) -> None:
    """Wait until something is so, for at most ``limit`` seconds."""
    end, pause = time.monotonic() + limit, threading.Event()
    while not true():
        assert time.monotonic() < end, f"it hangs: not within {limit:g} seconds"
        pause.wait(0.01)


@contextmanager
def without_threads() -> Iterator[None]:
    """Have the system refuse every thread, as beyond a limit, by a stack that no machine has room for."""
    size = threading.stack_size(1 << 46)
    try:
        yield
    finally:
        threading.stack_size(size)
