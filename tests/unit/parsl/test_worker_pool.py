"""The queue between the workers of a node and who hands out their tasks, whose users may be killed at any time."""

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
    """Another one, by which processes tell how far they are."""
    with closing(SafeQueue(ctx=SPAWN)) as made:
        yield made


@pytest.fixture
def start():
    """Return what starts a process; none is left in the end."""
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
    """Put whatever comes into the other queue, until nothing more is to come."""
    told.put("begun")
    while (message := queue.get()) is not None:
        told.put(message)


def hold(queue, told):
    """Get a task, and read nothing of it."""
    task = queue.get()
    told.put("taken")
    queue.hold = task
    time.sleep(LIMIT)


def read(queue, told):
    """Get a task, and read of it."""
    told.put(queue.get()["task_id"])
    time.sleep(LIMIT)


def write(told, kind, ready, begin):
    """Put in small and large results, again and again, from a moment on."""
    ready.set()
    begin.wait(LIMIT)
    for number in range(1_000_000):
        told.put(kind * (LARGE if number % 3 else 10))


def test_each_message_goes_whole_to_one_reader(queue, told, start):
    """Several processes share what there is, be it small or large, and nothing is lost, doubled or torn."""
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


def test_who_hands_out_tasks_waits_for_nobody(queue):
    """All tasks can be put in before there is a worker, and come out in their order."""
    for number in range(3000):
        queue.put({"task_id": number, "buffer": bytes(1000)})
    assert [queue.get(timeout=LIMIT)["task_id"] for _ in range(3000)] == list(range(3000))


def test_who_waits_in_vain_is_told(queue):
    """After its time, or at once, a reader of an empty queue hears that there is nothing."""
    for wait in ({"timeout": 0.01}, {"block": False}, {"timeout": 0}):
        with pytest.raises(Empty):
            queue.get(**wait)


def test_a_reader_that_is_killed_while_it_waits_is_not_missed(queue, told, start):
    """The next message goes to another one."""
    waiting = start(pass_on, queue, told)
    assert told.get(timeout=LIMIT) == "begun"
    waiting.kill()
    waiting.join()
    queue.put("for whoever is there")
    assert queue.get(timeout=LIMIT) == "for whoever is there"


@pytest.mark.parametrize("size", [10, LARGE], ids=["small", "large"])
def test_a_task_whose_worker_is_killed_before_it_has_noted_it_goes_to_another(queue, told, start, size):
    """It is in the queue until the worker reads it, and no other worker gets it meanwhile."""
    task = {"task_id": 7, "buffer": b"x" * size}
    queue.put(task)
    worker = start(hold, queue, told)
    assert told.get(timeout=LIMIT) == "taken"
    worker.kill()
    worker.join()
    assert dict(queue.get(timeout=LIMIT)) == task
    # With the next message it counts as taken.
    with pytest.raises(Empty):
        queue.get(timeout=0)


def test_a_task_that_its_worker_has_noted_is_not_done_twice(queue, told, start):
    """When the worker has read of its task, the task has left the queue, whatever becomes of the worker."""
    queue.put({"task_id": 7})
    worker = start(read, queue, told)
    assert told.get(timeout=LIMIT) == 7
    worker.kill()
    worker.join()
    with pytest.raises(Empty):
        queue.get(timeout=0.1)


@pytest.mark.parametrize("seed", range(2))
def test_no_result_is_torn_by_the_death_of_a_worker(told, start, seed):
    """Workers are killed while they put in results: each that arrives is whole, and those of others arrive."""
    chance = random.Random(seed)  # noqa: S311 - to be repeated, not to be secret
    # None writes while another one starts: that would take the processor from it.
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
