"""Record tasks: in the journal for the next process, in the activity log for the user."""

from __future__ import annotations

import os
import time
from contextlib import nullcontext, suppress
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, cast

from chiltepin.errors import BackendError, ChiltepinError, UnsupportedOptionError
from chiltepin.model import NO_TASK, DeleteRequest, TaskState, TaskStatus, unsupported
from chiltepin.protocol import ConfiguredBackend
from chiltepin.transfers import policy
from chiltepin.transfers.activity.log import stop_file
from chiltepin.transfers.journal import NO_WORKFLOW, OtherProcesses
from chiltepin.transfers.outcomes import describe, status_from_error
from chiltepin.transfers.own_files import exists_own

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from chiltepin.model import ItemOutcome, Request, TaskHandle
    from chiltepin.protocol import TransferBackend
    from chiltepin.transfers.activity import ActivityLog
    from chiltepin.transfers.journal import ItemsByWorkflow, Journal

__all__ = ["TaskLog", "TaskRecorder"]


class TaskLog:
    """Writes the lines of one task, identified by its submission id, to the activity log, if any.

    ``asked`` is when the task was requested, in UTC; None if an earlier process has recorded it.
    """

    def __init__(
        self, activity_log: ActivityLog | None, name: str, request: Request, *, backend: str, asked: datetime | None
    ) -> None:
        self._activity_log, self._name, self._request, self._backend = activity_log, name, request, backend
        self._asked, self._task = asked, ""
        self._begun = self._stops = False
        #: The last time before anything moved, and when the first data moved; when the next line is due; the last line.
        self._still, self._moving = asked, cast("datetime | None", None)
        self._due = 0.0
        self._start = time.monotonic()
        self._said: tuple[object, ...] = ()

    def began(self, task_id: str = "") -> None:
        """Record that the task has begun, and its id."""
        if self._activity_log is not None:
            self._task, self._begun = task_id, True
            self._activity_log.write("began", {"id": self._name, **self._facts()})

    def seen(self, status: TaskStatus) -> None:
        """Record the status of a poll if it is new, or if the last line is old."""
        if self._activity_log is None or status.state.final:
            return
        said = (status.state, status.code, self._moves(status))
        now = time.monotonic()
        if said == self._said and now < self._due:
            return
        if not self._begun:
            self.began(status.handle.task_id)
        self._said, self._due = (
            said,
            now + min(max((now - self._start) / 2, policy.wait_times.ACTIVITY_MIN), policy.wait_times.ACTIVITY_MAX),
        )
        self._activity_log.write("seen", {"id": self._name, **self._counts(status)})

    def stop_requested(self, stopped: Callable[[], bool] = lambda: False) -> bool:
        """Whether ``stopped`` is set, or another process has requested a stop; see `task_catalog`."""
        # Until a line is written, other processes do not know the task.
        if self._begun and not self._stops and self._activity_log is not None:
            file = stop_file(self._activity_log.folder, self._name)
            self._stops = exists_own(file)
            if self._stops:
                with suppress(OSError):
                    os.unlink(file)
        return self._stops or stopped()

    def ended(self, status: TaskStatus, *, failed: int = 0) -> None:
        """Record the end of the task, and how many of its items have failed separately."""
        if self._activity_log is None:
            return
        self._task = status.handle.task_id or self._task
        facts = self._facts()
        if self._moves(status) or (status.state is TaskState.SUCCEEDED and failed < facts["count"]):
            self._moving = self._moving or self._still
        self._activity_log.write("ended", {"id": self._name, **facts, **self._counts(status), "failed": failed})

    def failed(self, error: BaseException) -> None:
        """Record that an error has ended the task; a request refused for an option never became a task."""
        if self._begun or not isinstance(error, UnsupportedOptionError):
            self.ended(_end(error, describe(self._request)))

    def _moves(self, status: TaskStatus) -> bool:
        """Whether anything has moved by now; if not, record the time."""
        if self._moving is None and self._activity_log is not None:
            if status.bytes_done or status.bytes_moving or status.files_done:
                self._moving = self._still
            else:
                self._still = self._activity_log.clock()
        return self._moving is not None

    def _facts(self) -> dict[str, Any]:
        request, most = self._request, policy.limits.ACTIVITY_ITEMS
        if isinstance(request, DeleteRequest):
            kind, source, destination, count = "delete", request.endpoint, "", len(request.paths)
            items = [[path, ""] for path in request.paths[:most]]
        else:
            kind, source, destination, count = "transfer", request.source, request.destination, len(request.items)
            items = [[item.source, item.destination] for item in request.items[:most]]
        return {
            "backend": self._backend,
            "task": self._task,
            "kind": kind,
            "from": source,
            "to": destination,
            "items": items,
            "count": count,
            "label": request.label,
            **({"asked": self._asked.isoformat()} if self._asked else {}),
        }

    def _counts(self, status: TaskStatus) -> dict[str, Any]:
        return {
            "state": status.state.value,
            "code": status.code,
            "reason": status.reason[: policy.limits.ACTIVITY_REASON],
            "bytes": status.bytes_done + (0 if status.state.final else status.bytes_moving),
            "files": status.files_done,
            "skipped": status.files_skipped,
            "faults": status.faults,
            **({"skipped_paths": status.skipped_paths[: policy.limits.ACTIVITY_ITEMS]} if status.skipped_paths else {}),
            **({"moving": self._moving.isoformat()} if self._moving else {}),
        }


