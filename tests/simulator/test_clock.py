"""The simulator's clocks."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest

from chiltepin.testing.simulator import ManualClock, RunningClock


def test_a_manual_clock_stands_still():
    """A manual clock shows its start time, in UTC, until it is advanced."""
    start = datetime(2030, 5, 6, tzinfo=timezone.utc)
    clock = ManualClock(start)
    assert clock.now() == start
    clock.advance(90)
    assert (clock.time() - start.timestamp(), clock.now().minute) == (90, 1)


def test_a_clock_never_goes_back():
    """A negative step and a speed that is not positive are rejected."""
    with pytest.raises(ValueError, match="cannot go back"):
        ManualClock().advance(-1)
    with pytest.raises(ValueError, match="positive number"):
        RunningClock(speed=0)


def test_a_running_clock_runs():
    """A running clock starts at the real time and advances at its own speed."""
    before = datetime.now(tz=timezone.utc)
    clock = RunningClock(speed=1e6)
    first, second = clock.time(), clock.time()
    assert clock.now() >= before
    assert second > first


def test_advancing_does_what_is_due(world):
    """Work is done at its due time, not at the end of the clock's step."""
    world.globus.settings.latency = 30
    world.put("/in")
    task_id = world.transfer(("/in", "/out"))
    task = world.ended(task_id, 3600)
    assert (task["request_time"], task["completion_time"]) == ("2026-01-01T12:00:00+00:00", "2026-01-01T12:00:30+00:00")


def test_no_time_does_what_is_due_now(world):
    """A step of zero seconds does the work that is due now."""
    world.put("/in")
    task_id = world.transfer(("/in", "/out"))
    assert world.ended(task_id, 0)["status"] == "SUCCEEDED"
