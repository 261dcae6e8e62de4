"""The part of the service that works on tasks: slots, queue, retries, deadlines."""

from __future__ import annotations

import json
import logging
import threading
import uuid
from typing import TYPE_CHECKING, Any

from chiltepin.testing.simulator.api_errors import ApiError
from chiltepin.testing.simulator.moving import Transfer
from chiltepin.testing.simulator.removing import Delete
from chiltepin.testing.simulator.task_faults import TaskFault
from chiltepin.testing.simulator.tasks import Phase, Task

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from chiltepin.testing.simulator.clock import Clock
    from chiltepin.testing.simulator.settings import Settings
    from chiltepin.testing.simulator.submissions import Submission

__all__ = ["Engine"]

log = logging.getLogger(__name__)

HOUR = 3600.0
#: docs.globus.org, "Task Behavior", 3: what a task gets at first, after progress, and when it is paused.
FIRST_DEADLINE, PROGRESS_DEADLINE, PAUSED_DEADLINE = 24 * HOUR, 72 * HOUR, 90 * 24 * HOUR


class Engine:
    """All tasks and the time at which something is to be done about them.

    Its methods may be called from any thread; `lock` is held while a step is done, and by whoever reads a task.

    Parameters
    ----------
    clock, settings
        The time, and how fast and how patient the service is.
    has_session : callable
        Whether the user has logged in lately in a domain.
    """

    def __init__(self, clock: Clock, settings: Settings, has_session: Callable[[Mapping[str, Any]], bool]) -> None:
        self.clock, self.settings, self._has_session = clock, settings, has_session
        self.tasks: dict[str, Task] = {}
        self.lock = threading.RLock()
        #: Set when there may be something to do earlier than before.
        self.changed = threading.Event()
        self._live: dict[str, Task] = {}
        self._by_submission: dict[tuple[str, str], str] = {}
        self._turns = 0
        #: The instant that is being simulated; it never goes back.
        self._now = clock.time()

    # What a submission does.

    def known(self, owner_id: str, submission_id: str) -> str | None:
        """Return the id of the task that a submission id has made already, or None."""
        return self._by_submission.get((owner_id, submission_id))

    def submit(self, order: Submission, *, owner_id: str, submission_id: str, deadline: float | None) -> Task:
        """Take an order.

        Raises
        ------
        ApiError
            409 if the user has too many unfinished tasks, or the same paths are in flight.
        """
        with self.lock:
            mine = [task for task in self._live.values() if task.owner_id == owner_id]
            if len(mine) >= self.settings.pending_limit:
                raise ApiError(
                    409,
                    "ClientError.Conflict.TooManyPendingJobs",
                    f"You have {len(mine)} tasks that have not completed; {self.settings.pending_limit} are allowed",
                )
            if order.kind == "TRANSFER" and any(task.order.same_paths(order) for task in mine):
                raise ApiError(409, "Conflict", "A transfer with identical paths has not yet completed")
            now = self._advance(self.clock.time())
            task = Task(str(uuid.uuid4()), submission_id, order, owner_id, now, deadline or now + FIRST_DEADLINE)
            self.tasks[task.id] = self._live[task.id] = task
            self._by_submission[owner_id, submission_id] = task.id
            self._queue(task)
            self._fill_slots()
            self._heed_rules()
        self.changed.set()
        return task

    # Time.

    def work(self, stopped: Callable[[], bool] = lambda: False) -> None:
        """Do all that is due until now, each thing at its own instant; end early when ``stopped``."""
        while not stopped() and self.step():
            pass

    def step(self) -> bool:
        """Do the next thing that is due; return whether there was one."""
        with self.lock:
            self._heed_rules()
            task = self._next()
            moment = _moment(task) if task is not None else None
            if task is None or moment is None or moment > self.clock.time():
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
        """Return when something is due next, in seconds since 1970; None if nothing is."""
        with self.lock:
            task = self._next()
            return _moment(task) if task is not None else None

    def _next(self) -> Task | None:
        return min(self._live.values(), key=lambda task: (_moment(task), task.turn), default=None)

    @property
    def instant(self) -> float:
        """The instant that is being simulated, in seconds since 1970 UTC."""
        return self._now

    def _advance(self, moment: float) -> float:
        self._now = max(self._now, moment)
        return self._now

    # A task's life.

    def _queue(self, task: Task) -> None:
        self._turns += 1
        task.phase, task.turn, task.due = Phase.QUEUED, self._turns, None

    def _fill_slots(self) -> None:
        """Let the tasks that have waited longest begin, as far as there are slots."""
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
            self.tell(task, "STARTED", {"concurrency": 1, "type": "GridFTP"})
        work = Transfer if task.kind == "TRANSFER" else Delete
        task.retrying = 0
        task.work = work(task, self.settings, _Desk(self, task)).run()

    def _work_on(self, task: Task) -> None:
        """Do one step of a task."""
        assert task.work is not None  # noqa: S101 - a task that works has work
        try:
            self._check_connections(task)
            wait = next(task.work)
        except StopIteration as end:
            if end.value:
                self._back_off(task)
            else:
                self._succeed(task)
        except TaskFault as trouble:
            self.report(task, trouble)
            if trouble.fatal:
                self.end(task, "FAILED", trouble.code, trouble.description)
            else:
                self._back_off(task)
        except Exception as err:
            # Else the clock's thread would die, and every task with it.
            log.exception("The simulator has a bug, in task %s", task.id)
            self.tell(task, "INTERNAL_ERROR", type(err).__name__, is_error=True)
            self.end(task, "FAILED", "INTERNAL_ERROR", "internal error")
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

    def report(self, task: Task, trouble: TaskFault) -> None:
        """Note a trouble of this moment."""
        task.retrying += 1
        task.verify_content(self._now, trouble)

    def moved(self, task: Task) -> None:
        """Note progress; it also moves the deadline, unless the user has given one."""
        if task.kind == "TRANSFER" and not task.order.fixed_deadline:
            task.deadline = max(task.deadline, self._now + PROGRESS_DEADLINE)

    def tell(self, task: Task, code: str, details: object, *, is_error: bool = False) -> None:
        """Add an event of this moment to a task."""
        task.tell(self._now, code, code.replace("_", " ").lower(), details, is_error=is_error)

    def _back_off(self, task: Task) -> None:
        self._drop_work(task)
        task.phase, task.due = Phase.BACKING_OFF, self._now + self.settings.retry_interval

    def _succeed(self, task: Task) -> None:
        counters = task.counters
        if task.kind == "TRANSFER":
            done = {"bytes_transferred": counters.bytes_transferred, "duration": self._now - task.request_time}
            self.tell(task, "PROGRESS", done)
        if counters.subtasks_skipped_errors:
            skipped = f"{counters.subtasks_skipped_errors} paths skipped"
            self.tell(task, "SKIPPED_ERRORS", skipped)
        totals = {"files_succeeded": counters.files_transferred or counters.files}
        self.tell(task, "SUCCEEDED", totals)
        self._close(task, "SUCCEEDED")

    def _meet_deadline(self, task: Task) -> None:
        """End a task whose time is over, unless the service would give it more."""
        waits = task.phase is Phase.QUEUED and task.trouble is None
        if waits and task.kind == "TRANSFER" and not task.order.fixed_deadline:
            task.deadline = self._now + FIRST_DEADLINE
            return
        self.tell(task, "EXPIRED", "The deadline has passed", is_error=True)
        self.end(task, "FAILED", "EXPIRED", "expired")

    def end(self, task: Task, status: str, code: str, description: str) -> None:
        """End a task that did not succeed."""
        task.fatal_error = {"code": code, "description": description}
        self._close(task, status)

    def _close(self, task: Task, status: str) -> None:
        self._drop_work(task)
        task.status, task.phase, task.due = status, Phase.OVER, None
        task.paused, task.completion_time = False, self._now
        self._live.pop(task.id, None)

    def _drop_work(self, task: Task) -> None:
        """Let go of a task's open files; what was half written goes away with them."""
        if task.work is not None:
            task.work.close()
            task.work = None

    # What people do to a task.

    def cancel(self, task: Task) -> bool:
        """Cancel a task; return False if it was over already."""
        with self.lock:
            if task.over:
                return False
            self._advance(self.clock.time())
            self.tell(task, "CANCELED", "The task was canceled by the user")
            self.end(task, "FAILED", "CANCELED", "canceled")
            self._fill_slots()
        self.changed.set()
        return True

    def fail(self, task: Task, code: str, description: str) -> None:
        """End a task as if an error had ended it."""
        with self.lock:
            _demand(task, not task.over, "is over")
            self._advance(self.clock.time())
            self.tell(task, code, description, is_error=True)
            self.end(task, "FAILED", code, description)
            self._fill_slots()
        self.changed.set()

    def hold(self, task: Task, *, paused: bool) -> None:
        """Stop a task until `release`: paused by a rule, or inactive for want of credentials."""
        with self.lock:
            _demand(task, not task.over, "is over")
            self._advance(self.clock.time())
            # From now on it waits for somebody, whatever becomes of the rule that has paused it.
            task.by_rule = False
            self._hold(task, paused=paused)
            self._fill_slots()
        self.changed.set()

    def _hold(self, task: Task, *, paused: bool) -> None:
        self._drop_work(task)
        if task.paused:
            task.deadline = self._now + FIRST_DEADLINE
        task.phase, task.due, task.paused = Phase.HELD, None, paused
        if paused:
            task.deadline = self._now + PAUSED_DEADLINE
            self.tell(task, "PAUSED", "The task was paused by an administrator")
        else:
            task.status = "INACTIVE"
            task.verify_content(self._now, TaskFault("NO_CREDENTIALS", "The credentials have expired"))

    def release(self, task: Task) -> None:
        """Let a held task go on."""
        with self.lock:
            _demand(task, task.phase is Phase.HELD, "is neither paused nor inactive")
            self._advance(self.clock.time())
            self._release(task)
            self._fill_slots()
        self.changed.set()

    def _release(self, task: Task) -> None:
        if task.paused:
            task.deadline = self._now + FIRST_DEADLINE
            self.tell(task, "UNPAUSED", "The task was resumed")
        task.status, task.paused = "ACTIVE", False
        self._queue(task)

    def _heed_rules(self) -> None:
        """Pause the tasks of collections that have been paused, and let those go on that no longer are."""
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
        """Lose all memory of a task, as the service does after a long time."""
        with self.lock:
            task = self.tasks.pop(task_id)
            self._live.pop(task_id, None)
            self._drop_work(task)
            self._fill_slots()

    def close(self) -> None:
        """Let go of all open files."""
        with self.lock:
            for task in self._live.values():
                self._drop_work(task)

    def document(self, task: Task) -> dict[str, Any]:
        """Return the task document of this moment."""
        with self.lock:
            return task.document(max(self._now, self.clock.time()))


