"""Results and exceptions of apps, in a form that Parsl can always receive.

Parsl pickles a result, or an exception, where the app runs, and unpickles it in the one thread that receives the
results of an executor. An exception that pickles but does not unpickle ends that thread, and every future of the
executor stays pending; `SystemExit` passes through every ``except Exception`` of Parsl
(docs/decisions/task-results.md). So `run` pickles in the worker itself, and passes bytes and text to Parsl.
"""

from __future__ import annotations

import platform
import traceback
import uuid
from typing import TYPE_CHECKING, Any

import tblib.pickling_support
from parsl.app.errors import RemoteExceptionWrapper
from parsl.serialize import deserialize, serialize

from chiltepin.errors import AppFailedError, ChiltepinError, printable

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "PROCESS_TOKEN",
    "RemoteFailure",
    "RemoteResult",
    "describe_failure",
    "headline",
    "run",
    "type_name",
    "unusable_because",
]

#: The name of this host, as in Parsl's errors for lost workers.
_HOST = platform.node()

#: Identifies this process and its forks; a worker on another node may have the same process id.
PROCESS_TOKEN = f"{uuid.uuid4().hex}@{_HOST}"

#: Types of results that are always picklable.
_PLAIN = (type(None), bool, int, float, str, bytes)

#: Maximum characters of an exception's text; the end of a longer text is kept.
_LONGEST = 8000


class RemoteResult:
    """A result as bytes; `chiltepin.parsl.task_guards` opens it in the workflow's process."""

    def __init__(self, app: str, kind: str, content: bytes) -> None:
        self._app, self._kind, self._content = app, kind, content

    def open(self) -> Any:
        """Return the result; raise `AppFailedError` if it cannot be unpickled here."""
        try:
            return deserialize(self._content)
        except BaseException as error:  # noqa: BLE001 - unpickling runs user code
            why = headline(error)
        raise _unsendable(self._app, self._kind, why)


class RemoteFailure(RemoteExceptionWrapper):  # type: ignore[misc] # parsl has no types
    """An exception as bytes, and as text in case these cannot be unpickled here; Parsl raises the exception."""

    def __init__(self, words: str, content: bytes = b"") -> None:
        self._words, self._content = words, content

    def reraise(self) -> None:
        """Raise the exception."""
        raise self.get_exception()

    def get_exception(self) -> BaseException:
        """Return the exception that this stands for."""
        if self._content:
            try:
                error: BaseException = deserialize(self._content).get_exception()
                if not unusable_because(error):
                    return error
            except BaseException:  # noqa: BLE001, S110 - unpickling runs user code; the text is used instead
                pass
        return AppFailedError(self._words)


