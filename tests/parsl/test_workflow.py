"""Start, settings, nesting and clean end of a workflow; test_ends.py covers early ends."""

from __future__ import annotations

import contextlib
import gc
import io
import logging
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import parsl
import psutil
import pytest
from instrumented_executors import BrokenExecutor, RecordingExecutor
from parsl.dataflow.dflow import DataFlowKernelLoader
from waiting import until

from chiltepin.errors import ConfigError, TaskCanceledError
from chiltepin.parsl import kernel
from chiltepin.parsl.shutdown import shutdown_of
from chiltepin.tasks import join_task, python_task
from chiltepin.workflow import Workflow

LIMIT = 60


@python_task
def thread_name():
    """Return the name of the current thread."""
    return threading.current_thread().name


@python_task
def wait_for(event):
    """Block until `event` is set."""
    return event.wait(LIMIT)


class TestBeginning:
    """Entering the block."""

    def test_it_loads_parsl(self, config):
        """The first workflow loads its kernel as the Parsl of the process, and unloads it at the end."""
        given = config()
        with Workflow(given) as workflow:
            assert workflow.config is given
            assert workflow.dfk is parsl.dfk() is kernel.current()
        assert DataFlowKernelLoader._dfk is None

    def test_it_is_entered_once_at_a_time(self):
        """A running workflow cannot be started again; a finished one can."""
        workflow = Workflow({})
        for _ in range(2):
            with workflow:
                with pytest.raises(RuntimeError, match="Workflow already started; call its cleanup"):
                    workflow.start()
                assert thread_name().result(timeout=LIMIT)

    def test_a_config_is_used_once(self, config):
        """A workflow with a Parsl Config cannot be entered again, because the executors of the Config have ended."""
        workflow = Workflow(config())
        with workflow:
            pass
        with pytest.raises(ConfigError, match=r"once; give settings, or make another Config"), workflow:
            pass

    def test_start_and_cleanup(self):
        """Tasks run between start and cleanup, as in a block; cleanup waits for them and can be called twice."""
        workflow, event = Workflow({}), threading.Event()
        assert workflow.start() is workflow.dfk is parsl.dfk()
        waiting = wait_for(event)
        assert workflow.tasks[waiting.tid]["app_fu"].tid == waiting.tid
        threading.Timer(0.2, event.set).start()
        workflow.cleanup()
        assert waiting.done()
        assert waiting.result()
        workflow.cleanup()
        assert DataFlowKernelLoader._dfk is None

    def test_cleanup_after_an_error_does_not_wait(self):
        """In a ``finally`` clause after an error, cleanup cancels unfinished tasks, as the end of a block does."""
        workflow, event = Workflow({"one": {"provider": "threads", "max_threads": 1}}), threading.Event()
        waiting = []

        def run():
            workflow.start()
            try:
                waiting.extend([wait_for(event, executor="one"), thread_name(executor="one")])
                threading.Timer(0.2, event.set).start()
                raise LookupError("mine")
            finally:
                workflow.cleanup()

        with pytest.raises(LookupError, match="mine"):
            run()
        assert isinstance(waiting[1].exception(timeout=LIMIT), TaskCanceledError)

    def test_a_cleanup_that_fails(self, config, caplog):
        """Cleanup raises a shutdown error or, on request, logs it; the next workflow starts either way."""

        class Unstoppable(RecordingExecutor):
            def shutdown(self):
                super().shutdown()
                raise OSError("no end today")

        for suppress in (False, True):
            workflow = Workflow(config(Unstoppable("one")))
            workflow.start()
            expected = contextlib.nullcontext() if suppress else pytest.raises(OSError, match="no end today")
            with expected:
                workflow.cleanup(suppress_exceptions=suppress)
            assert DataFlowKernelLoader._dfk is None
        assert "The workflow did not shut down cleanly." in caplog.text

    def test_a_log_file(self, tmp_path):
        """The log file has Parsl's and Chiltepin's messages at its level; a workflow appends to it and closes it."""
        log = tmp_path / "mine.log"
        workflow = Workflow({}, log_file=log, log_level=logging.WARNING)
        for number in (1, 2):
            with workflow:
                logging.getLogger("parsl").warning("from Parsl, %s", number)
                logging.getLogger("chiltepin.workflow").error("from Chiltepin, %s", number)
                logging.getLogger("parsl").info("not this")
                (handler,) = [one for one in logging.getLogger("chiltepin").handlers if hasattr(one, "baseFilename")]
            assert handler.stream is None
        logging.getLogger("parsl").warning("too late")
        written = log.read_text()
        assert written.count("from Parsl") == written.count("from Chiltepin") == 2
        assert "not this" not in written
        assert "too late" not in written

    def test_outside_of_its_block_it_has_no_kernel(self, config):
        """Before and after its block, a workflow reports that it is not running."""
        workflow = Workflow(config())
        with pytest.raises(ConfigError, match="not running yet"):
            _ = workflow.config
        with pytest.raises(ConfigError, match="not running"):
            _ = workflow.dfk
        with workflow:
            pass
        with pytest.raises(ConfigError, match="not running"):
            _ = workflow.dfk

    @pytest.mark.parametrize("option", ["include", "client", "run_dir", "backend"])
    def test_options_go_with_settings(self, config, option):
        """An option that belongs to the settings is refused by name when a Parsl Config is given."""
        with pytest.raises(TypeError, match=f"{option} goes with settings"), Workflow(config(), **{option: "x"}):
            pass

    @pytest.mark.parametrize(
        ("options", "text"),
        [
            ({"include": 5}, r"include=5 is of type int; give a label or a list"),
            ({"client": "token"}, r"client is of type str; give a globus_compute_sdk\.Client"),
            ({"run_dir": 5}, r"run_dir=5 is of type int; give the path of a folder"),
            ({"run_dir": b"x"}, r"run_dir=b'x' is of type bytes; give the path of a folder"),
            ({"run_dir": ""}, r"run_dir='' cannot be the name of a folder; name a folder, or leave run_dir out"),
            ({"run_dir": "a\0b"}, r"run_dir='a\\x00b' cannot be the name of a folder"),
            ({"log_file": 5}, r"log_file=5 is of type int; give the path of a file"),
            ({"log_file": ""}, r"log_file='' cannot be the name of a file"),
            ({"log_file": "a\0b"}, r"log_file='a\\x00b' cannot be the name of a file"),
            ({"log_file": "."}, r"log_file='\.' cannot be written \(Is a directory\); name a file in a folder"),
            ({"log_level": "nope"}, r"log_level='nope' is not a level of a log; give one such as logging\.DEBUG"),
            ({"log_level": []}, r"log_level=\[\] is not a level of a log"),
        ],
    )
    def test_a_wrong_option_is_named(self, options, text):
        """An option of the wrong kind raises one sentence with its name and value, and starts nothing."""
        with pytest.raises((TypeError, ConfigError), match=rf"^{text}.*\.$"), Workflow({}, **options):
            pass
        assert DataFlowKernelLoader._dfk is None

    def test_a_beginning_that_fails_leaves_nothing(self, config, tolerated):
        """If Parsl cannot start, its error propagates, started executors stop, and the next workflow can start."""
        # Parsl starts this idle daemon thread first and gives no access to it.
        tolerated.append("JobStatusPoller")

        class Unstartable(RecordingExecutor):
            def start(self):
                raise OSError("no threads today")

        started = RecordingExecutor("started")
        given = config(started, Unstartable("not"))
        with pytest.raises(OSError, match="no threads today"), Workflow(given):
            pass
        with pytest.raises(RuntimeError, match="after shutdown"):
            started.submit(print, {})
        with Workflow(config()) as workflow:
            assert workflow.dfk is parsl.dfk()


