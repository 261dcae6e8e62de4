"""The errors that Chiltepin raises.

::

    ChiltepinError
    ├── ConfigError       (ValueError, RuntimeError)        the settings are invalid, or an argument does not match them
    ├── EndpointError
    │   ├── EndpointNotFoundError    (LookupError, RuntimeError)
    │   └── EndpointMismatchError                           the endpoint exists, but not for this use
    ├── BackendError                                        the call failed, and no task was created
    │   ├── LoginRequiredError
    │   │   └── ConsentRequiredError
    │   ├── PermissionDeniedError    (PermissionError)
    │   ├── PathNotFoundError        (FileNotFoundError)
    │   ├── UnsupportedOptionError
    │   ├── PathsInUseError
    │   ├── EndpointUnavailableError
    │   └── ServiceUnavailableError
    │       └── ServiceBusyError
    ├── AppFailedError                                      an app's exception or result cannot be sent
    └── TaskError                                           the task was created but did not succeed
        ├── TaskFailedError
        ├── TaskCanceledError
        ├── TaskExpiredError
        ├── TaskLostError
        ├── TaskInactiveError
        ├── TaskPausedError
        └── TaskTimeoutError         (TimeoutError)

Each takes one message; further facts are keyword-only and have defaults, so that every error can be pickled and
unpickled. This is a safety rule: an exception that cannot be unpickled ends the result thread of a Parsl
``HighThroughputExecutor``, and every later task of that executor hangs.
"""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from chiltepin.model import TaskStatus

__all__ = [
    "AppFailedError",
    "BackendError",
    "ChiltepinError",
    "ConfigError",
    "ConsentRequiredError",
    "EndpointError",
    "EndpointMismatchError",
    "EndpointNotFoundError",
    "EndpointUnavailableError",
    "LoginRequiredError",
    "PathNotFoundError",
    "PathsInUseError",
    "PermissionDeniedError",
    "ServiceBusyError",
    "ServiceUnavailableError",
    "TaskCanceledError",
    "TaskError",
    "TaskExpiredError",
    "TaskFailedError",
    "TaskInactiveError",
    "TaskLostError",
    "TaskPausedError",
    "TaskTimeoutError",
    "UnsupportedOptionError",
    "suggest",
]


def suggest(name: object, known: Iterable[str]) -> str:
    """Return the end of a sentence about an unknown name: the nearest known name, and all known names.

    Parameters
    ----------
    name : object
        The unknown name.
    known : iterable of str
        The valid names.

    Returns
    -------
    str
        For example ``did you mean 'compute'? Known: compute, local.``, or ``known: compute, local.``, to be put after a
        semicolon.
    """
    names = sorted(known)
    by_folded = {candidate.casefold(): candidate for candidate in names}
    near = difflib.get_close_matches(str(name).casefold(), by_folded, n=1)
    if not names:
        return "none exists yet."
    listed = f"{', '.join(names)}."
    return f"did you mean {by_folded[near[0]]!r}? Known: {listed}" if near else f"known: {listed}"


class ChiltepinError(Exception):
    """The root of all errors of this package.

    Parameters
    ----------
    message : str
        The message. Characters that a terminal might interpret are escaped, because names of files and messages of
        services may contain anything.
    """

    def __init__(self, message: str = "") -> None:
        # These messages may have several lines: one per problem in the settings, or a traceback.
        lines = str(message).split("\n") if isinstance(self, (ConfigError, AppFailedError)) else [str(message)]
        super().__init__("\n".join(map(printable, lines)))


class ConfigError(ChiltepinError, ValueError, RuntimeError):
    """The settings are invalid, or an argument names something that they do not contain.

    Parameters
    ----------
    message : str
        One sentence: the problem, the value, and what to type instead.
    file : str
        The settings file, as the user named it; empty if the settings did not come from a file.
    key : str
        The path to the key: ``compute.max_blocks``; empty if the error is not about one key.
    line : int
        Line of that key in the file, from 1; 0 if unknown.
    """

    def __init__(self, message: str, *, file: str = "", key: str = "", line: int = 0) -> None:
        super().__init__(message)
        self.file, self.key, self.line = file, key, line


class EndpointError(ChiltepinError):
    """An endpoint cannot be used in this way; ``endpoint`` is the name that was given."""

    def __init__(self, message: str, *, endpoint: str = "") -> None:
        super().__init__(message)
        self.endpoint = endpoint


class EndpointNotFoundError(EndpointError, LookupError, RuntimeError):
    """No endpoint has the name that was given."""


class EndpointMismatchError(EndpointError):
    """The endpoint exists but cannot be used in this way; for example, it has no location on the chosen backend."""


