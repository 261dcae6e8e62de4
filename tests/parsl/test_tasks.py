"""Functions as tasks: how they are decorated, called and sent."""

from __future__ import annotations

import asyncio
import gc
import inspect
import os
import subprocess
import sys
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime, timezone

import psutil
import pytest
import sample_tasks
from instrumented_executors import RecordingExecutor
from parsl import File
from parsl.app.errors import AppTimeout
from parsl.dataflow.errors import DependencyError, JoinError
from parsl.dataflow.futures import AppFuture
from parsl.serialize import serialize
from parsl_configs import HERE, make_config, make_htex

from chiltepin import errors
from chiltepin.errors import ConfigError
from chiltepin.model import TaskHandle, TaskState, TaskStatus
from chiltepin.tasks import bash_task, join_task, python_task
from chiltepin.workflow import Workflow

LIMIT = 60

# Parsl leaves the files of a bash app's standard streams to the garbage collector.
parsl_leaves_streams_open = pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")


@python_task
def add(left, right=2):
    """Add two numbers."""
    return left + right


@python_task
def thread_name():
    """Return the name of the current thread."""
    return threading.current_thread().name


class TestDecoration:
    """Decorating a function."""

    def test_a_task_looks_like_its_function(self):
        """A task has the name, docstring and signature of its function, and gives access to it."""
        assert add.__name__ == "add"
        assert add.__doc__ == "Add two numbers."
        assert list(inspect.signature(add).parameters) == ["left", "right"]
        assert add.__wrapped__(1, 2) == 3

    @pytest.mark.parametrize("decorator", [python_task, bash_task, join_task])
    @pytest.mark.parametrize("taken", ["executor", "chiltepin_task_geometry"])
    def test_a_parameter_that_calls_take_is_refused(self, decorator, taken):
        """A function with a parameter name that is reserved for task calls cannot become a task."""
        namespace = {}
        exec(f"def clash({taken}): pass", namespace)  # noqa: S102
        with pytest.raises(TypeError, match=f"clash.* has a parameter '{taken}'.*rename it"):
            decorator(namespace["clash"])

    @pytest.mark.parametrize("thing", [5, object()])
    def test_only_a_function_is_decorated(self, thing):
        """Anything but a function is refused at once."""
        with pytest.raises(TypeError, match="python_task must decorate a function"):
            python_task(thing)

    @pytest.mark.parametrize("decorator", [python_task, bash_task, join_task])
    def test_an_async_function_is_refused(self, decorator):
        """An async function, which a worker would not run, is refused at once, also as a static method."""

        async def fetch():
            return 3

        async def stream():
            yield 3

        for function in (fetch, stream, staticmethod(fetch)):
            with pytest.raises(TypeError, match=r"_task cannot run .*\(\), which is an async function; write a def"):
                decorator(function)

    @pytest.mark.parametrize("thing", [dict, type])
    def test_a_builtin_without_known_parameters_is_refused(self, thing):
        """A built-in type whose parameters Python does not know is refused with the remedy."""
        with pytest.raises(TypeError, match=r"python_task cannot find out the parameters of <class .*write a def"):
            python_task(thing)

    def test_ignore_for_cache_names_parameters(self):
        """An unknown parameter in ignore_for_cache is refused, with the nearest known one."""
        with pytest.raises(TypeError, match=r"names 'lefft'.*did you mean 'left'"):
            python_task(cache=True, ignore_for_cache=["lefft"])(add.__wrapped__)


