"""`ProxyFuture`: a replacement for a future that belongs to other code, for Parsl to wait for."""

from __future__ import annotations

import functools
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from chiltepin.errors import TaskCanceledError

__all__ = ["ProxyFuture"]


class ProxyFuture(Future[Any]):
    """A future that ends as another future ends, or earlier, and never changes that future."""

    #: The future that this one follows, and so ends without `end`; None if it follows none.
    followed: Future[Any] | None = None

    def end(self, error: TaskCanceledError) -> None:
        """End with `error`, unless it has ended."""
        with suppress(InvalidStateError):
            self.set_exception(error)

    def follow(self, other: Future[Any], error: TaskCanceledError) -> None:
        """End as `other` ends; if that is canceled, with `error`."""
        self.followed = other
        if other.running():
            self.set_running_or_notify_cancel()
        other.add_done_callback(functools.partial(self._copy, error))

    def _copy(self, error: TaskCanceledError, other: Future[Any]) -> None:
        with suppress(InvalidStateError):
            if other.cancelled():
                self.set_exception(error)
            elif (failure := other.exception()) is not None:
                self.set_exception(failure)
            else:
                self.set_result(other.result())
