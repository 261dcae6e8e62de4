"""Futures inside the arguments of a call: in lists, tuples, dicts and sets, at any depth, and in users' objects.

Parsl looks for futures only among the arguments and in ``inputs``. It neither waits for a deeper future nor replaces it
by its result: a task would run before its data exists. A future that Chiltepin cannot replace is refused at the call.
"""

from __future__ import annotations

import functools
import gc
import itertools
import sys
from collections import OrderedDict, defaultdict, deque
from collections.abc import ItemsView, Iterator, KeysView, ValuesView
from concurrent.futures import Future
from types import CoroutineType, MappingProxyType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

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
#: Modules of the iterators that are refused as arguments. An iterator of another module, such as an open file, is data.
_ITERATORS = frozenset({"builtins", "itertools"})
#: Types of Python itself that are searched.
_TRANSPARENT = frozenset(
    {type({}.keys()), type({}.values()), type({}.items()), MappingProxyType, MethodType, functools.partial}
)
#: Packages whose objects are not searched: they contain no futures, or futures of their own.
_OPAQUE = (sys.stdlib_module_names - {"argparse", "collections", "types"}) | {"chiltepin", "parsl"}
#: How many objects inside each other are searched, and how many values in all objects of an argument.
_DEPTH, _MOST = 3, 10_000


class _Holder(NamedTuple):
    """The name of an enclosing type that cannot be rebuilt, and the number of objects inside each other from there."""

    name: str
    depth: int


class Nested:
    """An argument with futures inside, which `chiltepin.parsl.task_guards` waits for and replaces by their results."""

    def __init__(self, value: Any, futures: list[Future[Any]]) -> None:
        self.value, self.futures = value, futures

    def resolved(self, result_of: Callable[[Any], Any]) -> Any:
        """Return the argument with each future replaced by its result; raise the first failure."""
        return _rebuilt(self.value, result_of, ())

    def __repr__(self) -> str:
        return f"<{type(self.value).__name__} with {len(self.futures)} futures>"


def nested(what: str, value: Any, *, moved: bool, only_waited_for: bool = False, objects: bool = True) -> Any:
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
        Whether it is one of ``inputs``, where every iterator and every view is a mistake.
    objects : bool
        Whether objects are searched; only for an error, because a future in an object cannot be replaced.
    """
    if isinstance(value, Future):
        return value
    futures = futures_in(what, value, moved=moved, only_waited_for=only_waited_for, objects=objects)
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


def futures_in(
    what: str, value: Any, *, moved: bool = False, only_waited_for: bool = False, objects: bool = True
) -> list[Future[Any]]:
    """Return the futures in an argument, itself included; arguments and errors are those of `nested`."""
    found: list[Future[Any]] = []
    seen: set[int] = set()
    search = _Search(what, only_waited_for=only_waited_for, left=_MOST if objects else 0)
    #: Each value with the enclosing type that cannot be rebuilt, if there is one.
    waiting: list[tuple[Any, _Holder | None]] = [(value, None)]
    while waiting:
        one, holder = waiting.pop()
        kind = type(one)
        if kind in PLAIN or (kind is tuple and not one):
            continue
        if isinstance(one, (Future, File)):
            if one is not value:
                _refuse_file(what, one, moved=moved)
            if isinstance(one, File):
                continue
            if holder:
                raise TypeError(
                    f"A future is inside a {holder.name} in {what}, where it is not waited for; "
                    "put it into a list, tuple, dict or set, or give its result."
                )
            found.append(one)
        elif id(one) not in seen:
            seen.add(id(one))
            elements, holder = search.inside(one, holder)
            waiting.extend((element, holder) for element in elements)
    return found


class _Search:
    """What to search in the values of one argument; ``left`` is the number of values in objects to search."""

    def __init__(self, what: str, *, only_waited_for: bool, left: int) -> None:
        self._what, self._only_waited_for, self._left = what, only_waited_for, left

    def inside(self, one: Any, holder: _Holder | None) -> tuple[Iterable[Any], _Holder | None]:
        """Return what is inside a value, and the enclosing type for it; raise a TypeError for a certain mistake."""
        kind = type(one)
        if isinstance(one, dict):
            elements: Iterable[Any] = [*one.keys(), *one.values()]
        elif isinstance(one, _SEQUENCES):
            elements = one
        else:
            return self._inside_object(one, holder)
        if holder and holder.depth:
            return self._first(elements), holder
        return elements, holder or (None if _can_be_rebuilt(kind) else _Holder(kind.__name__, 0))

    def _inside_object(self, one: Any, holder: _Holder | None) -> tuple[Iterable[Any], _Holder | None]:
        kind = type(one)
        depth = holder.depth if holder else 0
        if not depth:
            self._refuse_stream(one, kind)
        if self._left <= 0 or depth == _DEPTH or not _may_refer(one, kind):
            return (), None
        # Without running code of the user: `vars` would run it, and does not return slots.
        return self._first(gc.get_referents(one)), _Holder(holder.name if holder else kind.__name__, depth + 1)

    def _first(self, elements: Iterable[Any]) -> list[Any]:
        first = list(itertools.islice(elements, max(self._left, 0)))
        self._left -= len(first)
        return first

    def _refuse_stream(self, one: Any, kind: type) -> None:
        if hasattr(kind, "_asyncio_future_blocking") or kind is CoroutineType:
            raise TypeError(
                f"{self._what} contains an asyncio {kind.__name__}, which Parsl cannot wait for; await it first, "
                "or pass the future of asyncio.run_coroutine_threadsafe()."
            )
        refused = _STREAMS if self._only_waited_for else Iterator
        if (self._only_waited_for or kind.__module__ in _ITERATORS) and isinstance(one, refused):
            raise TypeError(
                f"{self._what} contains a {kind.__name__}, and Parsl finds no futures in it; pass list(...) instead."
            )


def _may_refer(one: Any, kind: type) -> bool:
    """Whether the objects that `one` refers to are searched; not for types without data of the user."""
    if not gc.is_tracked(one):
        return False
    if kind in _TRANSPARENT:
        return True
    return kind.__module__.partition(".")[0] not in _OPAQUE and not issubclass(kind, (type, ModuleType))


def _refuse_file(what: str, one: Future[Any] | File, *, moved: bool) -> None:
    file = getattr(one, "file_obj", None) if isinstance(one, DataFuture) else one
    if moved and isinstance(file, File) and file.scheme in SCHEMES:
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