class TestCalls:
    """The arguments of a task."""

    @pytest.mark.parametrize("given", ["local", ["local"], ("local", "local"), "all"])
    def test_executor_is_a_label_a_list_or_all(self, workflow, given):
        """The executor of a task can be a label, a list or tuple of labels, or "all"."""
        future = add(1, executor=given)
        assert isinstance(future, AppFuture)
        assert future.result(timeout=60) == 3

    def test_the_task_runs_where_it_was_sent(self, config):
        """A task runs on the executor that its call names."""
        with Workflow(config(RecordingExecutor("one"), RecordingExecutor("two"))):
            assert "one" in thread_name(executor="one").result(timeout=LIMIT)
            assert "two" in thread_name(executor="two").result(timeout=LIMIT)

    @pytest.mark.parametrize("task", [add, sample_tasks.shout, sample_tasks.add_twice])
    @pytest.mark.parametrize(
        ("given", "error", "text"),
        [
            ("locale", ConfigError, r"No executor is named 'locale'; did you mean 'local'\? Known: local\."),
            (["local", "nowhere"], ConfigError, "No executor is named 'nowhere'"),
            ("_parsl_internal", ConfigError, "known: local"),
            ("", ConfigError, "No executor is named ''"),
            ([], ConfigError, "executor is empty; name at least one"),
            (5, TypeError, "executor must be a label, a list of labels or 'all', not 5"),
            ([5], TypeError, "executor must be"),
            (None, TypeError, "executor must be"),
        ],
    )
    def test_a_wrong_executor_is_refused_at_the_call(self, workflow, task, given, error, text):
        """An unknown or empty executor raises an error at the call, not in the future."""
        arguments = (1, "local") if task is sample_tasks.add_twice else (1,)
        with pytest.raises(error, match=text):
            task(*arguments, executor=given)

    def test_an_unknown_argument_is_named(self, workflow):
        """An unknown argument raises TypeError at the call, with the nearest parameter of the function."""
        with pytest.raises(TypeError, match=r"add\(\) has no parameter 'rigt'; did you mean 'right'"):
            add(1, rigt=2)

    @pytest.mark.parametrize("args", [(), (1, 2, 3)])
    def test_a_call_that_does_not_fit_is_refused(self, workflow, args):
        """Too few or too many arguments raise TypeError at the call, with the signature of the function."""
        fits_not = r"add\(\) cannot be called like this: .*Its signature is add\(left, right=2\)\."
        with pytest.raises(TypeError, match=fits_not):
            add(*args)

    def test_without_a_workflow_the_message_says_what_to_type(self):
        """A call outside a workflow fails and says how to start one."""
        with pytest.raises(ConfigError, match=r"with chiltepin\.Workflow\('chiltepin\.yaml'\):"):
            add(1)

    def test_futures_are_arguments(self, workflow):
        """A task waits for the futures in its arguments and receives their results."""
        assert add(add(1), right=add(2, right=3)).result(timeout=LIMIT) == 8

    @pytest.mark.parametrize("call", [lambda f: f(1, 5, 7), lambda f: f(a=1, b=5, c=7), lambda f: f(1, c=7, b=5)])
    def test_arguments_arrive_however_they_are_passed(self, workflow, call):
        """Arguments can be passed by position or name, even where Parsl requires a name."""

        @python_task(ignore_for_cache=["b"], cache=True)
        def collect(a, b, c=3, inputs=()):
            return a, b, c, inputs

        assert call(collect).result(timeout=LIMIT) == (1, 5, 7, [])

    def test_every_kind_of_parameter_works(self, workflow):
        """Positional-only, starred and keyword-only parameters arrive as in a plain call."""

        @python_task
        def collect(first, /, second, *rest, third=3, **more):
            return first, second, rest, third, more

        assert collect(1, 2, 4, 5, third=6, x=7).result(timeout=LIMIT) == (1, 2, (4, 5), 6, {"x": 7})

    def test_names_that_parsl_uses_inside_can_be_parameters(self, workflow):
        """Parameters with the names of Parsl's internal parameters do not clash with them."""

        @python_task
        def collect(*, self, func, fn, resource_specification):
            return self, func, fn, resource_specification

        assert collect(self=1, func=2, fn=3, resource_specification=4).result(timeout=LIMIT) == (1, 2, 3, 4)


class TestMethods:
    """Tasks in classes."""

    def test_methods_get_their_object(self, workflow):
        """A decorated method is called on its object."""
        assert sample_tasks.Counter(40).plus(2).result(timeout=LIMIT) == 42

    def test_static_and_class_methods(self, workflow):
        """A static method gets no object and a class method its class."""
        assert sample_tasks.Counter(0).double(4).result(timeout=LIMIT) == 8
        assert sample_tasks.Counter.name_it("!").result(timeout=LIMIT) == "Counter!"

    def test_decorators_may_stand_in_either_order(self, workflow):
        """The task decorator works above and below staticmethod and classmethod."""

        class Thing:
            @python_task
            @staticmethod
            def double(number):
                return 2 * number

            @python_task()
            @classmethod
            def label(cls):
                return cls.__name__

        assert Thing.double(4).result(timeout=LIMIT) == 8
        assert Thing().label(executor="local").result(timeout=LIMIT) == "Thing"


