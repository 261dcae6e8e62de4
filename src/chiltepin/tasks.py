"""Functions that run as Parsl tasks: `python_task`, `bash_task`, `join_task`.

Each call of a decorated function returns a future. The call takes the function's own arguments, which may be or
contain futures at any depth, and

- ``executor``: a label of the settings, a list of labels, or ``"all"``;
- ``chiltepin_task_geometry``: the resources of an MPI task (``num_nodes``, ``num_ranks``, ``ranks_per_node``);
- Parsl's own keywords (``inputs``, ``outputs``, ``stdout``, ``stderr``, ``walltime``,
  ``parsl_resource_specification``), whether or not the function declares them. A keyword that it does not declare
  is passed to Parsl only: ``inputs=[future]`` then only makes the task wait for that future.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import threading
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

from parsl import bash_app, join_app, python_app
from parsl.app.futures import DataFuture
from parsl.dataflow.futures import AppFuture

from chiltepin.errors import suggest
from chiltepin.parsl import kernel
from chiltepin.parsl.app_keywords import check_geometry
from chiltepin.parsl.nested_futures import PLAIN, nested
from chiltepin.parsl.reading import ReadFuture
from chiltepin.parsl.shutdown import install_shutdown
from chiltepin.parsl.task_functions import (
    RESERVED,
    joinable,
    mangled,
    sendable,
    without_globals,
    without_hidden,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from concurrent.futures import Future

    from parsl.dataflow.dflow import DataFlowKernel

    from chiltepin.parsl.shutdown import Shutdown

    App = Callable[..., AppFuture]
    Decorator = Callable[[Callable[..., Any]], App]
    Kind = Literal["python", "bash", "join"]

__all__ = ["bash_task", "join_task", "python_task"]

T = TypeVar("T")

PARSL_KEYWORDS = ("inputs", "outputs", "stdout", "stderr", "walltime", "parsl_resource_specification")
TASK_KEYWORDS = ("executor", "chiltepin_task_geometry")

_ORDERED = frozenset({inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD})
_making_app = threading.Lock()


@overload
def python_task(function: Callable[..., Any]) -> App: ...
@overload
def python_task(
    *, cache: bool = ..., ignore_for_cache: Sequence[str] | None = ..., data_flow_kernel: DataFlowKernel | None = ...
) -> Decorator: ...
def python_task(
    function: Callable[..., Any] | None = None,
    *,
    cache: bool = False,
    ignore_for_cache: Sequence[str] | None = None,
    data_flow_kernel: DataFlowKernel | None = None,
) -> App | Decorator:
    """Make a function or method run on an executor; the result of its future is the return value.

    Parameters
    ----------
    function : callable
        The function; absent if the decorator is used with keywords.
    cache : bool
        Whether a call with the same arguments returns the earlier result.
    ignore_for_cache : sequence of str, optional
        Parameters to ignore in that comparison.
    data_flow_kernel : DataFlowKernel, optional
        The kernel for all calls; by default, the workflow that is running at the time of the call.

    Raises
    ------
    TypeError
        If the argument is not a function, is an async function, or has no known parameters, as some built-in types; or
        if a parameter has the name of a keyword of every task call.
    """
    return _decorator("python", function, cache, ignore_for_cache, data_flow_kernel)


@overload
def bash_task(function: Callable[..., str]) -> App: ...
@overload
def bash_task(
    *, cache: bool = ..., ignore_for_cache: Sequence[str] | None = ..., data_flow_kernel: DataFlowKernel | None = ...
) -> Decorator: ...
def bash_task(
    function: Callable[..., str] | None = None,
    *,
    cache: bool = False,
    ignore_for_cache: Sequence[str] | None = None,
    data_flow_kernel: DataFlowKernel | None = None,
) -> App | Decorator:
    """Make a function or method run the shell command that it returns; the result of its future is the exit code 0.

    Any other exit code raises Parsl's ``BashExitFailure``. Parameters and errors are those of `python_task`.
    """
    return _decorator("bash", function, cache, ignore_for_cache, data_flow_kernel)


@overload
def join_task(function: Callable[..., Future[Any] | list[Any]]) -> App: ...
@overload
def join_task(
    *, cache: bool = ..., ignore_for_cache: Sequence[str] | None = ..., data_flow_kernel: DataFlowKernel | None = ...
) -> Decorator: ...
def join_task(
    function: Callable[..., Future[Any] | list[Any]] | None = None,
    *,
    cache: bool = False,
    ignore_for_cache: Sequence[str] | None = None,
    data_flow_kernel: DataFlowKernel | None = None,
) -> App | Decorator:
    """Make a function or method start tasks and return their future, or a list of futures, for Parsl to wait for.

    The function runs in a thread of this process for any ``executor``; its task calls go to the same workflow.
    Parameters and errors are those of `python_task`.
    """
    return _decorator("join", function, cache, ignore_for_cache, data_flow_kernel)


def _decorator(
    kind: Kind,
    function: Callable[..., Any] | None,
    cache: bool,  # noqa: FBT001
    ignore_for_cache: Sequence[str] | None,
    data_flow_kernel: DataFlowKernel | None,
) -> App | Decorator:
    def decorate(plain: Callable[..., Any]) -> App:
        if isinstance(plain, (staticmethod, classmethod)):
            return type(plain)(decorate(plain.__func__))
        return _callable(_Task(kind, plain, cache, tuple(ignore_for_cache or ()), data_flow_kernel))

    return decorate if function is None else decorate(function)


def _callable(task: _Task) -> App:
    # A function, not an object with __call__, so that methods, staticmethod and help() work.
    def call(
        *args: Any,
        executor: str | list[str] | tuple[str, ...] = "all",
        chiltepin_task_geometry: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> AppFuture:
        return task.submit(args, kwargs, executor, chiltepin_task_geometry)

    return functools.wraps(task.function)(without_globals(call, task.function.__module__))


class _Task:
    """A decorated function: the checks of its calls, and its Parsl apps."""

    def __init__(
        self,
        kind: Kind,
        function: Callable[..., Any],
        cache: bool,  # noqa: FBT001
        ignore_for_cache: tuple[str, ...],
        data_flow_kernel: DataFlowKernel | None = None,
    ) -> None:
        if not callable(function) or not hasattr(function, "__name__"):
            raise TypeError(f"{kind}_task must decorate a function, not {function!r}; write a def for it.")
        if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
            raise TypeError(
                f"{kind}_task cannot run {function.__name__}(), which is an async function; write a def that calls "
                "asyncio.run()."
            )
        self.kind, self.function, self.cache, self.ignored = kind, function, cache, ignore_for_cache
        self.data_flow_kernel = data_flow_kernel
        self.name: str = function.__name__
        self.signature = _signature(kind, function)
        # Read at every call; the properties of inspect.Parameter are slower.
        self.parameters = {name: parameter.kind for name, parameter in self.signature.parameters.items()}
        self.rest = next(
            (name for name, kind in self.parameters.items() if kind is inspect.Parameter.VAR_POSITIONAL), None
        )
        self.open = inspect.Parameter.VAR_KEYWORD in self.parameters.values()
        #: Parsl keywords that the function does not declare and does not receive.
        self.hidden = frozenset() if self.open else frozenset(PARSL_KEYWORDS) - self.parameters.keys()
        #: Whether the first argument is the object of a method: its own futures are not data of the task.
        self.method = next(iter(self.parameters), "") == "self"
        self.by_name = frozenset({*PARSL_KEYWORDS, *self.ignored})
        #: The names under which Parsl receives them.
        self.ignored_names = tuple(mangled(dict.fromkeys(self.ignored)))
        #: Whether Parsl may take all arguments by position.
        self.ordered = self.by_name.isdisjoint(self.parameters) and _ORDERED.issuperset(self.parameters.values())
        self._check_names()

    def __reduce__(self) -> tuple[Any, ...]:
        # A class of __main__ is pickled with its methods, including tasks; a kernel cannot be pickled.
        return _Task, (self.kind, self.function, self.cache, self.ignored)

    def _check_names(self) -> None:
        for name in TASK_KEYWORDS:
            if name in self.parameters:
                raise TypeError(f"{self.name}() has a parameter {name!r}, which is reserved for task calls; rename it.")
        for name in self.ignored:
            if not self.open and name not in self.parameters and name not in PARSL_KEYWORDS:
                raise TypeError(
                    f"ignore_for_cache of {self.name}() names {name!r}, which is not one of its parameters; "
                    + suggest(name, self.parameters)
                )

    def submit(
        self,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        executor: str | list[str] | tuple[str, ...],
        geometry: Mapping[str, Any] | None,
    ) -> AppFuture:
        """Check the call and submit it to Parsl."""
        positional, named = self._arguments(args, kwargs)
        self._add_resources(named, geometry)
        dfk, labels = kernel.target(self.data_flow_kernel, executor)
        ignored = tuple(name for name in self.ignored_names if name in named)
        return _with_callback_threads(self._app(install_shutdown(dfk), labels, ignored)(*positional, **named))

    def _arguments(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        """Return the arguments for Parsl: by position if possible, by name if Parsl requires the name."""
        if self.ordered and not kwargs and len(args) == len(self.parameters):
            return [self._nested(number, value) for number, value in enumerate(args, start=1)], {}
        bound = self._bind(args, {name: value for name, value in kwargs.items() if name not in self.hidden})
        bound.apply_defaults()
        rest = self.rest is not None and bound.arguments[self.rest]
        positional: list[Any] = []
        named = {name: value for name, value in kwargs.items() if name in self.hidden}
        after_named = False
        for name, value in bound.arguments.items():
            kind = self.parameters[name]
            if kind is inspect.Parameter.VAR_POSITIONAL:
                positional.extend(value)
            elif kind is inspect.Parameter.VAR_KEYWORD:
                named.update(value)
            elif kind is inspect.Parameter.KEYWORD_ONLY:
                named[name] = value
            elif kind is inspect.Parameter.POSITIONAL_OR_KEYWORD and not rest and (after_named or name in self.by_name):
                named[name] = value
                after_named = True
            else:
                positional.append(value)
        _copy_file_lists(named)
        for name, value in named.items():
            if name == "inputs":
                named[name] = [self._nested(name, one, only_waited_for=True) for one in value]
            elif name not in PARSL_KEYWORDS:
                named[name] = self._nested(name, value)
        positional = [self._nested(number, value) for number, value in enumerate(positional, start=1)]
        return positional, named if RESERVED.isdisjoint(named) else mangled(named)

    def _nested(self, argument: str | int, value: Any, *, only_waited_for: bool = False) -> Any:
        if type(value) in PLAIN:
            return value
        # A join task passes files to the tasks that it calls; no file is staged for the join task itself.
        what = f"argument {argument} of {self.name}()"
        objects = not (self.method and argument == 1)
        return nested(what, value, moved=self.kind != "join", only_waited_for=only_waited_for, objects=objects)

    def _bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> inspect.BoundArguments:
        unknown = [name for name in kwargs if name not in self.parameters and not self.open]
        if unknown:
            known = suggest(unknown[0], {*self.parameters, *PARSL_KEYWORDS, *TASK_KEYWORDS})
            raise TypeError(f"{self.name}() has no parameter {unknown[0]!r}; {known}")
        try:
            return self.signature.bind(*args, **kwargs)
        except TypeError as error:
            reason = str(error)
        raise TypeError(
            f"{self.name}() cannot be called like this: {reason}. Its signature is {self.name}{self.signature}."
        )

    def _add_resources(self, named: dict[str, Any], geometry: Mapping[str, Any] | None) -> None:
        if geometry is not None:
            check_geometry(geometry)
        resources = {**(named.get("parsl_resource_specification") or {}), **(geometry or {})}
        if resources and self.kind == "join":
            raise TypeError(
                f"The join task {self.name}() runs in this process and takes no resources; "
                "give chiltepin_task_geometry to the tasks that it calls."
            )
        if resources or "parsl_resource_specification" in named:
            named["parsl_resource_specification"] = resources

    def _app(self, run: Shutdown, labels: list[str] | Literal["all"], ignored: tuple[str, ...]) -> App:
        """Return the app for these executors; it is made once, because making and sending one is slow."""
        key = (labels if labels == "all" else tuple(labels), ignored)
        with _making_app:
            apps: dict[Any, App] = run.apps.setdefault(self, {})
            if key not in apps:
                apps[key] = self._make_app(run.dfk, labels, ignored)
            return apps[key]

    def _make_app(self, dfk: DataFlowKernel, labels: list[str] | Literal["all"], ignored: tuple[str, ...]) -> App:
        options: dict[str, Any] = {"data_flow_kernel": dfk, "cache": self.cache, "ignore_for_cache": ignored}
        if self.kind == "join":
            app = join_app(joinable(without_hidden(self.function, self.hidden)), **options)
        else:
            app = self._worker_app(executors=labels, **options)
        return app  # type: ignore[no-any-return]

    def _worker_app(self, **options: Any) -> Any:
        if self.kind == "python":
            return python_app(sendable(self.function, self.hidden), **options)
        app = bash_app(without_hidden(self.function, self.hidden), **options)
        # The function only returns the command; running the command may fail, too.
        app.wrapped_remote_function = sendable(app.wrapped_remote_function)
        return app


def _signature(kind: Kind, function: Callable[..., Any]) -> inspect.Signature:
    with contextlib.suppress(ValueError):
        return inspect.signature(function)
    raise TypeError(
        f"{kind}_task cannot find out the parameters of {function!r}; write a def that calls it, and decorate that."
    )


class _TaskFuture(ReadFuture[Any], AppFuture):  # type: ignore[misc] # parsl has no types
    """The future of a task; its callbacks do not block threads of Parsl."""

    def cancel(self) -> bool:
        """Return False: Parsl cannot cancel a task. Its own method raises, even in callbacks of asyncio."""
        return False


class _OutputFuture(ReadFuture[Any], DataFuture):  # type: ignore[misc] # parsl has no types
    """The future of a file that a task makes."""

    def cancel(self) -> bool:
        """Return False, as `_TaskFuture.cancel`."""
        return False


def _with_callback_threads(future: AppFuture) -> AppFuture:
    """Run the callbacks of a future on separate threads; Parsl has no option for the class of its futures."""
    _TaskFuture.adopt(future)
    for output in future.outputs:
        if type(output) is DataFuture:
            _OutputFuture.adopt(output)
    return future


def _copy_file_lists(named: dict[str, Any]) -> None:
    # Parsl modifies these lists.
    for name in ("inputs", "outputs"):
        if named.get(name, ()) is None:
            del named[name]
        elif name in named and not isinstance(named[name], (list, tuple)):
            raise TypeError(f"{name} must be a list, not {named[name]!r}; type {name}=[...].")
        elif name in named:
            named[name] = list(named[name])
