"""Guard Parsl's steps for each task, so that every task ends, whatever a step raises.

Between the launch of a task and the end of its future Parsl runs foreign code: it pickles arguments, unpickles results,
takes the ``repr`` of exceptions, calls a retry handler, writes a checkpoint and reports to its monitoring. Some of
these steps handle an `Exception`, the rest handle nothing; an unexpected exception is logged, and the future stays
pending (docs/decisions/task-results.md).
"""

from __future__ import annotations

import functools
import logging
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from parsl.dataflow.dependency_resolvers import (
    DEEP_DEPENDENCY_RESOLVER,
    SHALLOW_DEPENDENCY_RESOLVER,
    DependencyResolver,
)
from parsl.dataflow.errors import PropagatedException
from parsl.dataflow.states import States
from parsl.executors.threads import ThreadPoolExecutor as ParslThreads
from parsl.serialize import serialize

from chiltepin.errors import AppFailedError
from chiltepin.parsl.caching import uncacheable, writes_files
from chiltepin.parsl.dependency_errors import explained
from chiltepin.parsl.htex import guard_executors
from chiltepin.parsl.kernel import INTERNAL, run_in
from chiltepin.parsl.nested_futures import PLAIN, Nested
from chiltepin.parsl.serialization import RemoteResult, describe_failure, headline, type_name, unusable_because
from chiltepin.parsl.task_records import runs_in_thread, waits_for_itself
from chiltepin.transfers import worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from concurrent.futures import Future

    from parsl.dataflow.dflow import DataFlowKernel
    from parsl.dataflow.taskrecord import TaskRecord
    from parsl.executors.base import ParslExecutor

__all__ = ["follow_launches", "install_guards"]

logger = logging.getLogger(__name__)

#: Methods called with a task's record; each is one complete step of a Parsl thread.
_STEPS = ("_launch_if_ready_async", "handle_exec_update", "handle_join_update")
#: Methods that Parsl calls before a future ends, but that need not succeed for it.
_TIDYING = ("_send_task_info", "_log_std_streams")
_PARSL_RESOLVERS = (SHALLOW_DEPENDENCY_RESOLVER, DEEP_DEPENDENCY_RESOLVER)
#: Maximum length of a chain of errors that cause each other.
_LONGEST_CHAIN = 20


def install_guards(dfk: DataFlowKernel) -> None:
    """Guard the steps of all tasks of a run."""
    for name in _STEPS:
        setattr(dfk, name, _ends_task(dfk, getattr(dfk, name)))
    # Without monitoring nothing is sent, but Parsl calls the method six times for each task.
    for name in _TIDYING if dfk.monitoring_radio else _TIDYING[1:]:
        setattr(dfk, name, _logs_errors(getattr(dfk, name)))
    for name in ("update_memo_result", "update_memo_exception"):
        setattr(dfk.memoizer, name, _logs_errors(getattr(dfk.memoizer, name)))
    dfk.dependency_resolver = _extended(dfk.dependency_resolver)
    dfk.launch_task = _explained(dfk.launch_task)
    dfk._complete_task_exception = _with_reason(dfk._complete_task_exception)  # noqa: SLF001
    dfk._unwrap_remote_exception_wrapper = _opened(dfk._unwrap_remote_exception_wrapper)  # noqa: SLF001
    _enter_kernel(dfk, dfk.executors.values())
    _start_apart(dfk.executors[INTERNAL])
    guard_executors(dfk.executors.values())
    dfk.add_executors = _guarded(dfk, dfk.add_executors)


def _enter_kernel(dfk: DataFlowKernel, executors: Iterable[ParslExecutor]) -> None:
    """Run tasks in threads such that the tasks and transfers that they call belong to the same run."""
    for executor in executors:
        if isinstance(executor, ParslThreads):
            # Not the executor's own `submit`: an executor of the user may look at the function.
            executor.executor.submit = functools.partial(executor.executor.submit, run_in, weakref.ref(dfk))


