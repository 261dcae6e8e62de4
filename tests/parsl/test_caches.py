"""Parsl's caches and checkpoints, with endpoint files and futures as arguments."""

from __future__ import annotations

import pytest
from parsl import python_app
from parsl.data_provider.files import File
from parsl.dataflow.memoization import BasicMemoizer

from chiltepin import configure, transfer_task
from chiltepin.tasks import bash_task, join_task, python_task
from chiltepin.workflow import Workflow

LIMIT = 60
RUNS = []


def count(name, value):
    """Record that an app runs."""
    RUNS.append(name)
    return value


@python_task(cache=True)
def read(inputs=()):
    """Return the contents of a file."""
    with open(inputs[0]) as file:
        return count("read", file.read())


@python_task(cache=True)
def after(value, note="x"):
    """Return the arguments."""
    return count("after", (value, note))


@python_task(cache=True)
def write(text, outputs=()):
    """Write a file."""
    with open(outputs[0], "w") as file:
        file.write(text)
    return count("write", text)


@bash_task(cache=True)
def show(source, inputs=()):
    """Read a file in the shell."""
    return count("show", f"cat {inputs[0]} > /dev/null")


@join_task(cache=True)
def joined(files):
    """Start a task that reads a file."""
    count("joined", None)
    return read(inputs=files)


@pytest.fixture
def run(tmp_path):
    """Return a function that creates the same workflow for each run, with checkpoints."""
    RUNS.clear()
    (tmp_path / "d/far").mkdir(parents=True)
    (tmp_path / "d/far/x").write_text("one")
    settings = {
        "local": {"provider": "threads", "max_threads": 2, "working_dir": "near:/work"},
        "data": {"backend": "local", "root": str(tmp_path / "d"), "endpoints": {"near": None, "far": None}},
    }

    def make():
        config = configure.load(settings, run_dir=str(tmp_path / "run"))
        config.memoizer = BasicMemoizer(checkpoint_mode="task_exit")
        return Workflow(config)

    return make


FILE = "chiltepin://far/x"


def test_a_file_of_an_endpoint_is_compared_by_its_url(run):
    """A cached task runs only once for the same file, in one run and in the next."""
    for _ in range(2):
        with run():
            for _ in range(2):
                assert read(inputs=[File(FILE)]).result(timeout=LIMIT) == "one"
                assert show("x", inputs=[File(FILE)]).result(timeout=LIMIT) == 0
    assert RUNS == ["read", "show"]


def test_futures_are_compared_by_their_results(run):
    """A cached task does not run again because its arguments are a transfer, its file or the future of a task."""
    for _ in range(2):
        with run():
            moved = transfer_task("far", "near", "/x", "/x", executor="local")
            assert after([moved, after(1)]).result(timeout=LIMIT) == ([True, (1, "x")], "x")
            assert after(moved).result(timeout=LIMIT) == (True, "x")
            assert read(inputs=[moved.file]).result(timeout=LIMIT) == "one"
    assert sorted(RUNS) == ["after", "after", "after", "read"]


def test_a_join_task_is_cached(run):
    """A cached join task and the task that it starts run once."""
    for _ in range(2):
        with run():
            assert joined([File(FILE)]).result(timeout=LIMIT) == "one"
    assert RUNS == ["joined", "read"]


@pytest.mark.parametrize("endpoint", ["far", "near"])
def test_a_task_that_writes_files_runs_each_time(run, tmp_path, endpoint):
    """A cached task with outputs runs at each call, and writes its file each time."""
    target = tmp_path / "d" / endpoint / "out"
    for _ in range(2):
        with run():
            for text in ("one", "two", "one"):
                future = write(text, outputs=[File(f"chiltepin://{endpoint}/out")])
                future.outputs[0].result(timeout=LIMIT)
                assert target.read_text() == text
            target.unlink()
            write("one", outputs=[File(f"chiltepin://{endpoint}/out")]).outputs[0].result(timeout=LIMIT)
            assert target.read_text() == "one"


def test_a_local_output_is_written_each_time(run, tmp_path):
    """A cached Parsl app writes a local output file at each call."""

    def plain(outputs=()):
        with open(outputs[0], "w") as file:
            file.write("plain")

    with run() as running:
        app = python_app(plain, cache=True, data_flow_kernel=running.dfk)
        for _ in range(2):
            app(outputs=[File(str(tmp_path / "out"))]).outputs[0].result(timeout=LIMIT)
            assert (tmp_path / "out").read_text() == "plain"
            (tmp_path / "out").unlink()


def test_what_cannot_be_compared_is_named(run):
    """An argument that Parsl cannot compare fails the future with advice, unless ignore_for_cache names it."""
    with run():
        error = after(1, note=object()).exception(timeout=LIMIT)
        assert str(error) == (
            "App 'after' cannot be cached: Parsl cannot compare argument 2, of type object; "
            "name it in ignore_for_cache, or give plain data."
        )
        ignoring = python_task(cache=True, ignore_for_cache=["note"])(after.__wrapped__)
        assert ignoring(1, note=b"x").result(timeout=LIMIT) == (1, b"x")
        assert ignoring(1, note=b"y").result(timeout=LIMIT) == (1, b"x")


def test_a_result_that_no_checkpoint_takes_is_a_result(run):
    """A result that cannot be written to the checkpoint still ends its future, and the next run starts."""

    @python_task(cache=True)
    def stream():
        return (number for number in range(3))

    for _ in range(2):
        with run():
            assert list(stream().result(timeout=LIMIT)) == [0, 1, 2]
            assert after(5).result(timeout=LIMIT) == (5, "x")
    assert RUNS == ["after"]


def test_a_checkpoint_on_a_full_disk_is_no_harm(run, tmp_path):
    """A task succeeds even if its checkpoint cannot be written."""
    with run() as running:
        folder = tmp_path / "file"
        folder.write_text("")
        running.dfk.memoizer.run_dir = str(folder)
        assert after(5).result(timeout=LIMIT) == (5, "x")
        running.dfk.memoizer.run_dir = str(tmp_path / "run/000")
