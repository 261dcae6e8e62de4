"""Kill -9 of a worker process, of the interchange, and of a workflow with a worker, in the middle of a copy.

CHILTEPIN_KILLS=100 asks for a hundred kills of each kind.
"""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from buckets_killed import BucketCase
from killing import LIMIT, NAMED, Case, ForkServer, KeptRun, check_alone, kill, lent, processes, seeds
from waiting import until

# Parts of them wait for LIMIT seconds each, and say then what they have waited for.
pytestmark = pytest.mark.timeout(900)

every_seed = pytest.mark.parametrize("seed", seeds(1), ids=lambda seed: f"seed {seed}")

MIB = 1 << 20


class Pool(KeptRun):
    """A workflow with one worker process, which can be killed again and again."""

    def __init__(self, folder, bucket):
        self.folder, self.bucket = folder, bucket
        for end in "ab":
            (folder / end).mkdir()
        endpoints = {end: {"filesystem": f"file://{folder}/{end}"} for end in "ab"}
        cloud = {"filesystem": bucket.settings("cloud", **NAMED)}
        super().__init__(ForkServer(), folder, {**endpoints, "cloud": cloud}, "pool")


@pytest.fixture
def pool(kept, tmp_path_factory, s3_server):
    """A workflow that has done all it was asked."""
    with lent(kept, "pool", lambda: Pool(tmp_path_factory.mktemp("pool"), s3_server.bucket())) as pool:
        yield pool


def tree(case):
    """Make a tree that takes a moment."""
    case.tree(files=case.chance.randint(50, 300), largest=100_000, large=[case.chance.randint(5, 20) * MIB] * 2)


def lose_worker(case, pool):
    """Kill the worker in the middle of a copy; another one takes its place, and ends it. Return how the first ended."""
    _, said = case.hit(lambda: pool, lambda run: run.worker)
    case.rerun(pool)
    case.cleared()
    return said["ends"][0]


@every_seed
def test_a_worker(pool, chance, seed):
    """The copy of a worker that is killed ends with one error, and is continued by the worker in its place."""
    case = Case(pool.folder, chance, f"worker-{seed}")
    tree(case)
    end = lose_worker(case, pool)
    assert end.startswith("TaskLostError: Transfer from")
    assert " was lost with its worker (Task failure due to loss of worker" in end


@every_seed
def test_an_idle_worker(pool, chance, seed):
    """A worker that is killed while it waits is replaced, and the one in its place gets the next copy."""
    case = Case(pool.folder, chance, f"idle-{seed}")
    tree(case)
    kill(pool.worker)
    case.rerun(pool)
    case.cleared()


def started(folder):
    """Return the processes that Python has started on the node: its workers, and what they note their tasks with."""
    return set(processes(folder, "spawn_main"))


def notes_of(folder):
    """Return the process by which the workers of a node note their tasks: it is there before them."""
    return min(started(folder), key=lambda process: process.create_time())


@every_seed
def test_a_worker_that_has_not_noted_its_task(pool, chance, seed):
    """A worker that is killed when it has got a task, and has not noted that yet, leaves it to the one in its place."""
    case = Case(pool.folder, chance, f"unnoted-{seed}")
    tree(case)
    before = started(pool.folder)
    kill(pool.worker)
    until(lambda: started(pool.folder) - before, LIMIT)
    [worker] = started(pool.folder) - before
    notes = notes_of(pool.folder)
    notes.suspend()
    pool.copy(case)
    # The lock of the readers of the queue, which it holds until it has noted what it got.
    until(lambda: f" {worker.pid} " in Path("/proc/locks").read_text(), LIMIT)
    kill(worker.pid)
    notes.resume()
    assert pool.outcome()["ends"] == ["True"]
    assert pool.worker != worker.pid
    case.check_whole()
    case.cleared()


@every_seed
def test_a_worker_that_fills_a_bucket(pool, chance, seed, monkeypatch):
    """The same where it sends objects to S3, for a caller who wants no error."""
    case = BucketCase(pool.folder, chance, pool.bucket, monkeypatch, f"bucket-{seed}")
    case.tree(files=case.chance.randint(10, 50), largest=100_000, large=[case.chance.randint(9, 20) * MIB])
    case.paths[1] = "cloud"
    case.options["check"] = False
    assert lose_worker(case, pool) == "False"


def interchange_of(case):
    """Return the process between a workflow and its workers."""
    return next(process.pid for process in processes(case.folder, "interchange"))


@every_seed
def test_the_interchange(fork_server, case):
    """When it is killed every task ends with one error at once, also later ones, and no process is left."""
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
    """When the process that records their tasks is killed the node is given up: one error, and no process is left."""
    tree(case)
    run, said = case.hit(lambda: case.workflow(fork_server, "pool"), lambda _: notes_of(case.folder).pid)
    [end] = said["ends"]
    assert end.startswith("TaskLostError: Transfer from")
    assert " was lost with its executor (Executor pool failed due to: Error 1: EXIT CODE: 143 " in end
    # Not all that its workers have printed.
    assert len(end) < 800
    run.end()
    case.finish(fork_server)


@every_seed
def test_a_workflow_with_a_worker(fork_server, case):
    """When it is killed its interchange and its worker end as well, and stop what they move."""
    tree(case)
    case.hit(lambda: case.workflow(fork_server, "pool"), lambda run: run.process)
    case.finish(fork_server)


@every_seed
def test_a_result_that_comes_late(fork_server, case):
    """A worker that ends its task when its workflow was killed keeps no process from ending."""
    tree(case)
    while True:
        run = case.workflow(fork_server, "pool")
        run.copy(case)
        until(case.names, LIMIT)
        # Its node cannot end as long as this stands still, and takes the result meanwhile.
        notes = notes_of(case.folder)
        notes.suspend()
        kill(run.process)
        if run.outcome() == {"ended": -signal.SIGKILL}:
            break
        # The copy had ended before.
        assert run.outcome() == {"ended": -signal.SIGKILL}
        notes.resume()
        check_alone(case.folder)
        case.emptied()
    until(lambda: not processes(case.folder, "interchange"), LIMIT)
    until(lambda: case.names() == set(case.wanted), LIMIT)
    notes.resume()
    case.finish(fork_server)
