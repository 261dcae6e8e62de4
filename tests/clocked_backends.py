"""Backends on a simulated clock, which can fail in every way that a service can."""

from __future__ import annotations

import posixpath
from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone

from chiltepin.errors import BackendError, PathsInUseError
from chiltepin.model import UNREAD, Capabilities, DirEntry, ItemOutcome, TaskHandle, TaskState, TaskStatus

EPOCH = datetime(2026, 1, 1, tzinfo=timezone.utc)


@dataclass
class Clock:
    """A clock that moves only when a thread sleeps."""

    time: float = 1000.0
    sleeps: list[float] = field(default_factory=list)

    def monotonic(self) -> float:
        """Return the time in seconds."""
        return self.time

    def now(self) -> datetime:
        """Return the time of day in UTC."""
        return EPOCH + timedelta(seconds=self.time)

    def sleep(self, seconds: float) -> None:
        """Advance the clock."""
        self.sleeps.append(seconds)
        self.time += seconds


class ClockedBackend:
    """A backend whose tasks take ``lasts`` seconds of the clock, and ``stops_in`` seconds to stop."""

    name = "clocked"

    def __init__(self, clock, *, lasts=5.0, stops_in=0.0, outcome=TaskState.SUCCEEDED, runs_on="service"):
        self.capabilities = Capabilities(runs_on=runs_on, durable=True)
        self.clock, self.lasts, self.stops_in, self.outcome = clock, lasts, stops_in, outcome
        self.tasks, self.requests, self.cancelled, self.asked = {}, {}, {}, []
        #: The errors of the next calls, by method; `fault` has the state, code and bytes of live tasks.
        self.refusals = {"new_submission_id": [], "submit": [], "poll": [], "cancel": []}
        self.lost_replies = 0
        self.fault = (TaskState.ACTIVE, "", 0)

    @classmethod
    def from_config(cls, endpoints, options):
        """Make a backend with a new clock."""
        return cls(Clock(), **options)

    def _refuse(self, method):
        if self.refusals[method]:
            raise self.refusals[method].pop(0)

    @property
    def polls(self):
        """The number of polls."""
        return len(self.asked)

    def new_submission_id(self):
        """Return the next id."""
        self._refuse("new_submission_id")
        return f"id-{len(self.tasks)}"

    def submit(self, request, submission_id):
        """Start a task, once for each id."""
        if not self.lost_replies:
            self._refuse("submit")
        self.tasks.setdefault(submission_id, self.clock.time)
        self.requests[submission_id] = request
        if self.lost_replies:
            self.lost_replies -= 1
            self._refuse("submit")
        return TaskHandle(backend=self.name, task_id=submission_id, submission_id=submission_id)

    def poll(self, handles):
        """Return the status of each task by the clock."""
        self.asked.append(list(handles))
        self._refuse("poll")
        return [self._status(handle) for handle in handles]

    def _status(self, handle):
        stopped = self.cancelled.get(handle.task_id)
        state, code, done = self.fault
        if stopped is not None and self.clock.time >= stopped + self.stops_in:
            state = code = TaskState.CANCELED
        elif stopped is None and self.clock.time >= self.tasks[handle.task_id] + self.lasts:
            state = code = self.outcome
        code = code if isinstance(code, str) else code.name
        return TaskStatus(handle=handle, state=state, code=code, reason="As the backend says.", bytes_done=done)

    def wait(self, handle, seconds):
        """Advance the clock until the task ends, by at most ``seconds``."""
        ends = self.tasks[handle.task_id] + self.lasts
        self.clock.sleep(max(0.0, min(seconds, ends - self.clock.time)))

    def cancel(self, handle):
        """Start to stop a task."""
        self._refuse("cancel")
        self.cancelled.setdefault(handle.task_id, self.clock.time)

    def ls(self, endpoint, path):
        """Return no entries."""
        return []

    def close(self):
        """Do nothing: the backend holds no resources."""


def _handle(task_id):
    return TaskHandle(backend="batching", task_id=task_id, submission_id=task_id)


@dataclass
class Task:
    """A task of the service."""

    request: object
    begun: float
    items: tuple
    #: The process that submitted it.
    process: int = 0
    #: Seconds until its first item is done, and the time at which it stops after a cancellation.
    lasts: float = 1.0
    stops: float | None = None
    state: TaskState = TaskState.ACTIVE
    code: str = ""
    paused: bool = False
    #: Items that are done, with the time; items that were skipped, with the reason.
    done: dict = field(default_factory=dict)
    skipped: dict = field(default_factory=dict)
    cancelled: bool = False


