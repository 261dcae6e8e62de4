"""Track which results the user has read: unread failures are listed when the workflow ends.

A task that depends on a failed transfer carries its error. Reading that task also marks the transfer as read, but
Parsl's internal reads do not.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, TypeVar

from parsl.dataflow.errors import PropagatedException

from chiltepin.parsl.task_records import joined, origin
from chiltepin.transfers.callbacks import INTERNAL, CallbackFuture

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

__all__ = ["ReadFuture"]

T = TypeVar("T")


class ReadFuture(CallbackFuture[T]):
    """A future that notes when code outside Parsl and Chiltepin reads its result.

    Attributes
    ----------
    was_read : bool
        Whether its result, or the result of a task that failed because of it, was read.
    on_read : callable
        Called when the result is read.
    """

    # Class attributes, because existing Parsl futures are changed to this class.
    was_read = False
    on_read: Callable[[], object] = int

    def result(self, timeout: float | None = None) -> T:
        """Return the result, or raise the error; like ``concurrent.futures.Future.result``."""
        try:
            return super().result(timeout)
        finally:
            self._note(sys._getframe(1).f_globals)  # noqa: SLF001 - as `warnings` finds the code that called it

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Return the error, if there is one; like ``concurrent.futures.Future.exception``."""
        try:
            return super().exception(timeout)
        finally:
            self._note(sys._getframe(1).f_globals)  # noqa: SLF001 - as above

    def _note(self, reader: dict[str, Any]) -> None:
        if not self.was_read and self.done() and str(reader.get("__name__")).partition(".")[0] not in INTERNAL:
            _mark_read(self)


def _mark_read(future: Future[Any]) -> None:
    """Mark a future, and all futures whose failures its error carries."""
    waiting: list[Any] = [future]
    while waiting:
        one = waiting.pop()
        one = one if isinstance(one, ReadFuture) else origin(one)
        if not isinstance(one, ReadFuture) or (one.was_read and one is not future):
            continue
        one.was_read = True
        one.on_read()
        if isinstance(CallbackFuture.exception(one), PropagatedException):
            record = vars(one)["task_record"]
            waiting += [*record["depends"], *joined(record)]