class TestSettings:
    """The settings of a workflow."""

    SETTINGS = "local: {provider: threads}\nmore: {provider: threads}\nrest: {provider: threads}\n"

    @pytest.fixture(autouse=True)
    def _alone(self, tmp_path, monkeypatch):
        """Run the test in an empty folder, for a user without settings files."""
        monkeypatch.chdir(tmp_path)
        monkeypatch.delenv("CHILTEPIN_CONFIG", raising=False)
        monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "none"))

    def test_a_file(self, tmp_path):
        """The resources of a settings file become executors."""
        file = tmp_path / "some.yaml"
        file.write_text(self.SETTINGS)
        with Workflow(file) as workflow:
            assert {"local", "more", "rest"} <= set(workflow.dfk.executors)
            assert thread_name(executor="more").result(timeout=LIMIT)

    def test_a_mapping_and_its_options(self, tmp_path):
        """Settings can be a mapping; include, run_dir and backend override them."""
        given = {"more": {"provider": "threads"}, "rest": {"provider": "threads"}}
        with Workflow(given, include=["more"], run_dir=tmp_path / "runs", backend="local") as workflow:
            assert set(workflow.dfk.executors) == {"local", "more", "_parsl_internal"}
            assert workflow.dfk.run_dir.startswith(str(tmp_path / "runs"))
            assert workflow.config.data.backend == "local"

    def test_the_file_of_this_folder(self, tmp_path):
        """Without an argument, the default settings file is read."""
        (tmp_path / "chiltepin.yaml").write_text(self.SETTINGS)
        with Workflow() as workflow:
            assert "rest" in workflow.dfk.executors

    def test_the_log_is_closed(self, tmp_path):
        """Parsl's log file is closed at the end."""
        with Workflow(run_dir=tmp_path / "runs") as workflow:
            log = Path(workflow.dfk.run_dir) / "parsl.log"
            (handler,) = [one for one in logging.getLogger("parsl").handlers if hasattr(one, "baseFilename")]
        assert log.stat().st_size
        assert handler.stream is None

    def test_no_file_at_all(self):
        """Without an argument and a settings file, the only executor is local."""
        with Workflow() as workflow:
            assert thread_name(executor="local").result(timeout=LIMIT)
            assert set(workflow.dfk.executors) == {"local", "_parsl_internal"}

    def test_wrong_settings_start_nothing(self):
        """Invalid settings raise an error before anything starts."""
        with pytest.raises(ConfigError, match="more"), Workflow({"more": {"provider": "thread"}}):
            pass
        assert DataFlowKernelLoader._dfk is None


