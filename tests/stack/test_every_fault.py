"""Each fault at each kind of request, once, often and permanently; CHILTEPIN_SCHEDULES in the environment tries all.

By default, only a sample is tried.
"""

from __future__ import annotations

import os
import random

import pytest
from mishaps import MISHAPS, PLACES
from wholestack import Stack, moves_of, paths_of

from chiltepin import delete_task, transfer_task
from chiltepin.errors import LoginRequiredError

#: How often a fault occurs: once, more often than the SDK retries, and until every caller has given up.
TIMES = (1, 4, 100_000)

#: Refusals, any one of which can fail a request.
NO = frozenset({"400", "401", "403", "403 consent", "404", "409", "busy", "external", "paused"})

TRIES = [(place, name, times) for place in PLACES for name in sorted(MISHAPS) for times in TIMES]
SOME = TRIES if "CHILTEPIN_SCHEDULES" in os.environ else random.Random(7).sample(TRIES, len(TRIES) // 150)  # noqa: S311


@pytest.fixture
def stack():
    """One stack for the faults of one test; each stack starts without a login."""
    made = Stack()
    made.wait(0)
    yield made
    made.close()


@pytest.fixture
def clean(stack):
    """The stack, without faults and tasks before and after."""
    yield stack
    stack.globus._faults._mishaps.clear()
    stack.wait(2000)
    assert stack.due() == float("inf")
    assert not stack.live()
    for task in stack.tasks():
        stack.globus.forget_task(task.id)
    stack.globus.clear_requests()


@pytest.mark.parametrize("number", range(4))
def test_each_fault_at_each_request(clean, number):
    """Four transfers, one of a missing file, two deletions, one of a missing path, and a cancellation all end."""
    assert SOME
    for count, (place, name, times) in enumerate(SOME):
        if count % 4 == number:
            one_fault(clean, place, name, times)


def one_fault(stack, place, name, times):
    """Test one fault."""
    what = f"{times} times {name!r} at {place}"
    run = f"{place or ''}{name}{times}".replace("/", "_")
    laptop, scratch = stack.folder / "laptop", stack.folder / "scratch"
    for file in ("0", "1", "2"):
        (laptop / file).write_text(f"{run} {file}")
    (scratch / "old").mkdir(parents=True, exist_ok=True)
    (scratch / "old" / run).touch()
    stack.globus.fail_next(times, path=place, **MISHAPS[name])
    rest = {"executor": "local", "timeout": 300.0}
    moves = {file: transfer_task("a", "b", f"/{file}", f"/{run}/{file}", **rest) for file in ("0", "1", "2", "missing")}
    deletions = [delete_task("b", f"/old/{file}", **rest) for file in (run, "missing")]
    stack.globus.settings.task_latency = 5
    cancelled = transfer_task("a", "b", "/0", f"/{run}/cancelled", preserve_timestamp=True, **rest)
    stack.wait(3)
    cancelled.cancel()
    stack.wait(400)
    for file, future in moves.items():
        assert future.done(), what
        if future.exception() is None:
            assert (scratch / run / file).read_text() == f"{run} {file}", what
    assert all(future.done() for future in [*deletions, cancelled]), what
    if deletions[0].exception() is None:
        assert not (scratch / "old" / run).exists(), what
    assert deletions[1].exception() is not None, what
    assert max(moves_of(stack.tasks()).values(), default=0) <= 1, what
    assert not stack.stumbles.told, what
    if times == 1 and name not in NO:
        errors = [future.exception() for future in moves.values()]
        assert [error is None for error in errors] == [True, True, True, False], f"{what}: {errors}"
        assert deletions[0].exception() is None, what
        assert sum(f"/{run}/0" in paths_of(task) for task in stack.tasks()) == 1, what
    if name == "401" and times == TIMES[-1] and place is None:
        assert isinstance(moves["0"].exception(), LoginRequiredError)
    stack.globus._faults._mishaps.clear()
