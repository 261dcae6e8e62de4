"""Values of `workers=`, where it is set, and its meaning for calls that are not divided among workers."""

from __future__ import annotations

import re

import pytest
import sample_tasks

from chiltepin import Workflow, configure, delete, delete_task, transfer, transfer_task
from chiltepin.errors import ConfigError, PermissionDeniedError, TaskFailedError

LIMIT = 60


@pytest.fixture
def settings(tmp_path):
    """Settings with four workers per call, and a folder with a file."""
    (tmp_path / "a/tree/inner").mkdir(parents=True)
    (tmp_path / "a/tree/inner/file").write_bytes(b"content")
    data = {"backend": "local", "root": str(tmp_path), "workers": 4, "endpoints": {"a": None, "b": None}}
    return {"data": data, "local": {"provider": "threads", "max_threads": 2}}


@pytest.fixture
def running(settings, tmp_path):
    """A workflow with these settings."""
    config = configure.load(settings, run_dir=tmp_path / "runs")
    config.initialize_logging = False
    with Workflow(config) as workflow:
        yield workflow


WRONG = {
    0: ValueError,
    -1: ValueError,
    10**9: ValueError,
    "4": TypeError,
    2.5: TypeError,
    True: TypeError,
    (2,): TypeError,
}


@pytest.mark.parametrize("workers", WRONG, ids=repr)
def test_a_wrong_number_is_told_at_the_call(running, workers):
    """Each call refuses an invalid ``workers`` at once and says what to pass."""
    said = rf"^workers={re.escape(repr(workers))} is .*; give a whole number.*, such as 4\.$"
    with pytest.raises(WRONG[workers], match=said):
        transfer_task("a", "b", "/tree", "/t", recursive=True, executor="local", workers=workers)
    with pytest.raises(WRONG[workers], match=said):
        delete_task("a", "/tree", recursive=True, executor="local", workers=workers)
    with pytest.raises(WRONG[workers], match=said):
        transfer("a", "b", "/tree", "/t", recursive=True, workers=workers)
    with pytest.raises(WRONG[workers], match=said):
        delete("a", "/tree", recursive=True, workers=workers)


@pytest.mark.parametrize("workers", [0, -1, 2.5, True, [2]], ids=repr)
def test_a_wrong_number_in_the_settings_is_told(settings, tmp_path, workers):
    """The error names the key and the value."""
    settings["data"]["workers"] = workers
    with pytest.raises(ConfigError, match=rf"^data\.workers is {re.escape(str(workers))}; write a (whole )?number"):
        configure.load(settings, run_dir=tmp_path / "runs")


def test_arguments_that_are_futures(running, tmp_path):
    """Paths and ``recursive`` can be futures, whose results are checked like plain values."""

    def later(value):
        return sample_tasks.give(value, executor="local")

    def move(path, goal, recursive):
        return transfer_task("a", "b", path, goal, recursive=recursive, executor="local")

    assert move("/tree", "/1", later(True)).result(LIMIT) is True
    assert move("/tree/inner/file", "/2", later(False)).result(LIMIT) is True
    assert move("/tree", later("/3"), True).result(LIMIT) is True
    assert (tmp_path / "b/1/inner/file").read_bytes() == (tmp_path / "b/2").read_bytes() == b"content"
    assert (tmp_path / "b/3/inner/file").read_bytes() == b"content"
    with pytest.raises(TypeError, match="recursive='no' is of type str"):
        move("/tree", "/4", later("no")).result(LIMIT)
    with pytest.raises(PermissionDeniedError, match="leads out of the root"):
        move("/tree", later("/../5"), True).result(LIMIT)
    with pytest.raises(TaskFailedError, match="FILE_NOT_FOUND"):
        move(later("/none"), "/6", True).result(LIMIT)
    gone = delete_task("b", later("/1"), recursive=later(True), executor="local")
    assert gone.result(LIMIT) is True
    assert sorted(path.name for path in (tmp_path / "b").iterdir()) == ["2", "3"]


def test_a_failure_is_false_where_that_is_wanted(running):
    """With ``check=False``, a failed call returns False, as with one worker."""
    options = {"recursive": True, "check": False}
    assert transfer_task("a", "b", "/none", "/t", executor="local", **options).result(LIMIT) is False
    assert delete_task("a", "/none", executor="local", **options).result(LIMIT) is False
    assert transfer("a", "b", "/none", "/t", **options) is False
    assert delete("a", "/none", **options) is False


def test_a_service_decides_for_itself(chiltepin_globus, tmp_path):
    """A service backend ignores the setting and the argument: a call is one task without a worker."""
    (tmp_path / "my-laptop/tree").mkdir(parents=True)
    (tmp_path / "my-laptop/tree/file").write_bytes(b"content")
    with Workflow({"data": {"backend": "globus", "workers": 4, "journal": False}}, run_dir=tmp_path / "runs"):
        moved = transfer_task("my-laptop", "hpc-scratch", "/tree", "/tree", recursive=True, workers=3)
        assert moved.result(LIMIT) is True
        assert delete_task("hpc-scratch", "/tree", recursive=True).result(LIMIT) is True
    assert len(chiltepin_globus.tasks) == 2
