"""Shutdown: however a workflow is left, every future ends and gives the reason."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import Future, ThreadPoolExecutor

import parsl
import pytest
import sample_tasks
from instrumented_executors import FarExecutor, RecordingExecutor
from parsl import ThreadPoolExecutor as ParslThreads
from parsl.dataflow.errors import DependencyError, JoinError
from parsl_configs import HERE, living, make_htex
from waiting import until

from chiltepin import transfer_task
from chiltepin.errors import AppFailedError, ConfigError, TaskCanceledError
from chiltepin.parsl.shutdown import shutdown_of
from chiltepin.tasks import join_task, python_task
from chiltepin.workflow import Workflow

LIMIT = 60


@python_task
def add(left, right=2):
    """Add two numbers."""
    return left + right


@python_task
def wait_for(event, started=None):
    """Block until `event` is set."""
    if started is not None:
        started.set()
    return event.wait(LIMIT)


@join_task
def join_on(make):
    """Join on whatever `make` returns."""
    return make()


@contextlib.contextmanager
def left_early(block):
    """Enter `block`, a workflow or a plain Parsl, and leave it with a KeyError."""
    with contextlib.suppress(KeyError), block as entered:
        yield entered
        raise KeyError


def root_of(error):
    """Return the root cause of a Parsl error."""
    return root_of(error.__cause__) if isinstance(error, (DependencyError, JoinError)) else error


def assert_given_up(future, reason="the workflow was ended by KeyError"):
    """Check that `future` was canceled, directly or by a dependency, because its workflow ended."""
    cause = root_of(future.exception(timeout=0))
    assert isinstance(cause, TaskCanceledError)
    assert f"was canceled: {reason}" in str(cause)


class TestThreads:
    """An early end of tasks that run in threads."""

    def test_what_runs_is_waited_for_and_what_queues_never_runs(self, config):
        """A running task keeps its result; queued tasks and dependents do not run."""
        started, release, ran = threading.Event(), threading.Event(), []

        @python_task
        def note(*_):
            ran.append(1)

        with left_early(Workflow(config(RecordingExecutor(), retries=3))) as workflow:
            running = wait_for(release, started)
            queued = [note() for _ in range(3)]
            dependent = note(running)
            second = note(dependent)
            shutdown_of(workflow.dfk).on_end(lambda _: release.set())
            assert started.wait(LIMIT)
        assert running.result(timeout=0) is True
        for future in [*queued, dependent, second]:
            assert_given_up(future)
        assert not ran

    def test_a_task_that_is_being_launched_never_runs(self, config, set_switch_interval):
        """A task that Parsl is launching when the end begins does not run, even if a thread becomes free."""
        for number in range(40):
            set_switch_interval((5e-3, 1e-4, 1e-5, 2e-6)[number % 4])  # seconds: the end begins at any moment
            self.test_what_runs_is_waited_for_and_what_queues_never_runs(config)

    def test_a_task_that_fails_meanwhile_keeps_its_own_error(self, config):
        """A task that fails while the workflow ends is not retried and keeps its own error."""
        started, release = threading.Event(), threading.Event()

        @python_task
        def fail():
            started.set()
            release.wait(LIMIT)
            raise OSError("its own")

        with left_early(Workflow(config(retries=3))) as workflow:
            future = fail()
            shutdown_of(workflow.dfk).on_end(lambda _: release.set())
            assert started.wait(LIMIT)
        assert isinstance(future.exception(timeout=0), OSError)

    def test_join_tasks_end(self, config):
        """Join tasks end, whether they join tasks, other join tasks, or a future that never ends."""
        forever, release = Future(), threading.Event()
        inside = threading.Semaphore(0)

        def entering(value):
            inside.release()
            return value

        with left_early(Workflow(config(RecordingExecutor()))) as workflow:
            wait_for(release)
            futures = [
                join_on(lambda: entering(add(1))),
                join_on(lambda: entering(join_on(lambda: entering([add(1), add(2)])))),
                join_on(lambda: entering(forever)),
                join_on(lambda: entering([add(1), forever])),
            ]
            futures += [add(future) for future in futures]
            for _ in range(5):
                assert inside.acquire(timeout=LIMIT)
            shutdown_of(workflow.dfk).on_end(lambda _: release.set())
        for future in futures:
            assert_given_up(future)
        assert not forever.done()

    def test_a_join_app_over_a_cancelled_future_fails(self, workflow):
        """A plain Parsl join app over a canceled future, which Parsl would leave pending, fails at once."""
        cancelled = Future()
        cancelled.cancel()

        @parsl.join_app
        def lost():
            return [cancelled]

        with pytest.raises(AppFailedError, match="CancelledError"):
            lost().result(timeout=LIMIT)

    def test_tasks_that_wait_for_a_future_of_the_user_end(self, config):
        """A task that waits for a future that never ends is canceled, and so are its dependents."""
        forever = Future()
        with left_early(Workflow(config())):
            waiting = add(forever)
            files = add(1, inputs=[forever], outputs=[parsl.File("x")], stdout="out")
            dependent = add(1, inputs=[files.outputs[0]])
            item = waiting[0]
        for future in (waiting, files, dependent, item):
            assert_given_up(future)
        assert files.stdout == "out"

    def test_tasks_made_while_it_ends_do_not_run(self, config):
        """A task that a callback starts while the workflow ends is canceled too."""
        late = []

        with left_early(Workflow(config(FarExecutor(), ParslThreads("threads")))):
            first = add(1, executor="far")
            first.add_done_callback(lambda _: late.append(add(2, executor="threads")))
        assert_given_up(first)
        assert_given_up(late[0])

    def test_a_thousand_tasks(self, config):
        """Many tasks, in a long chain and in parallel, end within seconds."""
        with left_early(Workflow(config(FarExecutor()))):
            chain = [add(1)]
            for _ in range(300):
                chain.append(add(chain[-1]))
            beside = [add(number) for number in range(700)]
        for future in (chain[-1], *beside):
            assert_given_up(future)


class TestFarExecutors:
    """An early end of tasks that another process holds."""

    def test_a_late_answer_is_harmless(self, config):
        """An executor can set the result of its own future after the task was canceled."""
        far = FarExecutor()
        with left_early(Workflow(config(far))):
            future = add(1)
            dependent = add(future)
            assert far.taken.acquire(timeout=LIMIT)
        assert_given_up(future)
        assert_given_up(dependent)
        assert isinstance(dependent.exception(timeout=0), DependencyError)
        assert far.futures[0].result(timeout=0) == "too late"

    def test_nothing_is_retried(self, config):
        """A canceled task is not retried, even with retries left or a retry handler."""
        for options in ({"retries": 5}, {"retries": 5, "retry_handler": lambda *_: 0}):
            far = FarExecutor()
            with left_early(Workflow(config(far, **options))):
                future = add(1)
                assert far.taken.acquire(timeout=LIMIT)
            assert_given_up(future)
            assert len(far.futures) == 1

    def test_an_answer_at_the_same_moment(self, config):
        """Results that arrive while the workflow ends are either used or ignored, without errors."""
        far = FarExecutor()
        with ThreadPoolExecutor(1) as pool, left_early(Workflow(config(far))) as workflow:
            futures = [add(number) for number in range(300)]
            for _ in futures:
                assert far.taken.acquire(timeout=LIMIT)
            answers = [far.futures.pop() for _ in futures]
            shutdown_of(workflow.dfk).on_end(
                lambda _: pool.submit(lambda: [answer.set_result("in time") for answer in answers])
            )
            pool.submit(int).result(timeout=LIMIT)
        for future in futures:
            if future.exception(timeout=0) is None:
                assert future.result(timeout=0) == "in time"
            else:
                assert_given_up(future)


class TestPlainParsl:
    """An early end of a Parsl kernel that the user has loaded."""

    def test_an_error(self, config):
        """An error in a plain Parsl block ends all futures, even those made before the first Chiltepin task."""
        forever = Future()
        before = parsl.python_app(add.__wrapped__)
        with left_early(parsl.load(config(FarExecutor()))):
            futures = [before(1), before(forever), add(1)]
            futures += [before(futures[0]), add(futures[1])]
        for future in futures:
            assert_given_up(future)

    def test_exit_mode_cleanup(self, config):
        """With Parsl's exit mode 'cleanup', unfinished tasks end with an error that says what to do."""
        with parsl.load(config(FarExecutor(), exit_mode="cleanup")):
            future = add(1)
        assert_given_up(
            future, "the workflow ended first; ask for its result before the end, or load Parsl with exit_m"
        )

    def test_exit_mode_wait(self, config):
        """With Parsl's exit mode 'wait', a clean end waits for the tasks."""
        with parsl.load(config()):
            future = add(add(1))
        assert future.result(timeout=0) == 5

    def test_cleanup_by_hand(self, config):
        """A cleanup without a block ends all tasks too; a second one raises Parsl's own error."""
        dfk = parsl.load(config(FarExecutor()))
        future = add(1)
        dfk.cleanup()
        assert_given_up(future, "the workflow ended first")
        with pytest.raises(Exception, match="already been cleaned-up"):
            dfk.cleanup()

    def test_two_cleanups_at_once(self, config):
        """If two threads clean up at the same time, one succeeds, the other gets Parsl's error, and neither hangs."""
        dfk = parsl.load(config(FarExecutor()))
        future = add(1)
        with ThreadPoolExecutor(2) as pool:
            both = [pool.submit(dfk.cleanup) for _ in range(2)]
            assert sum(end.exception(timeout=LIMIT) is None for end in both) == 1
        assert_given_up(future, "the workflow ended first")

    def test_it_can_be_collected(self, tmp_path):
        """A kernel with Chiltepin's shutdown installed can be garbage-collected after an early end."""
        # In a separate process: here, leftovers of other tests may hold references.
        words = [sys.executable, "-c", COLLECTED, str(tmp_path)]
        run = subprocess.run(words, cwd=HERE, capture_output=True, text=True, check=False, timeout=LIMIT)
        assert run.stdout == "collected\n", run.stderr