def run(app: str, home: str, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Run the function of an app, and return a value that Parsl can send; ``app`` is its name in messages.

    ``home`` is the `PROCESS_TOKEN` of the process that waits for the result. In that process no result is pickled, and
    the function's error is raised if Parsl can handle it. An error that Parsl cannot handle, such as `SystemExit`,
    becomes an AppFailedError. The function may return a ``RemoteExceptionWrapper``, as Parsl's wrappers do.
    """
    try:
        result = function(*args, **kwargs)
    except BaseException as error:  # noqa: BLE001 - also SystemExit
        failure = error
    else:
        if isinstance(result, RemoteExceptionWrapper):
            failure = result.e_value
        else:
            return result if home == PROCESS_TOKEN or type(result) in _PLAIN else _sent_result(app, result)
    if home != PROCESS_TOKEN:
        if home.partition("@")[2] != _HOST:
            _name_host(failure)
        return _sent_failure(app, failure)
    if flaw := unusable_because(failure):
        raise AppFailedError(describe_failure(app, failure, flaw))
    raise failure


def _sent_result(app: str, result: object) -> RemoteResult | RemoteFailure:
    kind = type_name(type(result))
    try:
        return RemoteResult(app, kind, serialize(result, buffer_threshold=1 << 62))
    except BaseException as error:  # noqa: BLE001 - pickling runs user code
        return RemoteFailure(str(_unsendable(app, kind, headline(error))))


def _name_host(failure: BaseException) -> None:
    """Add the host to an exception: to the message of a Chiltepin error, else as a note below the traceback."""
    if isinstance(failure, ChiltepinError):
        failure.args = (f"{str(failure).rstrip('.')} (on host {_HOST}).",)
    elif hasattr(failure, "add_note"):
        # Since Python 3.11.
        failure.add_note(f"It was raised on host {_HOST}.")


def _sent_failure(app: str, failure: BaseException) -> RemoteFailure:
    flaw = unusable_because(failure)
    words = describe_failure(app, failure, flaw)
    if flaw:
        return RemoteFailure(words)
    try:
        return RemoteFailure(words, _pickled(failure))
    except BaseException as error:  # noqa: BLE001 - pickling runs user code
        flaw = f"it cannot be sent from one process to another ({headline(error)})"
    words = describe_failure(app, failure, flaw)
    # Most exceptions that do not unpickle have an __init__ with extra arguments, which tblib does not call. Others have
    # a cause that cannot be sent, or a traceback of a thousand frames.
    failure.__cause__, failure.__context__ = AppFailedError(words), None
    for frames in (failure.__traceback__, None):
        if content := _pickled_by_tblib(failure.with_traceback(frames)):
            return RemoteFailure(words, content)
    return RemoteFailure(words)


def _pickled_by_tblib(failure: BaseException) -> bytes:
    """Return an exception as tblib pickles it; empty if that fails, too."""
    try:
        tblib.pickling_support.install(type(failure))
        return _pickled(failure)
    except BaseException:  # noqa: BLE001 - pickling runs user code
        return b""


def _pickled(failure: BaseException) -> bytes:
    """Return an exception as Parsl sends it; raise if it would not arrive unchanged."""
    content = serialize(RemoteExceptionWrapper(type(failure), failure, failure.__traceback__), buffer_threshold=1 << 62)
    arrived = deserialize(content).get_exception()
    if type_name(type(arrived)) != type_name(type(failure)):
        raise TypeError(f"it would arrive as {type_name(type(arrived))}")
    if flaw := unusable_because(arrived):
        raise TypeError(flaw)
    return bytes(content)


def unusable_because(failure: object) -> str:
    """Return why Parsl could not handle a supposed exception, as a clause; empty if it can."""
    if not isinstance(failure, BaseException):
        return "it is not an exception"
    if not isinstance(failure, Exception):
        return "Parsl cannot pass on an exception that is not a subclass of Exception"
    try:
        # Parsl stores the repr of each failure, and fails if repr() raises.
        repr(failure), str(failure)
    except BaseException as error:  # noqa: BLE001 - user code
        return f"it cannot be shown ({type(error).__name__})"
    seen: set[int] = set()
    cause: BaseException | None = failure
    while cause is not None:
        if id(cause) in seen:
            return "it is its own cause"
        seen.add(id(cause))
        cause = cause.__cause__
    return ""


def describe_failure(app: str, failure: object, flaw: str) -> str:
    """Describe how an app failed: type and message of the exception, and its traceback."""
    sentence = f"{f'App {app!r}' if app else 'The app'} failed with {headline(failure)}"
    if flaw:
        sentence += f"; this error replaces it, because {flaw}"
    return f"{sentence}.\n{_traceback_of(failure)}".rstrip()


def headline(failure: object) -> str:
    """Return type and message of an exception on one line."""
    try:
        message = printable(str(failure).strip())[:_LONGEST]
    except BaseException:  # noqa: BLE001 - user code
        message = ""
    return f"{type_name(type(failure))}: {message}".rstrip(": .")


def _traceback_of(failure: object) -> str:
    if not isinstance(failure, BaseException):
        return ""
    try:
        text = "".join(traceback.format_exception(type(failure), failure, failure.__traceback__))
    except BaseException:  # noqa: BLE001 - user code; the frames alone need none
        text = "".join(traceback.format_tb(failure.__traceback__))
    return text[-_LONGEST:]


def type_name(kind: type) -> str:
    """Return the name of a type, with its module if that is informative."""
    module = getattr(kind, "__module__", "builtins")
    return kind.__qualname__ if module in ("builtins", "__main__") else f"{module}.{kind.__qualname__}"


def _unsendable(app: str, kind: str, why: str) -> AppFailedError:
    return AppFailedError(
        f"The result of app {app!r}, of type {kind}, cannot be sent from one process to another ({why}); "
        "return plain data, or write it to a file."
    )
