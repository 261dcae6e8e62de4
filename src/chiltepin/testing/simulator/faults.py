"""Injected failures of requests, the request log, and the rate limit."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from chiltepin.testing.simulator.settings import Settings

__all__ = ["Faults", "Mishap", "Served"]


@dataclass
class Mishap:
    """A failure of the next requests that match; see `Simulator.fail_next` and `Simulator.slow_next`."""

    times: int
    status: int
    code: str
    method: str | None = None
    path: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    drop: bool = False
    after: bool = False
    body: bytes | None = None
    #: Seconds to delay the response, which is then correct.
    slow: float = 0.0

    def hits(self, method: str, path: str) -> bool:
        """Whether a request matches."""
        return self.method in (None, method) and (self.path is None or self.path in path)


@dataclass(frozen=True)
class Served:
    """A request that was served; ``status`` is 0 if the response was not sent."""

    method: str
    path: str
    query: str
    status: int
    time: float


class Faults:
    """The mishaps of the next requests, and the requests so far; thread-safe."""

    def __init__(self, settings: Settings) -> None:
        self.requests: list[Served] = []
        #: Changes each JSON response: called with method, path and document, it returns the document to send.
        self.rewrite: Callable[[str, str, Any], Any] | None = None
        self._settings = settings
        self._mishaps: list[Mishap] = []
        self._moments: dict[str, deque[float]] = {}
        self._lock = threading.Lock()

    def add(self, mishap: Mishap) -> None:
        """Add a mishap after the existing mishaps."""
        with self._lock:
            self._mishaps.append(mishap)

    def take(self, method: str, path: str) -> Mishap | None:
        """Return the mishap of a request, and count it; None for a normal request."""
        with self._lock:
            for mishap in self._mishaps:
                if mishap.hits(method, path):
                    mishap.times -= 1
                    if mishap.times <= 0:
                        self._mishaps.remove(mishap)
                    return mishap
        return None

    def note(self, served: Served) -> None:
        """Record a request."""
        with self._lock:
            self.requests.append(served)

    def wait_for(self, token: str, now: float) -> float:
        """Return how many seconds a client must wait before its next request."""
        if self._settings.request_rate is None:
            return 0.0
        window = self._settings.rate_window
        with self._lock:
            moments = self._moments.setdefault(token, deque())
            while moments and moments[0] <= now - window:
                moments.popleft()
            if len(moments) >= self._settings.request_rate * window:
                return moments[0] + window - now
            moments.append(now)
        return 0.0
