"""Canceling transfers that wait for a worker: they end, and a worker that starts later moves nothing."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from dataclasses import replace

import pytest
from instrumented_executors import FarExecutor
from waiting import until

from chiltepin import Workflow, configure, delete_task, join_task, python_task, transfer_task
from chiltepin.errors import TaskCanceledError
from chiltepin.model import TaskState

LIMIT = 60


class LateExecutor(FarExecutor):
    """Workers that run their tasks only on request, like a batch job that starts late."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def shutdown(self):
        """Shut down; leave finished futures unchanged."""
        self.futures = [future for future in self.futures if not future.done()]
        super().shutdown()

    def submit(self, func, resource_specification, *args, **kwargs):
        """Keep the call for later."""
        self.calls.append((func, args, kwargs))
        return super().submit(func, resource_specification, *args, **kwargs)


@python_task
def hold(started, release):
    """Occupy a thread."""
    started.set()
    return release.wait(LIMIT)


@pytest.fixture
def settings(tmp_path):
    """Settings with one thread and two endpoints, and a file on the first."""
    (tmp_path / "laptop").mkdir()
    (tmp_path / "laptop" / "a.dat").write_bytes(b"content")
    return {
        "local": {"provider": "threads", "max_threads": 1},
        "data": {"backend": "local", "root": str(tmp_path), "endpoints": {"laptop": None, "scratch": None}},
    }


@pytest.fixture
def config(settings, tmp_path):
    """A configuration that tests can extend."""
    made = configure.load(settings, run_dir=tmp_path / "runinfo")
    made.initialize_logging = False
    return made


def move(executor):
    """Move the file."""
    return transfer_task("laptop", "scratch", "/a.dat", "/b.dat", executor=executor)


@pytest.mark.parametrize("what", [{"src_path": "/a.dat"}, {"src_path": "/*.dat"}, {"src_path": "/", "recursive": True}])
def test_what_several_workers_may_do_ends_at_once(config, tmp_path, what):
    """With several workers per call, a call that waits for a thread ends when canceled, divisible or not."""
    started, release = threading.Event(), threading.Event()
    config.data = replace(config.data, workers=3)
    with Workflow(config):
        running = hold(started, release, executor="local")
        assert started.wait(LIMIT)
        later = Future()
        calls = [
            transfer_task("laptop", "scratch", dst_path="/b.dat", executor="local", **what)
            if "*" not in what["src_path"]
            else delete_task("laptop", globs=True, executor="local", **what),
            transfer_task("laptop", "scratch", dst_path=later, executor="local", **what),
        ]
        later.set_result("/c.dat")
        for call in calls:
            until(lambda call=call: call.task_record["status"].name in ("launched", "joining"))
            assert call.cancel() is True
            with pytest.raises(TaskCanceledError):
                call.result(LIMIT)
        assert not running.done()
        release.set()
        assert running.result(LIMIT)
    assert (tmp_path / "laptop/a.dat").exists()
    assert not (tmp_path / "scratch").exists()


def test_one_that_waits_for_a_thread_ends_at_once(config, tmp_path):
    """Canceling a transfer queued behind a running task ends it at once, and it moves nothing later."""
    started, release = threading.Event(), threading.Event()
    with Workflow(config):
        running = hold(started, release, executor="local")
        assert started.wait(LIMIT)
        waiting = move("local")
        after = delete_task("laptop", "/a.dat", inputs=[waiting], executor="local")
        assert waiting.cancel() is True
        with pytest.raises(TaskCanceledError, match="was canceled before it began"):
            waiting.result(LIMIT)
        assert not running.done()
        release.set()
        assert running.result(LIMIT)
    assert after.exception(timeout=0) is not None
    assert not (tmp_path / "scratch").exists()


@join_task
def move_first(number):
    """Start a transfer with several workers, and wait for it in a thread of Parsl's own executor."""
    moved = transfer_task("laptop", "scratch", "/", f"/{number}", recursive=True, executor="local", workers=2)
    moved.result(LIMIT)
    return moved


def test_transfers_that_join_tasks_wait_for_are_started(config, tmp_path):
    """Join tasks that wait for transfers with several workers end, even if they occupy all threads for join tasks."""
    with Workflow(config) as workflow:
        numbers = range(workflow.dfk.config.internal_tasks_max_threads)
        assert all(future.result(LIMIT) for future in [move_first(number) for number in numbers])
    assert all((tmp_path / f"scratch/{number}/a.dat").exists() for number in numbers)


