"""`cleanup` and `cleanup_task` delete staged data even after errors."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import Future

import pytest

from chiltepin import Workflow, cleanup, cleanup_task, python_task, transfer, transfer_task
from chiltepin.errors import ConfigError, PermissionDeniedError, TaskCanceledError, TaskFailedError

LIMIT = 60


@python_task
def wait(event, error=None):
    """Wait for an event, and raise an error if one is given."""
    assert event.wait(LIMIT)
    if error:
        raise error


@contextlib.contextmanager
def aborted(path=None):
    """Run a block in a workflow that an error ends; if `path` is given, in a `cleanup` block too."""
    block = contextlib.nullcontext() if path is None else cleanup("scratch", path)
    with pytest.raises(ValueError, match="mine"), Workflow(run_dir="runs"), block:  # noqa: PT012 - the test's body
        yield
        raise ValueError("mine")


@pytest.fixture
def scratch(tmp_path, monkeypatch):
    """The folder of the endpoint scratch, with a job folder; the root of another endpoint is below /held."""
    (tmp_path / "chiltepin.yaml").write_text(
        "data:\n  backend: local\n  executor: local\n  root: ends\n"
        "  endpoints: {laptop: , scratch: {local: scratch}, inner: {local: scratch/held/inner}}\n"
    )
    monkeypatch.setenv("CHILTEPIN_CONFIG", str(tmp_path / "chiltepin.yaml"))
    monkeypatch.delenv("CHILTEPIN_BACKEND", raising=False)
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "ends" / "scratch"
    (folder / "job" / "deep").mkdir(parents=True)
    (folder / "job" / "deep" / "a.dat").write_text("a")
    (folder / "held" / "inner").mkdir(parents=True)
    (tmp_path / "ends" / "laptop").mkdir()
    (tmp_path / "ends" / "laptop" / "b.dat").write_text("b")
    return folder


@pytest.mark.parametrize("end", [None, ValueError("mine"), SystemExit(3), "Ctrl-C"], ids=str)
def test_the_end_of_a_block_deletes(scratch, ctrl_c, end):
    """A block deletes its folder when it ends normally, by an exception or by Ctrl-C, and re-raises the exception."""

    def block():
        with cleanup("scratch", "/job"):
            transfer("laptop", "scratch", "/b.dat", "/job/b.dat")
            if end == "Ctrl-C":
                ctrl_c()
            elif end is not None:
                raise end

    if end is None:
        block()
    else:
        with pytest.raises(KeyboardInterrupt if end == "Ctrl-C" else type(end)):
            block()
    assert sorted(os.listdir(scratch)) == ["held"]


def test_what_never_existed_is_no_error(scratch):
    """A path that does not exist when the block ends is not an error."""
    with cleanup("scratch", "/never/made"):
        pass


def test_no_error_hides_the_other(scratch, caplog):
    """If block and deletion both fail, the block's error is raised; the deletion's error is a note and is logged."""
    with pytest.raises(ValueError, match="mine") as caught, cleanup("scratch", "/held"):
        raise ValueError("mine")
    said = [*getattr(caught.value, "__notes__", ["/held"]), caplog.text]
    assert all("/held" in text for text in said)
    with pytest.raises(TaskFailedError, match="/held"), cleanup("scratch", "/held"):
        pass
    assert (scratch / "held" / "inner").exists()


@pytest.mark.parametrize("path", ["/", "~", ".", "/job/.."])
def test_the_root_is_refused_before_the_block(scratch, path):
    """The root of an endpoint, however it is spelled, is refused before the block or the task starts."""
    with pytest.raises(PermissionDeniedError, match="root of an endpoint and is never"), cleanup("scratch", path):
        pytest.fail("The block has begun.")
    with Workflow(run_dir="runs"), pytest.raises(PermissionDeniedError, match="never deleted"):
        cleanup_task("scratch", path, after=[])
    assert (scratch / "job").exists()


def test_the_settings_are_those_of_the_beginning(scratch, monkeypatch):
    """A block uses the settings in effect when it started, even if the default settings change meanwhile."""
    with cleanup("scratch", "/job"):
        monkeypatch.setenv("CHILTEPIN_CONFIG", "missing.yaml")
    assert not (scratch / "job").exists()
    with pytest.raises(ConfigError, match=r"missing\.yaml"), cleanup("scratch", "/job"):
        pytest.fail("The block has begun.")


def test_a_block_in_a_workflow_waits_for_its_tasks(scratch):
    """A block that ends normally waits for the tasks started in it, but not for other tasks."""
    before, during = Future(), threading.Event()
    with Workflow(run_dir="runs"):
        outside = transfer_task("laptop", "scratch", "/b.dat", "/later", inputs=[before])
        with cleanup("scratch", "/job"):
            inside = transfer_task("laptop", "scratch", "/b.dat", "/job/b.dat", inputs=[wait(during, executor="local")])
            threading.Timer(0.05, during.set).start()
        assert inside.result(LIMIT)
        assert not (scratch / "job").exists()
        assert not outside.done()
        before.set_result(None)
    assert (scratch / "later").exists()


def test_an_error_leaves_the_deletion_to_the_end_of_the_workflow(scratch):
    """After an error in a block with running tasks, the data is deleted once the workflow has ended."""
    running = threading.Event()
    with aborted("/job"):
        wait(running, executor="local").add_done_callback(lambda _: (scratch / "job" / "late").mkdir(parents=True))
        threading.Timer(0.05, running.set).start()
    assert not (scratch / "job").exists()


def test_a_failed_deletion_at_the_end_of_a_workflow_is_named(scratch, caplog):
    """A failed deletion at the end of a workflow is logged with its path."""
    with aborted("/held"):
        transfer_task("laptop", "scratch", "/b.dat", "/c", inputs=[Future()])
    assert "Deletion of /held on 'scratch' failed" in caplog.text


def test_a_task_deletes_after_tasks_that_fail(scratch):
    """`cleanup_task` deletes after all given futures have ended, including failed and canceled ones."""
    failing, cancelled, go = threading.Event(), Future(), threading.Event()
    with Workflow(run_dir="runs"):
        first, second = wait(failing, ValueError("mine"), executor="local"), wait(go, executor="local")
        future = cleanup_task("scratch", "/job", after=[{"some": (first, cancelled)}, second])
        failing.set()
        assert isinstance(first.exception(LIMIT), ValueError)
        assert cancelled.cancel()
        assert (scratch / "job").exists()
        go.set()
        assert future.result(LIMIT) is True
        assert not (scratch / "job").exists()


def test_a_task_deletes_after_an_aborted_workflow(scratch, caplog):
    """If the workflow is aborted first, the data is still deleted, and no failure is logged."""
    with aborted():
        future = cleanup_task("scratch", "/job", after=Future())
    assert not (scratch / "job").exists()
    assert "/job" not in caplog.text
    assert isinstance(future.exception(LIMIT), TaskCanceledError)


def test_what_the_user_has_cancelled_is_not_deleted(scratch):
    """A deletion that the user cancels does not run, even when the workflow is aborted."""
    with aborted():
        future = cleanup_task("scratch", "/job", after=Future())
        assert future.cancel()
        assert isinstance(future.exception(LIMIT), TaskCanceledError)
    assert (scratch / "job").exists()


SCRIPT = """
import os, signal, time
from chiltepin import cleanup
with cleanup("scratch", "/job"):
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(60)
"""


def test_sigterm_deletes(scratch):
    """On SIGTERM in a block without a workflow, the data is deleted before the process ends."""
    ended = subprocess.run([sys.executable, "-c", SCRIPT], check=False, capture_output=True, timeout=LIMIT)
    assert ended.returncode == 128 + signal.SIGTERM, ended.stderr
    assert not (scratch / "job").exists()
