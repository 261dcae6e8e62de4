"""Futures inside the arguments of a call: in lists, tuples, dicts and sets, at any depth.

Parsl looks for futures only among the arguments and in ``inputs``. It neither waits for a deeper future nor replaces it
by its result: a task would run before its data exists.
"""

from __future__ import annotations

import dataclasses
from collections import OrderedDict, defaultdict, deque
from collections.abc import ItemsView, Iterator, KeysView, ValuesView
from concurrent.futures import Future
from types import CoroutineType
from typing import TYPE_CHECKING, Any

from parsl.app.futures import DataFuture
from parsl.data_provider.files import File

from chiltepin.model import DeleteRequest, TransferRequest
from chiltepin.transfers.worker import AppPayload

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["PLAIN", "SCHEME", "SCHEMES", "Nested", "futures_in", "nested"]

#: Types that contain no future, and are not searched.
PLAIN = frozenset(
    {type(None), bool, int, float, complex, str, bytes, bytearray, AppPayload, TransferRequest, DeleteRequest}
)
#: Containers that can be rebuilt with other elements.
_SEQUENCES = (list, tuple, set, frozenset, deque)
_MAPPINGS = (dict, OrderedDict, defaultdict)
#: URL scheme of a file on an endpoint.
SCHEME = "chiltepin"
#: ``globus`` is the scheme of Parsl's Globus staging, where the endpoint is the UUID of a collection.
SCHEMES = frozenset({SCHEME, "globus"})
#: Types that can be iterated only once, or that are views of a dict that may change.
_STREAMS = (Iterator, KeysView, ValuesView, ItemsView)


class Nested:
    """An argument with futures inside, which `chiltepin.parsl.task_guards` waits for and replaces by their results."""

    def __init__(self, value: Any, futures: list[Future[Any]]) -> None:
        self.value, self.futures = value, futures

    def resolved(self, result_of: Callable[[Any], Any]) -> Any:
        """Return the argument with each future replaced by its result; raise the first failure."""
        return _rebuilt(self.value, result_of, ())

    def __repr__(self) -> str:
        return f"<{type(self.value).__name__} with {len(self.futures)} futures>"


def nested(what: str, value: Any, *, moved: bool, only_waited_for: bool = False) -> Any:
    """Return an argument for Parsl: unchanged or, if there are futures inside, as a `Nested`.

    Parameters
    ----------
    what : str
        The argument, for messages: ``argument 'files' of f()``.
    value : Any
        The argument. A future that cannot be waited for raises a TypeError.
    moved : bool
        Whether a ``File`` of an endpoint has to be staged; files inside a container are not.
    only_waited_for : bool
        Whether it is one of ``inputs``, where a generator is a mistake.
    """
    if isinstance(value, Future):
        return value
    futures = futures_in(what, value, moved=moved, only_waited_for=only_waited_for)
    if not futures:
        return value
    try:
        # Fail here rather than in a thread of Parsl.
        _rebuilt(value, lambda future: future, ())
    except RecursionError:
        raise TypeError(
            f"{what} is nested too deeply to wait for the futures in it; give them in a flat list."
        ) from None
    return Nested(value, futures)


def futures_in(what: str, value: Any, *, moved: bool = False, only_waited_for: bool = False) -> list[Future[Any]]:
    """Return the futures in an argument, itself included; arguments and errors are those of `nested`."""
    found: list[Future[Any]] = []
    seen: set[int] = set()
    #: Each value with the name of an enclosing type that cannot be rebuilt, if there is one.
    waiting: list[tuple[Any, str]] = [(value, "")]
    while waiting:
        one, holder = waiting.pop()
        kind = type(one)
        if kind in PLAIN or (kind is tuple and not one):
            continue
        if isinstance(one, Future):
            if holder:
                raise TypeError(
                    f"A future is inside a {holder} in {what}, where it is not waited for; "
                    "put it into a list, tuple, dict or set, or give its result."
                )
            if one is not value:
                _refuse_file(what, getattr(one, "file_obj", None) if isinstance(one, DataFuture) else None, moved=moved)
            found.append(one)
        elif isinstance(one, File):
            if one is not value:
                _refuse_file(what, one, moved=moved)
        elif id(one) not in seen:
            seen.add(id(one))
            inside = _inside(what, one, only_waited_for=only_waited_for)
            holder = holder or ("" if _can_be_rebuilt(kind) else kind.__name__)
            waiting.extend((element, holder) for element in inside)
    return found


def _inside(what: str, one: Any, *, only_waited_for: bool) -> Iterable[Any]:
    """Return the elements of a value to search; raise a TypeError for a value that is certainly a mistake."""
    kind = type(one)
    if isinstance(one, dict):
        return [*one.keys(), *one.values()]
    if isinstance(one, _SEQUENCES):
        return one
    if hasattr(kind, "_asyncio_future_blocking") or kind is CoroutineType:
        raise TypeError(
            f"{what} contains an asyncio {kind.__name__}, which Parsl cannot wait for; await it first, "
            "or pass the future of asyncio.run_coroutine_threadsafe()."
        )
    if only_waited_for and isinstance(one, _STREAMS):
        raise TypeError(f"{what} contains a {kind.__name__}, and Parsl finds no futures in it; pass list(...) instead.")
    if dataclasses.is_dataclass(kind):
        return [getattr(one, field.name, None) for field in dataclasses.fields(kind)]
    return ()


def _refuse_file(what: str, file: File | None, *, moved: bool) -> None:
    if moved and file is not None and file.scheme in SCHEMES:
        raise TypeError(
            f"The file {file.url} is inside a container in {what}, where it is not moved to the task; "
            "give it in inputs=[...] directly, or as an argument of its own."
        )


def _can_be_rebuilt(kind: type) -> bool:
    return kind in _SEQUENCES or kind in _MAPPINGS or _is_namedtuple(kind)


def _is_namedtuple(kind: type) -> bool:
    return issubclass(kind, tuple) and hasattr(kind, "_make")


def _rebuilt(value: Any, result_of: Callable[[Any], Any], around: tuple[int, ...]) -> Any:
    """Return a value with results in place of futures; ``around`` has the ids of the enclosing containers."""
    if isinstance(value, Future):
        return result_of(value)
    kind = type(value)
    if not _can_be_rebuilt(kind):
        return value
    if id(value) in around:
        raise TypeError(f"A {kind.__name__} with futures contains itself; pass a list that does not.")
    around = (*around, id(value))
    if isinstance(value, dict):
        pairs = [(_rebuilt(key, result_of, around), _rebuilt(one, result_of, around)) for key, one in value.items()]
        return defaultdict(value.default_factory, pairs) if isinstance(value, defaultdict) else kind(pairs)
    elements = [_rebuilt(one, result_of, around) for one in value]
    if isinstance(value, deque):
        return deque(elements, value.maxlen)
    return kind._make(elements) if _is_namedtuple(kind) else kind(elements)