def _start_apart(executor: ParslExecutor) -> None:
    """Start transfers in separate threads, because users' join tasks that wait for them may occupy all others."""
    submit, shutdown = executor.submit, executor.shutdown
    apart = ThreadPoolExecutor(executor.max_threads, thread_name_prefix="chiltepin-start")

    def submit_apart(function: Callable[..., Any], resources: Any, *args: Any, **kwargs: Any) -> Future[Any]:
        starts = getattr(function, "__module__", None) == worker.__name__
        return apart.submit(function, *args, **kwargs) if starts else submit(function, resources, *args, **kwargs)

    def shutdown_both(block: bool = True) -> None:  # noqa: FBT001, FBT002 - as Parsl's method
        apart.shutdown(wait=block)
        shutdown(block)

    executor.submit, executor.shutdown = submit_apart, shutdown_both


def follow_launches(dfk: DataFlowKernel) -> tuple[dict[int, Callable[[], None]], dict[int, int]]:
    """Return two dictionaries by task id: callbacks, and threads.

    Each callback is called once its task has been launched. The threads are those that are launching a task now.
    """
    due: dict[int, Callable[[], None]] = {}
    launching: dict[int, int] = {}
    launch = dfk._launch_if_ready_async  # noqa: SLF001

    @functools.wraps(launch)
    def launch_if_ready(record: TaskRecord) -> None:
        launching[record["id"]] = threading.get_ident()
        try:
            launch(record)
        finally:
            launching.pop(record["id"], None)
        if operation := due.pop(record["id"], None):
            operation()

    dfk._launch_if_ready_async = launch_if_ready  # noqa: SLF001
    return due, launching


def _ends_task(dfk: DataFlowKernel, step: Callable[..., None]) -> Callable[..., None]:
    """Return a step that ends its task if it fails."""

    @functools.wraps(step)
    def take(record: TaskRecord, *rest: Any) -> None:
        try:
            step(record, *rest)
            if record["status"] is States.joining:
                # The result of its function has been read; a workflow may have 100,000 service tasks in flight.
                record["exec_fu"] = None
                _refuse_cycle(dfk, record)
        except BaseException as error:
            _fail(dfk, record, error)
            # Ctrl-C while the shutdown of the workflow runs this step.
            if isinstance(error, KeyboardInterrupt) and threading.current_thread() is threading.main_thread():
                raise

    return take


def _refuse_cycle(dfk: DataFlowKernel, record: TaskRecord) -> None:
    """End a join task that has returned a future that cannot end before the join task itself."""
    if waits_for_itself(record):
        reason = (
            f"The join task {record['func_name']!r} returned its own future, or a future that waits for it, and would "
            "never end; return only futures of tasks that do not need its result."
        )
        dfk._complete_task_exception(record, States.failed, AppFailedError(reason))  # noqa: SLF001


def _with_reason(end: Callable[..., None]) -> Callable[..., None]:
    """Return a function that ends a task with an error that includes the reason in its text."""

    @functools.wraps(end)
    def end_task(record: TaskRecord, state: States, error: BaseException) -> None:
        end(record, state, explained(error))

    return end_task


def _fail(dfk: DataFlowKernel, record: TaskRecord, error: BaseException) -> None:
    future = record["app_fu"]
    if future.done():
        logger.error("%r was raised after the end of task %s; its future is not changed.", type(error), record["id"])
        return
    flaw = unusable_because(error) or "Parsl could not finish the task"
    failure = AppFailedError(describe_failure(record["func_name"], error, flaw))
    with suppress(Exception):
        dfk._complete_task_exception(record, States.failed, failure)  # noqa: SLF001
    # The last line of Parsl's method, in case an earlier line failed.
    with suppress(Exception):
        future.set_exception(failure)


def _guarded(
    dfk: DataFlowKernel, add: Callable[[Sequence[ParslExecutor]], None]
) -> Callable[[Sequence[ParslExecutor]], None]:
    """Return a function that adds executors and guards them."""

    @functools.wraps(add)
    def add_executors(executors: Sequence[ParslExecutor]) -> None:
        add(executors)
        _enter_kernel(dfk, executors)
        guard_executors(executors)

    return add_executors


