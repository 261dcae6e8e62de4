"""Kill -9 of worker processes that move one tree together, and of their workflow.

CHILTEPIN_KILLS=50 runs 150 trees.
"""

from __future__ import annotations

import threading

import pytest
from killing import CREW, LIMIT, Case, ForkServer, KeptRun, kill, lent, processes, seeds
from waiting import until

pytestmark = pytest.mark.timeout(900)

every_seed = pytest.mark.parametrize("seed", seeds(1), ids=lambda seed: f"seed {seed}")

MIB = 1 << 20


class Crew(KeptRun):
    """A workflow with four worker processes, which can be killed repeatedly."""

    def __init__(self, folder):
        self.folder = folder
        for end in "ab":
            (folder / end).mkdir()
        endpoints = {end: {"filesystem": f"file://{folder}/{end}"} for end in "ab"}
        super().__init__(ForkServer(), folder, endpoints, "crew")


@pytest.fixture
def crew(kept, tmp_path_factory):
    """An idle workflow."""
    with lent(kept, "crew", lambda: Crew(tmp_path_factory.mktemp("crew"))) as crew:
        yield crew


def workers_of(folder):
    """Return the worker processes of a node; the oldest of its processes records their tasks."""
    found = processes(folder, "spawn_main")
    return sorted(found, key=lambda process: process.create_time())[1:]


def tree(case):
    """Create a tree that takes a moment to copy, sometimes over another one."""
    case.tree(files=case.chance.randint(100, 400), largest=100_000, large=[case.chance.randint(5, 20) * MIB] * 2)
    case.options["workers"] = CREW
    if case.chance.random() < 0.5:
        case.outdate()
    if case.chance.random() < 0.5:
        case.options["delete_destination_extra"] = True
        for number in range(3):
            extra = case.b / f"tree/{number}/extra"
            extra.parent.mkdir(parents=True, exist_ok=True)
            extra.write_bytes(b"extra")
            case.old[f"tree/{number}/extra"] = case.present()[f"tree/{number}/extra"]


@every_seed
def test_one_worker_of_several(crew, chance, seed):
    """A transfer of a tree succeeds even if one or two of its workers are killed, and leaves no temporary file."""
    case = Case(crew.folder, chance, f"shards-{seed}")
    tree(case)
    until(lambda: len(workers_of(crew.folder)) == CREW, LIMIT)
    crew.copy(case)
    for _ in range(chance.randint(1, 2)):
        threading.Event().wait(chance.uniform(0, crew.fork_server.took[Case]))
        kill(chance.choice(workers_of(crew.folder)).pid)
    said = crew.outcome()
    assert said["ends"] == ["True"], said
    case.check_whole()
    case.cleared()


@pytest.mark.parametrize("executor", ["crew", "local"])
@every_seed
def test_the_workflow_of_several_workers(fork_server, case, executor):
    """The workers of a killed workflow end; the next run completes the tree and leaves nothing else."""
    tree(case)
    case.hit(lambda: case.workflow(fork_server, executor), lambda run: run.process)
    case.finish(fork_server)
