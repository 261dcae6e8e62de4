"""A long day, scaled down: the memory, threads and files of a workflow process do not grow with its transfers."""

from __future__ import annotations

import gc
import os
import threading

import pytest
from wholestack import Stack

from chiltepin import delete_task, transfer_task

#: Hours, and calls in each; the first hours load modules and open files that stay open.
HOURS, CALLS, FIRST = 12, 12, 3


@pytest.fixture
def stack(monkeypatch):
    """The whole stack, with small limits for the journal files and for the items in memory."""
    monkeypatch.setattr("chiltepin.transfers.policy.limits.JOURNAL_FILE_LIMIT", 4_000)
    monkeypatch.setattr("chiltepin.transfers.policy.limits.REMEMBERED_ITEMS", 20)
    monkeypatch.setattr("chiltepin.transfers.policy.limits.ACTIVITY_SIZE", 8_000)
    made = Stack()
    yield made
    made.close()


def hour(stack, number):
    """Transfer files and forget them: some are missing, some are canceled, and most arrive."""
    rest = {"executor": "local", "check": False, "timeout": 1000.0}
    futures = []
    for call in range(CALLS):
        source = "/missing" if call == 7 else f"/{call % 5}"
        futures.append(transfer_task("a", "b", source, f"/out/{number}/{call}", **rest))
        futures.append(delete_task("b", f"/old/{number}/{call}", ignore_missing=True, **rest))
        if call % 4 == 3:
            futures[-2].cancel()
    stack.wait(3600)
    assert all(future.done() for future in futures)
    return sum(future.result(0) for future in futures)


def held(stack):
    """Return the numbers of threads, file descriptors and Chiltepin objects of the process."""
    stack.globus.clear_requests()
    gc.collect()
    # The pools of Parsl, and the one that starts transfers, grow slowly to their limits. The threads for callbacks end
    # when more than two are idle.
    pools = ("ThreadPoolExecutor-", "chiltepin-callbacks", "chiltepin-start_")
    threads = [one.name for one in threading.enumerate() if not one.name.startswith(pools)]
    assert sum(one.name == pools[1] for one in threading.enumerate()) <= 4
    return len(threads), len(os.listdir("/proc/self/fd")), sum(map(_is_ours, gc.get_objects()))


def _is_ours(one):
    """Whether an object is Chiltepin's, and not the simulator's."""
    module = str(type(one).__module__)
    return module.startswith("chiltepin.") and not module.startswith("chiltepin.testing")


def kept(stack, suffix):
    """Return the size of the journal files with a suffix."""
    return sum(file.stat().st_size for file in (stack.folder / "journal").glob(f"*{suffix}"))


def test_a_day_leaves_nothing_behind(stack):
    """After 12 hours and 288 calls, a process holds no more than after three hours, and its journal has not grown."""
    for number in range(5):
        (stack.folder / "laptop" / str(number)).write_text("data")
    stack.globus.settings.task_latency = 100
    late, poll = [], stack.backend.poll

    def noted(handles):
        with stack.manager._lock:
            asked = [batch for batch in stack.manager._batcher.batches if batch.handle in handles]
            due = min(batch.next_poll(stack.manager._poller.last_poll) for batch in asked)
        late.append(stack.clock.time() - due)
        return poll(handles)

    stack.backend.poll = noted
    seen, bytes_kept = [], []
    for number in range(HOURS):
        assert hour(stack, number) == 2 * CALLS - 3
        for task in stack.tasks():
            stack.globus.forget_task(task.id)
        seen.append(held(stack))
        bytes_kept.append((kept(stack, ".jsonl"), kept(stack, ".activity")))
    threads, descriptors, ours = zip(*seen[FIRST:], strict=True)
    assert max(threads) <= threads[0] + 1
    assert max(descriptors) <= descriptors[0] + 3
    assert max(ours) <= ours[0] + 100
    assert len(late) > HOURS * 5
    assert max(late) < 0.5
    journal, activity = zip(*bytes_kept, strict=True)
    assert max(journal) < 30_000
    assert max(activity) < 24_000