class HomeView:
    """The backend of one process: a service, with the folder where relative paths start according to its settings."""

    name = "batching"

    def __init__(self, service, home):
        self._service, self._home = service, home
        self.capabilities = BatchingService.capabilities
        # From Python 3.12 on, `isinstance` finds no method of a protocol through `__getattr__`.
        for method in ("new_submission_id", "poll", "cancel", "close"):
            setattr(self, method, getattr(service, method))

    def __getattr__(self, name):
        return getattr(self._service, name)

    @classmethod
    def from_config(cls, endpoints, options):
        """Make a backend that knows only places."""
        return cls(BatchingService(Clock()), endpoints["b"]["home"])

    def place(self, endpoint, path):
        """Return the names from the root to a path."""
        return (endpoint, *posixpath.normpath(posixpath.join(self._home, path)).split("/")[1:])

    def settings_of(self, request):
        """Return the home as JSON data."""
        return {"endpoints": {"b": {"home": self._home}}, "options": {}}

    def submit(self, request, submission_id):
        """Submit a request with absolute paths."""
        if hasattr(request, "paths"):
            request = replace(request, paths=tuple(posixpath.join(self._home, path) for path in request.paths))
        else:
            items = [replace(item, destination=posixpath.join(self._home, item.destination)) for item in request.items]
            request = replace(request, items=tuple(items))
        return self._service.submit(request, submission_id)

    def ls(self, endpoint, path):
        """List the destinations."""
        return self._service.ls(endpoint, posixpath.normpath(posixpath.join(self._home, path)))

    def outcomes(self, handle, request):
        """Return the recorded outcome of each item."""
        return self._service.outcomes(handle, request)