class TestParslKeywords:
    """Parsl's own keywords, declared by the function or not."""

    def test_inputs_that_are_not_declared_only_order(self, workflow):
        """With inputs=[future], a task waits for the future without passing it to its function."""
        gate = Future()
        future = add(1, inputs=[gate])
        assert not future.done()
        gate.set_result(None)
        assert future.result(timeout=60) == 3

    def test_a_failed_input_stops_the_task(self, workflow):
        """A task with a failed future in its inputs does not run."""
        gate = Future()
        gate.set_exception(KeyError("gone"))
        with pytest.raises(DependencyError) as caught:
            add(1, inputs=[gate]).result(timeout=LIMIT)
        assert isinstance(caught.value.__cause__, KeyError)

    @pytest.mark.parametrize("name", ["inputs", "outputs"])
    def test_files_must_come_in_a_list(self, workflow, name):
        """A single future as inputs or outputs is refused, because iterating over it would not end."""
        with pytest.raises(TypeError, match=f"{name} must be a list"):
            add(1, **{name: add(1)})

    def test_declared_inputs_are_received(self, workflow):
        """A function that declares inputs receives the results of the futures in them."""

        @python_task
        def total(inputs=()):
            return sum(inputs)

        given = [add(1), add(2)]
        assert total(inputs=given).result(timeout=LIMIT) == 7
        assert total().result(timeout=LIMIT) == 0
        assert all(isinstance(item, AppFuture) for item in given)

    def test_a_task_cannot_be_canceled(self, workflow, tmp_path, caplog):
        """`cancel` returns False for a task and its files, so that a time limit of asyncio has its normal effect."""
        gate = Future()

        @python_task
        def wait(gate, outputs=()):
            return gate

        waiting = wait(gate, outputs=[File(str(tmp_path / "out"))])

        async def limited(future):
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(asyncio.wrap_future(future), 0.01)

        for future in (waiting, waiting.outputs[0]):
            assert future.cancel() is False
            asyncio.run(limited(future))
        gate.set_result(5)
        assert waiting.result(timeout=LIMIT) == 5
        assert "Exception in callback" not in caplog.text

    def test_none_means_no_inputs(self, workflow):
        """The usual default None means no inputs."""

        @python_task
        def show(inputs=None):
            return inputs

        assert show().result(timeout=LIMIT) is None
        assert add(1, inputs=None).result(timeout=60) == 3

    @parsl_leaves_streams_open
    def test_outputs_become_data_futures(self, workflow, tmp_path):
        """The outputs of a task that does not declare them become futures of the files."""
        target = File(str(tmp_path / "x.txt"))
        future = sample_tasks.shout("hi", outputs=[target], stdout=str(tmp_path / "x.txt"))
        assert future.outputs[0].result(timeout=LIMIT).filepath == target.filepath

    @parsl_leaves_streams_open
    def test_a_bash_task_writes_where_it_is_told(self, workflow, tmp_path):
        """A bash task writes its standard output and error to the given files, declared or not."""
        out, err = tmp_path / "out", tmp_path / "err"

        @bash_task
        def talk(word, stderr=str(err)):
            return f"echo {word}; echo oops >&2"

        assert talk("hi", stdout=str(out)).result(timeout=LIMIT) == 0
        assert out.read_text() == "hi\n"
        assert err.read_text().endswith("oops\n")

    @parsl_leaves_streams_open
    def test_a_bash_task_takes_defaults_by_position(self, workflow, tmp_path):
        """A parameter with a default can be passed by position to a bash task."""

        @bash_task
        def talk(word, end="?"):
            return f"echo {word}{end}"

        assert talk("hi", "!", stdout=str(tmp_path / "out")).result(timeout=LIMIT) == 0
        assert (tmp_path / "out").read_text() == "hi!\n"

    def test_walltime_ends_a_python_task(self, workflow):
        """A python task that takes longer than its walltime ends with AppTimeout."""

        @python_task
        def spin():
            for _ in iter(int, 1):
                pass

        with pytest.raises(AppTimeout):
            spin(walltime=0.1).result(timeout=LIMIT)

    @pytest.mark.filterwarnings("ignore:subprocess:ResourceWarning")
    def test_walltime_ends_a_bash_task(self, workflow, tmp_path):
        """A bash task that takes longer than its walltime ends with AppTimeout."""
        pipe = tmp_path / "pipe"
        os.mkfifo(pipe)
        before = psutil.Process().children()

        @bash_task
        def listen():
            return f"exec cat {pipe}"

        future = listen(walltime=0.2)
        with pytest.raises(AppTimeout, match=r"exceeded walltime: 0\.2"):
            future.result(timeout=LIMIT)
        # Parsl leaves the command running, and its Popen to the garbage collector.
        (command,) = set(psutil.Process().children()) - set(before)
        pipe.write_text("")
        command.wait(LIMIT)
        del future
        gc.collect()

    def test_a_declared_walltime_is_received(self, workflow):
        """A function that declares walltime receives it, as in Parsl."""

        @python_task
        def show(walltime=7):
            return walltime

        assert show().result(timeout=LIMIT) == 7
        assert show(walltime=8).result(timeout=LIMIT) == 8


