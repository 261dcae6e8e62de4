"""Transfers and deletions as tasks of a workflow, and without one."""

from __future__ import annotations

import fcntl
import gc
import hashlib
import os
import pickle
import threading
from concurrent.futures import Future
from datetime import datetime, timezone

import parsl
import pytest
from parsl.dataflow.errors import DependencyError
from parsl.dataflow.futures import AppFuture
from waiting import until

import chiltepin
from chiltepin import configure, delete, delete_task, local_path, transfer, transfer_task
from chiltepin.errors import (
    ConfigError,
    EndpointMismatchError,
    EndpointNotFoundError,
    PermissionDeniedError,
    TaskCanceledError,
    TaskExpiredError,
    TaskFailedError,
    TaskTimeoutError,
    UnsupportedOptionError,
)
from chiltepin.model import TaskState
from chiltepin.tasks import join_task, python_task

LIMIT = 60
UUID = "12345678-1234-1234-1234-123456789abc"


@python_task
def read(_done, path):
    """Read a file."""
    with open(path, "rb") as file:
        return file.read()


@python_task
def after(*_done):
    """Show that the task ran."""
    return "ran"


@python_task
def give(value, release=None):
    """Return a value, once `release` is set."""
    if release is not None:
        assert release.wait(LIMIT)
    return value


@pytest.fixture
def settings(tmp_path, monkeypatch):
    """Settings with two endpoints below one folder, and one that only Globus serves."""
    monkeypatch.delenv("CHILTEPIN_BACKEND", raising=False)
    monkeypatch.setenv("CHILTEPIN_CONFIG", "")
    return {
        "data": {
            "backend": "local",
            "root": str(tmp_path / "sandbox"),
            "endpoints": {
                "laptop": {"globus": UUID, "home": "/users/me", "filesystem": str(tmp_path / "sandbox" / "laptop")},
                "scratch": {"filesystem": "memory://chiltepin-test-data"},
                "tape": {"globus": "00000000-0000-0000-0000-000000000001"},
            },
        }
    }


@pytest.fixture
def sandbox(tmp_path):
    """The folder of all endpoints, with one file on the laptop."""
    folder = tmp_path / "sandbox"
    (folder / "laptop" / "users" / "me").mkdir(parents=True)
    (folder / "laptop" / "a.dat").write_bytes(b"content")
    return folder


@pytest.fixture
def running(settings, sandbox, tmp_path):
    """Run the test inside a workflow over these settings."""
    config = configure.load(settings, run_dir=tmp_path / "runinfo")
    config.initialize_logging = False
    with parsl.load(config):
        yield sandbox


def move(**options):
    """Transfer the one file, unless the options say otherwise."""
    call = {
        "src_ep": "laptop",
        "dst_ep": "scratch",
        "src_path": "/a.dat",
        "dst_path": "/b.dat",
        "executor": "local",
        **options,
    }
    return transfer_task(**call)


def test_kept_futures_are_few_objects(running):
    """An ended transfer whose future is kept is at most 40 objects to Python's garbage collector."""
    move().result(LIMIT)
    gc.collect()
    before = len(gc.get_objects())
    kept = [move(dst_path=f"/{number}.dat") for number in range(100)]
    assert all(future.result(LIMIT) for future in kept)
    gc.collect()
    assert len(gc.get_objects()) - before < 40 * len(kept)


def test_a_transfer_is_true_and_the_bytes_are_there(running):
    """A transfer returns True when its bytes are at the destination."""
    future = move()
    assert future.result(LIMIT) is True
    assert (running / "scratch" / "b.dat").read_bytes() == b"content"


def test_positional_arguments_have_the_order_of_the_specification(running):
    """Endpoints, paths, timeout, polling_interval, client and recursive can be positional."""
    (running / "laptop" / "d").mkdir()
    (running / "laptop" / "d" / "f").write_bytes(b"1")
    assert transfer_task("laptop", "scratch", "/d", "/d", 60, 1, None, True, executor="local").result(LIMIT) is True
    assert delete_task("scratch", "/d", 60, 1, None, True, executor="local").result(LIMIT) is True
    assert not (running / "scratch" / "d").exists()


def test_a_deletion_is_true_and_the_file_is_gone(running):
    """A deletion returns True when the file is gone."""
    assert delete_task(src_ep="laptop", src_path="/a.dat", executor="local").result(LIMIT) is True
    assert not (running / "laptop" / "a.dat").exists()


