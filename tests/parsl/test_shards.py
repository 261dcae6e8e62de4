"""A tree moved by several Parsl workers: lost workers, canceled calls, and the reported status."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
import time
from concurrent.futures import Future

import pytest
import sample_tasks
import trap_store
from parsl_configs import HERE
from trap_store import FILES, SIZE, opened, tell
from waiting import until

from chiltepin import Workflow, configure, transfer_task
from chiltepin.backends.filesystem.mover import shard
from chiltepin.backends.filesystem.temp_names import TEMP_PREFIX
from chiltepin.errors import TaskCanceledError, TaskFailedError, TaskLostError, TaskTimeoutError
from chiltepin.model import NO_TASK, TaskState
from chiltepin.transfers import policy
from chiltepin.transfers.activity import ActivityReader

LIMIT = 60
#: Seconds within which a canceled task has stopped: enough for a loaded machine, but less than STOP_GRACE.
SOON = 5


@pytest.fixture(scope="module")
def htex(tmp_path_factory):
    """A workflow with two worker processes and two threads, which retries failed tasks once."""
    folder = tmp_path_factory.mktemp("shards")
    trap_store.announce(folder / "packages")
    path = f"export PYTHONPATH={HERE}:{folder}/packages${{PYTHONPATH:+:$PYTHONPATH}}"
    (folder / "control").mkdir()
    places = {
        "here": {"filesystem": {"url": "trap://tree", "options": {"control": str(folder / "control")}}},
        "there": {"filesystem": str(folder / "there")},
    }
    (folder / "there").mkdir()
    settings = {
        "local": {"provider": "threads", "max_threads": 2},
        "pool": {"provider": "localhost", "max_workers_per_node": 2, "cores_per_worker": 0.1, "environment": [path]},
        "data": {"backend": "filesystem", "endpoints": places, "workers": 3, "journal": str(folder / "journal")},
    }
    with pytest.MonkeyPatch.context() as patch:
        # Seconds until a dead worker is noticed and replaced.
        patch.setattr("chiltepin.parsl.executors.HEARTBEAT", 1)
        config = configure.load(settings, run_dir=folder / "runs")
    config.retries, config.initialize_logging = 1, False
    with Workflow(config) as running:
        running.folder = folder
        yield running


@pytest.fixture(autouse=True)
def control(htex, monkeypatch):
    """The folder with the commands for the store; a shard is one folder, and no status or stop file is left."""
    for name in ("SHARD_FIRST", "SHARD_SHORT", "SHARD_LONG"):
        monkeypatch.setattr(policy.wait_times, name, 0.0)
    folder = htex.folder / "control"
    for file in folder.iterdir():
        file.unlink()
    yield folder
    until(lambda: not notes(htex))


def notes(running):
    """Return the names of the stop files and status files of tasks."""
    folder = os.path.join(running.dfk.run_dir, "chiltepin")
    return os.listdir(folder) if os.path.isdir(folder) else []


def move(number, executor="pool", **options):
    """Move the tree of the store."""
    return transfer_task("here", "there", "/", f"/{number}", recursive=True, executor=executor, **options)


def arrived(running, number):
    """Return the names of the files at a destination, marked if their contents are wrong."""
    top = running.folder / "there" / number
    files = [path for path in top.rglob("*") if path.is_file()]
    return sorted(f"{path.relative_to(top)}{'' if path.read_bytes() == bytes(SIZE) else ' is wrong'}" for path in files)


def test_a_lost_worker_costs_its_shard(htex, control):
    """If a worker is killed, only its shard is repeated, and the transfer succeeds."""
    tell(control, "kill 3/b")
    future = move("lost")
    assert future.result(LIMIT) is True
    assert arrived(htex, "lost") == FILES
    names = [name for _, name in opened(control)]
    assert names.count("3/b") == 2
    assert sorted(set(names)) == FILES
    assert len(names) <= len(FILES) + 2
    assert (future.status().files_done, future.status().faults) == (len(FILES), 1)


def test_a_shard_that_kills_every_worker(htex, control):
    """A task fails with TaskLostError after two retries of a shard, which Parsl's retries do not multiply."""
    tell(control, "kill 3/b", times=9)
    future = move("deadly")
    with pytest.raises(TaskLostError, match="was lost with its worker") as caught:
        future.result(LIMIT)
    assert [name for _, name in opened(control)].count("3/b") == 1 + policy.limits.SHARD_RETRIES
    assert future.status().state is TaskState.LOST
    assert caught.value.status.handle == future.task_handle


def began(control, count=1):
    """Wait until `count` files were opened."""
    until(lambda: len(opened(control)) >= count)