class TestGeometry:
    """The resources of an MPI task."""

    def test_geometry_reaches_the_executor(self, config):
        """The geometry is merged into Parsl's resource specification, and the caller's dicts do not change."""
        recording = RecordingExecutor()
        geometry, resources = {"num_nodes": 2, "num_ranks": 8}, {"priority": 1}
        with Workflow(config(recording)):
            future = add(1, chiltepin_task_geometry=geometry, parsl_resource_specification=resources)
            assert future.result(timeout=60) == 3
            assert add(1).result(timeout=60) == 3
        assert [given for _, given in recording.calls] == [{"num_nodes": 2, "num_ranks": 8, "priority": 1}, {}]
        assert (geometry, resources) == ({"num_nodes": 2, "num_ranks": 8}, {"priority": 1})

    @pytest.mark.parametrize("given", [5, [("num_nodes", 2)], "2"])
    def test_geometry_is_a_dict(self, workflow, given):
        """A geometry that is not a dict is refused, with an example."""
        with pytest.raises(TypeError, match="chiltepin_task_geometry must be a dict such as"):
            add(1, chiltepin_task_geometry=given)

    def test_a_join_task_takes_no_geometry(self, workflow):
        """A join task refuses resources, because it runs in this process."""
        with pytest.raises(TypeError, match=r"add_twice\(\) runs in this process and takes no resources"):
            sample_tasks.add_twice(1, "local", chiltepin_task_geometry={"num_nodes": 2})


class TestApps:
    """The Parsl apps made from a function."""

    def test_calls_share_one_app(self, config):
        """All calls of a function on an executor, even from many threads at once, share one app."""
        recording = RecordingExecutor()
        with Workflow(config(recording)), ThreadPoolExecutor(8) as pool:
            calls = [pool.submit(add, number, executor=["recording"]) for number in range(64)]
            assert sum(call.result(timeout=LIMIT).result(timeout=LIMIT) for call in calls) == sum(range(64)) + 128
        assert len({id(function) for function, _ in recording.calls}) == 1

    def test_a_finished_workflow_is_forgotten(self, tmp_path):
        """Tasks do not keep the kernel of a finished workflow alive."""
        # In a separate process: here, leftovers of other tests may hold references.
        words = [sys.executable, "-c", FORGOTTEN, str(tmp_path)]
        run = subprocess.run(words, cwd=HERE, capture_output=True, text=True, check=False, timeout=LIMIT)
        assert run.stdout == "forgotten\n", run.stderr

    def test_a_result_is_cached_however_the_arguments_are_passed(self, workflow):
        """With cache=True, a second call with the same arguments, by position or name, does not run."""
        calls = []

        @python_task(cache=True)
        def note(number, label="x"):
            calls.append(number)
            return number

        assert note(1).result(timeout=LIMIT) == 1
        assert note(number=1, label="x").result(timeout=LIMIT) == 1
        assert calls == [1]

    def test_ignored_parameters_do_not_count(self, workflow):
        """Parameters in ignore_for_cache, even the object of a method, do not affect the cache however passed."""
        calls = []

        class Noting:
            @python_task(cache=True, ignore_for_cache=["self", "label", "stdout"])
            def note(self, number, label="x"):
                calls.append(number)
                return number

        assert Noting().note(1, "a").result(timeout=LIMIT) == 1
        assert Noting().note(1, label="b").result(timeout=LIMIT) == 1
        assert Noting().note(1).result(timeout=LIMIT) == 1
        assert calls == [1]

    def test_a_task_may_be_bound_to_a_kernel(self, config):
        """A task with data_flow_kernel runs in that kernel, even inside another workflow."""
        with Workflow(config(RecordingExecutor("outer"))) as outer:
            bound = python_task(data_flow_kernel=outer.dfk)(thread_name.__wrapped__)
            with Workflow(config(RecordingExecutor("inner"))):
                assert "outer" in bound().result(timeout=LIMIT)
                assert "inner" in thread_name().result(timeout=LIMIT)