def test_a_failure_raises_and_its_dependents_do_not_run(running):
    """A failed transfer raises its own error, and its dependents do not run."""
    future = move(src_path="/missing")
    by_argument, by_inputs = after(future), after(inputs=[future])
    with pytest.raises(TaskFailedError, match="There is no /missing on endpoint 'laptop'") as caught:
        future.result(LIMIT)
    assert caught.value.status.code == "FILE_NOT_FOUND"
    for dependent in (by_argument, by_inputs):
        with pytest.raises(DependencyError) as depended:
            dependent.result(LIMIT)
        assert isinstance(depended.value.__cause__, TaskFailedError)


def test_check_false_gives_false(running):
    """With check=False, a failed transfer or deletion returns False; an invalid call still raises."""
    assert move(src_path="/missing", check=False).result(LIMIT) is False
    assert delete_task(src_ep="laptop", src_path="/missing", executor="local", check=False).result(LIMIT) is False
    with pytest.raises(EndpointNotFoundError):
        move(src_ep="nowhere", check=False)


def test_the_settings_say_what_check_is(settings, sandbox, tmp_path):
    """``check: false`` in the data section applies to calls without ``check``."""
    settings["data"]["check"] = False
    config = configure.load(settings, run_dir=tmp_path / "runinfo")
    config.initialize_logging = False
    with parsl.load(config):
        assert move(src_path="/missing").result(LIMIT) is False
        with pytest.raises(TaskFailedError):
            move(src_path="/missing", check=True).result(LIMIT)
    assert sandbox.is_dir()


def test_futures_may_stand_for_arguments(running):
    """Endpoint, path and timeout can be futures of other tasks; inputs are only waited for."""
    release = threading.Event()
    before = give("waited", release)
    future = move(src_path=give("/a.dat"), dst_ep=give("scratch"), timeout=give(60), inputs=[before])
    assert not future.done()
    release.set()
    assert future.result(LIMIT) is True
    assert (running / "scratch" / "b.dat").exists()


def test_a_file_has_the_checksum_that_a_task_tells_or_does_not_arrive(running):
    """An expected checksum can be a future; a file with different contents fails and does not arrive."""
    digits = hashlib.sha256(b"content").hexdigest()
    assert move(checksum=give(f"SHA256:{digits.upper()}"), dst_path="/right").result(LIMIT) is True
    with pytest.raises(TaskFailedError, match=f"has the checksum sha256:{digits}, not the expected one") as it:
        move(checksum=give(f"sha256:{'0' * 64}"), dst_path="/wrong").result(LIMIT)
    assert it.value.status.code == "EXTERNAL_CHECKSUM_MISMATCH"
    assert os.listdir(running / "scratch") == ["right"]


def test_what_is_too_much_goes_if_that_is_asked_for(running):
    """delete_destination_extra deletes extra files, in a task and without Parsl; by default they are kept."""
    for path in ("laptop/d/f", "scratch/e/extra"):
        (running / path).parent.mkdir(parents=True)
        (running / path).write_bytes(b"x")
    folder = {"src_path": "/d", "dst_path": "/e", "recursive": True}
    assert move(**folder).result(LIMIT) is True
    assert sorted(os.listdir(running / "scratch" / "e")) == ["extra", "f"]
    assert move(**folder, delete_destination_extra=True).result(LIMIT) is True
    assert os.listdir(running / "scratch" / "e") == ["f"]
    (running / "scratch" / "e" / "extra").touch()
    assert transfer("laptop", "scratch", **folder, delete_destination_extra=True) is True
    assert os.listdir(running / "scratch" / "e") == ["f"]


