"""The running Parsl: which DataFlowKernel a call goes to, what its executors are called, and that its run ends."""

from __future__ import annotations

import contextlib
import weakref
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Literal

import parsl
from parsl.errors import NoDataFlowKernelError

from chiltepin.errors import ConfigError, suggest
from chiltepin.parsl import abandoned_runs as _last  # noqa: F401 - registers what ends the runs that a script leaves
from chiltepin.parsl.drain import drain as _drain
from chiltepin.parsl.shutdown import ending_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from parsl.dataflow.dflow import DataFlowKernel
    from parsl.dataflow.taskrecord import TaskRecord

    from chiltepin.errors import TaskCanceledError

__all__ = ["attend", "current", "drain", "entered", "executors", "failed", "give_up", "name", "on_end"]

# A weak reference: the context of a thread may outlive the run that it once entered.
_CURRENT: ContextVar[weakref.ref[Any] | None] = ContextVar("chiltepin_current_kernel", default=None)
_INTERNAL = "_parsl_internal"


def current() -> DataFlowKernel:
    """Return the DataFlowKernel that a call made here and now goes to.

    Returns
    -------
    DataFlowKernel
        That of the `chiltepin.Workflow` which was entered in this context, else the one that Parsl has loaded.

    Raises
    ------
    ConfigError
        If there is neither.
    """
    entry = _CURRENT.get()
    dfk = entry() if entry is not None else None
    if dfk is not None and not dfk.cleanup_called:
        return dfk
    with contextlib.suppress(NoDataFlowKernelError):
        return parsl.dfk()
    raise ConfigError(
        "No workflow is running; make the call inside `with chiltepin.Workflow('chiltepin.yaml'):` "
        "or inside `with parsl.load(chiltepin.configure.load('chiltepin.yaml')):`."
    )


def name() -> str:
    """Return the name of the run that a call made here and now goes to; empty if there is none."""
    try:
        return str(current().run_id)
    except ConfigError:
        return ""


@contextlib.contextmanager
def entered(dfk: DataFlowKernel) -> Iterator[None]:
    """Make `dfk` the current DataFlowKernel of this context, for the time of a ``with`` block."""
    token = _CURRENT.set(weakref.ref(dfk))
    try:
        yield
    finally:
        # A block that is left in another context than it was entered in (a fixture, a coroutine) has set nothing there.
        with contextlib.suppress(ValueError):
            _CURRENT.reset(token)


def executors(dfk: DataFlowKernel, executor: str | list[str] | tuple[str, ...]) -> list[str] | Literal["all"]:
    """Check the ``executor`` argument of a call.

    Parameters
    ----------
    dfk : DataFlowKernel
        Where the call goes.
    executor : str, or list or tuple of str
        One label, several, or ``"all"``.

    Returns
    -------
    list of str, or "all"
        As Parsl wants it; each label once.

    Raises
    ------
    TypeError
        If it is neither text nor a list of text.
    ConfigError
        If it is empty, or names an executor that `dfk` does not have.
    """
    if executor == "all":
        return "all"
    labels = [executor] if isinstance(executor, str) else executor
    if not isinstance(labels, (list, tuple)) or not all(isinstance(label, str) for label in labels):
        raise TypeError(f"executor must be a label, a list of labels or 'all', not {executor!r}.")
    known = [label for label in dfk.executors if label != _INTERNAL]
    if not labels:
        raise ConfigError(f"executor is empty; name at least one, or type executor='all'; {suggest('', known)}")
    for label in labels:
        if label not in known:
            raise ConfigError(f"No executor is named {label!r}; {suggest(label, known)}", key=label)
    return list(dict.fromkeys(labels))


def attend(dfk: DataFlowKernel) -> None:
    """See to it that the run of `dfk` ends in order; every later call for the same one does nothing.

    From then on ``dfk.cleanup()``, however it is reached, first ends every task that is not done, and with it every
    task that depends on it, each with an error that says so. Tasks that run in a thread are waited for, since nothing
    can stop them; tasks elsewhere are ended at once, and the executor that holds them stops their processes.

    Raises
    ------
    ConfigError
        In a child made by ``fork``, for a run of its parent.
    """
    if ending_of(dfk).forked:
        raise ConfigError(
            "This process was forked from one that runs a workflow, and that workflow runs there only; use transfer() "
            "and delete() here, or start a Workflow in this process."
        )


def on_end(dfk: DataFlowKernel, callback: Callable[[str], object]) -> Callable[[], object]:
    """Have `callback` called when the run of `dfk` ends, before any of its tasks is ended.

    Parameters
    ----------
    dfk : DataFlowKernel
        The run; it is attended from now on.
    callback : callable
        Gets the reason, a clause such as ``the workflow was left by ValueError``. It is called in the thread that ends
        the run, or here and now if the end has begun already; it must not block. What it raises is logged.

    Returns
    -------
    callable
        Takes the callback back; may be called from any thread, and more than once.
    """
    return ending_of(dfk).add(callback)


def give_up(dfk: DataFlowKernel, record: TaskRecord, error: TaskCanceledError, *, far: bool = False) -> None:
    """End a task that its executor has and has not begun; whoever waits for it gets `error`, and nobody tries it again.

    Parameters
    ----------
    dfk : DataFlowKernel
        The run.
    record : TaskRecord
        The task. One that a thread runs goes on, and ends by itself; one that is pending is left alone.
    error : TaskCanceledError
        How it ends.
    far : bool
        Whether a task of another process ends as well: nobody here knows whether it has begun.
    """
    ending_of(dfk).give_up(record, error, far=far)


def drain(dfk: DataFlowKernel) -> None:
    """Wait until `dfk` has no unfinished task, those that its tasks and callbacks start meanwhile included.

    In a child made by ``fork`` there is nothing to wait for: the run is that of the parent.
    """
    _drain([ending_of(dfk)])


def failed(dfk: DataFlowKernel, text: str) -> Callable[[], None]:
    """Note a failure that the end of the run of `dfk` names, unless it is taken back by what this returns."""
    return ending_of(dfk).unread.add(text)
