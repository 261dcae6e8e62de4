"""The DataFlowKernel and the executors that a call uses."""

from __future__ import annotations

import contextlib
import sys
import weakref
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from chiltepin.errors import ConfigError, suggest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from parsl.dataflow.dflow import DataFlowKernel

__all__ = ["INTERNAL", "current", "entered", "run_in", "running", "target"]

T = TypeVar("T")

# The kernels that this context has entered, the innermost last. Weak references: the context of a thread may outlive
# the runs that it once entered.
_ENTERED: ContextVar[tuple[weakref.ref[Any], ...]] = ContextVar("chiltepin_entered_kernels", default=())

#: The label of the executor on which Parsl runs the functions of join apps.
INTERNAL = "_parsl_internal"


def running() -> DataFlowKernel | None:
    """Return the result of `current`, or None where that raises."""
    for entry in reversed(_ENTERED.get()):
        dfk = entry()
        if dfk is not None and not dfk.cleanup_called:
            return dfk
    if "parsl" not in sys.modules:
        # A workflow cannot run without Parsl, and loading Parsl takes almost a second.
        return None
    import parsl  # noqa: PLC0415
    from parsl.errors import NoDataFlowKernelError  # noqa: PLC0415

    with contextlib.suppress(NoDataFlowKernelError):
        return parsl.dfk()
    return None


def current() -> DataFlowKernel:
    """Return the DataFlowKernel for a call in the current context; raise a ConfigError if there is none.

    It is that of the innermost running `chiltepin.Workflow` that was entered in this context, else the one that Parsl
    has loaded.
    """
    dfk = running()
    if dfk is not None:
        return dfk
    raise ConfigError(
        "No workflow is running; make the call inside `with chiltepin.Workflow('chiltepin.yaml'):` "
        "or inside `with parsl.load(chiltepin.configure.load('chiltepin.yaml')):`."
    )


@contextlib.contextmanager
def entered(dfk: DataFlowKernel) -> Iterator[None]:
    """Make `dfk` the current DataFlowKernel of this context for the duration of a ``with`` block.

    Blocks may exit in any order: each removes only its own entry.
    """
    entry = weakref.ref(dfk)
    _ENTERED.set((*_ENTERED.get(), entry))
    try:
        yield
    finally:
        # A block may exit in another context than it was entered in (a fixture, a coroutine), where nothing was set.
        entries = list(_ENTERED.get())
        if entry in entries:
            del entries[len(entries) - 1 - entries[::-1].index(entry)]
            _ENTERED.set(tuple(entries))


def run_in(entry: weakref.ref[Any], function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
    """Call a function with the DataFlowKernel of a weak reference as the current one; faster than `entered`."""
    token = _ENTERED.set((*_ENTERED.get(), entry))
    try:
        return function(*args, **kwargs)
    finally:
        _ENTERED.reset(token)


def target(
    given: DataFlowKernel | None, executor: str | list[str] | tuple[str, ...]
) -> tuple[DataFlowKernel, list[str] | Literal["all"]]:
    """Return the kernel of a call, by default the `current` one, and its executors, each label once.

    Raises
    ------
    TypeError
        If ``executor`` is neither text nor a list of text.
    ConfigError
        If no kernel is loaded, or if ``executor`` is empty or names an unknown executor.
    """
    dfk = given if given is not None else current()
    if executor == "all":
        return dfk, "all"
    labels = [executor] if isinstance(executor, str) else executor
    if not isinstance(labels, (list, tuple)) or not all(isinstance(label, str) for label in labels):
        raise TypeError(f"executor must be a label, a list of labels or 'all', not {executor!r}.")
    known = [label for label in dfk.executors if label != INTERNAL]
    if not labels:
        raise ConfigError(f"executor is empty; name at least one, or write executor='all'; {suggest('', known)}")
    for label in labels:
        if label not in known:
            raise ConfigError(f"No executor is named {label!r}; {suggest(label, known)}", key=label)
    return dfk, list(dict.fromkeys(labels))
