"""Forks, and calls when no thread can start: nothing hangs, runs twice or runs later."""

from __future__ import annotations

import importlib
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import warnings
from concurrent import futures
from pathlib import Path

import pytest
from children import in_child
from clocked_backends import ClockedBackend
from waiting import until, without_threads

import chiltepin
from chiltepin import delete, transfer
from chiltepin.backends.filesystem import LocalBackend
from chiltepin.errors import BackendError, ConfigError, TaskLostError
from chiltepin.model import TaskState
from chiltepin.parsl import run_logs
from chiltepin.testing.simulator import Simulator
from chiltepin.transfers.arguments import delete_request, transfer_request
from chiltepin.transfers.background_thread import BackgroundThread, SystemClock
from chiltepin.transfers.callbacks import CallbackFuture
from chiltepin.transfers.running import start
from chiltepin.transfers.service.manager import TaskManager

LIMIT = 60
TIMES = {"timeout": 60, "polling_interval": 0.2, "grace": 5}


class Now(SystemClock):
    """The system clock, with the attribute that `ClockedBackend` reads."""

    @property
    def time(self):
        """Return the time in seconds."""
        return self.monotonic()


@pytest.fixture
def local(tmp_path):
    """A local backend with a file on each endpoint."""
    for name in "ab":
        (tmp_path / name).mkdir()
    (tmp_path / "a/small").write_text("small")
    (tmp_path / "b/result").write_text("old")
    return LocalBackend.from_config({"a": {}, "b": {}}, {"root": str(tmp_path)})


@pytest.fixture
def manager():
    """A task manager for a service whose tasks run until `lasts` is lowered."""
    backend = ClockedBackend(Now(), lasts=1e9)
    manager = TaskManager(backend)
    yield manager
    backend.lasts = 0
    manager.close()
    until(lambda: manager._thread._thread is None)


def move(origin="/small", goal="/copy"):
    """Return a transfer request."""
    return transfer_request(src_ep="a", dst_ep="b", src_path=origin, dst_path=goal)


def done(backend, request):
    """Run a request on a backend and return its final state."""
    handle = backend.submit(request, backend.new_submission_id())
    backend.wait(handle, LIMIT)
    return backend.poll([handle])[0].state


# Forks


def test_a_child_repeats_nothing_that_its_parent_has_queued(local, tmp_path):
    """A deletion queued in the parent runs once, in the parent, while a forked child makes its own transfer."""
    held, go = threading.Event(), threading.Event()
    local.witness = lambda *_: (held.set(), go.wait(LIMIT))
    copying = local.submit(move(goal="/held"), "held")
    assert held.wait(LIMIT)
    local.submit(delete_request(src_ep="b", src_path="/result"), "deletion")
    local.witness = None

    def child():
        assert done(local, move(goal="/of-the-child")) is TaskState.SUCCEEDED
        assert local.poll([copying])[0].state is TaskState.LOST
        assert (tmp_path / "b/result").read_text() == "old"

    in_child(child)
    go.set()
    local.wait(copying, LIMIT)
    until(lambda: not (tmp_path / "b/result").exists())
    assert (tmp_path / "b/of-the-child").read_text() == "small"


def test_a_future_of_the_parent_has_ended_in_the_child(manager):
    """In a forked child, a pending future of the parent has failed with TaskLostError and runs no callbacks."""
    called = []
    pending = manager.start("one", move(), **TIMES)
    pending.future.add_done_callback(lambda _: called.append(os.getpid()))
    until(lambda: pending.handle)

    def child():
        with pytest.raises(TaskLostError, match="the parent process of this fork"):
            pending.future.result(0)
        assert futures.wait([pending.future], timeout=0).done
        assert [*futures.as_completed([pending.future], timeout=0)] == [pending.future]
        assert not pending.future.cancel()
        assert manager.find("one") is None
        assert not called

    in_child(child)
    assert not pending.future.done()
    assert not manager._backend.cancelled


def test_a_child_uses_the_service_by_itself(manager):
    """The parent's task manager starts afresh in a forked child and in that child's child."""
    manager.start("one", move(), **TIMES)

    def child():
        manager._backend.lasts = 0
        pending = manager.start("two", move(goal="/two"), **TIMES)
        assert pending.future.result(LIMIT).state is TaskState.SUCCEEDED

    in_child(lambda: (child(), in_child(child)))


def test_locks_that_other_threads_hold_do_not_hold_up_a_child(manager, local):
    """Locks that other threads hold during a fork do not block the child."""
    held, go = threading.Event(), threading.Event()
    future = CallbackFuture()
    locks = [manager._lock, manager._thread._changed, local._movers._lock, future._condition]

    def hold():
        for lock in locks:
            lock.acquire()
        held.set()
        go.wait(LIMIT)
        for lock in reversed(locks):
            lock.release()

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(LIMIT)

    def child():
        manager._backend.lasts = 0
        assert manager.start("in the child", move(), **TIMES).future.result(LIMIT).state is TaskState.SUCCEEDED
        assert done(local, move()) is TaskState.SUCCEEDED
        assert isinstance(future.exception(0), TaskLostError)

    try:
        in_child(child)
    finally:
        go.set()
        thread.join()