FORGOTTEN = """
import gc, sys, weakref
from parsl_configs import make_config
from chiltepin import Workflow, join_task, python_task

@python_task
def add(left, right=2):
    return left + right

@join_task(cache=True)
def outer(number):
    return add(number)

def run():
    with Workflow(make_config(sys.argv[1])) as running:
        assert outer(1).result(timeout=60) == 3
        return weakref.ref(running.dfk)

kernel = run()
gc.collect()
print("forgotten" if kernel() is None else "held")
"""


class TestJoinTasks:
    """Tasks that start tasks."""

    def test_a_join_task_has_the_result_of_what_it_starts(self, workflow):
        """The result of a join task is the result of the task that its function returns."""
        assert sample_tasks.add_twice(1, "local", executor="local").result(timeout=LIMIT) == 21

    def test_a_join_task_may_return_a_list(self, workflow):
        """A list of futures becomes the list of their results."""

        @join_task
        def several(numbers):
            return [add(number) for number in numbers]

        assert several([1, 2, 3]).result(timeout=LIMIT) == [3, 4, 5]

    def test_a_cancelled_future_fails_the_join_task(self, workflow):
        """A join task over a canceled future fails; Parsl's own would never end."""
        mine = Future()

        @join_task
        def outer():
            return [mine, add(1)]

        future = outer()
        mine.cancel()
        with pytest.raises(JoinError, match="Join failure") as caught:
            future.result(timeout=LIMIT)
        assert isinstance(caught.value.__cause__, errors.TaskCanceledError)

    @pytest.mark.parametrize(
        "returned",
        [
            lambda own: own,
            lambda own: [add(1), own],
            lambda own: add(add(own)),
            lambda own: [add(left={"a": [own]})],
            lambda own: thread_name(inputs=[own]),
        ],
    )
    def test_a_join_task_that_waits_for_itself_fails(self, workflow, returned):
        """A join task that returns its own future, or one that needs it, fails with the reason; so does the other."""
        known, own = threading.Event(), []

        @join_task
        def outer():
            assert known.wait(LIMIT)
            own.append(returned(own[0]))
            return own[1]

        own.append(outer())
        known.set()
        with pytest.raises(errors.AppFailedError, match="The join task 'outer' returned its own future, or a future"):
            own[0].result(timeout=LIMIT)
        for future in own[1] if isinstance(own[1], list) else own[1:]:
            assert future.exception(timeout=LIMIT) is None or "outer" in str(future.exception())

    def test_two_join_tasks_that_wait_for_each_other_fail(self, workflow):
        """Of two join tasks that return the future of the other, one fails with the reason, and so both end."""
        known, both = threading.Event(), []

        @join_task
        def outer(number):
            assert known.wait(LIMIT)
            return both[1 - number]

        both += [outer(0), outer(1)]
        known.set()
        ends = [future.exception(timeout=LIMIT) for future in both]
        assert any(isinstance(error, errors.AppFailedError) for error in ends)
        assert all("returned its own future" in str(error) for error in ends)

    def test_a_long_chain_of_failures_ends(self, workflow):
        """In a chain of a thousand tasks, all fail with the first; Parsl's own would never end."""

        @python_task
        def fail():
            raise KeyError("first")

        future = fail()
        for _ in range(1000):
            future = add(future)
        with pytest.raises(DependencyError, match=r"<- \.\.\. <-") as caught:
            future.result(timeout=LIMIT)
        assert isinstance(caught.value.__cause__, KeyError)

    def test_calls_inside_go_to_the_same_workflow(self, config):
        """Tasks that a join task starts run in its workflow, even if that is not the loaded one."""

        @join_task
        def outer():
            return thread_name()

        with Workflow(config(RecordingExecutor("loaded"))), Workflow(config(RecordingExecutor("beside"))):
            assert "beside" in outer().result(timeout=LIMIT)