class TaskRecorder:
    """Records the tasks of one backend in the journal and the activity log, if there are any.

    The attribute ``service`` of the backend, if it has one, distinguishes services of its kind.
    """

    def __init__(
        self, backend: TransferBackend, journal: Journal | None, activity_log: ActivityLog | None = None
    ) -> None:
        self._backend, self._journal, self._activity_log = backend, journal, activity_log
        self._service = str(getattr(backend, "service", backend.name))
        #: The logs of service tasks, by submission id; used by the task manager's thread and `submit_detached`.
        self._task_logs: dict[str, TaskLog] = {}
        #: What other processes record about the backend.
        self.others = None if journal is None else OtherProcesses(journal, backend.name, self._service)
        #: Held from reading ``others`` until `record_intent` has returned, so that of two processes that submit at the
        #: same time, one sees the task of the other.
        self.turn = self.new_turn()

    def new_turn(self) -> AbstractContextManager[object]:
        """Return a turn like `turn`, which is the task manager's, for another thread."""
        return nullcontext() if self._journal is None else self._journal.turn()

    def refuse_unsupported(self, request: Request) -> None:
        """Raise an `UnsupportedOptionError` for an option that the backend lacks, before the request is recorded."""
        if why := unsupported(request, self._backend.capabilities, self._backend.name):
            raise UnsupportedOptionError(why, backend=self._backend.name)

    def record_clean_end(self, workflow: str | None = None) -> None:
        """Record that a workflow has ended cleanly; None means all workflows of this process."""
        if self._journal is not None:
            self._journal.record_clean_end(workflow)

    def abandon(self, workflow: str) -> None:
        """Record that a workflow has not ended cleanly."""
        if self._journal is not None:
            self._journal.abandon(workflow)

    def settings_of(self, request: Request) -> dict[str, Any]:
        """Return what decides the meaning of a request; empty if that is the request alone."""
        return self._backend.settings_of(request) if isinstance(self._backend, ConfiguredBackend) else {}

    # For tasks of a service.

    def record_intent(
        self, submission_id: str, request: Request, *, waited: float = 0.0, asked: ItemsByWorkflow = NO_WORKFLOW
    ) -> None:
        """Record a request before its submission, how many seconds it has waited, and its workflows."""
        if self._journal is not None and request.deadline is not None:
            self._journal.record_intent(
                submission_id,
                request,
                backend=self._backend.name,
                service=self._service,
                deadline=request.deadline,
                asked=asked,
                settings=self.settings_of(request),
            )
        if self._activity_log is not None:
            task_log = self.task_log(submission_id, request, waited=waited)
            self._task_logs[submission_id] = task_log
            task_log.began()

    def submitted(self, handle: TaskHandle) -> None:
        """Record the id that the service has assigned."""
        if self._journal is not None:
            self._journal.submitted(handle)
        if handle.submission_id in self._task_logs:
            self._task_logs[handle.submission_id].began(handle.task_id)

    def refused(self, submission_id: str, why: BaseException | TaskStatus) -> None:
        """Record that no task was created, and why."""
        if self._journal is not None and submission_id:
            self._journal.ended(submission_id, TaskState.FAILED, asked={})
        self.dropped(submission_id, why)

    def withdrawn(self, submission_id: str) -> None:
        """Record in the journal that a request was stopped before any process knew its task: none may submit it."""
        if self._journal is not None and submission_id:
            self._journal.ended(submission_id, TaskState.CANCELED, asked={})

    def dropped(self, submission_id: str, why: BaseException | TaskStatus | None) -> None:
        """Record in the activity log that a task is no longer polled, and why; the next process may join it."""
        task_log = self._task_logs.pop(submission_id, None)
        if task_log is not None:
            task_log.ended(_end(why))

    def seen(self, submission_id: str, status: TaskStatus) -> None:
        """Record the status from time to time."""
        if submission_id in self._task_logs:
            self._task_logs[submission_id].seen(status)

    def ended(
        self,
        submission_id: str,
        request: Request,
        end: TaskStatus,
        *,
        failed: Sequence[ItemOutcome] = (),
        asked: ItemsByWorkflow = NO_WORKFLOW,
        shown: TaskStatus,
    ) -> None:
        """Record how a task has ended, which of its items have failed separately, and for which workflows it ran.

        ``end`` is the status from the service, and ``shown`` the status that the callers see.
        """
        if not submission_id:
            # A task that another process records.
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
        if self._activity_log is not None:
            # Another process may have started it.
            task_log = self._task_logs.pop(submission_id, None) or TaskLog(
                self._activity_log, submission_id, request, backend=self._backend.name, asked=None
            )
            if failed and not shown.reason:
                shown = replace(shown, code=failed[0].code, reason=failed[0].reason)
            task_log.ended(shown, failed=len(failed))

    def task_log(self, name: str, request: Request, *, waited: float = 0.0) -> TaskLog:
        """Return the log of one running task; ``waited`` is the number of seconds since it was requested."""
        asked = datetime.now(timezone.utc) if self._activity_log is None else self._activity_log.clock()
        return TaskLog(
            self._activity_log, name, request, backend=self._backend.name, asked=asked - timedelta(seconds=waited)
        )


def _end(why: BaseException | TaskStatus | None, what: str = "") -> TaskStatus:
    """Return a final status for a task that Chiltepin stops following, even if the task itself continues."""
    if isinstance(why, ChiltepinError):
        end = status_from_error(why, what)
        return replace(end, code=end.code or (why.code if isinstance(why, BackendError) else ""))
    if isinstance(why, TaskStatus) and why.state.final:
        return why
    if isinstance(why, TaskStatus):
        return replace(why, state=TaskState.FAILED)
    reason = f"{type(why).__name__}: {why}" if isinstance(why, Exception) else "It was interrupted."
    return TaskStatus(handle=NO_TASK, state=TaskState.CANCELED, reason=reason)