def test_a_callback_may_fork(local):
    """A child forked in a callback can use the backend; the parent's other callbacks run once, in the parent."""
    seen, told = [], threading.Event()
    future = CallbackFuture()

    def child():
        assert done(local, move()) is TaskState.SUCCEEDED
        other, ended = CallbackFuture(), threading.Event()
        other.add_done_callback(lambda _: ended.set())
        other.set_result(1)
        assert ended.wait(LIMIT)

    def fork(_):
        try:
            in_child(child)
            seen.append("well")
        except BaseException as err:  # noqa: BLE001 - compared below
            seen.append(err)

    future.add_done_callback(fork)
    future.add_done_callback(lambda _: seen.append(os.getpid()))
    future.add_done_callback(lambda _: told.set())
    future.set_result(1)
    assert told.wait(LIMIT)
    until(lambda: len(seen) == 2)
    assert set(seen) == {"well", os.getpid()}


def test_a_module_that_a_thread_was_loading_is_loaded_by_a_child(tmp_path, monkeypatch):
    """A module that another thread was importing during a fork can be imported in both child and parent."""
    parent, held, go = os.getpid(), threading.Event(), threading.Event()

    def pause():
        if os.getpid() == parent:
            held.set()
            assert go.wait(LIMIT)

    monkeypatch.setattr(threading, "pause_of_test", pause, raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "loaded_slowly.py").write_text("import threading\nthreading.pause_of_test()\nwhole = True\n")
    with futures.ThreadPoolExecutor(1) as pool:
        loading = pool.submit(importlib.import_module, "loaded_slowly")
        assert held.wait(LIMIT)
        try:
            in_child(lambda: importlib.import_module("loaded_slowly").whole)
        finally:
            go.set()
        assert loading.result(LIMIT).whole is True
    del sys.modules["loaded_slowly"]


def _moved(number):
    return transfer("a", "b", "/small", f"/copy-{number}")