def test_a_bad_value_in_a_future_is_the_error_of_the_transfer(running):
    """An invalid value in a future fails the transfer before anything is moved."""
    with pytest.raises(PermissionDeniedError, match="leads out of the root"):
        move(dst_path=give("/../x")).result(LIMIT)
    with pytest.raises(EndpointNotFoundError, match="did you mean 'scratch'"):
        move(dst_ep=give("scrach")).result(LIMIT)
    assert os.listdir(running) == ["laptop"]


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"dst_ep": "scrach"}, EndpointNotFoundError, "No endpoint named 'scrach' in the configuration; did you mean"),
        ({"executor": "compte"}, ConfigError, "No executor is named 'compte'"),
        ({"executor": []}, ConfigError, "executor is empty"),
        ({"src_path": "/../x"}, PermissionDeniedError, "leads out of the root"),
        ({"dst_path": "/d/"}, ValueError, "a file needs its full new path"),
        ({"timeout": "60"}, TypeError, "give a number of seconds"),
        ({"sync_level": "hash"}, ValueError, "is not a valid sync level"),
        ({"include": "*.nc"}, ValueError, "set recursive=True"),
        ({"checksum": "md5:00"}, ValueError, "md5 has 32 hexadecimal digits"),
        ({"delete_destination_extra": True}, ValueError, "set recursive=True"),
        ({"check": "no"}, TypeError, "check='no' is of type str"),
        ({"inputs": "x"}, TypeError, "give a list of futures"),
        ({"tiemout": 5}, TypeError, "tiemout"),
        ({"encrypt_dat": True}, TypeError, "did you mean 'encrypt_data'"),
        ({"globs": True}, TypeError, "Unknown argument 'globs'"),
        ({"notify": "never"}, ValueError, "give True, False, or a list of succeeded, failed, inactive"),
        ({"deadline": "soon"}, ValueError, "give one such as '2030-01-31T12:00:00', in UTC"),
        ({"submission_id": "mine"}, ValueError, "is not a UUID"),
        ({"checksum_algorithm": "sha265"}, ValueError, "did you mean 'sha256'"),
        ({"filters": [("exclude", "x")]}, ValueError, "set recursive=True"),
        (
            {"recursive": True, "skip_source_errors": True, "delete_destination_extra": True},
            ValueError,
            "remove skip_source_errors or delete_destination_extra",
        ),
    ],
)
def test_a_bad_call_is_refused_at_once(running, options, error, words):
    """An invalid call raises an error at once, and no task is created."""
    tasks = parsl.dfk().task_count
    with pytest.raises(error) as caught:
        move(**options)
    assert words in str(caught.value)
    assert parsl.dfk().task_count == tasks


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("encrypt_data", True),
        ("fail_on_quota_errors", True),
        ("checksum_algorithm", "md5"),
        ("source_local_user", "ada"),
        ("destination_local_user", "ada"),
        ("notify", "on"),
        ("submission_id", UUID),
    ],
)
def test_an_option_of_a_service_is_refused_elsewhere(running, option, value):
    """A backend without support for an option refuses the transfer with an error that names the option."""
    with pytest.raises(UnsupportedOptionError, match=f"^{option}=.* is not possible on backend 'local'; remove it"):
        move(**{option: value}).result(LIMIT)
    assert os.listdir(running) == ["laptop"]


def test_options_may_be_futures_and_say_nothing(running):
    """Every backend accepts an option that is off, and any option can be a future."""
    assert move(encrypt_data=False, notify="off", deadline=give("2040-01-01")).result(LIMIT) is True
    future = move(src_path="/none", dst_path="/n", skip_source_errors=give(True))
    assert future.result(LIMIT) is True
    assert (future.status().files_skipped, future.status().skipped_paths) == (1, ("/none",))
    rules = [give(("exclude", "*")), ("include", "*"), ("exclude", "us*", "dir")]
    assert move(src_path="/", dst_path="/all", recursive=True, filters=rules).result(LIMIT) is True
    assert os.listdir(running / "scratch" / "all") == []


def test_a_deadline_ends_a_transfer(running):
    """A transfer whose deadline has passed ends with TaskExpiredError and moves nothing."""
    with pytest.raises(TaskExpiredError):
        move(deadline=datetime(2020, 1, 1, tzinfo=timezone.utc)).result(LIMIT)
    assert os.listdir(running) == ["laptop"]


def test_inputs_may_not_be_one_future(running):
    """A single future as inputs is refused, because iterating over it would create tasks without end."""
    with pytest.raises(TypeError, match="give a list of futures"):
        move(inputs=give("x"))


def test_an_endpoint_without_a_place_on_the_backend_is_told_apart(settings, sandbox, tmp_path):
    """An endpoint without a location on the backend raises EndpointMismatchError, which says what to add."""
    config = configure.load(settings, run_dir=tmp_path / "runinfo", backend="filesystem")
    config.initialize_logging = False
    with parsl.load(config), pytest.raises(EndpointMismatchError, match="add 'filesystem:' with its location below it"):
        move(dst_ep="tape")
    assert sandbox.is_dir()


def test_a_collection_is_found_by_its_uuid_offline(running):
    """A workflow that names collections by UUID runs on the backend ``local``."""
    assert move(src_ep=UUID).result(LIMIT) is True
    assert (running / "scratch" / "b.dat").exists()