class TestNeighbours:
    """Several workflows in one process."""

    def test_one_after_the_other(self, config):
        """A workflow can follow another, with the same tasks."""
        for label in ("first", "second"):
            with Workflow(config(RecordingExecutor(label))):
                assert label in thread_name().result(timeout=LIMIT)

    def test_one_in_another(self, config):
        """Tasks run in the innermost workflow, and in the outer one again after it ends."""
        with Workflow(config(RecordingExecutor("outer"))) as outer:
            with Workflow(config(RecordingExecutor("inner"))) as inner:
                assert inner.dfk is not outer.dfk
                assert "inner" in thread_name().result(timeout=LIMIT)
                with pytest.raises(ConfigError, match="No executor is named 'outer'"):
                    thread_name(executor="outer")
            assert "outer" in thread_name().result(timeout=LIMIT)

    @pytest.mark.parametrize("labels", [("first", "second"), ("first", "second", "third"), ("a", "b", "c", "d")])
    def test_one_that_ends_before_the_inner_one(self, config, labels):
        """Calls go to the innermost workflow that runs, in whatever order workflows end."""
        running = {label: Workflow(config(RecordingExecutor(label))) for label in labels}
        for workflow in running.values():
            workflow.start()
        for label in [*labels[1:-1], labels[0]]:
            running.pop(label).cleanup()
            assert labels[-1] in thread_name().result(timeout=LIMIT)
        running.pop(labels[-1]).cleanup()
        with pytest.raises(ConfigError, match="No workflow is running"):
            thread_name()

    def test_a_callback_stays_in_the_workflow_that_added_it(self, config):
        """A callback calls tasks in the workflow in which it was added, not in the first one."""
        names, called = [], threading.Event()

        def call(_):
            names.append(thread_name().result(timeout=LIMIT))
            called.set()

        with Workflow(config(RecordingExecutor("outer"))), Workflow(config(RecordingExecutor("inner"))):
            gate = threading.Event()
            future = wait_for(gate)
            future.add_done_callback(call)
            gate.set()
            assert called.wait(LIMIT)
        assert "inner" in names[0]

    def test_a_task_in_a_thread_stays_in_its_workflow(self, config):
        """A task in a thread calls tasks in its own workflow, not in the first one, also on an executor added later."""

        @python_task
        def outer():
            return thread_name(executor=["outer", "inner"]).result(timeout=LIMIT)

        two = [RecordingExecutor("inner"), RecordingExecutor("beside")]
        with Workflow(config(RecordingExecutor("outer"))), Workflow(config(*two)) as inner:
            for label in ("beside", "late"):
                with pytest.raises(ConfigError, match="No executor is named 'outer'"):
                    outer(executor=label).result(timeout=LIMIT)
                if label == "beside":
                    inner.dfk.add_executors([RecordingExecutor("late")])

    def test_two_beside_each_other(self, config):
        """Workflows in two concurrent threads each run their own tasks."""
        both = threading.Barrier(2)

        def run(label):
            with Workflow(config(RecordingExecutor(label))):
                both.wait(LIMIT)
                names = [thread_name().result(timeout=LIMIT) for _ in range(20)]
                both.wait(LIMIT)
                return all(label in name for name in names)

        with ThreadPoolExecutor(2) as pool:
            assert all(pool.map(run, ["left", "right"], timeout=LIMIT))

    def test_beside_a_parsl_that_is_loaded_already(self, config):
        """A workflow does not affect a Parsl kernel that the user has loaded."""
        with parsl.load(config(RecordingExecutor("loaded"))) as loaded:
            with Workflow(config(RecordingExecutor("mine"))):
                assert "mine" in thread_name().result(timeout=LIMIT)
            assert parsl.dfk() is loaded
            assert "loaded" in thread_name().result(timeout=LIMIT)

    def test_a_thread_of_the_user_finds_the_first_one(self, config):
        """A thread that has not entered a workflow uses the loaded one."""
        with Workflow(config(RecordingExecutor("loaded"))), ThreadPoolExecutor(1) as pool:
            assert "loaded" in pool.submit(thread_name).result(timeout=LIMIT).result(timeout=LIMIT)

    def test_left_in_another_thread(self, config):
        """A workflow ends even if its block is left in a different thread than it was entered in."""
        workflow = Workflow(config())
        workflow.__enter__()
        with ThreadPoolExecutor(1) as pool:
            pool.submit(workflow.__exit__, None, None, None).result(timeout=LIMIT)
        with pytest.raises(ConfigError, match="No workflow is running"):
            kernel.current()


