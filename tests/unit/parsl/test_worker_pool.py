"""The queue between a node's workers and the process that distributes tasks; any worker may be killed."""

from __future__ import annotations

import multiprocessing
import random
import sys
import time
from contextlib import closing
from queue import Empty

import pytest

from chiltepin.parsl.worker_pool import SafeQueue

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Parsl's own queue serves elsewhere than on Linux.")

SPAWN = multiprocessing.get_context("spawn")
LIMIT = 60
LARGE = 3 << 20


@pytest.fixture
def queue():
    """An empty queue."""
    with closing(SafeQueue(ctx=SPAWN)) as made:
        yield made


@pytest.fixture
def told():
    """A second queue, on which processes report their progress."""
    with closing(SafeQueue(ctx=SPAWN)) as made:
        yield made


@pytest.fixture
def start():
    """Return a function that starts a process; the fixture kills the processes at the end."""
    started = []

    def start(target, *args):
        started.append(SPAWN.Process(target=target, args=args))
        started[-1].start()
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.join()


def pass_on(queue, told):
    """Forward each message to the other queue, until None arrives."""
    told.put("begun")
    while (message := queue.get()) is not None:
        told.put(message)


def hold(queue, told):
    """Get a task without reading its contents."""
    task = queue.get()
    told.put("taken")
    queue.hold = task
    time.sleep(LIMIT)


def read(queue, told):
    """Get a task and read its id."""
    told.put(queue.get()["task_id"])
    time.sleep(LIMIT)


def write(told, kind, ready, begin):
    """Put small and large results repeatedly, once `begin` is set."""
    ready.set()
    begin.wait(LIMIT)
    for number in range(1_000_000):
        told.put(kind * (LARGE if number % 3 else 10))


def test_each_message_goes_whole_to_one_reader(queue, told, start):
    """Each message, small or large, reaches exactly one of several readers, complete."""
    readers = [start(pass_on, queue, told) for _ in range(3)]
    assert [told.get(timeout=LIMIT) for _ in readers] == ["begun"] * 3
    sent = [(number, bytes([number % 256]) * (100_000 if number % 10 == 0 else number)) for number in range(200)]
    for message in sent:
        queue.put(message)
    assert sorted(told.get(timeout=LIMIT) for _ in sent) == sent
    for _ in readers:
        queue.put(None)
    for reader in readers:
        reader.join(LIMIT)
        assert reader.exitcode == 0


def test_handing_out_tasks_never_waits(queue):
    """All tasks can be queued before a worker exists, and they come out in order."""
    for number in range(3000):
        queue.put({"task_id": number, "buffer": bytes(1000)})
    assert [queue.get(timeout=LIMIT)["task_id"] for _ in range(3000)] == list(range(3000))


def test_who_waits_in_vain_is_told(queue):
    """Reading an empty queue raises Empty, at once or after the timeout."""
    for wait in ({"timeout": 0.01}, {"block": False}, {"timeout": 0}):
        with pytest.raises(Empty):
            queue.get(**wait)


def test_a_reader_that_is_killed_while_it_waits_is_not_missed(queue, told, start):
    """If a waiting reader is killed, the next message reaches another reader."""
    waiting = start(pass_on, queue, told)
    assert told.get(timeout=LIMIT) == "begun"
    waiting.kill()
    waiting.join()
    queue.put("for any process")
    assert queue.get(timeout=LIMIT) == "for any process"


@pytest.mark.parametrize("size", [10, LARGE], ids=["small", "large"])
def test_a_task_whose_worker_is_killed_before_it_has_noted_it_goes_to_another(queue, told, start, size):
    """A task stays in the queue until its worker reads it; if that worker is killed, another gets the task."""
    task = {"task_id": 7, "buffer": b"x" * size}
    queue.put(task)
    worker = start(hold, queue, told)
    assert told.get(timeout=LIMIT) == "taken"
    worker.kill()
    worker.join()
    assert dict(queue.get(timeout=LIMIT)) == task
    # The next call of `get` marks the task as taken.
    with pytest.raises(Empty):
        queue.get(timeout=0)


def test_a_task_that_its_worker_has_noted_is_not_done_twice(queue, told, start):
    """Once a worker has read its task, the task has left the queue, even if the worker is killed."""
    queue.put({"task_id": 7})
    worker = start(read, queue, told)
    assert told.get(timeout=LIMIT) == 7
    worker.kill()
    worker.join()
    with pytest.raises(Empty):
        queue.get(timeout=0.1)


@pytest.mark.parametrize("seed", range(2))
def test_no_result_is_torn_by_the_death_of_a_worker(told, start, seed):
    """Killing a worker while it puts results truncates none, and results of other workers still arrive."""
    chance = random.Random(seed)  # noqa: S311 - reproducible, not secret
    # No worker writes while another starts: writing would slow the start.
    signs = [(SPAWN.Event(), SPAWN.Event()) for _ in range(5)]
    kinds = (b"b", *[b"a"] * 4)
    other, *workers = [start(write, told, kind, *pair) for kind, pair in zip(kinds, signs, strict=True)]
    assert all(ready.wait(LIMIT) for ready, _ in signs)
    (_, begin), *signs = signs
    begin.set()
    for worker, (_, begin) in zip(workers, signs, strict=True):
        begin.set()
        while told.get(timeout=LIMIT)[:1] != b"a":
            pass
        end = time.monotonic() + chance.uniform(0, 0.05)
        while time.monotonic() < end:
            assert len(told.get(timeout=LIMIT)) in {10, LARGE}
        worker.kill()
        worker.join()
    assert other.is_alive()
    for _ in range(100):
        result = told.get(timeout=LIMIT)
        assert result in {b"a" * 10, b"a" * LARGE, b"b" * 10, b"b" * LARGE}
