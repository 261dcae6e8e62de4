"""Wrap the function of a task for the place where it runs: a worker, which may have only Parsl, or this process."""

from __future__ import annotations

import types
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, TypeVar

from parsl.app.futures import DataFuture
from parsl.dataflow.futures import AppFuture

from chiltepin.errors import TaskCanceledError
from chiltepin.parsl import serialization
from chiltepin.parsl.proxy_future import ProxyFuture

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

__all__ = ["joinable", "mangled", "sendable", "without_globals", "without_hidden"]

T = TypeVar("T")

# Parameter names of the functions through which Parsl and its executors pass a task's arguments: keyword arguments with
# these names would clash.
RESERVED = frozenset({"self", "func", "fn", "resource_specification"})
_MANGLED = "chiltepin:"


def mangled(named: Mapping[str, T]) -> dict[str, T]:
    """Return arguments, renamed if Parsl's own functions have a parameter of the same name."""
    return {_MANGLED + name if name in RESERVED else name: value for name, value in named.items()}


def without_hidden(function: Callable[..., T], hidden: Iterable[str]) -> Callable[..., T]:
    """Return `function` as a task runs it: only with the arguments that it declares, under their original names."""
    prefix = _MANGLED

    def run(*args: Any, **kwargs: Any) -> T:
        own = {name.removeprefix(prefix): value for name, value in kwargs.items() if name not in hidden}
        return function(*args, **own)

    return _named_like(function, without_globals(run, function.__module__))


def sendable(function: Callable[..., Any], hidden: Iterable[str] | None = None) -> Callable[..., Any]:
    """Return `function` as an executor runs it: Parsl can send whatever it returns or raises.

    With ``hidden``, it receives its arguments as from `without_hidden`.
    """
    name, home, prefix = function.__name__, serialization.PROCESS_TOKEN, _MANGLED

    def run(*args: Any, **kwargs: Any) -> Any:
        if hidden is not None:
            kwargs = {name.removeprefix(prefix): value for name, value in kwargs.items() if name not in hidden}
        try:
            # Imported in the worker. With "from", importlib would run a Python function at each call.
            import chiltepin.parsl.serialization as in_worker  # noqa: PLC0415
        except ImportError:
            # A worker needs only Parsl.
            return function(*args, **kwargs)
        return in_worker.run(name, home, function, args, kwargs)

    return _named_like(function, without_globals(run, function.__module__))


def joinable(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function of a join task such that Parsl can wait for what it returns."""

    def run(*args: Any, **kwargs: Any) -> Any:
        started = serialization.run(function.__name__, serialization.PROCESS_TOKEN, function, args, kwargs)
        return [_safe_to_join(one) for one in started] if isinstance(started, list) else _safe_to_join(started)

    return _named_like(function, run)


def _safe_to_join(future: Any) -> Any:
    """Return a future that fails if `future` is canceled: Parsl would wait forever for a canceled future."""
    # A running future cannot be canceled.
    if not isinstance(future, Future) or isinstance(future, (AppFuture, DataFuture)) or future.running():
        return future
    proxy = ProxyFuture()
    proxy.follow(future, TaskCanceledError("A future that the join task returned was canceled."))
    return proxy


def without_globals(function: Callable[..., T], module: str) -> Callable[..., T]:
    """Return `function` as if it were defined in `module`, and without globals."""
    # A closure defined in another module would send all globals of this module to the worker, used or not.
    bare = types.FunctionType(function.__code__, {"__name__": module}, None, None, function.__closure__)
    bare.__kwdefaults__ = function.__kwdefaults__
    return bare


def _named_like(function: Callable[..., T], run: Callable[..., T]) -> Callable[..., T]:
    # Not functools.wraps: through __wrapped__ Parsl would find defaults that _arguments has already filled in.
    for name in ("__module__", "__name__", "__qualname__", "__doc__"):
        setattr(run, name, getattr(function, name, None))
    return run