COLLECTED = """
import gc, sys, weakref
import parsl
from parsl_configs import make_config
from instrumented_executors import FarExecutor
from chiltepin.parsl.shutdown import install_shutdown

dfk = parsl.load(make_config(sys.argv[1], FarExecutor()))
install_shutdown(dfk)
install_shutdown(dfk)
parsl.python_app(lambda number: number)(1)
dfk.cleanup()
reference = weakref.ref(dfk)
del dfk
gc.collect()
print("collected" if reference() is None else "held")
"""


class TestOnEnd:
    """Callbacks at the end."""

    def test_callbacks_come_before_the_tasks_end(self, config):
        """A callback gets the reason while the tasks are unfinished, and can end the futures they wait for."""
        mine, seen = Future(), []

        def end_mine(reason):
            seen.append((reason, future.done()))
            mine.set_exception(TaskCanceledError(f"My own was given up: {reason}."))

        with left_early(Workflow(config())) as workflow:
            future = join_on(lambda: mine)
            shutdown_of(workflow.dfk).on_end(end_mine)
        assert seen == [("the workflow was ended by KeyError", False)]
        assert root_of(future.exception(timeout=0)) is mine.exception(timeout=0)

    def test_a_callback_can_be_taken_back(self, config):
        """A removed callback is not called; removing it twice is harmless."""
        seen = []
        with Workflow(config()) as workflow:
            take_back = shutdown_of(workflow.dfk).on_end(seen.append)
            take_back()
            take_back()
            shutdown_of(workflow.dfk).on_end(lambda reason: seen.append(f"second: {reason}"))
        assert len(seen) == 1
        assert seen[0].startswith("second: the workflow ended first")

    def test_one_that_comes_late_is_called_at_once(self, config):
        """A callback that is registered during or after the end of the workflow is called at once."""
        seen = []
        with Workflow(config()) as workflow:
            dfk = workflow.dfk
            shutdown_of(dfk).on_end(lambda _: shutdown_of(dfk).on_end(seen.append))
        assert len(seen) == 1
        shutdown_of(dfk).on_end(seen.append)
        assert len(seen) == 2

    def test_one_that_fails_does_not_stop_the_end(self, config, caplog):
        """An error in a callback is logged; the other callbacks run and the tasks end."""
        seen = []
        with left_early(Workflow(config(FarExecutor()))) as workflow:
            future = add(1)
            shutdown_of(workflow.dfk).on_end(lambda _: 1 / 0)
            shutdown_of(workflow.dfk).on_end(seen.append)
        assert len(seen) == 1
        assert "the shutdown continues" in caplog.text
        assert_given_up(future)