class BatchingService:
    """A service that batches and records every item; a missing source is skipped, or blocks its task.

    The version of a source counts how often it was written; a destination holds the version that was copied.
    """

    name = "batching"
    capabilities = Capabilities(runs_on="service", durable=True, batches=True, slots=3, max_items=100)

    def __init__(self, clock):
        self.clock, self.missing, self.denied = clock, set(), set()
        self.tasks, self.faults, self.refused, self._ids = {}, {}, {}, 0
        #: The version of each source, the version at each existing destination, and the replaced versions.
        self.sources, self.holds, self.replaced = Counter(), {}, {}
        #: Seconds that new tasks take, seconds until a canceled task stops, and whether outcomes are reported.
        self.lasts, self.stops_in, self.tells = 1.0, 0.0, True
        #: The process that makes the current call; the test sets it.
        self.process = 0
        #: What other threads do during the next submission.
        self.meanwhile = []
        #: Seconds that the next call of a method takes, before or after its work.
        self.slow = {}
        #: The fault in the responses about a task, by its id.
        self.bad = {}

    def write(self, source):
        """Rewrite a source."""
        self._work()
        self.sources[source] += 1

    def put(self, path):
        """Create a file at a destination, as another program would."""
        self._work()
        self._replace(path, (None, 0), by=None)

    def _replace(self, path, held, *, by):
        self.replaced.setdefault(path, []).append((self.clock.time, by, self.holds.get(path)))
        if held is None:
            self.holds.pop(path, None)
        else:
            self.holds[path] = held

    def held_since(self, path, moment, *, process):
        """Return what a destination holds, and what others than ``process`` have replaced there since ``moment``."""
        others = [held for until, by, held in self.replaced.get(path, ()) if until >= moment and by != process]
        return [self.holds.get(path), *others]

    def fail(self, method, error, *, after, times=1):
        """Make the next calls of a method fail, before or after their work."""
        self.faults[method] = [(error, after)] * times

    def _pass(self, seconds):
        """Advance the clock during a call."""
        self.clock.time += seconds

    def _next_fault(self, method):
        """Return the error of the next call, if any, and whether it comes after the work; it happens once."""
        return self.faults[method].pop() if self.faults.get(method) else (None, False)

    def _guarded(self, method, work):
        error, after = self._next_fault(method)
        before, late = self.slow.pop(method, (0.0, 0.0))
        self._pass(before)
        if error is not None and not after:
            raise error
        found = work()
        self._pass(late)
        if error is not None:
            raise error
        return found

    def _work(self):
        """Do the due items of every live task, in order of time."""
        due = [
            (task.begun + task.lasts + 0.1 * position, number, item, task)
            for number, task in enumerate(self.live())
            for position, item in enumerate(task.items)
            if not (task.paused or item in task.done or item in task.skipped)
        ]
        for moment, _, item, task in sorted(due, key=lambda one: one[:3]):
            if moment <= self.clock.time and (task.stops is None or moment < task.stops):
                self._do(task, item)
        for task in self.live():
            if task.stops is not None and self.clock.time >= task.stops:
                task.state, task.code = TaskState.CANCELED, "CANCELED"
            elif task.paused:
                continue
            elif len(task.done) + len(task.skipped) == len(task.items):
                task.state, task.code = TaskState.SUCCEEDED, ""
            elif self.clock.time >= (task.request.deadline - EPOCH).total_seconds():
                task.state, task.code = TaskState.EXPIRED, "EXPIRED"

    def _do(self, task, item):
        kind, path, *rest = item
        source = rest[0] if rest else ""
        if kind == "move" and source in self.missing:
            if task.request.skip_source_errors:
                task.skipped[item] = "FILE_NOT_FOUND"
            else:
                task.code = "FILE_NOT_FOUND"
        elif kind == "move" and path in self.denied:
            task.code = "PERMISSION_DENIED"
        elif kind == "delete" and path not in self.holds and not task.request.ignore_missing:
            task.code = "FILE_NOT_FOUND"
        else:
            task.done[item] = self.clock.time
            read = (source, self.sources[source]) if kind == "move" else None
            if self.holds.get(path) != read:
                self._replace(path, read, by=task.process)

    def live(self):
        """Return the tasks that have not ended."""
        return [task for task in self.tasks.values() if not task.state.final]

    def unattended(self):
        """Return the live tasks that were not canceled."""
        self._work()
        return [task for task in self.live() if not task.cancelled]

    def strike(self, what):
        """Change the oldest live task, or resume all tasks."""
        self._work()
        if what == "resume":
            for task in self.live():
                task.paused = False
            return
        for task in self.live()[:1]:
            if what == "pause":
                task.paused = True
            elif what == "lose":
                task.state, task.code = TaskState.LOST, "LOST"
            else:
                ends = {"fail": TaskState.FAILED, "cancel": TaskState.CANCELED, "expire": TaskState.EXPIRED}
                task.state, task.code = ends[what], "FILE_NOT_FOUND" if what == "fail" else what.upper()

    def _items(self, request):
        if hasattr(request, "paths"):
            return tuple(("delete", path) for path in request.paths)
        return tuple(("move", posixpath.normpath(item.destination), item.source) for item in request.items)

    def new_submission_id(self):
        """Return a new id."""

        def count():
            self._ids += 1
            return f"id-{self._ids}"

        return self._guarded("new_submission_id", count)

    def submit(self, request, submission_id):
        """Start a task, once for each id."""
        while self.meanwhile:
            self.meanwhile.pop()()

        def start():
            # A known id returns its task, even while new submissions are refused.
            items = self._items(request)
            self._work()
            if submission_id not in self.tasks:
                if request.deadline <= self.clock.now():
                    raise BackendError("The deadline has passed.", code="BadRequest")
                for name, task in self.tasks.items():
                    if not task.state.final and items[0][0] == "move" and set(items) == set(task.items):
                        raise PathsInUseError("They are.", status=self._told(_handle(name)), code="Conflict")
                self.tasks[submission_id] = Task(
                    request, self.clock.time, items, lasts=self.lasts, process=self.process
                )
            return _handle(submission_id)

        [(error, _)] = self.faults.get("submit", [])[-1:] or [(None, False)]
        if submission_id in self.tasks and error is not None and not error.transient:
            return start()
        # A permanent refusal applies to every process.
        if error is not None and not error.transient:
            self.refused[submission_id], _ = self._next_fault("submit")
        if submission_id in self.refused:
            raise self.refused[submission_id]
        return self._guarded("submit", start)

    def poll(self, handles):
        """Return the recorded statuses."""
        return self._guarded("poll", lambda: [self._status(handle) for handle in handles])

    def _status(self, handle):
        self._work()
        told = self._told(handle)
        wrong = {
            "none": None,
            "text": "ACTIVE",
            "unread": replace(told, state=TaskState.ACTIVE, code=UNREAD),
            "no state": replace(told, state="SUCCEEDED"),
        }
        return wrong.get(self.bad.get(handle.task_id, ""), told)

    def _told(self, handle):
        task = self.tasks[handle.task_id]
        state = TaskState.PAUSED if task.paused and not task.state.final else task.state
        return TaskStatus(
            handle=handle,
            state=state,
            code="PAUSED" if state is TaskState.PAUSED else task.code,
            reason="As the books say.",
            files_done=len(task.done),
        )

    def outcomes(self, handle, request):
        """Return the recorded outcome of each item."""

        def tell():
            task = self.tasks[handle.task_id]
            if self.bad.get(handle.task_id) == "outcomes":
                raise KeyError("DATA")
            told = [self._outcome(task, item) if self.tells else None for item in task.items]
            return told[self.bad.get(handle.task_id) == "too few" :]

        return self._guarded("outcomes", tell)

    def _outcome(self, task, item):
        if item in task.done:
            return ItemOutcome(done=True)
        if item in task.skipped:
            return ItemOutcome(done=False, code=task.skipped[item], reason="It is missing.")
        if item[0] == "move" and item[1] in self.denied:
            return ItemOutcome(done=False, code="PERMISSION_DENIED", reason="It is refused.")
        return None

    def cancel(self, handle):
        """Cancel a task."""

        def stop():
            self._work()
            task = self.tasks[handle.task_id]
            if not task.cancelled:
                task.cancelled, task.stops = True, self.clock.time + self.stops_in
            self._work()

        return self._guarded("cancel", stop)

    def ls(self, endpoint, path):
        """List the destinations."""
        self._work()
        names = [one.rpartition("/")[2] for one in self.holds if one.rpartition("/")[0] == path]
        return [DirEntry(name=name, kind="file") for name in names]

    def close(self):
        """Do nothing: the service holds no resources."""