def test_relative_paths_count_from_home(running):
    """Relative paths and paths below ~ start at the endpoint's home."""
    assert transfer_task("laptop", "laptop", "/a.dat", "~/x", executor="local").result(LIMIT)
    assert transfer_task("laptop", "laptop", "x", "../me/deep/y", executor="local").result(LIMIT)
    with pytest.raises(PermissionDeniedError, match="leads out of the root of endpoint 'laptop'"):
        transfer_task("laptop", "laptop", "x", "../../../y", executor="local")
    assert (running / "laptop" / "users" / "me" / "deep" / "y").read_bytes() == b"content"


def test_a_program_finds_its_file_by_local_path(running):
    """`local_path` returns where a program opens a staged file; it resolves home and dots as a transfer does."""
    staged = move()
    assert read(staged, local_path("scratch", "/b.dat")).result(LIMIT) == b"content"
    assert local_path("laptop", "x/../y") == str(running / "laptop" / "users" / "me" / "y")
    with pytest.raises(EndpointNotFoundError):
        local_path("scrach", "/b.dat")
    with pytest.raises(PermissionDeniedError):
        local_path("scratch", "/../b.dat")


def test_a_store_that_is_mounted_nowhere_has_no_local_path(settings, sandbox, tmp_path):
    """`local_path` of a store without ``mount:`` says what to add; with it, the path is below the mount."""
    config = configure.load(settings, run_dir=tmp_path / "runinfo", backend="filesystem")
    config.initialize_logging = False
    with parsl.load(config):
        with pytest.raises(EndpointMismatchError, match="add mount:"):
            local_path("scratch", "/b.dat")
        assert local_path("laptop", "/a.dat") == str(sandbox / "laptop" / "a.dat")
    settings["data"]["endpoints"]["scratch"] = {"filesystem": {"url": "memory://x", "mount": "/mnt/scratch"}}
    config = configure.load(settings, run_dir=tmp_path / "runinfo", backend="filesystem")
    config.initialize_logging = False
    with parsl.load(config):
        assert local_path("scratch", "/b.dat") == "/mnt/scratch/b.dat"


def test_a_future_tells_its_task(running):
    """A transfer's future is an AppFuture with a handle and a status, which counts files and bytes."""
    future = move()
    assert isinstance(future, AppFuture)
    assert future.task_handle.backend == "local"
    assert future.status().handle == future.task_handle
    future.result(LIMIT)
    status = future.status()
    assert (status.state, status.files_done, status.bytes_done) == (TaskState.SUCCEEDED, 1, 7)
    assert not future.cancelled()
    assert future.cancel() is False
    assert pickle.loads(pickle.dumps(status)) == status  # noqa: S301


def test_a_transfer_that_waits_is_cancelled_at_once(running):
    """Canceling a transfer whose dependency still runs ends it at once, and it moves nothing later."""
    release = threading.Event()
    future = move(inputs=[give("x", release)])
    dependent = after(future)
    assert future.cancel() is True
    with pytest.raises(TaskCanceledError, match="was canceled before it began"):
        future.result(LIMIT)
    assert future.cancelled()
    with pytest.raises(DependencyError):
        dependent.result(LIMIT)
    release.set()
    parsl.dfk().wait_for_current_tasks()
    assert not (running / "scratch").exists()


def test_a_transfer_that_waits_and_is_not_checked_is_cancelled_without_an_error(running):
    """With check=False, a transfer that is canceled before it starts returns False."""
    release = threading.Event()
    future = move(inputs=[give("x", release)], check=False)
    assert future.cancel() is True
    assert future.result(LIMIT) is False
    assert future.cancelled()
    release.set()
    parsl.dfk().wait_for_current_tasks()


@pytest.fixture
def endless(running):
    """A source that never ends: a sparse file of a terabyte."""
    with open(running / "laptop" / "endless", "wb") as file:
        file.truncate(1 << 40)
    return "/endless"


def test_a_transfer_that_runs_is_cancelled_soon(running, endless):
    """Canceling a transfer in the middle of a file stops it and leaves no file."""
    future = move(src_path=endless)
    moved = threading.Event()
    while future.status().reason or not os.path.isdir(running / "scratch"):
        moved.wait(0.005)
    assert future.cancel() is True
    with pytest.raises(TaskCanceledError, match="canceled"):
        future.result(LIMIT)
    assert future.status().state is TaskState.CANCELED
    assert os.listdir(running / "scratch") == []


