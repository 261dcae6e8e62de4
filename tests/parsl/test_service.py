"""Workflows on Globus: no transfer occupies a worker, and no token leaves the process."""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import threading
from pathlib import Path

import globus_sdk
import pytest
from globus_sdk import AccessTokenAuthorizer
from parsl import ThreadPoolExecutor
from parsl.dataflow.errors import DependencyError
from parsl_configs import make_config, make_htex
from waiting import until

import chiltepin
from chiltepin import cleanup, configure, delete_task, python_task, transfer, transfer_task
from chiltepin.data import data_settings
from chiltepin.errors import (
    BackendError,
    ConfigError,
    EndpointNotFoundError,
    TaskCanceledError,
    TaskFailedError,
    TaskPausedError,
    TaskTimeoutError,
)
from chiltepin.model import TaskState
from chiltepin.transfers.activity import ActivityReader

LIMIT = 60


@pytest.fixture
def laptop(tmp_path):
    """The folder behind the laptop's collection."""
    folder = tmp_path / "my-laptop"
    folder.mkdir(exist_ok=True)
    (folder / "file").write_bytes(b"content")
    return folder


@pytest.fixture
def scratch(tmp_path):
    """The folder behind the collection hpc-scratch."""
    return tmp_path / "hpc-scratch"


@pytest.fixture
def globus(chiltepin_globus, laptop):
    """A simulated Globus whose collections are found by display name, without settings."""
    return chiltepin_globus


@pytest.fixture
def running(globus, tmp_path):
    """A workflow on Globus with one worker thread."""
    settings = {
        "data": {"backend": "globus", "fault_grace": 0.5},
        "local": {"provider": "threads", "max_threads": 1},
    }
    with chiltepin.Workflow(settings, run_dir=tmp_path / "runinfo") as workflow:
        yield workflow
        # The end of a workflow would wait for tasks that a failed test leaves active.
        for task in globus.tasks.values():
            if task.status == "ACTIVE":
                task.fail()


def move(origin="/file", goal="/file", **options):
    """Start a transfer with a short polling interval."""
    options = {"executor": "local", "polling_interval": 0.1, **options}
    return transfer_task("my-laptop", "hpc-scratch", origin, goal, **options)


@python_task
def here(*_):
    """Show that a worker is free."""
    return "here"


def test_a_hundred_transfers_leave_the_only_worker_free(running, globus, laptop, scratch):
    """While 100 transfers are in flight, the only worker runs other tasks and one poll covers all transfers."""
    globus.settings.task_latency, globus.settings.request_rate = 1e6, None
    futures = [move(goal=f"/{number}") for number in range(100)]
    while any(future.task_handle is None for future in futures):
        assert here(executor="local").result(LIMIT) == "here"
    globus.clear_requests()
    seen = [futures[-1].status().state, here(executor="local").result(LIMIT)]
    looked = threading.Event()
    while not looked.wait(0.05):
        polls = [one for one in globus.requests if one.path.endswith("/task_list")]
        if len(polls) >= 4:
            looked.set()
    assert len(globus.tasks) < 10
    assert {one.path for one in globus.requests} == {"/v0.10/task_list"}
    assert seen == [TaskState.ACTIVE, "here"]
    for task in globus.tasks.values():
        task.fail()
    assert all(isinstance(future.exception(LIMIT), TaskFailedError) for future in futures)


def test_what_depends_on_a_transfer_runs_when_the_bytes_are_there(running, globus, scratch):
    """A task that depends on a transfer starts after the transfer has ended."""
    first = move()
    second = transfer_task("hpc-scratch", "my-laptop", "/file", "/back", executor="local", inputs=[first])
    gone = delete_task("hpc-scratch", "/file", executor="local", inputs=[second])
    assert here(gone, executor="local").result(LIMIT) == "here"
    assert (first.result(0), second.result(0), gone.result(0)) == (True, True, True)
    assert list(scratch.iterdir()) == []
    assert first.task_handle.task_id in globus.tasks
    assert first.status().bytes_done == 7


def test_a_failure_is_our_error_and_the_cause_of_the_next(running, globus):
    """A failed transfer raises Chiltepin's error with Globus's message, and its dependents do not run."""
    failed = move(origin="/missing")
    waiting = here(failed, executor="local")
    with pytest.raises(TaskFailedError, match=r"FILE_NOT_FOUND.*No such file"):
        failed.result(LIMIT)
    with pytest.raises(DependencyError) as caught:
        waiting.result(LIMIT)
    assert caught.value.__cause__ is failed.exception()
    assert move(origin="/missing", goal="/else", check=False).result(LIMIT) is False


