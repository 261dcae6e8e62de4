"""Values that Parsl cannot pass on: each fails only its own future, with a clear error."""

from __future__ import annotations

import json
import os
import pickle
import traceback
from concurrent.futures import Future

import failing_store
import fsspec
import pytest
import unpicklable
from hypothesis import example, given, settings
from hypothesis import strategies as st
from parsl import python_app
from parsl_configs import HERE, make_config, make_htex

from chiltepin import transfer_task
from chiltepin.errors import AppFailedError, TaskFailedError
from chiltepin.tasks import join_task, python_task
from chiltepin.workflow import Workflow

LIMIT = 60
PATH = f"export PYTHONPATH={HERE}${{PYTHONPATH:+:$PYTHONPATH}}"

#: 60 plans take about 10 seconds; CHILTEPIN_HISTORIES sets a different number.
PLANS = int(os.environ.get("CHILTEPIN_HISTORIES", "60"))
DEEDS = ("return", "raise", "cause", "context", "attribute", "args", "explode")


@pytest.fixture(scope="module")
def htex(tmp_path_factory):
    """Threads and worker processes, created from settings."""
    configuration = {
        "local": {"provider": "threads", "max_threads": 2},
        "pool": {"provider": "localhost", "max_workers_per_node": 2, "cores_per_worker": 0.1, "environment": [PATH]},
    }
    with Workflow(configuration, run_dir=tmp_path_factory.mktemp("run")) as running:
        assert unpicklable.one(executor="pool").result(timeout=LIMIT) == 1
        yield running


def error_of(future):
    """Return the error of a future, which must end."""
    return future.exception(timeout=LIMIT)


def frames_of(error):
    """Return the names of the functions in a traceback."""
    return [frame.f_code.co_name for frame, _ in traceback.walk_tb(error.__traceback__)]


plans = st.tuples(
    st.sampled_from([*unpicklable.REDUCED, "raise"]),
    # In a plain Parsl app, these end the worker process, which takes seconds each.
    st.sampled_from(sorted(unpicklable.RAISED)),
)


@given(deed=st.sampled_from(DEEDS), plan=plans, executor=st.sampled_from(["local", "pool"]))
@example(deed="explode", plan=("itself", "exit"), executor="local")
@example(deed="explode", plan=("itself", "quiet"), executor="local")
@example(deed="return", plan=("exploding", "exit"), executor="pool")
@settings(max_examples=PLANS, database=None)
def test_every_future_ends_whatever_crosses(htex, deed, plan, executor):
    """Whatever a task returns or raises, its future ends, and so does the next task on the executor."""
    odd = [
        unpicklable.act(deed, plan, executor=executor),
        unpicklable.act_in_shell(deed, plan, executor=executor),
        unpicklable.act_and_join(deed, plan, executor=executor),
        unpicklable.take(unpicklable.Odd(plan), executor=executor),
    ]
    dependent = unpicklable.take(odd[0], executor=executor)
    for future in (*odd, dependent):
        error = error_of(future)
        assert error is None or isinstance(error, Exception)
        assert repr(error)
    assert unpicklable.one(executor=executor).result(timeout=LIMIT) == 1


@pytest.mark.parametrize("executor", ["local", "pool"])
@pytest.mark.parametrize("kind", ["exit", "interrupt", "generator exit", "base", "asyncio"])
@pytest.mark.parametrize("task", [unpicklable.act, unpicklable.act_in_shell, unpicklable.act_and_join])
def test_what_is_no_exception_fails_the_task_in_words(htex, task, kind, executor):
    """`SystemExit` and similar exceptions in a task fail its future with their type and message."""
    raised = unpicklable.RAISED[kind]()
    error = error_of(task("explode", ("", kind), executor=executor))
    assert isinstance(error, AppFailedError)
    assert type(raised).__name__ in str(error)
    assert str(raised) in str(error)
    assert "in explode" in str(error)


@pytest.mark.parametrize("task", [unpicklable.act, unpicklable.act_in_shell])
def test_an_exception_with_arguments_of_its_own_arrives(htex, task):
    """An exception that does not unpickle by itself keeps its type, attributes and traceback."""
    error = error_of(task("late", ("", ""), executor="pool"))
    assert type(error).__name__ == "LateError"
    assert (str(error), error.file) == ("in.nc:3", "in.nc")
    assert "_late" in frames_of(error)


def test_an_exception_that_cannot_be_sent_is_told_in_words(htex):
    """An AppFailedError with its type, message and traceback replaces an exception that cannot be sent."""
    error = error_of(unpicklable.act("raise", ("generator", ""), executor="pool"))
    assert isinstance(error, AppFailedError)
    assert "unpicklable.OddError: odd" in str(error)
    assert "in _act" in str(error)