class TestCleanEnd:
    """Leaving the block without an error."""

    def test_it_waits_for_what_was_started(self, config):
        """The block exits only after all tasks, including those started by other tasks, are done."""
        begun, go_on = threading.Event(), threading.Event()
        later = []

        @python_task
        def first():
            begun.set()
            return go_on.wait(LIMIT)

        @join_task
        def second(_):
            later.append(thread_name())
            return later[0]

        with Workflow(config()):
            future = second(first())
            assert begun.wait(LIMIT)
            threading.Timer(0.1, go_on.set).start()
        assert future.result(timeout=0)
        assert later[0].result(timeout=0)

    def test_it_waits_whatever_the_exit_mode(self, config):
        """A clean end waits for tasks even with an exit mode in which Parsl would not."""
        with Workflow(config(exit_mode="cleanup")):
            future = wait_for(event := threading.Event())
            threading.Timer(0.1, event.set).start()
        assert future.result(timeout=0) is True

    def test_failed_tasks_do_not_matter(self, config):
        """A failed task does not affect the end; its error is in its future."""

        @python_task
        def fail():
            raise KeyError("mine")

        with Workflow(config()):
            future = fail()
        assert isinstance(future.exception(timeout=0), KeyError)

    def test_a_workflow_that_was_cleaned_up_inside_is_over(self, config):
        """After a cleanup by the user inside the block, leaving the block does nothing more."""
        with Workflow(config()) as workflow:
            workflow.dfk.cleanup()

    def test_its_log_stays_closed(self, config, tmp_path):
        """No log file stays open when many workflows end at the same time and write to each other's logs."""

        def run(_):
            with Workflow(config(initialize_logging=True)):
                pass

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(run, range(40), timeout=LIMIT))
        assert len(list(tmp_path.glob("runinfo/*/parsl.log"))) == 40
        assert [file.path for file in psutil.Process().open_files() if file.path.startswith(str(tmp_path))] == []

    def test_nothing_keeps_it_alive(self, config):
        """After the end, the kernel can be garbage-collected while the workflow object still exists."""
        workflow = Workflow(config())
        with workflow:
            thread_name().result(timeout=LIMIT)
            reference = weakref.ref(workflow.dfk)

        def collected():
            # Does nothing while a thread of an earlier test collects (gc_collect_impl in CPython).
            gc.collect()
            return reference() is None

        until(collected)


