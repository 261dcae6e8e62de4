"""What the hub writes into the journal, and finds there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chiltepin.model import TaskState

if TYPE_CHECKING:
    from chiltepin.journal import Entry, Journal
    from chiltepin.model import Request, TaskHandle, TaskStatus
    from chiltepin.protocol import TransferBackend

__all__ = ["Record"]


class Record:
    """The part of a journal that is about one backend; without a journal it does nothing and knows nothing.

    Parameters
    ----------
    backend : TransferBackend
        The backend. Its attribute ``service``, if it has one, tells one service of its kind from another.
    journal : Journal or None
        Where it is written.
    """

    def __init__(self, backend: TransferBackend, journal: Journal | None) -> None:
        self._backend, self._journal = backend, journal

    @property
    def _service(self) -> str:
        return str(getattr(self._backend, "service", self._backend.name))

    def unfinished(self) -> list[Entry]:
        """Return what other processes have begun, and as far as they have written, not ended."""
        if self._journal is None:
            return []
        return self._journal.unfinished(backend=self._backend.name, service=self._service)

    def ended_lately(self) -> list[tuple[Entry, bool]]:
        """Return what has ended since a process was killed, and of each whether that one saw it."""
        if self._journal is None:
            return []
        return self._journal.ended_lately(backend=self._backend.name, service=self._service)

    def settle(self) -> None:
        """Write down that all is in order so far."""
        if self._journal is not None:
            self._journal.settle()

    def intend(self, submission_id: str, request: Request) -> None:
        """Write down what is about to be submitted, before it is."""
        if self._journal is not None and request.deadline is not None:
            self._journal.intend(
                submission_id, request, backend=self._backend.name, service=self._service, deadline=request.deadline
            )

    def submitted(self, handle: TaskHandle) -> None:
        """Write down what the service calls it."""
        if self._journal is not None:
            self._journal.submitted(handle)

    def refused(self, submission_id: str) -> None:
        """Write down that no task was made."""
        if self._journal is not None and submission_id:
            self._journal.ended(submission_id, TaskState.FAILED)

    def ended(self, submission_id: str, end: TaskStatus) -> None:
        """Write down how it has ended."""
        if self._journal is not None:
            self._journal.ended(
                submission_id,
                end.state,
                code=end.code,
                reason=end.reason,
                bytes_done=end.bytes_done,
                files_done=end.files_done,
                faults=end.faults,
            )