@pytest.mark.parametrize("retries", [0, 2])
def test_one_that_no_worker_takes_ends_soon(config, tmp_path, monkeypatch, retries):
    """Canceling a transfer in a batch queue ends it, and a worker that receives it later does nothing."""
    monkeypatch.setattr("chiltepin.transfers.policy.wait_times.STOP_GRACE", 0.2)
    late = LateExecutor()
    config.retries = retries
    with Workflow(config) as workflow:
        workflow.dfk.add_executors([late])
        waiting = move("far")
        assert late.taken.acquire(timeout=LIMIT)
        assert [waiting.cancel(), waiting.cancel()] == [True, True]
        with pytest.raises(TaskCanceledError, match=r"no worker has answered within 0\.2 seconds"):
            waiting.result(LIMIT)
        assert (waiting.cancelled(), waiting.status().state) == (True, TaskState.CANCELED)
        [(function, args, kwargs)] = late.calls
        with pytest.raises(TaskCanceledError, match="was canceled before it began"):
            function(*args, **kwargs).reraise()
    assert not (tmp_path / "scratch").exists()
    assert not (tmp_path / "runinfo/000/chiltepin").exists()


def test_one_that_ends_in_time_keeps_its_end(config, tmp_path):
    """A canceled transfer that its worker ends in time has the worker's result, and leaves no stop file."""
    late = LateExecutor()
    with Workflow(config) as workflow:
        workflow.dfk.add_executors([late])
        waiting = move("far")
        assert late.taken.acquire(timeout=LIMIT)
        waiting.cancel()
        late.futures[0].set_exception(TaskCanceledError("The worker has stopped."))
        with pytest.raises(TaskCanceledError, match="The worker has stopped"):
            waiting.result(LIMIT)
        assert list((tmp_path / "runinfo" / "000" / "chiltepin").iterdir()) == []


def test_a_shard_that_no_worker_takes_ends_soon(config, tmp_path, monkeypatch):
    """Canceling a tree whose workers are still queued ends the transfer, and the workflow can end."""
    monkeypatch.setattr("chiltepin.transfers.policy.wait_times.STOP_GRACE", 0.2)
    late = LateExecutor()
    with Workflow(config) as workflow:
        workflow.dfk.add_executors([late])
        waiting = transfer_task("laptop", "scratch", "/", "/", recursive=True, executor="far", workers=2)
        assert late.taken.acquire(timeout=LIMIT)
        assert waiting.cancel() is True
        with pytest.raises(TaskCanceledError, match="was asked to stop and has not stopped yet"):
            waiting.result(LIMIT)
    assert not (tmp_path / "scratch").exists()


def test_a_shard_that_a_worker_takes_late_leaves_nothing(config, tmp_path, monkeypatch):
    """A worker that receives a shard of a canceled tree moves nothing, and then its stop file is removed."""
    monkeypatch.setattr("chiltepin.transfers.policy.wait_times.STOP_GRACE", 0.2)
    late = LateExecutor()
    with Workflow(config) as workflow:
        workflow.dfk.add_executors([late])
        waiting = transfer_task("laptop", "scratch", "/", "/", recursive=True, executor="far", workers=2)
        assert late.taken.acquire(timeout=LIMIT)
        waiting.cancel()
        assert waiting.exception(LIMIT) is not None
        [(function, args, kwargs)] = late.calls
        late.futures[0].set_result(function(*args, **kwargs))
        until(lambda: not list((tmp_path / "runinfo" / "000" / "chiltepin").iterdir()))
    assert not (tmp_path / "scratch").exists()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_task_whose_files_cannot_be_removed_ends(config, tmp_path, monkeypatch, workers):
    """A transfer ends, with one or several workers, if its files in the run folder cannot be removed."""
    monkeypatch.setattr("chiltepin.transfers.policy.wait_times.STATUS_FILE_INTERVAL", 0)
    with Workflow(config) as workflow:
        # Nothing can be written to or removed from a folder that is a file.
        with open(f"{workflow.dfk.run_dir}/chiltepin", "x"):
            pass
        moved = transfer_task("laptop", "scratch", "/", "/", recursive=True, executor="local", workers=workers)
        assert moved.result(LIMIT) is True
    assert (tmp_path / "scratch/a.dat").read_bytes() == b"content"