class _Desk:
    """Where the work on one task tells what happens."""

    def __init__(self, engine: Engine, task: Task) -> None:
        self._engine, self._task = engine, task

    def trouble(self, trouble: TaskFault) -> None:
        self._engine.report(self._task, trouble)

    def progress(self) -> None:
        self._engine.moved(self._task)

    def event(self, code: str, details: str) -> None:
        self._engine.tell(self._task, code, details)

    def now(self) -> float:
        return self._engine.instant


def _demand(task: Task, fulfilled: bool, otherwise: str) -> None:  # noqa: FBT001 - it is an assertion
    if not fulfilled:
        raise ValueError(f"Task {task.id} {otherwise}; look at its status first.")


def _moment(task: Task) -> float:
    """Return when something is to be done about a task."""
    return task.deadline if task.due is None else min(task.due, task.deadline)


def _login_failed(wanted: Mapping[str, Any]) -> str:
    """Return the words of a GridFTP server that refuses a login, in the form of public reports."""
    result = {"DATA_TYPE": "result#1.1.0", "authorization_parameters": wanted, "code": "permission_denied"}
    message = wanted.get("session_message") or "Your session does not fulfil the policies of this collection"
    return (
        f"Login Failed\n---\nDetails: 530-Login incorrect. : GlobusError: v=1 c=LOGIN_DENIED\\r\\n530-GridFTP-Message: "
        f"{message}\\r\\n530-GridFTP-JSON-Result: {json.dumps(result)}\\r\\n530 End.\\r\\n"
    )