def test_a_run_folder_that_cannot_be_made_is_named(tmp_path):
    """A workflow that cannot write its logs does not start; the error names the folder and what to do."""
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"logs to '.*/file/runs' \(Not a directory\); start in a folder"):
        Workflow({}, run_dir=tmp_path / "file" / "runs").start()


TWICE = """
import signal, sys, threading, chiltepin
from chiltepin.parsl.shutdown import shutdown_of

signal.signal(signal.SIGINT, signal.default_int_handler)

@chiltepin.python_task
def stuck():
    print("stuck", flush=True)
    threading.Event().wait()

def launch_slowly(dfk):
    ended = threading.Event()
    shutdown_of(dfk).on_end(lambda reason: threading.Timer(0.2, ended.set).start())
    submit = dfk.executors["local"].submit
    dfk.executors["local"].submit = lambda *args: (submit(*args), ended.wait())[0]

with chiltepin.Workflow({}) as workflow:
    if "slowly" in sys.argv:
        launch_slowly(workflow.dfk)
    stuck(executor="local").result()
"""


@pytest.mark.parametrize("launched", ["at once", "slowly"])
def test_ctrl_c_says_what_it_waits_for_and_a_second_one_quits(tmp_path, launched):
    """The first Ctrl-C lists the running tasks, even one that started late; a second one ends the process."""
    script = subprocess.Popen(
        [sys.executable, "-c", TWICE, launched],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with script:
        assert script.stdout.readline() == "stuck\n"
        script.send_signal(signal.SIGINT)
        # Python misses a signal that arrives just before it waits for a lock.
        while not select.select([script.stderr], [], [], 10)[0]:
            script.send_signal(signal.SIGINT)
        said = [script.stderr.readline() for _ in range(2)]
        script.send_signal(signal.SIGINT)
        rest = script.stderr.read()
    assert said[0] == "chiltepin: Interrupted; press Ctrl-C again to quit now. Waiting for:\n"
    assert said[1].strip() == "Task 'stuck', in a thread"
    assert (rest, script.returncode) == ("", -signal.SIGINT)


class TestUnread:
    """Failures whose results were not read are reported when the workflow ends."""

    @pytest.fixture
    def moving(self, tmp_path):
        """A workflow with empty endpoints, in which transfers fail."""
        data = {"backend": "local", "root": str(tmp_path), "endpoints": {"a": None, "b": None}}
        for end in "ab":
            (tmp_path / end).mkdir()
        return Workflow({"data": data}, run_dir=tmp_path / "runinfo")

    def test_each_is_named_once(self, moving, caplog):
        """One warning lists every failure whose result was not read, and no other."""
        with moving:
            read = transfer_task("a", "b", "/read", "/read", executor="local")
            assert read.exception(LIMIT) is not None
            first = transfer_task("a", "b", "/one", "/one", executor="local")
            transfer_task("a", "b", "/two", "/two", executor="local", inputs=[first])
            transfer_task("a", "b", "/false", "/false", executor="local", check=False)
        [warning] = [
            record.getMessage() for record in caplog.records if record.name == "chiltepin.transfers.unread_failures"
        ]
        assert "/one" in warning
        assert "/two" in warning
        assert "/false" in warning
        assert "/read" not in warning

    def test_what_is_read_or_cancelled_is_no_failure(self, moving, caplog):
        """No warning lists failures that were read, directly or in a dependent's error, or canceled transfers."""
        with moving:
            first = add(transfer_task("a", "b", "/one", "/one", executor="local"))
            file = transfer_task("a", "b", "/four", "/four", executor="local").file
            second = transfer_task("a", "b", "/five", "/five", executor="local", inputs=[file, add(first)])
            assert "because: Transfer from 'a' to 'b' of /one to /one failed" in str(first.exception(LIMIT))
            assert "/four" in str(second.exception(LIMIT))
            assert transfer_task("a", "b", "/two", "/two", executor="local", check=False).result(LIMIT) is False
            transfer_task("a", "b", "/three", "/three", executor="local", inputs=[add(1)]).cancel()
        assert not [record for record in caplog.records if record.name == "chiltepin.transfers.unread_failures"]

    def test_what_only_parsl_has_read_is_named(self, moving, caplog):
        """A failure that only a dependent task, join task or file has received, and no user, is reported."""
        with moving:
            failed = transfer_task("a", "b", "/one", "/one", executor="local")
            add(failed)
            failed.file.add_done_callback(str)
            join_task(lambda: transfer_task("a", "b", "/two", "/two", executor="local"))()
        [warning] = [
            record.getMessage() for record in caplog.records if record.name == "chiltepin.transfers.unread_failures"
        ]
        assert "/one" in warning
        assert "/two" in warning

    def test_what_an_error_gives_up_is_named_although_tasks_need_it(self, moving, caplog):
        """A transfer that an error in the workflow cancels is reported, even if a task depends on it."""
        with left_early(moving):
            add(transfer_task("a", "b", "/one", "/one", executor="local", inputs=[Future()]))
        [warning] = [
            record.getMessage() for record in caplog.records if record.name == "chiltepin.transfers.unread_failures"
        ]
        assert "/one" in warning
        assert "was ended by KeyError" in warning

    def test_many_are_summed_up(self, moving, caplog):
        """The warning lists at most twenty failures."""
        with moving:
            for number in range(30):
                transfer_task("a", "b", f"/{number}", "/x", executor="local")
        [warning] = [
            record.getMessage() for record in caplog.records if record.name == "chiltepin.transfers.unread_failures"
        ]
        assert warning.count("\n") == 21
        assert warning.endswith("... and 10 more")


class TestWorkers:
    """An early end with worker processes; a fixture in conftest.py checks that none is left."""

    def test_everything_ends_within_seconds(self, config):
        """Running and queued tasks, dependents, join tasks and threads all end, and no process is left."""
        before = living()
        executors = make_htex(), ParslThreads("beside", max_threads=1)
        with socket.create_server(("127.0.0.1", 0)) as server, left_early(Workflow(config(*executors, retries=2))):
            server.settimeout(60)
            running = [sample_tasks.wait_for_ever(server.getsockname(), executor="htex") for _ in range(2)]
            for _ in running:
                server.accept()[0].close()
            queued = sample_tasks.wait_for_ever(server.getsockname(), executor="htex")
            joining = sample_tasks.add_twice(1, "htex")
            threaded = add(1, executor="beside")
            dependents = [add(future, executor="beside") for future in (*running, queued, joining)]
            seconds = [sample_tasks.add_step(future, executor="htex") for future in dependents]
            assert threaded.result(timeout=LIMIT) == 3
        for future in (*running, queued, joining, *dependents, *seconds):
            assert_given_up(future)
        assert isinstance(seconds[0].exception(timeout=0), DependencyError)
        # Threads of other tests' servers may have ended meanwhile; those that run callbacks end when they are idle.
        until(lambda: not living() - before)

    def test_plain_parsl_ends_within_seconds(self, config):
        """In a plain Parsl block, tasks that no worker has started end with their dependents."""
        before = parsl.python_app(add.__wrapped__)
        with left_early(parsl.load(config(make_htex(), exit_mode="cleanup"))):
            futures = [before(1), sample_tasks.add_step(1), sample_tasks.add_twice(1, "all")]
            futures.append(add(futures[1]))
        for future in futures:
            assert_given_up(future)

    def test_a_script_ends(self, tmp_path):
        """A script with running tasks that fails exits and prints only its own error."""
        script = tmp_path / "script.py"
        script.write_text(SCRIPT)
        run = subprocess.run(
            [sys.executable, "-W", "error::RuntimeWarning", str(script)],
            capture_output=True,
            text=True,
            timeout=100,
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": f"{HERE}:{os.environ['PYTHONPATH']}"},
            check=False,
        )
        assert run.stdout == "42 given 84\n"
        assert run.stderr.splitlines()[0] == "Traceback (most recent call last):"
        assert run.stderr.splitlines()[-1] == "KeyError: 'mine'"
        assert run.stderr.count("Traceback") == 1
        assert run.returncode == 1


SCRIPT = """
from parsl_configs import make_config, make_htex
from chiltepin.workflow import Workflow
from chiltepin.tasks import python_task

@python_task
def answer(word):
    return 42 if word == "given" else 0

class Doubling:
    factor = 2

    @python_task
    def double(self, number):
        return self.factor * number

@python_task
def hang():
    import threading
    threading.Event().wait(60)

with Workflow(make_config("runinfo", make_htex())):
    number = answer("given")
    print(number.result(timeout=60), "given", Doubling().double(number).result(timeout=60))
    hang()
    raise KeyError("mine")
"""