def temp_files(running, number):
    """Return the names of the temporary files at a destination."""
    top = running.folder / "there" / number
    return [path.name for path in top.rglob("*") if path.name.startswith(TEMP_PREFIX)]


@pytest.mark.parametrize("executor", ["pool", "local"])
def test_a_cancelled_tree_stops_at_every_worker(htex, control, executor):
    """Canceling a tree stops all workers soon, leaves only complete files, and moves nothing later."""
    tell(control, "slow")
    future = move(f"cancelled-{executor}", executor)
    began(control, 2)
    start = time.monotonic()
    assert future.cancel() is True
    with pytest.raises(TaskCanceledError):
        future.result(LIMIT)
    assert time.monotonic() - start < SOON
    assert (future.cancelled(), future.status().state) == (True, TaskState.CANCELED)
    until(lambda: not notes(htex))
    assert set(arrived(htex, f"cancelled-{executor}")) < set(FILES)
    assert temp_files(htex, f"cancelled-{executor}") == []
    count = len(opened(control))
    assert sample_tasks.add_step(1, executor=executor).result(LIMIT) == 1 + sample_tasks.STEP
    assert len(opened(control)) == count


@pytest.mark.parametrize("executor", ["pool", "local"])
def test_a_timeout_stops_every_worker(htex, control, executor):
    """A timeout ends a tree with one error, which names the full timeout, and leaves no temporary file."""
    for folder in range(2, 8):
        tell(control, f"slow {folder}/a")
    future = move(f"late-{executor}", executor, timeout=1)
    with pytest.raises(TaskTimeoutError, match="was not done within 1 seconds and was stopped") as caught:
        future.result(LIMIT)
    until(lambda: not notes(htex))
    assert temp_files(htex, f"late-{executor}") == []
    assert caught.value.status.files_done == len(arrived(htex, f"late-{executor}"))


@pytest.fixture
def busy(htex):
    """Return a function that occupies all workers of an executor until the end of the test."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        held = []

        def keep(executor):
            held.extend(sample_tasks.hold(server.getsockname(), executor=executor) for _ in range(2))
            gates.extend(server.accept()[0] for _ in range(2))

        gates = []
        yield keep
        for gate in gates:
            gate.close()
        for future in held:
            future.result(LIMIT)


@pytest.mark.parametrize("executor", ["pool", "local"])
@pytest.mark.parametrize("workers", [1, 3])
def test_a_tree_that_waits_for_workers_is_cancelled(htex, control, busy, executor, workers):
    """Canceling a tree while all workers are busy ends it at once, and it moves nothing."""
    busy(executor)
    future = move(f"waiting-{executor}", executor, workers=workers, inputs=[begin := Future()])
    assert future.status().reason == f"Parsl says 'pending'; it runs on executor '{executor}'."
    begin.set_result(None)
    until(lambda: future.task_record["status"].name == ("joining" if workers > 1 else "launched"))
    start = time.monotonic()
    assert future.cancel() is True
    with pytest.raises(TaskCanceledError):
        future.result(LIMIT)
    assert time.monotonic() - start < SOON
    assert opened(control) == []


@pytest.mark.parametrize("executor", ["pool", "local"])
def test_a_timeout_counts_while_a_shard_waits(htex, control, busy, executor, monkeypatch):
    """The timeout of a started tree keeps counting while its next shards wait for busy workers."""
    monkeypatch.setattr(policy.wait_times, "STOP_GRACE", 0.5)
    tell(control, "slow 7/a")
    future = move(f"behind-{executor}", executor, timeout=2.5, workers=2)
    began(control)
    busy(executor)
    with pytest.raises(TaskTimeoutError, match=r"was not done within 2\.5 seconds"):
        future.result(LIMIT)


def test_a_file_that_fails_stops_no_other(htex, control):
    """A file that cannot be read fails the task; all other files arrive, and none is deleted at the destination."""
    (htex.folder / "there/failing").mkdir()
    (htex.folder / "there/failing/extra").write_bytes(bytes(SIZE))
    tell(control, "fail 3/b")
    future = move("failing", delete_destination_extra=True)
    with pytest.raises(TaskFailedError, match=r"PERMISSION_DENIED.*3/b"):
        future.result(LIMIT)
    assert arrived(htex, "failing") == sorted({*FILES, "extra"} - {"3/b"})
    assert move("failing", delete_destination_extra=True, check=False).result(LIMIT) is False
    (control / "fail 3-b 0").unlink()
    assert move("failing", delete_destination_extra=True).result(LIMIT) is True
    assert arrived(htex, "failing") == FILES


def test_worker_processes_write_one_file(htex, monkeypatch):
    """A file is divided into ranges of the size set in the workflow's process; each range is a shard."""
    monkeypatch.setattr(policy.limits, "SHARD_RANGE", 300_000)
    data = os.urandom(1_000_001)
    (htex.folder / "there/large").write_bytes(data)
    before = htex.dfk.task_count
    future = transfer_task("there", "there", "/large", "/ranges/copy", executor="pool", preserve_timestamp=True)
    assert future.result(LIMIT) is True
    assert {path.name: path.read_bytes() for path in (htex.folder / "there/ranges").iterdir()} == {"copy": data}
    # The task, the shard that divides the file, four ranges, and the shard that renames it.
    assert htex.dfk.task_count - before == 1 + 1 + 4 + 1