def test_a_paused_task_is_told_from_a_failed_one(running, globus):
    """A task that an administrator pauses ends soon with TaskPausedError."""
    globus.collection("hpc-scratch").paused = True
    with pytest.raises(TaskPausedError, match=r"was paused, and stopped \(PAUSED\)"):
        move().result(LIMIT)


def test_a_call_that_cannot_be_made_raises_whatever_check_says(running):
    """An unknown endpoint raises an error even with ``check=False``; an unknown executor raises at the call."""
    with pytest.raises(EndpointNotFoundError, match="No endpoint named 'hpc-scratsh'"):
        transfer_task("my-laptop", "hpc-scratsh", "/a", "/b", executor="local", check=False).result(LIMIT)
    with pytest.raises(ConfigError, match="No executor is named 'locl'"):
        move(executor="locl")


def test_cancelling_reaches_globus(running, globus):
    """Canceling a future also cancels its task at Globus."""
    globus.settings.task_latency = 1e6
    future = move()
    while future.task_handle is None or not globus.tasks:
        here(executor="local").result(LIMIT)
    assert future.cancel()
    with pytest.raises(TaskCanceledError):
        future.result(LIMIT)
    assert future.cancelled()
    assert globus.task(future.task_handle.task_id).document()["fatal_error"]["code"] == "CANCELED"


def test_a_timeout_reaches_globus(running, globus):
    """A transfer that exceeds its timeout is stopped at Globus; its status and activity record are EXPIRED."""
    globus.settings.task_latency = 1e6
    future = move(timeout=0.5)
    with pytest.raises(TaskTimeoutError, match=r"not done within 0\.5 seconds"):
        future.result(LIMIT)
    assert [task.status for task in globus.tasks.values()] == ["FAILED"]
    [shown] = ActivityReader(data_settings().journal).news()
    assert (future.status().state, shown.state) == (TaskState.EXPIRED, TaskState.EXPIRED)
    assert shown.reason.startswith("It was not done within 0.5 seconds")


def test_leaving_the_workflow_by_an_error_ends_everything(globus, tmp_path):
    """An error in a workflow ends all futures, including dependents, and cancels their tasks at Globus."""
    globus.settings.task_latency = 1e6
    with contextlib.suppress(ZeroDivisionError), chiltepin.Workflow({}, run_dir=tmp_path / "runinfo"):
        futures = [move(goal=f"/{number}") for number in range(5)]
        futures.append(here(futures[0], executor="local"))
        while any(future.task_handle is None for future in futures[:5]):
            here(executor="local").result(LIMIT)
        1 / 0  # noqa: B018
    assert all(future.done() for future in futures)
    assert all("ended by ZeroDivisionError" in str(future.exception()) for future in futures[:5])
    for thread in threading.enumerate():
        if thread.name == "chiltepin-task-manager":
            thread.join(LIMIT)
    assert {task.document()["fatal_error"]["code"] for task in globus.tasks.values()} == {"CANCELED"}


def test_a_client_of_the_callers_own_is_used_and_stays(globus, tmp_path, monkeypatch):
    """A client passed as `client=` needs no login, and Parsl's task record does not contain its token."""
    for name in ("CHILTEPIN_CLIENT_ID", "CHILTEPIN_CLIENT_SECRET"):
        monkeypatch.delenv(name)
    client = globus.client()
    with chiltepin.Workflow({}, run_dir=tmp_path / "runinfo"):
        future = move(client=client)
        assert future.result(LIMIT) is True
        for argument in future.task_record["args"]:
            with contextlib.suppress(TypeError):
                assert globus.token.encode() not in pickle.dumps(argument)
        assert transfer("my-laptop", "hpc-scratch", "/file", "/two", client=client, polling_interval=0.1) is True


class Refusing(globus_sdk.TransferClient):
    """A site's own client that raises an error in one method."""

    refused = "submit_transfer"

    def _refuse(self, name):
        if name == self.refused:
            raise PermissionError(f"the site allows no {name}")

    def submit_transfer(self, *given, **options):
        """Submit, unless the site refuses."""
        self._refuse("submit_transfer")
        return super().submit_transfer(*given, **options)

    def get(self, path, **options):
        """Send the request, unless the site refuses."""
        self._refuse("task_list" if "task_list" in path else "endpoint" if "/endpoint/" in path else "")
        return super().get(path, **options)


class Sealed(AccessTokenAuthorizer):
    """An authorizer that cannot fetch its token."""

    def get_authorization_header(self):
        """Raise the error of the token store."""
        raise RuntimeError("the vault is sealed")