def _logs_errors(tidy: Callable[..., None]) -> Callable[..., None]:

    @functools.wraps(tidy)
    def attempt(record: TaskRecord, *rest: Any) -> None:
        try:
            tidy(record, *rest)
        except Exception:
            logger.exception("%s failed for task %s; the task itself is not affected.", tidy.__name__, record["id"])

    return attempt


def _opened(unwrap: Callable[[Future[Any]], Any]) -> Callable[[Future[Any]], Any]:
    """Return a function that returns the result of a task, or raises an exception that Parsl can handle."""

    def result_of(future: Future[Any]) -> Any:
        try:
            result = unwrap(future)
            return result.open() if isinstance(result, RemoteResult) else result
        except BaseException as error:  # noqa: BLE001 - also SystemExit
            failure = error
        raise _handled("", failure)

    return result_of


def _extended(resolver: DependencyResolver) -> DependencyResolver:
    """Return a resolver that supports `Nested`, and raises only exceptions that Parsl can handle."""
    # With Parsl's own resolvers, dispatching on the type of one plain argument costs 1% of an empty task.
    plain = PLAIN if resolver in _PARSL_RESOLVERS else frozenset()

    def gather(value: object) -> Any:
        if type(value) in plain:
            return ()
        return value.futures if isinstance(value, Nested) else resolver.traverse_to_gather(value)

    def unwrap(value: object) -> Any:
        if type(value) in plain:
            return value
        try:
            return value.resolved(unwrap) if isinstance(value, Nested) else resolver.traverse_to_unwrap(value)
        except BaseException as error:  # noqa: BLE001 - a user's future may have failed with any exception
            failure = error
        raise _handled("", _shortened(failure))

    return DependencyResolver(traverse_to_gather=gather, traverse_to_unwrap=unwrap)


def _shortened(failure: BaseException) -> BaseException:
    """Return an error, or one that refers directly to the first cause if the chain of failed tasks is too long.

    Parsl keeps the ``repr`` of each DependencyError, which contains the previous one, and so on. From about 250
    errors on, this raises a RecursionError in a callback, and that task and all dependent tasks stay pending.
    """
    error = failure
    for _ in range(_LONGEST_CHAIN):
        if not isinstance(error, PropagatedException):
            return failure
        error, name = error.dependent_exceptions_tids[0]
    while isinstance(error, PropagatedException):
        error, name = error.dependent_exceptions_tids[0]
    return type(failure)([(error, f"... <- {name}")], failure.task_id)  # type: ignore[attr-defined]


def _handled(app: str, failure: BaseException) -> Exception:
    flaw = unusable_because(failure)
    return AppFailedError(describe_failure(app, failure, flaw)) if flaw else failure  # type: ignore[return-value]


def _explained(launch: Callable[[TaskRecord], Future[Any]]) -> Callable[..., Future[Any]]:
    """Return a function that launches a task, or raises an exception that names the faulty argument."""

    def launch_task(record: TaskRecord) -> Future[Any]:
        record["memoize"] = record["memoize"] and not writes_files(record)
        try:
            return launch(record)
        except BaseException as error:  # noqa: BLE001 - also SystemExit
            failure = error
        if argument := uncacheable(record) or _unsendable(record):
            raise argument
        raise _handled(record["func_name"], failure)

    return launch_task


def _unsendable(record: TaskRecord) -> AppFailedError | None:
    """Return an error that names an argument that cannot be sent to a worker; None if there is none."""
    if record["executor"] not in record["dfk"].executors or runs_in_thread(record):
        return None
    positional = {str(number): value for number, value in enumerate(record["args"], start=1)}
    for name, value in {**positional, **record["kwargs"]}.items():
        try:
            serialize(value, buffer_threshold=1 << 62)
        except BaseException as error:  # noqa: BLE001, PERF203 - pickling runs user code
            return AppFailedError(
                f"Argument {name} of app {record['func_name']!r}, of type {type_name(type(value))}, cannot be sent to "
                f"a worker ({headline(error)}); give plain data, or the name of a file."
            )
    return None