@pytest.fixture(scope="module")
def htex(tmp_path_factory):
    """Two worker processes, and one thread."""
    run_dir = tmp_path_factory.mktemp("runinfo")
    with Workflow(make_config(run_dir, make_htex(), RecordingExecutor("thread"), retries=0)) as running:
        assert sample_tasks.add_step(0, executor="htex").result(timeout=60) == 10
        yield running


STATUS = TaskStatus(
    handle=TaskHandle(backend="local", task_id="1", submission_id="2"), state=TaskState.FAILED, code="QUOTA_EXCEEDED"
)
FACTS = {
    ConfigError: {"file": "c.yaml", "key": "a.b", "line": 3},
    errors.EndpointError: {"endpoint": "here"},
    errors.BackendError: {"backend": "globus", "code": "NoCredException", "request_id": "r", "transient": True},
    errors.TaskError: {"status": STATUS},
    errors.ChiltepinError: {},
}
ERRORS = [kind for name in errors.__all__ if isinstance(kind := getattr(errors, name), type)]


class TestWorkers:
    """Tasks in worker processes."""

    def test_tasks_run_in_other_processes(self, htex):
        """A task on a HighThroughputExecutor runs in another process."""
        assert sample_tasks.process_id(executor="htex").result(timeout=LIMIT) != os.getpid()

    def test_all_shapes_of_functions_travel(self, htex):
        """Functions of a module, closures, lambdas, methods and bash tasks run in a worker process."""
        offset = 7

        @python_task
        def closure(number):
            return number + offset

        futures = [
            closure(1, executor="htex"),
            python_task(lambda number: number + offset)(2, executor="htex"),
            sample_tasks.Counter(3).plus(4, executor="htex"),
            sample_tasks.Counter.double(5, executor="htex"),
            sample_tasks.Counter.name_it("!", executor="htex"),
            sample_tasks.shout("hi", executor="htex"),
            sample_tasks.add_twice(1, "htex"),
            add_in_worker(1, executor="htex", inputs=[add_in_worker(1, executor="thread")]),
        ]
        assert [future.result(timeout=LIMIT) for future in futures] == [8, 9, 7, 10, "Counter!", 0, 21, 3]

    def test_parsl_keywords_reach_a_worker(self, htex, tmp_path):
        """Output files and walltime of a bash task work in a worker process too."""
        out = tmp_path / "out"
        assert sample_tasks.shout("hi", executor="htex", stdout=str(out), walltime=20).result(timeout=LIMIT) == 0
        assert out.read_text() == "hi!\n"

    def test_a_worker_needs_parsl_only(self, htex):
        """A function of a script runs on a worker without Chiltepin installed."""
        script = {"__name__": "__main__"}
        exec("def triple(number): return 3 * number", script)  # noqa: S102
        assert python_task(script["triple"])(2, executor="thread", inputs=[]).result(timeout=LIMIT) == 6
        function, _ = htex.dfk.executors["thread"].calls[-1]
        worker = (
            "import sys; sys.modules['chiltepin'] = None\n"
            "from parsl.serialize import deserialize\n"
            "print(deserialize(sys.stdin.buffer.read())(5, inputs=[]))"
        )
        run = subprocess.run([sys.executable, "-c", worker], input=serialize(function), capture_output=True, check=True)
        assert run.stdout.strip() == b"15"

    def test_every_error_arrives_as_itself(self, htex):
        """Each Chiltepin error raised in a worker arrives with its attributes, and the executor keeps working."""
        raised = []
        for kind in ERRORS:
            facts = next(facts for base, facts in FACTS.items() if issubclass(kind, base))
            raised.append(kind(f"{kind.__name__} at {datetime.now(timezone.utc):%Y}", **facts))
        futures = [sample_tasks.fail_with(error, executor="htex") for error in raised]
        for sent, future in zip(raised, futures, strict=True):
            got = future.exception(timeout=LIMIT)
            assert type(got) is type(sent)
            assert (got.args, vars(got)) == (sent.args, vars(sent))
        assert sample_tasks.add_step(1, executor="htex").result(timeout=LIMIT) == 11


@python_task
def add_in_worker(left, right=2):
    """Add two numbers, in a test module that only this process can import by name."""
    return left + right