def test_an_exception_that_survives_arrives_as_itself(htex):
    """An ordinary exception keeps its type and the worker's frames in its traceback."""
    error = error_of(unpicklable.act("explode", ("", "value"), executor="pool"))
    assert type(error) is ValueError
    assert "explode" in frames_of(error)


def test_an_exception_of_endless_recursion_arrives(htex):
    """A `RecursionError`, whose traceback is too long to be pickled, keeps its type."""

    @python_task
    def descend(depth):
        def further(number):
            return further(number + 1)

        return further(depth)

    error = error_of(descend(0, executor="pool"))
    assert type(error) is RecursionError
    assert "further" in str(error.__cause__)


@pytest.mark.parametrize("deed", ["cause", "context"])
def test_an_exception_survives_what_it_came_from(htex, deed):
    """An exception whose cause cannot be sent keeps its type; a description replaces the cause."""
    error = error_of(unpicklable.act(deed, ("exploding", "exit"), executor="pool"))
    assert type(error) is ValueError
    assert "OddError" in str(error.__cause__)


def test_a_class_that_only_the_worker_has_is_told(htex):
    """A result of a class that cannot be imported here fails the future with the class name."""
    error = error_of(unpicklable.act("return", ("foreign class", "value"), executor="pool"))
    assert isinstance(error, AppFailedError)
    assert "only_in_" in str(error)


def test_a_result_that_cannot_be_pickled_is_told(htex):
    """A generator as a result fails the future with an error that names the app and the type."""

    @python_task
    def count():
        return (number for number in range(3))

    assert "The result of app 'count', of type generator, cannot be sent" in str(error_of(count(executor="pool")))
    assert list(count(executor="local").result(timeout=LIMIT)) == [0, 1, 2]


@pytest.mark.parametrize("plan", [("raise", "exit"), ("raise", "two places"), ("generator", ""), ("deep", "")])
def test_an_argument_that_cannot_be_pickled_is_told(htex, plan):
    """An argument that cannot be sent fails the future with an error that names it."""
    error = error_of(unpicklable.take(unpicklable.Odd(plan), executor="pool"))
    assert str(error).startswith("Argument 1 of app 'take', of type unpicklable.Odd, cannot be sent to a worker (")


def test_retries_see_the_kind_of_a_failure(tmp_path):
    """The retry handler receives the exception of a task, or its replacement, at each attempt."""
    seen = []

    def handler(error, record):
        seen.append(type(error))
        return 1

    with Workflow(make_config(tmp_path, retries=1, retry_handler=handler)):
        for kind in ("value", "exit"):
            error_of(unpicklable.act("explode", ("", kind), executor="local"))
    assert seen == [ValueError, ValueError, AppFailedError, AppFailedError]


def test_a_retry_handler_that_exits_fails_the_task(tmp_path):
    """A task whose retry handler calls `sys.exit` fails; the workflow ends."""
    with Workflow(make_config(tmp_path, retries=1, retry_handler=lambda *_: unpicklable.explode("exit"))):
        error = error_of(unpicklable.act("explode", ("", "value"), executor="local"))
    assert "SystemExit" in str(error)


@pytest.mark.parametrize("kind", sorted(unpicklable.RAISED))
def test_a_future_of_the_user_may_fail_with_anything(htex, kind):
    """A task or join task that depends on a future with an unusual exception fails too."""
    mine = Future()
    waiting = unpicklable.take(mine, executor="local")
    joining = join_task(lambda: [mine, unpicklable.one(executor="local")])()
    mine.set_exception(unpicklable.RAISED[kind]())
    assert error_of(waiting) is not None
    assert error_of(joining) is not None


def test_an_app_of_parsl_itself_cannot_stop_its_executor(htex):
    """A plain Parsl app whose exception or result cannot be unpickled does not stop its executor."""
    for deed, plan in (("explode", ("", "two places")), ("return", ("exploding", "exit")), ("return", ("lock", ""))):
        strangers_app = python_app(unpicklable._act, executors=["pool"], data_flow_kernel=htex.dfk)
        error_of(strangers_app(deed, plan))
    assert unpicklable.one(executor="pool").result(timeout=LIMIT) == 1


def test_an_app_of_parsl_itself_may_exit_in_a_thread(htex):
    """`SystemExit` in a plain Parsl app that runs in a thread fails its future."""
    app = python_app(unpicklable._act, executors=["local"], data_flow_kernel=htex.dfk)
    assert "SystemExit" in str(error_of(app("explode", ("", "exit"))))
    assert unpicklable.one(executor="local").result(timeout=LIMIT) == 1


def test_parsls_own_executor_survives_a_task(tmp_path):
    """On a user's own executor, a Chiltepin task that fails does not affect the next task."""
    with Workflow(make_config(tmp_path, make_htex(workers=1))):
        for deed, plan in (("raise", ("lambda", "")), ("return", ("exploding", "exit"))):
            assert isinstance(error_of(unpicklable.act(deed, plan, executor="htex")), AppFailedError)
        assert unpicklable.one(executor="htex").result(timeout=LIMIT) == 1


