"""What is written down about tasks: in the journal, for the next process, and in the diary, for people."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

from chiltepin.errors import BackendError, ChiltepinError
from chiltepin.model import NO_TASK, TaskState, TaskStatus
from chiltepin.transfers.activity.log import Chapter
from chiltepin.transfers.journal import NO_WORKFLOW, Others
from chiltepin.transfers.outcomes import describe, end_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from chiltepin.model import ItemOutcome, Request, TaskHandle
    from chiltepin.protocol import TransferBackend
    from chiltepin.transfers.activity import Diary
    from chiltepin.transfers.journal import Asked, Journal, News

__all__ = ["TaskRecorder"]


class TaskRecorder:
    """The part of journal and diary that is about one backend; without them it does nothing and knows nothing.

    Parameters
    ----------
    backend : TransferBackend
        The backend. Its attribute ``service``, if it has one, tells one service of its kind from another.
    journal : Journal or None
        Where it is written for the process that comes after this one.
    diary : Diary or None
        Where it is written for people.
    """

    def __init__(self, backend: TransferBackend, journal: Journal | None, diary: Diary | None = None) -> None:
        self._backend, self._journal, self._diary = backend, journal, diary
        #: Of the tasks of a service, by submission id; the thread of the task manager alone comes here.
        self._chapters: dict[str, Chapter] = {}
        #: What other processes write about the backend.
        self.others = None if journal is None else Others(journal, backend.name, self._service)

    @property
    def _service(self) -> str:
        return str(getattr(self._backend, "service", self._backend.name))

    def news(self, *, always: bool = False) -> list[News]:
        """Return what other processes have written since the last call; see `Others.look`."""
        return [] if self.others is None else self.others.look(always=always)

    def settle(self, workflow: str | None = None) -> None:
        """Write down that a workflow has ended in order; None stands for all of this process."""
        if self._journal is not None:
            self._journal.settle(workflow)

    def abandon(self, workflow: str) -> None:
        """Take note that a workflow has not ended in order."""
        if self._journal is not None:
            self._journal.abandon(workflow)

    # Of a task of this process.

    @contextmanager
    def followed(self, name: str, request: Request) -> Iterator[Chapter]:
        """Give what tells of one task while it runs; an error that ends it is told as its end."""
        chapter = self._chapter(name, request)
        try:
            yield chapter
        except BaseException as err:
            chapter.ended(_end(err, describe(request)))
            raise

    # Of a task of a service.

    def intend(self, submission_id: str, request: Request, *, waited: float = 0.0, asked: Asked = NO_WORKFLOW) -> None:
        """Write down what is about to be submitted, before it is; for how many seconds it had waited, and for whom."""
        if self._journal is not None and request.deadline is not None:
            self._journal.intend(
                submission_id,
                request,
                backend=self._backend.name,
                service=self._service,
                deadline=request.deadline,
                asked=asked,
            )
        if self._diary is not None:
            chapter = self._chapter(submission_id, request, waited=waited)
            self._chapters[submission_id] = chapter
            chapter.began()

    def submitted(self, handle: TaskHandle) -> None:
        """Write down what the service calls it."""
        if self._journal is not None:
            self._journal.submitted(handle)
        if handle.submission_id in self._chapters:
            self._chapters[handle.submission_id].began(handle.task_id)

    def refused(self, submission_id: str, error: BaseException) -> None:
        """Write down that no task was made, and why."""
        if self._journal is not None and submission_id:
            self._journal.ended(submission_id, TaskState.FAILED, asked={})
        self.dropped(submission_id, error)

    def dropped(self, submission_id: str, why: BaseException | TaskStatus | None) -> None:
        """Write down that nobody follows a task any more, and why; for people alone, the next process may join it."""
        chapter = self._chapters.pop(submission_id, None)
        if chapter is not None:
            chapter.ended(_end(why))

    def seen(self, submission_id: str, status: TaskStatus) -> None:
        """Write down how it stands, now and then."""
        if submission_id in self._chapters:
            self._chapters[submission_id].seen(status)

    def ended(
        self,
        submission_id: str,
        request: Request,
        end: TaskStatus,
        *,
        failed: Sequence[ItemOutcome] = (),
        asked: Asked = NO_WORKFLOW,
    ) -> None:
        """Write down how it has ended, which of its items have failed for themselves, and for whom it was done."""
        if not submission_id:
            # A task of which another process keeps the record.
            return
        if self._journal is not None:
            self._journal.ended(
                submission_id,
                end.state,
                code=end.code,
                reason=end.reason,
                bytes_done=end.bytes_done,
                files_done=end.files_done,
                faults=end.faults,
                asked=asked,
            )
        if self._diary is not None:
            # Another process may have begun it.
            chapter = self._chapters.pop(submission_id, None) or Chapter(
                self._diary, submission_id, request, backend=self._backend.name, asked=None
            )
            if failed and not end.reason:
                end = replace(end, code=failed[0].code, reason=failed[0].reason)
            chapter.ended(end, failed=len(failed))

    def _chapter(self, name: str, request: Request, *, waited: float = 0.0) -> Chapter:
        asked = datetime.now(timezone.utc) if self._diary is None else self._diary.clock()
        return Chapter(self._diary, name, request, backend=self._backend.name, asked=asked - timedelta(seconds=waited))


def _end(why: BaseException | TaskStatus | None, what: str = "") -> TaskStatus:
    """Return how a task has ended for us; the state is a final one, whatever the task itself may still do."""
    if isinstance(why, ChiltepinError):
        end = end_of(why, what)
        return replace(end, code=end.code or (why.code if isinstance(why, BackendError) else ""))
    if isinstance(why, TaskStatus) and why.state.final:
        return why
    if isinstance(why, TaskStatus):
        return replace(why, state=TaskState.FAILED)
    reason = f"{type(why).__name__}: {why}" if isinstance(why, Exception) else "It was interrupted."
    return TaskStatus(handle=NO_TASK, state=TaskState.CANCELED, reason=reason)
