"""Futures inside the arguments of a call: waited for at any depth, or refused at the call."""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import functools
import itertools
import os
from collections import Counter, OrderedDict, UserDict, defaultdict, deque
from concurrent.futures import Future
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from parsl.data_provider.files import File
from parsl.dataflow.dependency_resolvers import SHALLOW_DEPENDENCY_RESOLVER, DependencyResolver
from parsl.dataflow.errors import DependencyError

from chiltepin import delete_task, transfer_task
from chiltepin.errors import AppFailedError
from chiltepin.tasks import bash_task, join_task, python_task
from chiltepin.workflow import Workflow

LIMIT = 60


class Pair(NamedTuple):
    """A named tuple."""

    left: Any
    right: Any


@dataclasses.dataclass
class Box:
    """A dataclass, in which a future cannot be replaced."""

    content: object


class Holder:
    """A class of the user, whose attributes must not be computed by a search."""

    def __init__(self, content):
        self.content = content

    def __getattr__(self, name):
        raise AssertionError(f"the search read {name}")

    @property
    def computed(self):
        """Raise an error."""
        raise AssertionError("the search read a property")

    def __iter__(self):
        raise AssertionError("the search iterated")


class Slots:
    """A class of the user without a ``__dict__``."""

    __slots__ = ("content",)

    def __init__(self, content):
        self.content = content


class Method:
    """A class of the user with a task as method."""

    def __init__(self):
        self.earlier = []

    @python_task
    def name(self, other=None):
        """Return a constant."""
        return type(self).__name__, other


@python_task
def same(value, inputs=()):
    """Return the arguments."""
    return value, list(inputs)


@python_task
def after(inputs=()):
    """Return the inputs."""
    return list(inputs)


#: Functions that put values into a container, by its name.
WRAPS = {
    "list": lambda *values: list(values),
    "tuple": lambda *values: values,
    "dict": lambda *values: dict(enumerate(values)),
    "dict key": lambda *values: dict.fromkeys(values, 1),
    "set": lambda *values: set(values),
    "frozenset": lambda *values: frozenset(values),
    "deque": lambda *values: deque(values, maxlen=5),
    "namedtuple": lambda *values: Pair(values[0], values[-1]),
    "ordered": lambda *values: OrderedDict(enumerate(values)),
    "default": lambda *values: defaultdict(list, enumerate(values)),
}
HASHABLE = ("tuple", "frozenset", "namedtuple")


def wrapped(path, value, other):
    """Return a value nested in containers, the innermost first, beside another value."""
    for name in path:
        value = WRAPS[name](other, value)
    return value


def paths():
    """Return a strategy for the names of containers that can be nested."""
    names = st.lists(st.sampled_from(sorted(WRAPS)), min_size=1, max_size=4)
    needs = ("set", "frozenset", "dict key")
    return names.filter(
        lambda path: all(path[i] in HASHABLE for i in range(len(path) - 1) if any(p in needs for p in path[i + 1 :]))
    )


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    """A workflow on threads with two endpoints."""
    top = tmp_path_factory.mktemp("nested")
    settings = {
        "local": {"provider": "threads", "max_threads": 4},
        "data": {"backend": "local", "root": str(top / "d"), "journal": False, "endpoints": {"a": None, "b": None}},
    }
    with Workflow(settings, run_dir=top / "run"):
        (top / "d/a").mkdir(parents=True)
        (top / "d/b").mkdir()
        yield top / "d"


@pytest.fixture
def htex():
    """Turn off the check for leftover threads, which end with the module."""


pytestmark = pytest.mark.usefixtures("htex")


@given(path=paths(), deep=st.booleans())
@settings(max_examples=60, database=None)
def test_a_future_at_any_depth_is_waited_for(running, path, deep):
    """The function receives the same containers with results in place of futures, also in inputs."""
    gate = Future()
    value = wrapped(path, gate, 7)
    future = same(value, inputs=[value, 3]) if deep else same(5, inputs=[value])
    transfer = transfer_task("a", "b", "/none", "/none", executor="local", inputs=[value])
    assert not future.done()
    gate.set_result(8)
    expected = wrapped(path, 8, 7)
    assert future.result(timeout=LIMIT) == ((expected, [expected, 3]) if deep else (5, [expected]))
    assert type(future.result()[1][0]) is type(expected)
    assert transfer.exception(timeout=LIMIT) is not None


