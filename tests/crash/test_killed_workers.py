"""Kill -9 of a worker process, of the interchange, and of a workflow with a worker, during a copy.

CHILTEPIN_KILLS=100 runs a hundred kills of each kind.
"""

from __future__ import annotations

import signal
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from buckets_killed import BucketCase
from killing import LIMIT, NAMED, Case, ForkServer, KeptRun, check_alone, kill, lent, processes, seeds
from waiting import until

# Each step waits for up to LIMIT seconds, and then reports what it waited for.
pytestmark = pytest.mark.timeout(900)

every_seed = pytest.mark.parametrize("seed", seeds(1), ids=lambda seed: f"seed {seed}")

MIB = 1 << 20


class Pool(KeptRun):
    """A workflow with one worker process, which can be killed repeatedly."""

    def __init__(self, folder, bucket):
        self.folder, self.bucket = folder, bucket
        for end in "ab":
            (folder / end).mkdir()
        endpoints = {end: {"filesystem": f"file://{folder}/{end}"} for end in "ab"}
        cloud = {"filesystem": bucket.settings("cloud", **NAMED)}
        super().__init__(ForkServer(), folder, {**endpoints, "cloud": cloud}, "pool")


@pytest.fixture
def pool(kept, tmp_path_factory, s3_server):
    """An idle workflow."""
    with lent(kept, "pool", lambda: Pool(tmp_path_factory.mktemp("pool"), s3_server.bucket())) as pool:
        yield pool


def tree(case):
    """Create a tree that takes a moment to copy."""
    case.tree(files=case.chance.randint(50, 300), largest=100_000, large=[case.chance.randint(5, 20) * MIB] * 2)


def lose_worker(case, pool):
    """Kill the worker during a copy, and copy again with its replacement. Return how the first copy ended."""
    _, said = case.hit(lambda: pool, lambda run: run.worker)
    case.rerun(pool)
    case.cleared()
    return said["ends"][0]


@every_seed
def test_a_worker(pool, chance, seed):
    """The copy of a killed worker ends with one error, and the replacement worker continues it."""
    case = Case(pool.folder, chance, f"worker-{seed}")
    tree(case)
    end = lose_worker(case, pool)
    assert end.startswith("TaskLostError: Transfer from")
    assert " was lost with its worker (Task failure due to loss of worker" in end


@every_seed
def test_an_idle_worker(pool, chance, seed):
    """A worker that is killed while it is idle is replaced, and the replacement runs the next copy."""
    case = Case(pool.folder, chance, f"idle-{seed}")
    tree(case)
    kill(pool.worker)
    case.rerun(pool)
    case.cleared()


def started(folder):
    """Return the processes that Python started on the node: the workers, and the process that records their tasks."""
    return set(processes(folder, "spawn_main"))


def notes_of(folder):
    """Return the process that records the tasks of a node's workers, which starts before them."""
    return min(started(folder), key=lambda process: process.create_time())


@every_seed
def test_a_worker_that_has_not_noted_its_task(pool, chance, seed):
    """A worker that is killed before it has recorded the task that it received leaves it to its replacement."""
    case = Case(pool.folder, chance, f"unnoted-{seed}")
    tree(case)
    before = started(pool.folder)
    kill(pool.worker)
    until(lambda: started(pool.folder) - before, LIMIT)
    [worker] = started(pool.folder) - before
    notes = notes_of(pool.folder)
    notes.suspend()
    pool.copy(case)
    # The worker holds the reader lock of the queue until it has recorded its task.
    until(lambda: f" {worker.pid} " in Path("/proc/locks").read_text(), LIMIT)
    kill(worker.pid)
    notes.resume()
    assert pool.outcome()["ends"] == ["True"]
    assert pool.worker != worker.pid
    case.check_whole()
    case.cleared()


@every_seed
def test_a_worker_that_fills_a_bucket(pool, chance, seed, monkeypatch):
    """With check=False a copy to S3 returns False if its worker is killed, and the replacement worker continues it."""
    case = BucketCase(pool.folder, chance, pool.bucket, monkeypatch, f"bucket-{seed}")
    case.tree(files=case.chance.randint(10, 50), largest=100_000, large=[case.chance.randint(9, 20) * MIB])
    case.paths[1] = "cloud"
    case.options["check"] = False
    assert lose_worker(case, pool) == "False"


def interchange_of(case):
    """Return the process id of the interchange."""
    return next(process.pid for process in processes(case.folder, "interchange"))


@every_seed
def test_the_interchange(fork_server, case):
    """If the interchange is killed, current and later tasks end with one error at once, and no process is left."""
    tree(case)
    run, said = case.hit(lambda: case.workflow(fork_server, "pool"), lambda _: interchange_of(case))
    gone = "Executor pool failed due to: the interchange, which distributes tasks to its workers, ended with status -9"
    assert said["ends"][0].startswith("TaskLostError: Transfer from")
    assert f" was lost with its executor ({gone}" in said["ends"][0]
    assert gone in said["worker"]
    run.end()
    case.finish(fork_server)


@every_seed
def test_what_the_workers_of_a_node_share(fork_server, case):
    """If the process that records a node's tasks is killed, the copy ends with one error, and no process is left."""
    tree(case)
    run, said = case.hit(lambda: case.workflow(fork_server, "pool"), lambda _: notes_of(case.folder).pid)
    [end] = said["ends"]
    assert end.startswith("TaskLostError: Transfer from")
    assert " was lost with its executor (Executor pool failed due to: Error 1: EXIT CODE: 143 " in end
    # The error does not have all output of the workers.
    assert len(end) < 800
    run.end()
    case.finish(fork_server)


@every_seed
def test_a_workflow_with_a_worker(fork_server, case):
    """If a workflow is killed, its interchange and its worker end as well, and stop the copy."""
    tree(case)
    case.hit(lambda: case.workflow(fork_server, "pool"), lambda run: run.process)
    case.finish(fork_server)


@every_seed
def test_a_result_that_comes_late(fork_server, case):
    """A worker that ends its task after its workflow was killed keeps no process from ending."""
    tree(case)
    while True:
        run = case.workflow(fork_server, "pool")
        run.copy(case)
        until(case.names, LIMIT)
        # While this process is suspended, the node cannot end, and receives the result.
        notes = notes_of(case.folder)
        notes.suspend()
        kill(run.process)
        if run.outcome() == {"ended": -signal.SIGKILL}:
            break
        # The copy ended before the kill.
        assert run.outcome() == {"ended": -signal.SIGKILL}
        notes.resume()
        check_alone(case.folder)
        case.emptied()
    until(lambda: not processes(case.folder, "interchange"), LIMIT)
    until(lambda: case.names() == set(case.wanted), LIMIT)
    # On a busy machine, the node may have killed it in the meantime.
    with suppress(psutil.NoSuchProcess):
        notes.resume()
    case.finish(fork_server)
