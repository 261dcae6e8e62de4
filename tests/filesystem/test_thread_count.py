"""The threads of a task: their number, their counts and their end."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
from slow import LATENCY, NEVER
from waiting import until

from chiltepin.backends.filesystem.mover.task import TaskRun
from chiltepin.backends.filesystem.mover.thread_count import AdaptivePool
from chiltepin.backends.filesystem.mover.threads import MOST_THREADS, MoverThreads
from chiltepin.model import NO_TASK, TaskState
from chiltepin.transfers.arguments import transfer_request


@pytest.fixture
def crew():
    """A pool of at most eight threads."""
    crew = AdaptivePool(MoverThreads(), width=8)
    yield crew
    crew.close()


def movers() -> list[threading.Thread]:
    """Return the live threads of pools."""
    return [thread for thread in threading.enumerate() if thread.name == "chiltepin-mover"]


def waiting_deed(workers: set[int]) -> None:
    """Wait as for a disk, and record the thread."""
    workers.add(threading.get_ident())
    NEVER.wait(LATENCY)


def test_a_crew_that_waits_grows_to_its_width_and_no_further(crew):
    """If calls wait, the pool adds threads up to its width."""
    workers = set()
    crew.all(partial(waiting_deed, workers) for _ in range(150))
    assert 2 < len(workers) <= 8


def test_a_pool_of_one_starts_no_thread():
    """A pool of width one uses one thread, however long its calls wait."""
    workers = set()
    AdaptivePool(MoverThreads(), width=1).all(partial(waiting_deed, workers) for _ in range(20))
    assert workers == {threading.get_ident()}


def test_the_threads_of_all_crews_have_a_bound():
    """Across all tasks, no more threads are started than the backend allows."""
    office, gate = MoverThreads(), threading.Event()
    lent = [office.start_thread(partial(gate.wait, 30)) for _ in range(MOST_THREADS + 1)]
    gate.set()
    assert lent == [True] * MOST_THREADS + [False]
    until(lambda: office.start_thread(lambda: None))


def test_two_threads_are_at_work_until_the_last_of_equal_deeds():
    """A thread that has ended a call gets the next one at once, even while another thread creates the calls."""
    crew, meeting = AdaptivePool(MoverThreads(), width=2), threading.Barrier(2)
    crew.all(partial(waiting_deed, set()) for _ in range(20))
    until(crew.free)
    crew.all(partial(meeting.wait, 20) for _ in range(200))
    crew.close()


def test_every_deed_is_done_once(crew):
    """With all threads busy, every call runs exactly once."""
    done = []

    def deed(number: int) -> None:
        NEVER.wait(LATENCY / 10)
        done.append(number)

    crew.all(partial(deed, number) for number in range(500))
    assert sorted(done) == list(range(500))


def test_deeds_may_have_deeds_of_their_own(crew):
    """Calls that wait for other calls of the same pool end, even if such calls occupy all threads."""
    done = []

    def outer(number: int) -> None:
        crew.all(partial(inner, number, part) for part in range(5))

    def inner(number: int, part: int) -> None:
        NEVER.wait(LATENCY)
        done.append((number, part))

    crew.all(partial(outer, number) for number in range(30))
    assert sorted(done) == [(number, part) for number in range(30) for part in range(5)]


def test_the_error_of_another_thread_reaches_the_caller_when_all_have_ended(crew):
    """An error in any thread is raised to the caller after all running calls have ended."""
    under_way, me, begun = set(), threading.get_ident(), []

    def deed(number: int) -> None:
        begun.append(number)
        under_way.add(number)
        NEVER.wait(LATENCY)
        under_way.discard(number)
        if threading.get_ident() != me:
            raise KeyError(number)

    with pytest.raises(KeyError):
        crew.all(partial(deed, number) for number in range(100_000))
    assert not under_way
    assert len(begun) < 100_000


def test_a_crew_leaves_with_its_task():
    """When a pool is closed, its threads end."""
    before = set(movers())
    crew = AdaptivePool(MoverThreads(), width=8)
    crew.all(partial(waiting_deed, set()) for _ in range(100))
    assert set(movers()) - before
    crew.close()
    until(lambda: not set(movers()) - before)


def test_progress_is_exact_from_many_threads():
    """Eight threads that count at once lose no count."""
    request = transfer_request(src_ep="a", dst_ep="b", src_path="/a", dst_path="/b")
    work = TaskRun(request, NO_TASK, lambda: AdaptivePool(MoverThreads()), threading.Event.wait)

    def add(_: int) -> None:
        for _ in range(5000):
            work.count(files=1, size=3, skipped=2, faults=1)
        for number in range(10):
            work.fail(OSError(5, "no"), f"Copying {number}")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(add, range(8)))
    work.perform(lambda _: None)
    status = work.status
    assert (status.files_done, status.bytes_done, status.files_skipped) == (40_000, 120_000, 80_000)
    assert (status.faults, status.state) == (40_080, TaskState.FAILED)
    assert "77 more failed" in status.reason


def test_tasks_one_after_another_are_done_by_one_thread(monkeypatch):
    """The thread of a task that has ended runs the next task."""
    monkeypatch.setattr("chiltepin.backends.filesystem.mover.threads.LINGER", 60)
    office, workers = MoverThreads(), set()
    for _ in range(3):
        request = transfer_request(src_ep="a", dst_ep="b", src_path="x", dst_path="x")
        run = TaskRun(request, NO_TASK, lambda: AdaptivePool(office), threading.Event.wait)
        office.put(run, lambda _: workers.add(threading.get_ident()))
        assert run.ended.wait(60)
    assert len(workers) == 1