class BackendError(ChiltepinError):
    """A call of a backend failed, and no task was created.

    Parameters
    ----------
    message : str
        One sentence: the problem, the value, and what to do.
    backend : str
        Name of the backend.
    code : str
        The error code of the service, if any.
    request_id : str
        The service's id of the failed request, if any, for its support.
    transient : bool
        Whether the same call, with the same submission id, may be repeated.
    """

    def __init__(
        self, message: str, *, backend: str = "", code: str = "", request_id: str = "", transient: bool = False
    ) -> None:
        super().__init__(message)
        self.backend, self.code, self.request_id, self.transient = backend, code, request_id, transient


class LoginRequiredError(BackendError):
    """A login is required, or has expired; the message names the command to run."""


class ConsentRequiredError(LoginRequiredError):
    """The login is valid, but a collection requires a further consent; the message names the command to run."""


class PermissionDeniedError(BackendError, PermissionError):
    """Permission is denied, or a path leaves the root of its endpoint."""


class PathNotFoundError(BackendError, FileNotFoundError):
    """The path does not exist."""


class UnsupportedOptionError(BackendError):
    """The backend does not support an option; nothing was submitted."""


class PathsInUseError(BackendError):
    """The service has an unfinished task with the same paths, and accepts no second one.

    Parameters
    ----------
    status : TaskStatus or None
        The last known status of that task, with its handle.
    message, **facts
        As for `BackendError`.
    """

    def __init__(self, message: str, *, status: TaskStatus | None = None, **facts: Any) -> None:
        super().__init__(message, **facts)
        self.status = status


class EndpointUnavailableError(BackendError):
    """The service responds, but an endpoint is busy or not connected.

    Unlike a ``transient`` error, it is tolerated for ``fault_grace`` only, like a fault inside a task.
    """


class ServiceUnavailableError(BackendError):
    """The service did not respond, or is down for maintenance."""


class ServiceBusyError(ServiceUnavailableError):
    """The service accepts no more tasks or requests for now; nothing was created."""


class AppFailedError(ChiltepinError):
    """An app returned an unpicklable result, or raised an exception that Parsl cannot handle, such as ``SystemExit``.

    The message contains the type and message of the original exception and, if available, the worker's traceback.
    """


class TaskError(ChiltepinError):
    """A task was created but did not succeed.

    Parameters
    ----------
    message : str
        One sentence: what was requested, and why it failed.
    status : TaskStatus or None
        The last status of the task; None only if there was none.
    """

    def __init__(self, message: str, *, status: TaskStatus | None = None) -> None:
        super().__init__(message)
        self.status = status


class TaskFailedError(TaskError):
    """The task failed."""


class TaskCanceledError(TaskError):
    """The task was canceled, or the workflow that waited for it has ended."""


class TaskExpiredError(TaskError):
    """The deadline of the task has passed at the backend."""


class TaskLostError(TaskError):
    """The worker of the task died, or the service no longer knows the task; the outcome is unknown."""


class TaskInactiveError(TaskError):
    """The task needed a new login, and was stopped."""


class TaskPausedError(TaskError):
    """The owner of an endpoint paused the task, and it was stopped."""


class TaskTimeoutError(TaskError, TimeoutError):
    """The ``timeout`` of the call has passed, and the task was canceled."""


#: Longest value in a message, in characters.
_SHOWN_WIDTH = 80

_ESCAPES = {"\a": r"\a", "\b": r"\b", "\t": r"\t", "\n": r"\n", "\v": r"\v", "\f": r"\f", "\r": r"\r"}


def printable(text: str) -> str:
    r"""Return a text on one line, without characters that control a terminal or the direction of text.

    Parameters
    ----------
    text : str
        A name, a path or a message.

    Returns
    -------
    str
        Characters that are not printable are escaped as in a Python string (``\n``, ``\x1b``, ``\u202e``), as with
        ``ls -b``. A backslash is not escaped; JSON output contains the exact name.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _ESCAPES.get(char) or _escaped(char) for char in text)


def shown(value: Any) -> str:
    """Return a value for a message: on one line, shortened, and even if its ``repr`` fails."""
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 - for example an int with 5,000 digits, or a user's class
        return f"<{type(value).__name__}>"
    # Messages are logged, and must not contain the password of a URL.
    text = re.sub(r"://[^/@\s]*@", "://***@", text)
    return printable(text if len(text) <= _SHOWN_WIDTH else f"{text[:_SHOWN_WIDTH]}...")


def _escaped(char: str) -> str:
    return char.encode("unicode_escape", "surrogatepass").decode("ascii")
