"""`transfer_task` and `delete_task` accept the keywords of every task, as upstream's package does."""

from __future__ import annotations

from concurrent.futures import Future

import pytest
from instrumented_executors import RecordingExecutor

import chiltepin
from chiltepin import configure, delete_task, transfer_task
from chiltepin.errors import ConfigError, TaskTimeoutError

LIMIT = 60

#: Keywords that upstream's tasks pass to Parsl, with values that have no effect.
NOTHING = {
    "walltime": None,
    "outputs": None,
    "stdout": None,
    "stderr": None,
    "chiltepin_task_geometry": None,
    "parsl_resource_specification": None,
    "inputs": None,
}


@pytest.fixture
def sandbox(tmp_path):
    """The folder of two endpoints, with a file on the first."""
    (tmp_path / "sandbox" / "a").mkdir(parents=True)
    (tmp_path / "sandbox" / "a" / "file").write_bytes(b"content")
    return tmp_path / "sandbox"


def settings(sandbox, **data):
    """Return settings for two endpoints on this machine."""
    return {"data": {"backend": "local", "root": str(sandbox), "endpoints": {"a": {}, "b": {}}, **data}}


@pytest.fixture
def running(sandbox, tmp_path):
    """Run the test inside a workflow over these folders."""
    with chiltepin.Workflow(settings(sandbox), run_dir=tmp_path / "runinfo") as workflow:
        yield workflow


def move(**options):
    """Move the one file."""
    return transfer_task("a", "b", "/file", "/file", **{"executor": "local", **options})


@pytest.mark.parametrize("empty", [(), []])
def test_keywords_that_ask_for_nothing(running, sandbox, empty):
    """A Parsl keyword that is None or empty has no effect."""
    assert move(**NOTHING | {"outputs": empty}).result(LIMIT) is True
    assert delete_task("b", "/file", executor="local", **NOTHING | {"outputs": empty}).result(LIMIT) is True
    assert not (sandbox / "b" / "file").exists()


@pytest.mark.parametrize(
    ("keyword", "value", "said"),
    [
        ("outputs", ["/x"], "does not accept outputs=.*, because the file of a transfer is future.file"),
        ("stdout", "out.txt", r"does not accept stdout='out.txt', because .* prints nothing; future.status\(\) tells"),
        ("stderr", ("err.txt", "w"), "does not accept stderr=.*, because a transfer or a deletion prints nothing"),
        ("walltime", "1h", "walltime='1h' is of type str; give a number of seconds"),
        ("chiltepin_task_geometry", 4, "chiltepin_task_geometry must be a dict such as .*, not 4"),
    ],
)
def test_a_keyword_without_a_use_is_refused(running, keyword, value, said):
    """A keyword that would have no effect is refused at the call, with the reason."""
    with pytest.raises(TypeError, match=said):
        move(**{keyword: value})
    with pytest.raises(TypeError, match=said):
        delete_task("a", "/file", executor="local", **{keyword: value})


@pytest.mark.parametrize(
    "times", [{"walltime": 0.1}, {"walltime": 0.1, "timeout": 60}, {"walltime": 60, "timeout": 0.1}]
)
def test_the_shorter_of_walltime_and_timeout_counts(running, sandbox, times):
    """A transfer ends after its walltime or its timeout, whichever is shorter."""
    with open(sandbox / "a" / "endless", "wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(TaskTimeoutError, match=r"was not done within 0\.1 seconds"):
        transfer_task("a", "b", "/endless", "/x", executor="local", **times).result(LIMIT)


def test_a_walltime_with_a_timeout_to_come(running):
    """A walltime with a future as timeout is refused, because the shorter one is unknown."""
    with pytest.raises(TypeError, match="walltime=5, and a timeout that is a future; give one of them"):
        move(walltime=5, timeout=Future())


def test_a_geometry_goes_to_the_executor(config, sandbox):
    """The task that moves the bytes gets the transfer's resources; the geometry overrides them, as for other tasks."""
    executor = RecordingExecutor("nodes")
    made = config(executor)
    made.data = configure.load(settings(sandbox)).data
    with chiltepin.Workflow(made):
        geometry = {"num_nodes": 1}
        future = move(
            executor="nodes", chiltepin_task_geometry=geometry, parsl_resource_specification={"num_nodes": 2, "x": 3}
        )
        assert future.result(LIMIT) is True
    assert [resources for _, resources in executor.calls] == [{"num_nodes": 1, "x": 3}]


class TestNoExecutor:
    """Calls that name no executor."""

    @pytest.mark.parametrize("executor", ["more", ["more", "local"], "all", ["all"]])
    def test_the_settings_name_it(self, sandbox, tmp_path, executor):
        """``data: executor:`` is the executor of calls that name none."""
        given = settings(sandbox, executor=executor) | {"more": {"provider": "threads"}}
        with chiltepin.Workflow(given, run_dir=tmp_path / "runinfo"):
            assert transfer_task("a", "b", "/file", "/file").result(LIMIT) is True
            future = delete_task("b", "/file")
            assert future.result(LIMIT) is True
            assert future.task_record["executor"] in {"more", "local"}

    @pytest.mark.parametrize(
        ("executor", "said"),
        [
            (
                "mor",
                r"data.executor names the resource 'mor', which is not declared; did you mean 'more'\? Known: local",
            ),
            ([], "data.executor is .*; write the name of a resource, a list of names, or all"),
            ({"a": 1}, "write the name of a resource, a list of names, or all"),
        ],
    )
    def test_the_settings_name_a_wrong_one(self, sandbox, executor, said):
        """An invalid executor in the settings is reported when they are read."""
        with pytest.raises(ConfigError, match=said):
            configure.load(settings(sandbox, executor=executor) | {"more": {"provider": "threads"}})

    def test_nothing_names_it(self, running):
        """A worker backend needs an executor, and the error says where to name it."""
        for call in (
            lambda: transfer_task("a", "b", "/file", "/file"),
            lambda: delete_task("a", "/file", executor=None),
        ):
            with pytest.raises(TypeError, match="missing 1 required keyword-only argument: 'executor'; name the reso"):
                call()

    def test_a_service_needs_none(self, chiltepin_globus, tmp_path):
        """Globus needs no worker and thus no executor, with or without a geometry."""
        (tmp_path / "my-laptop" / "file").parent.mkdir(exist_ok=True)
        (tmp_path / "my-laptop" / "file").write_bytes(b"content")
        with chiltepin.Workflow({"data": {"backend": "globus", "journal": False}}, run_dir=tmp_path / "runinfo"):
            future = transfer_task(
                "my-laptop",
                "hpc-scratch",
                "/file",
                "/file",
                polling_interval=0.1,
                chiltepin_task_geometry={"num_nodes": 2},
            )
            assert future.result(LIMIT) is True
            assert delete_task("hpc-scratch", "/file", polling_interval=0.1).result(LIMIT) is True