@pytest.mark.parametrize("name", sorted(WRAPS))
def test_a_transfer_and_a_deletion_wait(running, name):
    """A transfer and a deletion wait for a future inside a container."""
    (running / "a/new").unlink(missing_ok=True)
    gate, made = Future(), Future()
    wrote = same(gate)
    wrote.add_done_callback(lambda _: ((running / "a/new").write_text("fresh"), made.set_result(1)))
    moved = transfer_task("a", "b", "/new", f"/{name}", executor="local", inputs=[WRAPS[name](made, 1)])
    gone = delete_task("a", "/new", executor="local", inputs=[[[moved]]])
    gate.set_result(None)
    assert moved.result(timeout=LIMIT) is True
    assert gone.result(timeout=LIMIT) is True
    assert (running / "b" / name).read_text() == "fresh"
    assert not (running / "a/new").exists()


def test_patterns_may_be_futures(running):
    """A pattern in include= or exclude= can be a future; the request is None until it ends."""
    (running / "a/t").mkdir()
    for file in ("x.nc", "y.txt"):
        (running / "a/t" / file).write_text(file)
    gate = Future()
    moved = transfer_task(
        "a", "b", "/t", "/t", recursive=True, executor="local", include=[gate, "*.csv"], exclude=["*"]
    )
    assert moved.request is None
    gate.set_result("*.nc")
    assert moved.result(timeout=LIMIT) is True
    assert [file.name for file in (running / "b/t").iterdir()] == ["x.nc"]


def test_a_future_inside_that_fails_stops_the_task(running):
    """A task with a failed future in a container does not run; its error has the future's error as cause."""
    gate = Future()
    task, moved = same([gate]), transfer_task("a", "b", "/x", "/x", executor="local", inputs=[{"a": (gate,)}])
    gate.set_exception(KeyError("gone"))
    for future in (task, moved):
        error = future.exception(timeout=LIMIT)
        assert isinstance(error, DependencyError)
        assert isinstance(error.__cause__, KeyError)


def test_a_future_inside_that_fails_with_an_exit_stops_the_task(running):
    """A future that fails with `SystemExit` stops the task too."""
    gate = Future()
    task = same([gate])
    gate.set_exception(SystemExit(3))
    assert isinstance(task.exception(timeout=LIMIT).__cause__, AppFailedError)


def test_join_and_bash_tasks_wait_too(running, tmp_path):
    """Futures in the arguments of join tasks and bash tasks are resolved at any depth."""

    @join_task
    def total(numbers):
        return [same(number) for number in numbers]

    @bash_task
    def show(words, target):
        return f"echo {' '.join(words)} > {target}"

    assert total([same(1)[0], 2]).result(timeout=LIMIT) == [(1, []), (2, [])]
    assert show(["a", same("b")[0]], str(tmp_path / "out")).result(timeout=LIMIT) == 0
    assert (tmp_path / "out").read_text() == "a b\n"


def test_what_holds_no_future_is_passed_on_as_it_is(running):
    """A container without futures is passed on as the same object, even if it contains itself or is very deep."""
    cycle = [1]
    cycle.append(cycle)
    deep = []
    for _ in range(100_000):
        deep = [deep]
    with Path(os.devnull).open() as file:
        for value in (cycle, deep, Counter("ab"), Box(3), Holder(3), Slots(cycle), {"a": 1}.values(), file, {"a": [1]}):
            assert same(value).result(timeout=LIMIT)[0] is value


def holds_itself(future):
    """Return a list that contains itself and a future."""
    value = [future]
    value.append(value)
    return value