def test_a_pool_of_processes_moves_files(local, tmp_path, monkeypatch):
    """Processes of a forked `multiprocessing.Pool` transfer files during a workflow, and the workflow continues."""
    monkeypatch.chdir(tmp_path)
    config = {"data": {"backend": "local", "root": str(tmp_path), "endpoints": {"a": {}, "b": {}}}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        with chiltepin.Workflow(config, run_dir=tmp_path / "run") as workflow:
            before = chiltepin.transfer_task("a", "b", "/small", "/before", executor="local")
            with multiprocessing.get_context("fork").Pool(3) as pool:
                assert pool.map_async(_moved, range(9)).get(LIMIT) == [True] * 9
            assert before.result(LIMIT) is True

            def child():
                with pytest.raises(ConfigError, match="forked"):
                    chiltepin.transfer_task("a", "b", "/small", "/never", executor="local")
                workflow.__exit__(None, None, None)

            in_child(child)
            assert chiltepin.transfer_task("a", "b", "/small", "/after", executor="local").result(LIMIT) is True
    assert not (tmp_path / "b/never").exists()


def test_a_signal_ends_a_child_that_waits(local, tmp_path):
    """SIGTERM and SIGHUP have their default action in a forked child; the parent keeps the workflow's handlers."""
    config = {"data": {"backend": "local", "root": str(tmp_path), "endpoints": {"a": {}, "b": {}}}}
    ends = (signal.SIGTERM, signal.SIGHUP)
    # Under nohup SIGHUP is ignored, and stays ignored.
    before = [signal.signal(end, signal.SIG_DFL) for end in ends]

    def child():
        assert [signal.getsignal(end) for end in ends] == [signal.SIG_DFL] * 2

    try:
        with chiltepin.Workflow(config, run_dir=tmp_path / "run"):
            handlers = [signal.getsignal(end) for end in ends]
            in_child(child)
            assert [signal.getsignal(end) for end in ends] == handlers
    finally:
        for end, handler in zip(ends, before, strict=True):
            signal.signal(end, handler)
    assert signal.SIG_DFL not in handlers


def test_a_child_logs_while_its_parent_writes_to_the_log(local, tmp_path):
    """A child forked while another thread writes to Parsl's log can write to that log and exit."""
    config = {"data": {"backend": "local", "root": str(tmp_path), "endpoints": {"a": {}, "b": {}}}}
    reader, writer = os.pipe()
    with chiltepin.Workflow(config, run_dir=tmp_path / "run") as workflow, open(reader, "rb") as pipe:
        [log] = run_logs.files_of(workflow.dfk)
        chiltepin.transfer_task("a", "b", "/small", "/logged", executor="local").result(LIMIT)
        kept = log.setStream(open(writer, "w"))  # noqa: SIM115 - closed below
        with futures.ThreadPoolExecutor(1) as pool:
            # Larger than the pipe buffer, so that the write blocks.
            writing = pool.submit(logging.getLogger("parsl").warning, "x" * 1_000_000)
            assert pipe.read(1) == b"1"
            try:
                in_child(lambda: logging.getLogger("parsl").warning("of the child"))
            finally:
                threading.Thread(target=pipe.read, args=(1_000_000,), daemon=True).start()
            writing.result(LIMIT)
        log.setStream(kept).close()
    assert "of the child" in Path(log.baseFilename).read_text()


LEAVING = """
import os, sys, warnings
import chiltepin
warnings.simplefilter("ignore", DeprecationWarning)
with chiltepin.Workflow({"data": {"backend": "globus", "journal": "journal"}}, run_dir="run"):
    future = chiltepin.transfer_task("a", "b", "/slow", "/slow", executor="local", polling_interval=0.2)
    while future.task_handle is None:
        pass
    child = os.fork()
    if not child:
        assert "fork" in str(future.exception(60)), future
        sys.exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert future.result(60) is True
"""


def test_the_end_of_a_child_cancels_nothing_of_its_parent(tmp_path):
    """A child that leaves a workflow block with `sys.exit` cancels no task, and the parent gets its result."""
    with Simulator({"a": tmp_path / "a", "b": tmp_path / "b"}, bandwidth=50.0) as globus:
        (tmp_path / "a/slow").write_bytes(b"s" * 200)
        environment = {**os.environ, **globus.environment()}
        ran = subprocess.run(
            [sys.executable, "-c", LEAVING],
            cwd=tmp_path,
            env=environment,
            timeout=120,
            capture_output=True,
            check=False,
        )
        assert ran.returncode == 0, ran.stderr.decode()
        assert [task.status for task in globus.tasks.values()] == ["SUCCEEDED"]


# Threads


def test_what_could_not_begin_is_not_done_later(local, tmp_path):
    """If no thread can start, a deletion raises BackendError and does not run later."""
    with without_threads(), pytest.raises(BackendError, match=r"Could not start a thread .*ulimit -u") as caught:
        local.submit(delete_request(src_ep="b", src_path="/result"), "deletion")
    assert caught.value.transient
    assert done(local, move()) is TaskState.SUCCEEDED
    assert (tmp_path / "b/result").exists()
    # The submission id is not stored: a second submission runs.
    handle = local.submit(delete_request(src_ep="b", src_path="/result"), "deletion")
    local.wait(handle, LIMIT)
    assert not (tmp_path / "b/result").exists()


def test_a_service_is_used_again_when_threads_can_be_started(manager):
    """A request that fails because no thread can start is not submitted later; the next request succeeds."""
    with without_threads(), pytest.raises(BackendError, match="Could not start a thread"):
        manager.start("one", move(), **TIMES)
    assert manager.find("one") is None
    assert not manager._batcher.batches
    manager._backend.lasts = 0
    assert manager.start("two", move(goal="/two"), **TIMES).future.result(LIMIT).state is TaskState.SUCCEEDED
    assert [request.items[0].destination for request in manager._backend.requests.values()] == ["/two"]


def test_nothing_is_under_way_without_a_thread(local):
    """A command-line request raises BackendError and moves nothing if no thread can start."""
    transfers = chiltepin.transfers.runner.Transfers(local)
    with without_threads(), pytest.raises(BackendError, match="Could not start a thread"):
        start(transfers, move(), **TIMES)
    assert not local._tasks


@pytest.mark.parametrize("error", [ValueError, SystemExit, KeyboardInterrupt])
def test_a_thread_survives_what_its_work_raises(error):
    """A background thread runs its work again after any exception."""
    counts, told = [], threading.Event()

    def work():
        counts.append(1)
        if len(counts) == 1:
            raise error
        told.set()

    chore = BackgroundThread("chiltepin-test", work)
    chore.wake()
    assert told.wait(LIMIT)
    until(lambda: chore._thread is None)


def test_a_task_survives_what_a_store_raises(local, monkeypatch):
    """SystemExit raised by a store fails that task, and the next task succeeds."""
    monkeypatch.setattr(local, "_transfer", lambda *_: lambda _: sys.exit("no reason"))
    assert done(local, move()) is TaskState.FAILED
    monkeypatch.undo()
    assert done(local, move()) is TaskState.SUCCEEDED


def test_delete_raises_and_forgets_without_threads(tmp_path, monkeypatch):
    """If no thread can start, `delete` raises BackendError and the path is not deleted later."""
    monkeypatch.chdir(tmp_path)
    for name in "ab":
        (tmp_path / name).mkdir()
    (tmp_path / "chiltepin.yaml").write_text(
        f"data:\n  backend: local\n  root: {tmp_path}\n  endpoints: {{a: {{}}, b: {{}}}}\n"
    )
    (tmp_path / "a/small").write_text("small")
    (tmp_path / "b/result").write_text("old")
    with without_threads(), pytest.raises(BackendError, match="Could not start a thread"):
        delete("b", "/result")
    assert transfer("a", "b", "/small", "/copy") is True
    assert (tmp_path / "b/result").read_text() == "old"