def test_a_transfer_stops_at_its_timeout(running, endless):
    """A transfer that exceeds its timeout raises TaskTimeoutError or returns False, and leaves no file."""
    with pytest.raises(TaskTimeoutError, match=r"not done within 0\.2 seconds"):
        move(src_path=endless, timeout=0.2).result(LIMIT)
    assert move(src_path=endless, timeout=0.2, check=False).result(LIMIT) is False
    assert os.listdir(running / "scratch") == []


def test_a_timeout_starts_with_the_transfer(running, endless):
    """The time that a transfer waits for another task does not count toward its timeout."""
    before = move(src_path=endless, timeout=0.4, check=False)
    assert move(inputs=[before], timeout=0.4).result(LIMIT) is True
    assert before.result(0) is False


def test_leaving_by_an_error_stops_what_runs(settings, sandbox, tmp_path):
    """An error in the workflow ends running and waiting transfers with the reason, and leaves no files."""
    with open(sandbox / "laptop" / "endless", "wb") as file:
        file.truncate(1 << 40)
    config = configure.load(settings, run_dir=tmp_path / "runinfo")
    config.initialize_logging = False
    with pytest.raises(KeyError), parsl.load(config):  # noqa: PT012
        running = move(src_path="/endless")
        waiting = move(inputs=[running])
        dependent = after(waiting)
        while not (sandbox / "scratch").exists():
            threading.Event().wait(0.005)
        raise KeyError
    with pytest.raises(TaskCanceledError, match="was canceled: the workflow was ended by KeyError"):
        running.result(0)
    for future in (waiting, dependent):
        with pytest.raises((DependencyError, TaskCanceledError)):
            future.result(0)
    assert os.listdir(sandbox / "scratch") == []
    assert not list((tmp_path / "runinfo").rglob("*.stop"))


def test_parsl_may_repeat_a_transfer_that_failed(settings, sandbox, tmp_path):
    """With retries in the Parsl Config, a failed transfer is retried, because its file may exist by then."""
    config = configure.load(settings, run_dir=tmp_path / "runinfo")
    config.initialize_logging = False
    config.retries = 1
    config.retry_handler = lambda _error, _record: (sandbox / "laptop" / "late").write_bytes(b"late") and 1
    with parsl.load(config):
        assert move(src_path="/late").result(LIMIT) is True
    assert (sandbox / "scratch" / "b.dat").read_bytes() == b"late"


def test_transfers_start_inside_join_tasks(running):
    """A join task can return transfers and waits for them."""

    @join_task
    def both():
        return [move(dst_path="/1"), move(dst_path="/2")]

    assert both().result(LIMIT) == [True, True]
    assert sorted(os.listdir(running / "scratch")) == ["1", "2"]


def test_without_parsl_it_is_the_same_here_and_now(settings, sandbox, tmp_path, monkeypatch):
    """Without Parsl, `transfer` and `delete` use the default settings file, and return True, False or raise."""
    monkeypatch.setenv("CHILTEPIN_CONFIG", str(tmp_path / "mine.yaml"))
    (tmp_path / "mine.yaml").write_text(
        f"data:\n  backend: local\n  root: {sandbox}\n  endpoints: {{laptop: , scratch: }}\n"
    )
    call = {"src_ep": "laptop", "dst_ep": "scratch", "dst_path": "/b.dat"}
    assert transfer(src_path="/a.dat", **call) is True
    assert (sandbox / "scratch" / "b.dat").read_bytes() == b"content"
    assert transfer(src_path="/missing", check=False, **call) is False
    with pytest.raises(TaskFailedError, match="There is no /missing"):
        transfer(src_path="/missing", **call)
    with pytest.raises(EndpointNotFoundError, match=r"in .*mine\.yaml; did you mean 'scratch'"):
        transfer("laptop", "scrach", "/a.dat", "/b.dat")
    assert local_path("scratch", "/x") == str(sandbox / "scratch" / "x")
    assert delete("scratch", "/b.dat") is True
    assert delete("scratch", "/b.dat", ignore_missing=True) is True
    assert settings