@pytest.mark.parametrize("refused", ["submit_transfer", "task_list", "endpoint"])
def test_an_error_of_the_callers_client_ends_the_call(globus, tmp_path, refused):
    """An error raised by the caller's client in a submission, poll or endpoint lookup is not retried."""
    client = Refusing(authorizer=AccessTokenAuthorizer(globus.token))
    client.refused = refused
    with chiltepin.Workflow({"data": {"backend": "globus"}}, run_dir=tmp_path / "runinfo"):
        future = move(client=client)
        with pytest.raises(
            BackendError, match=f"given as client= raised PermissionError: the site allows no {refused}"
        ):
            future.result(LIMIT)


@pytest.mark.parametrize("broken", ["login", "method"])
def test_an_error_below_the_sdk_ends_the_call(globus, tmp_path, monkeypatch, broken):
    """An error in the authorizer of the caller's client, or in a method that the caller replaced, ends the call."""
    client = globus.client()
    if broken == "login":
        client.authorizer = Sealed("x")
    else:
        client.submit_transfer = lambda *_, **__: Sealed("x").get_authorization_header()
    monkeypatch.chdir(tmp_path)
    said = "given as client= raised RuntimeError: the vault is sealed"
    with chiltepin.Workflow({"data": {"backend": "globus"}}), pytest.raises(BackendError, match=said):
        move(client=client).result(LIMIT)


def test_a_script_without_parsl_moves_by_globus(globus, scratch, tmp_path, monkeypatch):
    """Without Parsl, `transfer` submits to Globus and waits."""
    file = tmp_path / "chiltepin.yaml"
    file.write_text("data: {backend: globus}\n")
    monkeypatch.chdir(tmp_path)
    assert transfer("my-laptop", "hpc-scratch", "/file", "/by/script", polling_interval=0.1) is True
    assert (scratch / "by/script").read_bytes() == b"content"


def secrets_of(globus):
    """Return the client secret and every token ever issued."""
    return {globus.token, globus.authority.client_secret, *globus.authority._grants}


@pytest.mark.parametrize("worker", ["threads", "processes"])
def test_no_token_is_in_anything_that_a_run_leaves(globus, laptop, tmp_path, caplog, worker):
    """Logs, run folders, pickled errors and all other files of a run contain no token."""
    caplog.set_level(logging.DEBUG)
    executor = make_htex("local") if worker == "processes" else ThreadPoolExecutor("local", max_threads=2)
    config = make_config(tmp_path / "runinfo", executor, initialize_logging=True)
    config.data = configure.load({"data": {"backend": "globus", "fault_grace": 0.2}}).data
    globus.fail_next(2, path="/v0.10/transfer", drop=True)
    with chiltepin.Workflow(config):
        good, bad = move(), move(origin="/missing", goal="/else")
        unknown = transfer_task("my-laptop", "nowhere", "/a", "/b", executor="local")
        waiting = here(good, executor="local")
        ended = [future.exception(LIMIT) for future in (good, bad, unknown, waiting)]
        texts = [pickle.dumps(error) for error in ended] + [repr(future).encode() for future in (good, bad, unknown)]
        texts += [error_text(error) for error in ended if error is not None]
    assert [error is None for error in ended] == [True, False, False, True]
    texts += [caplog.text.encode()]
    journal = Path(os.environ["CHILTEPIN_JOURNAL"])
    files = [path for folder in (tmp_path, journal) for path in folder.rglob("*") if path.is_file()]
    assert [path for path in files if path.suffix == ".jsonl"]
    texts += [path.read_bytes() for path in files]
    assert len(texts) > 10
    for secret in secrets_of(globus):
        assert not [text for text in texts if secret.encode() in text]


def error_text(error):
    """Return the traceback of an error, including its contexts."""
    import traceback

    return "".join(traceback.format_exception(error)).encode()


def test_an_aborted_workflow_deletes_at_the_service(globus, scratch, tmp_path):
    """After an error, the workflow cancels its transfer at the service before `cleanup` deletes the data."""
    globus.collection("my-laptop").paused = True
    (scratch / "job").mkdir(parents=True)
    with (  # noqa: PT012 - the error ends the workflow
        pytest.raises(ValueError, match="mine"),
        chiltepin.Workflow({"data": {"backend": "globus"}}, run_dir=tmp_path / "runinfo"),
        cleanup("hpc-scratch", "/job", polling_interval=0.1),
    ):
        move(goal="/job/file")
        until(lambda: globus.tasks)
        raise ValueError("mine")
    assert not (scratch / "job").exists()
    assert [task.status for task in globus.tasks.values()] == ["FAILED", "SUCCEEDED"]
