"""Wait for a condition, and simulate a lack of threads."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def until(true: Callable[[], object], limit: float = 60) -> None:
    """Wait until a condition is true, for at most ``limit`` seconds."""
    end, pause = time.monotonic() + limit, threading.Event()
    while not true():
        assert time.monotonic() < end, f"it hangs: not within {limit:g} seconds"
        pause.wait(0.01)


@contextmanager
def without_threads() -> Iterator[None]:
    """Make every start of a thread fail, as at a system limit, by a stack size that no machine can provide."""
    size = threading.stack_size(1 << 46)
    try:
        yield
    finally:
        threading.stack_size(size)
