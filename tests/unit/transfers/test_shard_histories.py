"""Random histories of one tree that several workers transfer: workers end, fail, are lost or are canceled.

CHILTEPIN_HISTORIES sets the number of histories or a range of seeds, such as 100:200.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import threading
from concurrent.futures import Future
from dataclasses import replace
from datetime import datetime, timezone

import pytest

from chiltepin.errors import BackendError, TaskCanceledError, TaskError, TaskFailedError, TaskLostError
from chiltepin.model import DeleteRequest, TaskHandle, TaskState, TaskStatus, TransferItem, TransferRequest
from chiltepin.protocol import FileRange, Shard, ShardOutcome
from chiltepin.transfers import policy
from chiltepin.transfers.activity import ActivityLog, ActivityReader
from chiltepin.transfers.journal.unfinished import UnfinishedRecord
from chiltepin.transfers.outcomes import status_from_error
from chiltepin.transfers.recorder import TaskLog
from chiltepin.transfers.shards import ShardedTask

HANDLE = TaskHandle.at_worker("local", "whole")
RETRIES = 2

#: Releases of the lock of a task after which another thread may go on.
SWITCHES = 20


def seeds():
    """Return the seeds: 100, or the number or range in CHILTEPIN_HISTORIES."""
    first, _, last = os.environ.get("CHILTEPIN_HISTORIES", "100").rpartition(":")
    return range(int(first or 0), int(last))


class Clock:
    """A clock that is moved by hand."""

    def __init__(self):
        self.now, self.timers = 0.0, []

    def monotonic(self):
        """Return the time in seconds."""
        return self.now

    def later(self, seconds, operation):
        """Call a function when this time has come; return a function that prevents it."""
        timer = (self.now + seconds, len(self.timers), operation)
        self.timers.append(timer)
        return lambda: self.timers.remove(timer)

    def pass_time(self, seconds):
        """Let some seconds pass."""
        until = self.now + seconds
        while self.timers and min(self.timers)[0] <= until:
            self.timers.remove(timer := min(self.timers))
            self.now = timer[0]
            timer[-1]()
        self.now = until


class Turns:
    """Threads of which one runs at a time. After some of the times that one has left a lock, another one goes on."""

    def __init__(self):
        self.inner, self.waiting, self.left, self.switches = threading.Lock(), {}, 0, ()

    def __enter__(self):
        """Take the lock; no thread that waits for its turn holds it."""
        assert self.inner.acquire(timeout=60)

    def __exit__(self, *_):
        """Leave the lock, and let another thread go on."""
        self.inner.release()
        own = threading.current_thread()
        if own in self.waiting:
            self.left += 1
            others = [thread for thread in self.waiting if thread is not own]
            if others and self.left in self.switches:
                self.waiting[others[0]].release()
                assert self.waiting[own].acquire(timeout=60)

    def run(self, operations, switches):
        """Run functions at the same time; ``switches`` are the numbers of the releases after which another goes on."""

        def run(operation):
            own = threading.current_thread()
            assert self.waiting[own].acquire(timeout=60)
            try:
                operation()
            finally:
                del self.waiting[own]
                for turn in list(self.waiting.values())[:1]:
                    turn.release()

        self.left, self.switches = 0, switches
        threads = [threading.Thread(target=run, args=(operation,), daemon=True) for operation in operations]
        self.waiting = {thread: threading.Semaphore(0) for thread in threads}
        self.waiting[threads[0]].release()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)


class Worker:
    """A shard at a worker, whose progress the history decides; see `RunningShard`."""

    def __init__(self, shard, seconds):
        self.shard, self.seconds = shard, seconds
        self.future, self.stopped, self.silent = Future(), False, False
        self.future.set_running_or_notify_cancel()
        whole = shard.last or shard.range is not None
        self.todo = [] if whole else [(folder, shard.part, shard.parts) for folder in shard.folders]
        self.rest, self.visited, self.seen = [], [], {}
        self.own = TaskHandle.at_worker("local", str(id(self)))

    def status(self):
        """Return its status, or None after its end."""
        return None if self.future.done() else self.told()

    def told(self, state=TaskState.ACTIVE):
        """Return its status: each visit is a file of ten bytes."""
        count = len(self.visited)
        return TaskStatus(handle=self.own, state=state, files_done=count, bytes_done=10 * count)

    def stop(self):
        """Record that the worker was told to stop."""
        self.stopped = True

    def give_up(self):
        """Fail if the worker would have answered."""
        assert self.silent, "a worker was left that has answered"


class History:
    """A tree, the workers that transfer it, and the invariants to check."""

    def __init__(self, seed, folder, workers=None):
        self.chance = chance = random.Random(f"shards {seed}")  # noqa: S311 - reproducible, not secret
        self.tree = {}
        self.plant((), 3)
        #: The ends of workers that their task has not seen yet.
        self.unseen = []
        self.large = {parts: chance.randint(2, 4) for parts in self.tree if chance.random() < 0.1}
        #: Number of ranges of the large file that some folders contain.
        self.ranges = {parts: chance.randint(2, 4) for parts in self.tree if chance.random() < 0.1}
        #: The progress of each large file that a worker returned, by its temporary file.
        self.copied, self.named, self.removed, self.spoilt = {}, set(), set(), set()
        #: The attempt at a shard that made each temporary file, and the temporary files that no later step removes.
        self.made_by, self.stray = {}, set()
        #: How many workers each large file had lost when its temporary file was made, and has now lost.
        self.before, self.after = {}, {}
        self.deletes, self.workers, self.raises = chance.random() < 0.3, chance.randint(1, 5), chance.random() < 0.5
        if workers:
            # A history without chance.
            self.large, self.ranges, self.deletes, self.workers = {}, {}, False, workers
        item = TransferItem(source="/s", destination="/d")
        self.request = (
            DeleteRequest(endpoint="a", paths=("/s",), recursive=True)
            if self.deletes
            else TransferRequest(
                source="a", destination="b", items=(item,), recursive=True, delete_destination_extra=True
            )
        )
        self.running, self.started, self.done, self.counted = [], [], [], 0
        self.closes = chance.random() < 0.5
        self.calm, self.stop_at = chance.random() < 0.4, chance.choice([None, None, chance.randint(0, 20)])
        self.ended_by, self.failed, self.refusal = None, 0, chance.choice([None] * 9 + [chance.randint(1, 9)])
        if workers:
            self.calm, self.stop_at, self.refusal = True, None, None
        self.losses, self.most, self.silent = {}, (0, 0), False
        self.clock = Clock()
        self.folder = str(folder)
        self.log = ActivityLog(self.folder, lambda: datetime.now(timezone.utc))
        self.task = ShardedTask(
            self.request,
            HANDLE,
            workers=self.workers,
            timeout=1000.0,
            start=self.start,
            task_log=TaskLog(self.log, "whole", self.request, backend="local", asked=self.log.clock()),
            unfinished=UnfinishedRecord(json.dumps({"journal": self.folder}), self.request),
            raises=self.raises,
            retries=RETRIES,
            clock=self.clock,
        )
        self.task._lock = self.turns = Turns()

    def plant(self, parts, depth):
        """Make a random tree."""
        names = [str(number) for number in range(self.chance.randint(0, 3) if depth else 0)]
        self.tree[parts] = names
        for name in names:
            self.plant((*parts, name), depth - 1)

    def start(self, request, shard, seconds):
        """Start a worker, as the `start` argument of the task."""
        part = shard.range
        if part is not None:
            self.check_step(part)
        assert self.ended_by is None or (part and part.step == "remove"), "a shard was started after the end"
        assert not self.task.future.done()
        assert len(self.running) < self.workers
        assert request == self.request or (self.deletes and request.ignore_missing)
        if self.deletes and (shard.folders, shard.part, shard.last) in self.losses:
            assert request.ignore_missing, "a lost worker may have deleted its entries"
        if shard.last:
            assert not self.running
            assert not self.failed or self.deletes
        self.started.append(shard)
        if self.refusal == len(self.started) or (self.closes and self.refusal and self.refusal < len(self.started)):
            self.ended_by = self.ended_by or "refusal"
            if part:
                self.stray.add(part.temp_file)
            raise BackendError("It takes no more tasks.")
        self.running.append(Worker(shard, seconds))
        return self.running[-1]

    def check_step(self, part):
        """Check that the steps of a large file come in order."""
        busy = [worker for worker in self.running if worker.shard.range and worker.shard.range.file == part.file]
        assert part.temp_file not in self.named | self.removed
        if part.step in ("commit", "again"):
            assert not busy
            lost = self.after[part.temp_file] > self.before[part.temp_file]
            assert (part.step == "again") == lost, "a lost worker may still write to the file"
        if part.step == "commit":
            assert sorted(self.copied[part.temp_file]) == list(range(self.ranges[part.file]))
        elif part.step == "remove":
            assert not busy
            assert self.ended_by or part.temp_file in self.spoilt

    def end_step(self, worker, state):
        """Record the outcome of a step of a large file."""
        part = worker.shard.range
        if state is not TaskState.SUCCEEDED:
            self.spoilt.add(part.temp_file)
        elif part.step == "copy":
            self.copied[part.temp_file].append(part.offset)
        elif part.step == "commit":
            self.named.add(part.temp_file)
            worker.visited.append((part.file, 0, 0))
        elif part.step == "again":
            self.begin_file(worker, part.file, self.after[part.temp_file])
            self.removed.add(part.temp_file)
        if part.step == "remove":
            self.removed.add(part.temp_file)

    def begin_file(self, worker, parts, losses):
        """Divide a large file, of which some workers were lost before; first remove what they left beside it."""
        beside = {temp_file for temp_file in self.stray if temp_file.startswith(f"{parts} ")}
        self.sweep(beside, worker.shard)
        whole = FileRange(file=parts, temp_file=f"{parts} {len(self.copied)}", content_id="")
        self.copied[whole.temp_file], self.made_by[whole.temp_file] = [], worker.shard.attempt
        self.before[whole.temp_file] = self.after[whole.temp_file] = losses
        worker.rest += [Shard(range=replace(whole, offset=n, count=1)) for n in range(self.ranges[parts])]

    def sweep(self, temp_files, shard):
        """Remove those of some temporary files that a shard names as abandoned."""
        found = {temp_file for temp_file in temp_files if self.made_by[temp_file].startswith(shard.abandoned)}
        self.stray -= found
        self.removed |= found

    def visit(self, worker):
        """Process one folder of a worker, or return it in parts."""
        parts, part, of = worker.todo.pop()
        if of == 1 and parts in self.large and worker.shard.workers > 1 and worker.shard.seconds is not None:
            of = self.large[parts]
            worker.rest += [Shard(folders=(parts,), part=part, parts=of) for part in range(of)]
            return
        worker.visited.append((parts, part, of))
        if parts in self.ranges and part == 0 and not self.deletes and worker.shard.workers > 1:
            self.begin_file(worker, parts, 0)
        worker.todo += [((*parts, name), 0, 1) for n, name in enumerate(self.tree[parts]) if n % of == part]
        key = hash(parts)
        worker.seen[key] = worker.seen.get(key, 0) + sum(n % of == part for n in range(len(self.tree[parts])))

    def end(self, worker, state=TaskState.SUCCEEDED, **facts):
        """End a worker, which returns its remaining work."""
        self.running.remove(worker)
        if worker.shard.range:
            self.end_step(worker, state)
        folders = tuple(parts for parts, _, _ in worker.todo)
        rest = (*worker.rest, *([Shard(folders=folders)] if folders else []))
        self.done += worker.visited
        self.counted += len(worker.visited)
        listed = {} if worker.shard.last else worker.seen
        facts = {"rest": rest, "listed": listed, "seconds": 1.0, **facts}
        outcome = ShardOutcome(status=worker.told(state), **facts)
        self.unseen.append(lambda: worker.future.set_result(outcome))

    def fail(self, worker, *, fatal=False):
        """End a worker with a failed file."""
        while worker.todo and not worker.visited and not worker.rest:
            self.visit(worker)
        self.failed += 1
        if fatal:
            self.ended_by = self.ended_by or "fatal"
        self.end(worker, TaskState.FAILED, failures=(("NO_SPACE", f"Failure {self.failed}."),), failed=1, fatal=fatal)

    def lose(self, worker):
        """Lose a worker and all its work."""
        self.running.remove(worker)
        shard, part = worker.shard, worker.shard.range
        if part is None or part.step != "remove" or not self.ended_by:
            if self.losses_with(shard) > RETRIES:
                self.ended_by = self.ended_by or "lost"
        else:
            # A lost worker that was removing a temporary file is not replaced.
            self.stray.add(part.temp_file)
        if part and part.step == "again" and self.chance.random() < 0.5:
            self.begin_file(worker, part.file, self.after[part.temp_file])
        # What it returned was never received.
        self.stray |= {rest.range.temp_file for rest in worker.rest if rest.range}
        if self.chance.random() < 0.5:
            self.unseen.append(lambda: worker.future.set_exception(TaskLostError("Its worker is gone.")))
        else:
            # Its process has forgotten the task.
            forgotten = TaskStatus(handle=worker.own, state=TaskState.LOST, code="LOST", reason="It is unknown.")
            self.unseen.append(lambda: worker.future.set_result(ShardOutcome(status=forgotten)))

    def silence(self, worker):
        """Have a worker that removes a temporary file not answer anymore."""
        worker.silent = self.silent = True
        self.running.remove(worker)

    def wait(self):
        """Let time pass until the task no longer waits for a silent worker."""
        self.silent = False
        self.clock.pass_time(policy.wait_times.STOP_GRACE)
        assert self.task.future.done(), "the task waits for a silent worker"
        self.stray |= set(self.copied) - self.named - self.removed

    def losses_with(self, shard):
        """Return how many workers a shard has lost; the ranges of a file count together."""
        if shard.range is None:
            key = (shard.folders, shard.part, shard.last)
            self.losses[key] = self.losses.get(key, 0) + 1
            return self.losses[key]
        file, step = shard.range.temp_file, shard.range.step
        # A file is copied again when all its ranges have ended, so workers that are lost until then count once.
        self.after[file] = (self.before if step == "copy" else self.after)[file] + 1
        return self.after[file]

    def cancel(self):
        """Cancel the whole task."""
        self.ended_by = self.ended_by or "cancel"
        self.task.stop()

    def step(self):
        """Perform one random event; return whether one was possible."""
        if self.stop_at == len(self.started):
            self.stop_at = None
            self.cancel()
            return True
        if self.silent and not self.running:
            self.wait()
        if not self.running:
            return False
        worker = self.chance.choice(self.running)
        if self.ended_by and worker.shard.range and worker.shard.range.step == "remove" and self.chance.random() < 0.3:
            self.silence(worker)
        elif worker.stopped:
            outcome = {"failures": (("CANCELED", "The task was canceled before it was done."),), "failed": 1}
            self.end(worker, TaskState.CANCELED, rest=tuple(worker.rest), listed={}, **outcome)
        elif not self.calm and self.chance.random() < 0.06:
            self.chance.choice([self.fail, self.fail, self.lose, self.lose, lambda w: self.fail(w, fatal=True)])(worker)
        elif not self.calm and self.chance.random() < 0.01:
            self.ended_by = self.ended_by or "error"
            self.end(worker, TaskState.FAILED, error=BackendError("It has no such folder."))
        elif not worker.todo or (worker.visited and self.chance.random() < 0.3):
            self.end(worker)
        else:
            self.visit(worker)
        self.deliver()
        return True

    def deliver(self):
        """Report the end of a worker to the task, sometimes at the same moment as that of others."""
        able = [worker for worker in self.running if not worker.todo or worker.visited]
        if self.unseen and able and not self.ended_by and self.chance.random() < 0.5:
            self.end(self.chance.choice(able))
        ends, self.unseen = self.unseen, []
        if len(ends) == 1:
            ends[0]()
        elif ends:
            self.turns.run(ends, self.chance.sample(range(1, SWITCHES), 2))

    def check(self):
        """Check that the status is that of the whole task, and that its counts never decrease."""
        status = self.task.status()
        assert status.handle == HANDLE
        if self.task.future.done():
            return
        assert status.files_done >= self.most[0], "the status goes back"
        assert status.bytes_done >= self.most[1]
        self.most = status.files_done, status.bytes_done

    def run(self):
        """Run the whole history, and check its end."""
        self.task.begin()
        self.check()
        while self.step():
            self.check()
            if self.ended_by:
                late = [worker for worker in self.running if not worker.stopped]
                assert all(worker.shard.range.step == "remove" for worker in late), "a worker was not told to stop"
        assert self.task.future.done(), "the future does not end"
        self.log.close()
        self.check_end()

    def next_shard(self):
        """Return the first shard of the next task of this process."""
        shards = []
        another = History(0, f"{self.folder}-next", workers=1)
        another.task._start = lambda _, shard, seconds: shards.append(shard) or Worker(shard, seconds)
        another.task.begin()
        another.log.close()
        return shards[0]

    def outcome(self):
        """Return the final status, and the error."""
        error = self.task.future.exception()
        if isinstance(error, AssertionError):
            raise error
        if error is None:
            return self.task.future.result(), None
        return getattr(error, "status", None), error

    def check_end(self):
        """Check that the task ended as one, for the reason that came first."""
        status, error = self.outcome()
        if isinstance(error, TaskError) or error is None:
            assert status.handle == HANDLE
            assert (status.files_done, status.bytes_done) == (self.counted, 10 * self.counted)
        if self.ended_by in ("refusal", "error"):
            assert type(error) is BackendError
        elif self.ended_by == "lost":
            assert type(error) is TaskLostError
        elif self.ended_by == "cancel":
            assert isinstance(error, TaskCanceledError) or status.state is TaskState.CANCELED
        elif self.failed:
            assert type(error) is TaskFailedError or status.state is TaskState.FAILED
            assert (status.code, status.reason.startswith("Failure 1.")) == ("NO_SPACE", True)
            assert "cancel" not in status.reason
        else:
            assert status.state is TaskState.SUCCEEDED
        if self.ended_by or self.failed:
            self.sweep(self.stray, self.next_shard())
        assert set(self.copied) == self.named | self.removed, "a temporary file is left"
        assert not self.spoilt & self.named
        if not self.ended_by:
            self.check_all_done()
        assert not [name for name in os.listdir(self.folder) if name.endswith(".unfinished")]
        [record] = ActivityReader(self.folder).news()
        assert record.state is (status.state if status and error is None else status_from_error(error, "").state)
        if status:
            assert (record.files, record.bytes) == (self.counted, 10 * self.counted)

    def check_all_done(self):
        """Check that each folder was done exactly once."""
        whole = {(parts, 0, 1) for parts in self.tree if parts not in self.large}
        done = [visit for visit in self.done if visit[2] == 1]
        if not self.failed and not self.deletes:
            assert {parts for parts, _, of in self.done if of == 0} == set(self.ranges if self.workers > 1 else ())
        assert len(done) == len(set(done))
        assert whole <= set(done)
        for parts, of in self.large.items():
            assert (parts, 0, 1) in done or {(parts, part, of) for part in range(of)} <= set(self.done)
        lasts = [shard for shard in self.started if shard.last]
        if not self.deletes:
            assert lasts or self.failed
            if lasts:
                assert lasts[0].listed == {hash(parts): len(names) for parts, names in self.tree.items()}


def replay(seed, folder):
    """Run one history."""
    try:
        History(seed, folder).run()
    except AssertionError as error:
        raise AssertionError(f"history {seed}") from error


def test_every_history_ends_as_one_task(tmp_path):
    """Each folder is done once or the task reports the first failure; counts never decrease, and no worker is left."""
    for seed in seeds():
        replay(seed, tmp_path / str(seed))


@pytest.mark.parametrize("fails", [True, False])
def test_workers_that_end_at_once_are_both_counted(tmp_path, fails):
    """Two workers end at once, in any order of their steps: the failure of one and the work that it returns count."""
    for number, switches in enumerate(itertools.combinations(range(1, SWITCHES), 2)):
        history = History(0, tmp_path / str(number), workers=2)
        history.tree = {(): ["0", "1"], ("0",): ["2"], ("1",): [], ("0", "2"): []}
        history.task.begin()
        history.visit(history.running[0])
        history.end(history.running[0])
        history.deliver()
        first, second = sorted(history.running, key=lambda worker: bool(history.tree[worker.todo[0][0]]))
        history.visit(first)
        history.visit(second)
        history.end(first)
        (history.fail if fails else history.end)(second)
        ends, history.unseen = history.unseen, []
        history.turns.run(ends, switches)
        while history.step():
            pass
        history.check_end()