class TestErrors:
    """Leaving the block with an error."""

    def test_the_error_comes_out(self, config):
        """The user's error propagates unchanged, and Parsl is unloaded."""
        error = KeyError("mine")
        with pytest.raises(KeyError) as caught, Workflow(config()):
            raise error
        assert caught.value is error
        assert DataFlowKernelLoader._dfk is None

    def test_a_failing_end_does_not_hide_it(self, config, caplog):
        """If Parsl fails to shut down after an error, the error still propagates; the failure is logged."""
        kernels = []

        def run():
            with Workflow(config(BrokenExecutor("broken"))) as workflow:
                kernels.append(workflow.dfk)
                raise KeyError("mine")

        with pytest.raises(KeyError, match="mine"):
            run()
        assert "Parsl did not shut down cleanly" in caplog.text
        assert DataFlowKernelLoader._dfk is None
        close_rest(kernels[0])

    def test_a_failing_end_alone_is_an_error(self, config):
        """If Parsl fails to shut down after a clean block, its error is raised."""
        with pytest.raises(OSError, match="no way down"), Workflow(config(BrokenExecutor("broken"))) as workflow:
            kept = workflow.dfk
        assert DataFlowKernelLoader._dfk is None
        close_rest(kept)

    def test_ctrl_c_while_waiting_ends_it(self, config, ctrl_c):
        """Ctrl-C while a clean end waits shuts the workflow down in order and propagates."""
        leaving, release, futures = threading.Event(), threading.Event(), []

        @python_task
        def interrupt():
            leaving.wait(LIMIT)
            ctrl_c()
            return release.wait(LIMIT)

        def run():
            with Workflow(config()) as workflow:
                futures.append(interrupt())
                futures.append(thread_name(inputs=futures))
                shutdown_of(workflow.dfk).on_end(lambda _: release.set())
                leaving.set()

        with pytest.raises(KeyboardInterrupt):
            run()
        assert futures[0].result(timeout=0) is True
        with pytest.raises(TaskCanceledError, match="'thread_name' was canceled: the workflow was ended by Keyboard"):
            futures[1].result(timeout=0)

    def test_ctrl_c_within_a_log_call_ends_it(self, config, caplog):
        """After a Ctrl-C that leaves the lock of a log handler held, threads that log can still end."""
        handler, futures = logging.StreamHandler(io.StringIO()), []
        caplog.set_level(logging.DEBUG, "parsl")
        logging.getLogger("parsl").addHandler(handler)

        def run():
            with Workflow(config()):
                handler.acquire()
                futures.append(thread_name())
                raise KeyboardInterrupt

        try:
            with pytest.raises(KeyboardInterrupt):
                run()
        finally:
            logging.getLogger("parsl").removeHandler(handler)
        assert futures[0].done()

    def test_a_second_ctrl_c_leaves_threads_behind(self, config, ctrl_c):
        """Ctrl-C while the end waits for a thread ends the thread's task at once, and the rest in order."""
        release, futures, pools = threading.Event(), [], []

        def interrupt(_):
            threading.Timer(0.2, ctrl_c).start()

        def run():
            with Workflow(config(RecordingExecutor("threads"))) as workflow:
                futures.append(wait_for(release))
                futures.append(thread_name(inputs=futures))
                pools.append(workflow.dfk.executors["threads"].executor)
                shutdown_of(workflow.dfk).on_end(interrupt)
                raise KeyError("mine")

        with pytest.raises(KeyboardInterrupt) as caught:
            run()
        release.set()
        pools[0].shutdown(wait=True)
        assert isinstance(caught.value.__context__, KeyError)
        stuck = futures[0].exception(timeout=0)
        assert isinstance(stuck, TaskCanceledError)
        assert futures[1].exception(timeout=0).__cause__ is stuck


def close_rest(dfk):
    """Shut down the pools that Parsl's own cleanup did not reach."""
    for executor in dfk.executors.values():
        executor.executor.shutdown(wait=True)
    dfk._task_launch_pool.shutdown(wait=True)
