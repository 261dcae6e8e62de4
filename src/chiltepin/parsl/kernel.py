"""The DataFlowKernel and the executors that a call uses."""

from __future__ import annotations

import contextlib
import sys
import weakref
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Literal

from chiltepin.errors import ConfigError, suggest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from parsl.dataflow.dflow import DataFlowKernel

__all__ = ["INTERNAL", "current", "entered", "running", "target"]

# A weak reference: the context of a thread may outlive the run that it once entered.
_CURRENT: ContextVar[weakref.ref[Any] | None] = ContextVar("chiltepin_current_kernel", default=None)

#: The label of the executor on which Parsl runs the functions of join apps.
INTERNAL = "_parsl_internal"


def running() -> DataFlowKernel | None:
    """Return the result of `current`, or None where that raises."""
    entry = _CURRENT.get()
    dfk = entry() if entry is not None else None
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

    It is that of the `chiltepin.Workflow` that was entered in this context, else the one that Parsl has loaded.
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
    """Make `dfk` the current DataFlowKernel of this context for the duration of a ``with`` block."""
    token = _CURRENT.set(weakref.ref(dfk))
    try:
        yield
    finally:
        # A block may exit in another context than it was entered in (a fixture, a coroutine), where nothing was set.
        with contextlib.suppress(ValueError):
            _CURRENT.reset(token)


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
