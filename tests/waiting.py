"""How tests wait for what others do."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def until(true: Callable[[], object], limit: float = 20) -> None:
    """Wait until something is so, for at most ``limit`` seconds."""
    end, pause = time.monotonic() + limit, threading.Event()
    while not true():
        assert time.monotonic() < end, f"it hangs: not within {limit:g} seconds"
        pause.wait(0.01)