def test_with_a_config_of_parsls_own_the_default_settings_hold(config, sandbox, tmp_path, monkeypatch):
    """With a user's Parsl Config, ./chiltepin.yaml defines the endpoints; without it, a call says what is missing."""
    monkeypatch.delenv("CHILTEPIN_CONFIG", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "none"))
    monkeypatch.chdir(tmp_path)
    with parsl.load(config()):
        with pytest.raises(ConfigError, match=r"there is no chiltepin\.yaml"):
            move()
        (tmp_path / "chiltepin.yaml").write_text("data: {backend: local, endpoints: {laptop: , scratch: }}")
        assert move().result(LIMIT) is True
    assert (sandbox / "scratch" / "b.dat").exists()


def test_without_a_backend_it_is_globus(settings, sandbox, tmp_path):
    """Without a backend in settings, environment or argument, the backend is globus."""
    del settings["data"]["backend"]
    config = configure.load(settings, run_dir=tmp_path / "runinfo")
    config.initialize_logging = False
    with parsl.load(config), pytest.raises(EndpointMismatchError, match="add 'globus:' with its location below it"):
        move()
    assert sandbox.is_dir()


def test_outside_of_any_workflow_a_task_says_what_is_missing():
    """A transfer_task without a running workflow raises ConfigError."""
    with pytest.raises(ConfigError, match="No workflow is running"):
        move()


def test_two_workflows_side_by_side_use_their_own_settings(settings, sandbox, tmp_path):
    """Two workflows in concurrent threads each use their own settings."""
    roots = {}
    both_in = threading.Barrier(2, timeout=LIMIT)

    def pipeline(name):
        root = tmp_path / name
        (root / "laptop").mkdir(parents=True)
        (root / "laptop" / "a.dat").write_bytes(name.encode())
        data = {**settings["data"], "root": str(root)}
        with chiltepin.Workflow({"data": data}, run_dir=tmp_path / "runinfo"):
            both_in.wait()
            move().result(LIMIT)
            both_in.wait()
        roots[name] = (root / "scratch" / "b.dat").read_bytes()

    threads = [threading.Thread(target=pipeline, args=(name,)) for name in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT)
    assert roots == {"one": b"one", "two": b"two"}
    assert not (sandbox / "scratch").exists()


def test_a_client_is_taken_and_left_at_home(running):
    """Backends other than globus ignore client, even one that cannot be pickled."""
    assert move(client=threading.Lock()).result(LIMIT) is True


def test_a_foreign_future_may_be_waited_for(running):
    """A transfer waits for a plain future in inputs; if it fails, nothing is moved."""
    foreign: Future = Future()
    future = move(inputs=[foreign])
    foreign.set_exception(OSError("foreign"))
    with pytest.raises(DependencyError):
        future.result(LIMIT)
    assert future.status().state is TaskState.FAILED
    assert not (running / "scratch").exists()


def is_unlocked(path):
    """Whether the process that wrote a temporary file has ended, or has removed it."""
    try:
        with open(path, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return True
    except BlockingIOError:
        return False
    return True


def test_leaving_by_an_error_ends_what_runs_on_worker_processes(settings, sandbox, tmp_path):
    """An error in the workflow ends a transfer in a worker process, its dependents, and the process."""
    with open(sandbox / "laptop" / "endless", "wb") as file:
        file.truncate(1 << 40)
    settings["compute"] = {"provider": "localhost", "init_blocks": 1, "max_workers_per_node": 2}
    config = configure.load(settings, run_dir=tmp_path / "runinfo")
    with pytest.raises(KeyError), parsl.load(config):  # noqa: PT012
        running = move(src_path="/endless", executor="compute")
        stopped = move(src_path="/endless", executor="compute")
        waiting = move(inputs=[running], executor="compute")
        dependent = after(waiting, executor="local")
        while len(os.listdir(sandbox / "scratch") if (sandbox / "scratch").exists() else []) < 2:
            threading.Event().wait(0.01)
        assert running.status().state is TaskState.ACTIVE
        stopped.cancel()
        with pytest.raises(TaskCanceledError, match="canceled"):
            stopped.result(LIMIT)
        raise KeyError
    with pytest.raises(TaskCanceledError, match="was canceled: the workflow was ended by KeyError"):
        running.result(0)
    for future in (waiting, dependent):
        with pytest.raises((DependencyError, TaskCanceledError)):
            future.result(0)
    # Killing the worker process takes a moment.
    until(lambda: all(map(is_unlocked, (sandbox / "scratch").iterdir())))
    with chiltepin.Workflow(settings, include="local", run_dir=tmp_path / "runinfo"):
        assert move().result(LIMIT) is True
    assert os.listdir(sandbox / "scratch") == ["b.dat"]