def test_the_status_of_all_workers_is_one(htex, control):
    """The counts of the status only grow and end as the total; the journal has one record of the task."""
    for name in ("0/a", "3/a", "6/b"):
        tell(control, f"slow {name}")
    future, seen = move("told"), []
    while not future.done():
        seen.append(future.status())
        threading.Event().wait(0.05)
    assert future.result(LIMIT) is True
    seen.append(future.status())
    counts = [(status.files_done, status.bytes_done) for status in seen]
    assert counts == sorted(counts)
    assert counts[-1] == (len(FILES), len(FILES) * SIZE)
    assert {status.handle for status in seen} - {NO_TASK} == {future.task_handle}
    assert len(os.listdir(htex.folder / "journal")) == 1
    records = ActivityReader(str(htex.folder / "journal")).news()
    told = [record.files for record in records if record.items == (("/", "/told"),)]
    assert told == [len(FILES)]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts")
def test_a_full_disk_stops_every_worker(htex, control):
    """When the destination disk is full, no further shard starts, and the error is NO_SPACE."""
    disk = htex.folder / "there/full"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", disk], check=False).returncode:
        pytest.skip("this container does not let root mount")
    try:
        tell(control, "slow 6/a")
        future = move("full")
        with pytest.raises(TaskFailedError, match="NO_SPACE") as caught:
            future.result(LIMIT)
        assert "cancel" not in str(caught.value)
        assert len(opened(control)) < len(FILES)
        assert temp_files(htex, "full") == []
    finally:
        until(lambda: not subprocess.run(["umount", disk], check=False).returncode)


@pytest.mark.parametrize("times", [1, 1 + 3], ids=["divided", "copied"])
def test_a_source_that_shrinks_removes_nothing(htex, control, monkeypatch, times):
    """A source folder that becomes empty during the transfer causes no deletion at the destination."""
    monkeypatch.setattr(shard, "LARGE_FOLDER", 1)
    number = f"shrinks-{times}"
    assert move(number, "local").result(LIMIT) is True
    tell(control, "empty 3")
    # Each of the three workers lists the folder once more, for its part.
    tell(control, "full 3", times=times)
    future = move(number, "local", delete_destination_extra=True, sync_level="size")
    with pytest.raises(TaskFailedError, match=r"FILE_SIZE_CHANGED.*changed after it was copied"):
        future.result(LIMIT)
    assert arrived(htex, number) == FILES


@pytest.mark.skipif(os.geteuid() != 0, reason="only root hides a folder from one process")
def test_workers_that_do_not_see_the_run_folder(htex, control):
    """Workers that cannot see the run folder move the tree, and stop after their current shards when canceled."""
    folder = os.path.join(htex.dfk.run_dir, "chiltepin")
    os.makedirs(folder, exist_ok=True)
    with socket.create_server(("127.0.0.1", 0)) as server:
        hidden = [sample_tasks.hide(folder, server.getsockname(), executor="pool") for _ in range(2)]
        for gate in [server.accept()[0] for _ in range(2)]:
            gate.close()
        if not all(future.result(LIMIT) for future in hidden):
            pytest.skip("this container does not let root mount")
    assert move("blind").result(LIMIT) is True
    assert arrived(htex, "blind") == FILES
    tell(control, "slow")
    future = move("unseen")
    began(control, len(FILES) + 2)
    future.cancel()
    with pytest.raises(TaskCanceledError):
        future.result(LIMIT)
    # Two shards are running, and one is queued.
    assert len(opened(control)) <= len(FILES) + 3 * 2
    until(lambda: not notes(htex))


def test_an_executor_that_is_lost(htex, control):
    """If the interchange of the workers is killed, the task ends at once with TaskLostError."""
    tell(control, "slow")
    future = move("executor")
    began(control, 2)
    htex.dfk.executors["pool"].interchange_proc.kill()
    with pytest.raises(TaskLostError, match=r"was lost with its executor .*interchange"):
        future.result(LIMIT)
    with pytest.raises(TaskLostError, match=r"was lost with its executor .*interchange"):
        move("after").result(LIMIT)
