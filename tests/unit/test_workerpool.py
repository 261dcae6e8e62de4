"""The queue between the workers of a node and who hands out their tasks."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ThreadPoolExecutor
from queue import Empty

import pytest

from chiltepin import workerpool
from chiltepin.workerpool import SafeQueue


@pytest.fixture
def queue():
    """An empty queue."""
    made = SafeQueue(ctx=multiprocessing.get_context("spawn"))
    yield made
    made.close()
    made.join_thread()


def test_what_is_put_comes_out_once(queue):
    """Several readers share what there is, each message going to one of them."""
    for number in range(200):
        queue.put(number)
    with ThreadPoolExecutor(4) as readers:
        found = list(readers.map(lambda _: queue.get(timeout=30), range(200)))
    assert sorted(found) == list(range(200))
    assert queue.empty()


def test_who_waits_in_vain_is_told(queue):
    """After its time, or at once, a reader of an empty queue hears that there is nothing."""
    for wait in ({"timeout": 0.01}, {"block": False}, {"timeout": 0}):
        with pytest.raises(Empty):
            queue.get(**wait)


def test_a_reader_that_waits_holds_no_lock(queue):
    """Whoever waits at an empty queue can be killed: the lock of its readers is free meanwhile."""
    with ThreadPoolExecutor(1) as readers:
        waiting = readers.submit(queue.get, timeout=30)
        assert queue._rlock.acquire(timeout=5)
        queue._rlock.release()
        queue.put("for the one who waits")
        assert waiting.result(timeout=30) == "for the one who waits"


def test_a_lock_that_a_dead_reader_has_kept_keeps_nobody_for_ever(queue, monkeypatch):
    """A reader whose turn never comes is told so when its time is up, and may look whether it is still wanted."""
    monkeypatch.setattr(workerpool, "_TURN", 0.01)
    assert queue._rlock.acquire(timeout=5)
    queue.put("out of reach")
    with pytest.raises(Empty):
        queue.get(timeout=0.05)
    queue._rlock.release()
    assert queue.get(timeout=30) == "out of reach"


def test_what_a_worker_puts_in_is_there_at_once(queue):
    """A worker that dies after `put` has not taken its result along: no thread had to write it later."""
    queue._opid = 0  # as in any process but the one that has made the queue
    queue.put("done")
    assert queue.get(block=False) == "done"
    assert queue._thread is None