@pytest.fixture
def own_htex(tmp_path, monkeypatch):
    """A user's own executor, with two endpoints in folders."""
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
    (tmp_path / "here/f").write_text("content")
    places = {name: {"filesystem": str(tmp_path / name)} for name in ("here", "there")}
    settings = {"data": {"backend": "filesystem", "journal": False, "endpoints": places}}
    (tmp_path / "chiltepin.yaml").write_text(json.dumps(settings))
    monkeypatch.setenv("CHILTEPIN_CONFIG", str(tmp_path / "chiltepin.yaml"))
    with Workflow(make_config(tmp_path / "run", make_htex(workers=1))) as running:
        assert unpicklable.one(executor="htex").result(timeout=LIMIT) == 1
        yield running


def test_parsls_own_executor_survives_apps_of_parsl_itself(own_htex, tmp_path):
    """Whatever a plain Parsl app returns or raises, it ends, and so do its dependents and later transfers."""
    plans = [
        ("return", ("exploding", "exit")),
        ("return", ("foreign class", "value")),
        ("raise", ("lambda", "")),
        ("explode", ("", "two places")),
    ]
    app = python_app(unpicklable._act, executors=["htex"], data_flow_kernel=own_htex.dfk)
    for number, (deed, plan) in enumerate(plans):
        odd = app(deed, plan)
        behind = transfer_task("here", "there", "/f", f"/behind-{number}", inputs=[odd], executor="htex", timeout=LIMIT)
        after = transfer_task("here", "there", "/f", f"/after-{number}", executor="htex", timeout=LIMIT)
        assert isinstance(error_of(odd), Exception), (deed, plan)
        assert isinstance(error_of(behind), Exception), (deed, plan)
        assert after.result(timeout=LIMIT) is True, (deed, plan)
        assert not (tmp_path / f"there/behind-{number}").exists()


def test_parsls_own_executor_ends_with_its_interchange(own_htex):
    """If the interchange of a user's own executor is killed, all tasks on the executor end."""
    app = python_app(unpicklable.wait_long, executors=["htex"], data_flow_kernel=own_htex.dfk)
    busy = app()
    behind = transfer_task("here", "there", "/f", "/behind", executor="htex", timeout=LIMIT)
    interchange = own_htex.dfk.executors["htex"].interchange_proc
    interchange.kill()
    interchange.wait(LIMIT)
    # Parsl cannot have noticed the loss yet.
    late = [transfer_task("here", "there", "/f", f"/late-{number}", executor="htex") for number in range(5)]
    for future in (busy, behind, *late):
        assert "interchange" in str(error_of(future))
    assert isinstance(error_of(transfer_task("here", "there", "/f", "/after", executor="htex")), Exception)


def test_a_run_ends_whose_own_executor_has_just_died(own_htex):
    """A workflow shuts down cleanly right after the interchange of a user's own executor has died."""
    interchange = own_htex.dfk.executors["htex"].interchange_proc
    interchange.kill()
    interchange.wait(LIMIT)
    own_htex.dfk.cleanup()
    assert own_htex.dfk.cleanup_called


@pytest.mark.parametrize("method", ["info", "ls", "open", "read"])
def test_a_store_that_raises_something_odd_fails_its_transfer(tmp_path, method):
    """Whatever the library of a store raises, only its own transfer fails."""
    kinds = sorted(unpicklable.RAISED)
    places = {
        kind.replace(" ", "-"): {"filesystem": {"url": "odd://d", "options": {"method": method, "kind": kind}}}
        for kind in kinds
    }
    places["fine"] = {"filesystem": {"url": "odd://d"}}
    places["scratch"] = {"filesystem": str(tmp_path)}
    settings = {
        "local": {"provider": "threads", "max_threads": 2},
        "data": {"backend": "filesystem", "journal": False, "endpoints": places},
    }
    fsspec.register_implementation("odd", failing_store.OddFileSystem, clobber=True)
    with Workflow(settings, run_dir=tmp_path / "run"):

        def move(name):
            folder = method == "ls"
            source = "/" if folder else "/f"
            return transfer_task(name, "scratch", source, f"/{name}", recursive=folder, executor="local", timeout=LIMIT)

        futures = [move(name) for name in places if name not in ("fine", "scratch")]
        assert all(isinstance(error_of(future), TaskFailedError) for future in futures)
        if method != "ls":
            assert move("fine").result(timeout=LIMIT) is True


def test_the_error_itself_crosses():
    """An `AppFailedError` keeps the lines of its traceback when pickled."""
    error = AppFailedError("one\n  two \x1b[2J")
    assert str(pickle.loads(pickle.dumps(error))) == "one\n  two \\x1b[2J"  # noqa: S301 - our own
