"""A tree that several workers move: the files, counts and deletions are the same as with one worker.

CHILTEPIN_SHARDED_TREES=200 runs 200 trees, and CHILTEPIN_SHARDED_TREES=100:200 those of the seeds from 100 on.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import threading
import uuid
from concurrent.futures import Future
from datetime import datetime, timezone

import psutil
import pytest
import xxhash

from chiltepin import Workflow, delete, delete_task, transfer, transfer_task
from chiltepin.backends.filesystem import FilesystemBackend
from chiltepin.backends.filesystem.mover import content, shard
from chiltepin.errors import TaskError, TaskLostError
from chiltepin.model import TaskHandle
from chiltepin.transfers import policy
from chiltepin.transfers.activity import ActivityLog
from chiltepin.transfers.arguments import transfer_request
from chiltepin.transfers.journal.unfinished import UnfinishedRecord
from chiltepin.transfers.recorder import TaskLog
from chiltepin.transfers.runner import Transfers
from chiltepin.transfers.shards import ShardedTask

NAMES = ["a", "A", "b", "c.nc", "d.txt", "e.nc", "é", "f g", "-h", "i.tmp", "j", "k.nc"]


def seeds(fewest):
    """Return the seeds: the fewest, as many as CHILTEPIN_SHARDED_TREES says, or a range."""
    first, _, last = os.environ.get("CHILTEPIN_SHARDED_TREES", str(fewest)).rpartition(":")
    return range(int(first or 0), int(last))


@pytest.fixture(scope="module")
def objects(s3_server):
    """A bucket."""
    return s3_server.bucket()


@pytest.fixture(scope="module")
def place(tmp_path_factory, objects):
    """A folder with two endpoints, a bucket, and a workflow that runs tasks in threads."""
    folder = tmp_path_factory.mktemp("workers")
    ends = {name: {"filesystem": f"file://{folder}/root/{name}"} for name in ("here", "there")}
    settings = objects.settings(key={"env": "SHARDS_KEY"}, secret={"env": "SHARDS_SECRET"})
    data = {"backend": "filesystem", "endpoints": {**ends, "cloud": {"filesystem": settings}}}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SHARDS_KEY", objects.login["key"])
        patch.setenv("SHARDS_SECRET", objects.login["secret"])
        with Workflow({"data": data}, run_dir=folder / "runs"):
            yield folder


@pytest.fixture
def tiny_shards(monkeypatch):
    """Shards of one folder, with low limits for large folders and large files."""
    for name in ("SHARD_FIRST", "SHARD_SHORT", "SHARD_LONG"):
        monkeypatch.setattr(policy.wait_times, name, 0.0)
    monkeypatch.setattr(shard, "LARGE_FOLDER", 4)
    monkeypatch.setattr(policy.limits, "SHARD_RANGE", 100_000)


def plant(chance, top, depth=0):
    """Create a random tree."""
    top.mkdir(parents=True, exist_ok=True)
    for name in chance.sample(NAMES, chance.randint(0, len(NAMES))):
        path, kind = top / name, chance.random()
        if kind < 0.6:
            path.write_bytes(chance.randbytes(chance.choice([0, 1, 5, 5000, 300_000])))
            os.utime(path, (1e9 + chance.randint(0, 9), 1e9 + chance.randint(0, 9)))
        elif kind < 0.65:
            path.symlink_to(chance.choice(NAMES))
        elif depth < 3:
            plant(chance, path, depth + 1)


def change(chance, top):
    """Change a copy: remove files, rewrite them, or replace them with folders."""
    for path in sorted(top.rglob("*")):
        what = chance.random()
        if path.is_symlink() or not path.is_file() or what > 0.5:
            continue
        path.unlink()
        if what < 0.2:
            path.write_bytes(chance.randbytes(5))
        elif what < 0.3:
            plant(chance, path, 3)


def look(top):
    """Return the kind, content, mode and time of each entry of a tree, by its path."""
    found = {}
    for path in sorted(top.rglob("*")):
        if path.is_symlink():
            facts = ("link", os.readlink(path))
        elif path.is_dir():
            facts = ("folder",)
        else:
            facts = ("file", path.read_bytes(), path.stat().st_mode & 0o7777, path.stat().st_mtime_ns)
        found[path.relative_to(top).as_posix()] = facts
    return found


def without_times(found):
    """Return the entries without the times of files."""
    return {name: facts[:3] for name, facts in found.items()}


def options_of(chance):
    """Return random options of a transfer."""
    return {
        "sync_level": chance.choice([None, None, "exists", "size", "mtime", "checksum"]),
        "verify_checksum": chance.random() < 0.5,
        "preserve_timestamp": chance.random() < 0.5,
        "include": chance.choice([[], [], ["*.nc"]]),
        "exclude": chance.choice([[], [], ["*.tmp"], ["*"]]),
        "delete_destination_extra": chance.random() < 0.5,
    }


def outcome(future):
    """Return how a task ended and what it counted, without its failures, whose order is random."""
    try:
        ended = future.result()
    except TaskError as error:
        ended = type(error)
    status = future.status()
    return ended, status.state, status.files_done, status.bytes_done, status.files_skipped


def test_several_workers_leave_what_one_leaves(place, tiny_shards):
    """One worker and four workers move and delete a random tree in the same way, with random options."""
    here, there = place / "root/here", place / "root/there"
    for seed in seeds(10):
        chance = random.Random(f"workers {seed}")  # noqa: S311 - reproducible, not secret
        shutil.rmtree(place / "root", ignore_errors=True)
        plant(chance, here / "tree")
        if chance.random() < 0.5:
            plant(chance, there / "1")
        else:
            shutil.copytree(here / "tree", there / "1", symlinks=True)
            change(chance, there / "1")
        shutil.copytree(there / "1", there / "4", symlinks=True)
        options, ends = options_of(chance), {}
        for workers in (1, 4):
            future = transfer_task(
                "here",
                "there",
                "/tree",
                f"/{workers}",
                recursive=True,
                executor="local",
                workers=workers,
                **options,
            )
            ends[workers] = outcome(future)
        assert ends[4] == ends[1], (seed, options)
        one, four = look(there / "1"), look(there / "4")
        if not options["preserve_timestamp"]:
            one, four = without_times(one), without_times(four)
        assert four == one, (seed, options)
        for workers in (1, 4):
            future = delete_task("there", f"/{workers}", recursive=True, executor="local", workers=workers)
            ends[workers] = outcome(future)
        assert ends[4] == ends[1], seed
        assert os.listdir(there) == [], seed


def test_several_workers_leave_what_one_leaves_in_a_bucket(place, objects, tiny_shards):
    """One worker and four workers copy a random tree to a bucket and back, and delete it, in the same way."""
    here, there = place / "root/here", place / "root/there"
    every = seeds(2)
    # A tree in a bucket takes ten times as long as a tree between two folders.
    for seed in every[: max(2, len(every) // 20)]:
        chance = random.Random(f"bucket {seed}")  # noqa: S311 - reproducible, not secret
        shutil.rmtree(place / "root", ignore_errors=True)
        plant(chance, here / "tree", 2)
        there.mkdir()
        before = chance.sample(NAMES, chance.randint(0, 3))
        options, ends = {**options_of(chance), "preserve_timestamp": False}, {}
        for workers in (1, 4):
            for name in before:
                objects.put(f"tree/{name}/old")
            each = {"recursive": True, "executor": "local", "workers": workers}
            up = outcome(transfer_task("here", "cloud", "/tree", "/tree", **each, **options))
            keys = {key: xxhash.xxh3_64_hexdigest(objects.get(key)) for key in sorted(objects.keys())}
            down = outcome(transfer_task("cloud", "there", "/tree", "/tree", **each, **options))
            gone = outcome(delete_task("cloud", "/tree", ignore_missing=True, **each))
            ends[workers] = up, keys, down, without_times(look(there)), gone, objects.keys()
            shutil.rmtree(there / "tree", ignore_errors=True)
        assert ends[4] == ends[1], (seed, options)


def test_processes_of_this_machine_move_one_tree(place, monkeypatch):
    """With several workers, transfer() copies and delete() removes a whole tree, and no process is left."""
    started = []
    sys.addaudithook(lambda event, _: started.append(event) if event == "subprocess.Popen" else None)
    monkeypatch.setattr(policy.wait_times, "SHARD_FIRST", 0.0)
    root = place / "root"
    shutil.rmtree(root, ignore_errors=True)
    chance = random.Random(1)  # noqa: S311 - reproducible
    (root / "there").mkdir(parents=True)
    for number in range(6):
        plant(chance, root / f"here/tree/{number}")
    before = set(psutil.Process().children(recursive=True))
    assert transfer("here", "there", "/tree", "/copy", recursive=True, workers=3) is True
    # The third worker is this process.
    assert len(started) == 2
    source = {name: facts for name, facts in look(root / "here/tree").items() if facts[0] != "link"}
    assert without_times(look(root / "there/copy")) == without_times(source)
    assert delete("there", "/copy", recursive=True, workers=3) is True
    assert os.listdir(root / "there") == []
    _, alive = psutil.wait_procs(set(psutil.Process().children(recursive=True)) - before, timeout=10)
    assert not alive


def test_one_small_file_is_left_to_this_process(place):
    """A small file starts no process and is not recorded as unfinished; a small tree leaves no process behind."""
    written, started, before = [], [], set(psutil.Process().children())

    def note(event, facts):
        if event == "open" and ".unfinished" in str(facts[0]):
            written.append(facts[0])
        elif event == "subprocess.Popen":
            started.append(facts)

    sys.addaudithook(note)
    top = place / "root/here/inner"
    for folder in (top, place / "root/there"):
        folder.mkdir(parents=True, exist_ok=True)
    (top / "small").write_text("content")
    assert transfer("here", "there", "/inner/small", "/small", workers=2) is True
    assert written == started == []
    assert transfer("here", "there", "/inner", "/inner", recursive=True, workers=4) is True
    # The process that was started in advance had no work, and has ended.
    assert len(written) == len(started) == 1
    _, alive = psutil.wait_procs(set(psutil.Process().children()) - before, timeout=10)
    assert not alive


def test_a_large_file_is_written_by_several_workers(place, tiny_shards):
    """A file that is copied in ranges arrives whole, with its time and its old mode, and replaces an old file."""
    here, there = place / "root/here", place / "root/there"
    shutil.rmtree(place / "root", ignore_errors=True)
    data = random.Random(2).randbytes(1_000_001)  # noqa: S311 - reproducible
    here.mkdir(parents=True)
    there.mkdir()
    (here / "large").write_bytes(data)
    os.utime(here / "large", (1e9, 1e9))
    (there / "large").write_bytes(b"old")
    (there / "large").chmod(0o640)
    future = transfer_task("here", "there", "/large", "/large", executor="local", workers=4, preserve_timestamp=True)
    assert future.result() is True
    assert look(there) == {"large": ("file", data, 0o640, 10**18)}
    assert (future.status().files_done, future.status().bytes_done) == (1, len(data))


@pytest.mark.parametrize("tree", [False, True], ids=["file", "tree"])
def test_a_large_file_that_vanishes_is_skipped(place, tiny_shards, monkeypatch, tree):
    """With skip_source_errors, a file that is removed between two ranges is skipped once and leaves nothing."""
    here, there = place / "root/here", place / "root/there"
    shutil.rmtree(place / "root", ignore_errors=True)
    (here / "top").mkdir(parents=True)
    there.mkdir()
    (here / "top/large").write_bytes(bytes(1_000_000))
    whole = content.Content.copy_range

    def copy_range(self, *args):
        whole(self, *args)
        (here / "top/large").unlink(missing_ok=True)

    monkeypatch.setattr(content.Content, "copy_range", copy_range)
    path = "/top" if tree else "/top/large"
    future = transfer_task(
        "here", "there", path, path, recursive=tree, executor="local", workers=2, skip_source_errors=True
    )
    assert future.result() is True
    status = future.status()
    assert (status.files_done, status.files_skipped, status.skipped_paths) == (0, 1, ("/top/large",))
    assert os.listdir(there / "top") == []


def test_a_large_file_that_changes_leaves_nothing(place, tiny_shards, monkeypatch):
    """A source that changes between two ranges fails the transfer; the old file stays, and the reason appears once."""
    here, there = place / "root/here", place / "root/there"
    shutil.rmtree(place / "root", ignore_errors=True)
    here.mkdir(parents=True)
    there.mkdir()
    (here / "large").write_bytes(bytes(1_000_000))
    (there / "large").write_bytes(b"old")
    whole = content.Content.copy_range

    def copy_range(self, *args):
        whole(self, *args)
        os.utime(here / "large")

    monkeypatch.setattr(content.Content, "copy_range", copy_range)
    future = transfer_task("here", "there", "/large", "/large", executor="local", workers=2)
    with pytest.raises(TaskError) as caught:
        future.result()
    assert str(caught.value).count("changed during the copy") == 1
    assert "more failed" not in str(caught.value)
    assert {name: facts[1] for name, facts in look(there).items()} == {"large": b"old"}


class Running:
    """A shard of a worker; see `RunningShard`."""

    def __init__(self):
        self.future = Future()
        self.future.set_running_or_notify_cancel()

    def status(self):
        """Return None, as a worker that is not seen does."""

    def stop(self):
        """Do nothing, as a worker that does not respond does."""

    give_up = stop


class Workers:
    """Two workers in threads of this process, one of which can be lost although it goes on.

    ``before`` is called with each shard before it starts.
    """

    def __init__(self, folder, path, *, recursive=False, before=lambda _: None):
        ends = {name: {"url": f"file://{folder}/{name}"} for name in ("here", "there")}
        self.transfers = Transfers(FilesystemBackend.from_config(ends, {}))
        self.threads, self.running, self.before = [], [], before
        request = transfer_request(src_ep="here", dst_ep="there", src_path=path, dst_path=path, recursive=recursive)
        now = datetime.now(timezone.utc)
        log = ActivityLog(str(folder / "journal"), lambda: now)
        self.task = ShardedTask(
            request,
            TaskHandle.at_worker("filesystem", "whole"),
            workers=2,
            timeout=60,
            start=self.start,
            task_log=TaskLog(log, "whole", request, backend="filesystem", asked=now),
            unfinished=UnfinishedRecord("{}", request),
        ).begin()

    def start(self, request, shard, seconds):
        """Start a shard, as the `start` argument of `ShardedTask`."""
        self.before(shard)
        running = Running()
        options = {"timeout": seconds, "polling_interval": 1, "submission_id": str(uuid.uuid4())}

        def run():
            outcome = self.transfers.run_shard(request, shard, stopped=lambda: False, **options)
            if not running.future.done():
                running.future.set_result(outcome)

        self.running.append((shard, running))
        self.threads.append(threading.Thread(target=run))
        self.threads[-1].start()
        return running

    def lose_first_range(self):
        """Lose the worker of the first range."""
        found = next(running for shard, running in self.running if shard.range and shard.range.offset == 0)
        found.future.set_exception(TaskLostError("Its worker is gone."))

    def wait(self):
        """Wait until all workers have ended."""
        for thread in self.threads:
            thread.join()


@pytest.mark.parametrize("tree", [False, True], ids=["file", "tree"])
def test_a_lost_worker_that_goes_on_changes_no_finished_file(tmp_path, tiny_shards, monkeypatch, tree):
    """A worker that counts as lost and goes on later writes nothing to the file that other workers have finished."""
    here, there = tmp_path / "here", tmp_path / "there"
    (here / "top").mkdir(parents=True)
    there.mkdir()
    (here / "top/large").write_bytes(b"1" * 1_000_000)
    stalled, goes_on = threading.Event(), threading.Event()
    whole = content.Content.copy_range

    def copy_range(self, offset, *args):
        if offset == 0 and not stalled.is_set():
            stalled.set()
            assert goes_on.wait(60)
        whole(self, offset, *args)

    monkeypatch.setattr(content.Content, "copy_range", copy_range)
    workers = Workers(tmp_path, "/top" if tree else "/top/large", recursive=tree)
    assert stalled.wait(60)
    workers.lose_first_range()
    try:
        assert workers.task.future.result(60).files_done == 1
        assert (there / "top/large").read_bytes() == b"1" * 1_000_000
        with open(here / "top/large", "r+b") as file:
            file.write(b"2" * 1_000_000)
    finally:
        goes_on.set()
        workers.wait()
    assert {name: facts[1] for name, facts in look(there / "top").items()} == {"large": b"1" * 1_000_000}


EQUAL = """
from chiltepin import transfer
from chiltepin.transfers import policy

policy.limits.SHARD_RANGE = 100_000
assert transfer("here", "there", "/large", "/large", workers=2) is True
"""


def test_an_equal_transfer_of_another_process_removes_nothing(tmp_path, tiny_shards):
    """A transfer leaves the temporary file of an equal transfer alone while the process of that one runs."""
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    (here / "large").write_bytes(bytes(1_000_000))
    settings = f"data: {{backend: local, root: {tmp_path}, endpoints: {{here: {{}}, there: {{}}}}}}\n"
    (tmp_path / "chiltepin.yaml").write_text(settings)
    others = []

    def before(shard):
        # No worker has the temporary file open now, and its last write may be long ago if the workers had to queue.
        if shard.range and not others:
            [temp_file] = there.iterdir()
            os.utime(temp_file, (0, 0))
            others.append(subprocess.run([sys.executable, "-c", EQUAL], cwd=tmp_path, check=False).returncode)

    workers = Workers(tmp_path, "/large", before=before)
    assert workers.task.future.result(60).files_done == 1
    workers.wait()
    assert others == [0]
    assert {name: facts[1] for name, facts in look(there).items()} == {"large": bytes(1_000_000)}
