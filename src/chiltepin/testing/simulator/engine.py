"""Run the tasks: slots, queue, retries, deadlines."""

from __future__ import annotations

import json
import logging
import threading
import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from chiltepin.testing.simulator.api_errors import ApiError
from chiltepin.testing.simulator.moving import Transfer
from chiltepin.testing.simulator.removing import Delete
from chiltepin.testing.simulator.task_faults import TaskFault
from chiltepin.testing.simulator.tasks import Phase, Task, described

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from chiltepin.testing.simulator.clock import Clock
    from chiltepin.testing.simulator.settings import Settings
    from chiltepin.testing.simulator.submissions import Submission

__all__ = ["Engine"]

log = logging.getLogger(__name__)

#: Seconds to the deadline of a new task, and of a paused task (docs.globus.org, "Task Behavior", 3).
FIRST_DEADLINE, PAUSED_DEADLINE = 24 * 3600.0, 90 * 24 * 3600.0


class Engine:
    """All tasks, and when each of them needs the next step.

    Its methods may be called from any thread; `lock` is held during each step, and must be held to read a task.

    ``has_session`` tells whether earlier logins fulfill authorization parameters.
    """

    def __init__(self, clock: Clock, settings: Settings, has_session: Callable[[Mapping[str, Any]], bool]) -> None:
        self.clock, self.settings, self._has_session = clock, settings, has_session
        self.tasks: dict[str, Task] = {}
        self.lock = threading.RLock()
        #: Set when the next step may be due earlier than before.
        self.changed = threading.Event()
        self._live: dict[str, Task] = {}
        self._by_submission: dict[tuple[str, str], str] = {}
        self._turns = 0
        #: The simulated time; it never goes back.
        self._now = clock.time()

    # Submissions.

    def known(self, owner_id: str, submission_id: str) -> str | None:
        """Return the id of the task already created for a submission id, or None."""
        return self._by_submission.get((owner_id, submission_id))

    def submit(self, submission: Submission, *, owner_id: str, submission_id: str, deadline: float | None) -> Task:
        """Create a task from a submission; 409 if the user has too many tasks, or a task with the same paths."""
        with self._change():
            mine = [task for task in self._live.values() if task.owner_id == owner_id]
            if len(mine) >= self.settings.pending_limit:
                raise ApiError(
                    409,
                    "ClientError.Conflict.TooManyPendingJobs",
                    f"You have {len(mine)} tasks that have not completed; {self.settings.pending_limit} are allowed",
                )
            if submission.kind == "TRANSFER" and any(task.submission.same_paths(submission) for task in mine):
                raise ApiError(409, "Conflict", "A transfer with identical paths has not yet completed")
            task = Task(
                id=str(uuid.uuid4()),
                submission_id=submission_id,
                submission=submission,
                owner_id=owner_id,
                request_time=self._now,
                deadline=deadline or self._now + FIRST_DEADLINE,
                now=lambda: self._now,
            )
            self.tasks[task.id] = self._live[task.id] = task
            self._by_submission[owner_id, submission_id] = task.id
            self._queue(task)
            self._fill_slots()
            self._apply_rules()
        return task

    @contextmanager
    def _change(self) -> Iterator[None]:
        """Run a block under the lock, at the current time; then fill the slots that it has freed."""
        with self.lock:
            self._advance(self.clock.time())
            yield
            self._fill_slots()
        self.changed.set()

    # Time.

    def work(self, stopped: Callable[[], bool] = lambda: False) -> None:
        """Do every step that is due by now, each at its own time; end early when ``stopped``."""
        while not stopped() and self.step():
            pass

    def step(self) -> bool:
        """Do the next step that is due; return whether there was one."""
        with self.lock:
            self._apply_rules()
            task = self._next()
            if task is None or (moment := _moment(task)) > self.clock.time():
                return False
            self._advance(moment)
            if task.deadline <= moment:
                self._meet_deadline(task)
            elif task.phase is Phase.BACKING_OFF:
                self._queue(task)
            else:
                self._work_on(task)
            self._fill_slots()
            return True

    def next_moment(self) -> float | None:
        """Return when the next step is due, in seconds since 1970; None if there is none."""
        with self.lock:
            task = self._next()
            return _moment(task) if task is not None else None

    def _next(self) -> Task | None:
        return min(self._live.values(), key=lambda task: (_moment(task), task.turn), default=None)

    def _advance(self, moment: float) -> None:
        self._now = max(self._now, moment)

    # The life of a task.

    def _queue(self, task: Task) -> None:
        self._turns += 1
        task.phase, task.turn, task.due = Phase.QUEUED, self._turns, None

    def _fill_slots(self) -> None:
        """Start the tasks that have waited longest in the free slots."""
        busy: dict[tuple[str, str], int] = {}
        for task in self._live.values():
            if task.phase is Phase.WORKING:
                busy[task.owner_id, task.kind] = busy.get((task.owner_id, task.kind), 0) + 1
        queued = [task for task in self._live.values() if task.phase is Phase.QUEUED]
        for task in sorted(queued, key=lambda task: task.turn):
            slot = (task.owner_id, task.kind)
            if busy.get(slot, 0) < self.settings.slots:
                busy[slot] = busy.get(slot, 0) + 1
                self._begin(task)

    def _begin(self, task: Task) -> None:
        task.phase, task.due = Phase.WORKING, self._now
        if not task.started:
            task.started = True
            task.due = self._now + self.settings.task_latency
            task.add_event("STARTED", {"concurrency": 1, "type": "GridFTP"})
        work = Transfer if task.kind == "TRANSFER" else Delete
        task.retrying = 0
        task.work = work(task, self.settings).run()

    def _work_on(self, task: Task) -> None:
        assert task.work is not None  # noqa: S101 - a task that works has work
        try:
            self._check_connections(task)
            wait = next(task.work)
        except StopIteration as end:
            if end.value:
                self._back_off(task)
            else:
                self._succeed(task)
        except TaskFault as fault:
            if fault.fatal:
                task.add_fault(fault)
                self._end_failed(task, fault.code)
            else:
                task.retry(fault)
                self._back_off(task)
        except Exception as err:
            # Otherwise the clock's thread would end, and no task would continue.
            log.exception("The simulator has a bug, in task %s", task.id)
            task.add_event("INTERNAL_ERROR", type(err).__name__, is_error=True)
            self._end_failed(task, "INTERNAL_ERROR")
        else:
            task.due = self._now + wait

    def _check_connections(self, task: Task) -> None:
        for collection in task.collections:
            if not collection.connected:
                details = f"{collection.where('')}: Globus Connect Personal is not connected"
                raise TaskFault("GC_NOT_CONNECTED", details, everywhere=True)
            wanted = collection.session_parameters
            if not self._has_session(wanted):
                raise TaskFault("NO_CREDENTIALS", f"{collection.where('')}: {_login_failed(wanted)}", everywhere=True)

    def _back_off(self, task: Task) -> None:
        self._drop_work(task)
        task.phase, task.due = Phase.BACKING_OFF, self._now + self.settings.retry_interval

    def _succeed(self, task: Task) -> None:
        counters = task.counters
        if task.kind == "TRANSFER":
            done = {"bytes_transferred": counters.bytes_transferred, "duration": self._now - task.request_time}
            task.add_event("PROGRESS", done)
        if counters.subtasks_skipped_errors:
            skipped = f"{counters.subtasks_skipped_errors} paths skipped"
            task.add_event("SKIPPED_ERRORS", skipped)
        totals = {"files_succeeded": counters.files_transferred or counters.files}
        task.add_event("SUCCEEDED", totals)
        self._close(task, "SUCCEEDED")

    def _meet_deadline(self, task: Task) -> None:
        """End a task at its deadline; a transfer that is still queued gets another day, as at the service."""
        waits = task.phase is Phase.QUEUED and task.fault is None
        if waits and task.kind == "TRANSFER" and not task.submission.fixed_deadline:
            task.deadline = self._now + FIRST_DEADLINE
            return
        task.add_event("EXPIRED", "The deadline has passed", is_error=True)
        self._end_failed(task, "EXPIRED")

    def _end_failed(self, task: Task, code: str, description: str = "") -> None:
        task.fatal_error = {"code": code, "description": description or described(code)}
        self._close(task, "FAILED")

    def _close(self, task: Task, status: str) -> None:
        self._drop_work(task)
        task.status, task.phase, task.due = status, Phase.OVER, None
        task.paused, task.completion_time = False, self._now
        self._live.pop(task.id, None)

    def _drop_work(self, task: Task) -> None:
        """Close a task's open files; this removes its partial files."""
        if task.work is not None:
            task.work.close()
            task.work = None

    # What users and administrators do to a task.

    def cancel(self, task: Task) -> bool:
        """Cancel a task; return False if it has already ended."""
        with self._change():
            if task.over:
                return False
            task.add_event("CANCELED", "The task was canceled by the user")
            self._end_failed(task, "CANCELED")
        return True

    def fail(self, task: Task, code: str, description: str) -> None:
        """End a task with an error."""
        with self._change():
            _demand(task, not task.over, "is over")
            task.add_event(code, description, is_error=True)
            self._end_failed(task, code, description)

    def hold(self, task: Task, *, paused: bool) -> None:
        """Stop a task until `release`: paused, or inactive because its credentials have expired."""
        with self._change():
            _demand(task, not task.over, "is over")
            # From now on the task waits for `release`, even if the rule that paused it is removed.
            task.by_rule = False
            self._hold(task, paused=paused)

    def _hold(self, task: Task, *, paused: bool) -> None:
        self._drop_work(task)
        if task.paused:
            task.deadline = self._now + FIRST_DEADLINE
        task.phase, task.due, task.paused = Phase.HELD, None, paused
        if paused:
            task.deadline = self._now + PAUSED_DEADLINE
            task.add_event("PAUSED", "The task was paused by an administrator")
        else:
            task.status = "INACTIVE"
            task.add_fault(TaskFault("NO_CREDENTIALS", "The credentials have expired"))

    def release(self, task: Task) -> None:
        """Resume a task that is held."""
        with self._change():
            _demand(task, task.phase is Phase.HELD, "is neither paused nor inactive")
            self._release(task)

    def _release(self, task: Task) -> None:
        if task.paused:
            task.deadline = self._now + FIRST_DEADLINE
            task.add_event("UNPAUSED", "The task was resumed")
        task.status, task.paused = "ACTIVE", False
        self._queue(task)

    def _apply_rules(self) -> None:
        """Pause the tasks of paused collections, and resume those of collections that are no longer paused."""
        for task in list(self._live.values()):
            ruled = any(collection.paused for collection in task.collections)
            if ruled and task.phase is not Phase.HELD:
                task.by_rule = True
                self._hold(task, paused=True)
                self._fill_slots()
            elif not ruled and task.by_rule and task.paused:
                task.by_rule = False
                self._release(task)
                self._fill_slots()

    def forget(self, task_id: str) -> None:
        """Forget a task, as the service does after a long time."""
        with self.lock:
            task = self.tasks.pop(task_id)
            self._live.pop(task_id, None)
            self._drop_work(task)
            self._fill_slots()

    def close(self) -> None:
        """Close all open files."""
        with self.lock:
            for task in self._live.values():
                self._drop_work(task)

    def document(self, task: Task) -> dict[str, Any]:
        """Return the current task document."""
        with self.lock:
            return task.document(max(self._now, self.clock.time()))


def _demand(task: Task, fulfilled: bool, otherwise: str) -> None:  # noqa: FBT001 - it is an assertion
    if not fulfilled:
        raise ValueError(f"Task {task.id} {otherwise}; look at its status first.")


def _moment(task: Task) -> float:
    return task.deadline if task.due is None else min(task.due, task.deadline)


def _login_failed(wanted: Mapping[str, Any]) -> str:
    """Return the message of a GridFTP server that refuses a login, as quoted in public reports."""
    result = {"DATA_TYPE": "result#1.1.0", "authorization_parameters": wanted, "code": "permission_denied"}
    message = wanted.get("session_message") or "Your session does not fulfill the policies of this collection"
    return (
        f"Login Failed\n---\nDetails: 530-Login incorrect. : GlobusError: v=1 c=LOGIN_DENIED\\r\\n530-GridFTP-Message: "
        f"{message}\\r\\n530-GridFTP-JSON-Result: {json.dumps(result)}\\r\\n530 End.\\r\\n"
    )