def very_deep(future):
    """Return a future nested in more lists than can be copied."""
    value = future
    for _ in range(100_000):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda future: [Box(future)], "A future is inside a Box in .*put it into a list"),
        (lambda future: Counter([future]), "A future is inside a Counter"),
        (Holder, "A future is inside a Holder in .*or give its result"),
        (Slots, "A future is inside a Slots"),
        (lambda future: [Holder({"a": [Slots(future)]})], "A future is inside a Holder"),
        (lambda future: SimpleNamespace(a=future), "A future is inside a SimpleNamespace"),
        (lambda future: argparse.Namespace(a=future), "A future is inside a Namespace"),
        (lambda future: UserDict(a=future), "A future is inside a UserDict"),
        (lambda future: MappingProxyType({"a": future}), "A future is inside a mappingproxy"),
        (lambda future: functools.partial(print, future), "A future is inside a partial"),
        (lambda future: future.result, "A future is inside a method"),
        (holds_itself, "contains itself"),
        (very_deep, "nested too deeply"),
        (lambda _: [asyncio.Future(loop=LOOP)], r"contains an asyncio .*run_coroutine_threadsafe"),
    ],
)
def test_what_cannot_be_waited_for_is_refused(running, make, text):
    """A future that cannot be waited for raises TypeError at the call, with the reason or the remedy."""
    for call in (same, lambda value: same(1, inputs=[value]), lambda value: after(inputs=[value])):
        with pytest.raises(TypeError, match=text):
            call(make(Future()))


STREAMS = {
    "generator": lambda future: (one for one in [future]),
    "iter": lambda future: iter([future]),
    "map": lambda future: map(id, [future]),
    "filter": lambda future: filter(None, [future]),
    "zip": lambda future: zip([future]),
    "chain": lambda future: itertools.chain([future]),
}


@pytest.mark.parametrize("make", [*STREAMS.values(), lambda f: {1: f}.values()])
def test_a_stream_in_inputs_is_refused(running, make):
    """A generator, iterator or view in the inputs of a task or transfer is refused at any depth."""
    for call in (
        lambda value: after(inputs=value),
        lambda value: transfer_task("a", "b", "/x", "/x", executor="local", inputs=value),
    ):
        with pytest.raises(TypeError, match=r"and Parsl finds no futures in it; pass list\(...\) instead"):
            call([make(Future())])
        with pytest.raises(TypeError, match=r"and Parsl finds no futures in it; pass list\(...\) instead"):
            call([[make(Future())]])


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_as_an_argument_is_refused(running, name):
    """A generator or another iterator of Python is refused as an argument, also inside a list."""
    for value in (STREAMS[name](Future()), [STREAMS[name](Future())]):
        with pytest.raises(TypeError, match=r"argument 1 of same\(\) contains a .*; pass list\(...\) instead"):
            same(value)


def test_a_view_of_futures_is_refused(running):
    """A future in a view of a dict is refused as an argument."""
    for view in ({1: Future()}.values(), {1: Future()}.items(), {Future(): 1}.keys()):
        with pytest.raises(TypeError, match="A future is inside a dict_"):
            same(view)


def test_a_method_may_keep_its_futures(running):
    """The object of a method that is a task may hold futures; an object in another argument may not."""
    one = Method()
    one.earlier.append(one.name())
    assert one.name().result(timeout=LIMIT) == ("Method", None)
    with pytest.raises(TypeError, match=r"A future is inside a Method in argument 2 of name\(\)"):
        one.name(one)


def test_the_search_of_objects_has_limits(running):
    """The search ends three objects deep and after 10,000 values, so that the cost of a call stays small."""
    for value in (Slots(Slots(Slots(Slots(Future())))), Slots([*range(100_000), Future()])):
        assert same(value).result(timeout=LIMIT)[0] is value


def test_a_file_inside_a_list_is_refused(running):
    """An endpoint file inside a container, which is not staged, is refused at the call, also as a future."""
    moved = transfer_task("a", "b", "/x", "/x", executor="local")
    for value in ([File("chiltepin://a/x")], {"k": (moved.file,)}):
        with pytest.raises(TypeError, match=r"The file chiltepin://./x is inside a container in argument 1 of same"):
            same(value)
    assert moved.exception(timeout=LIMIT) is not None


LOOP = asyncio.new_event_loop()


@pytest.fixture(scope="module", autouse=True)
def _loop():
    yield
    LOOP.close()


def test_a_dependency_resolver_of_the_user_is_given_every_argument(config):
    """A dependency resolver in the Parsl Config is applied to every argument, even plain text."""
    resolver = DependencyResolver(
        traverse_to_gather=SHALLOW_DEPENDENCY_RESOLVER.traverse_to_gather,
        traverse_to_unwrap=lambda value: "found" if value == "name" else value,
    )
    with Workflow(config(dependency_resolver=resolver)):
        assert same("name").result(LIMIT)[0] == "found"
