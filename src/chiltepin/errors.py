"""The errors that Chiltepin raises.

::

    ChiltepinError
    ├── ConfigError                  (ValueError)           the settings, or an argument that names something in them
    ├── EndpointError
    │   ├── EndpointNotFoundError    (LookupError, RuntimeError)
    │   └── EndpointMismatchError                           the endpoint exists, but not for this use
    ├── BackendError                                        the call could not be made
    │   ├── LoginRequiredError
    │   │   └── ConsentRequiredError
    │   ├── PermissionDeniedError    (PermissionError)
    │   ├── PathNotFoundError        (FileNotFoundError)
    │   ├── UnsupportedOptionError
    │   ├── PathsInUseError
    │   ├── EndpointUnavailableError
    │   └── ServiceUnavailableError
    ├── AppFailedError                                      an app ended with what Parsl cannot hand on
    └── TaskError                                           the call was made, the task did not succeed
        ├── TaskFailedError
        ├── TaskCanceledError
        ├── TaskExpiredError
        ├── TaskLostError
        ├── TaskInactiveError
        ├── TaskPausedError
        └── TaskTimeoutError         (TimeoutError)

Each takes one message; the facts beside it are keyword-only and have defaults, so that every one of them can be
pickled and unpickled. That is a safety rule: an exception that cannot be unpickled ends the result thread of a Parsl
``HighThroughputExecutor``, and every later task of that executor waits for ever.
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
    """Return the end of a sentence about an unknown name: the nearest known one, and all of them.

    Parameters
    ----------
    name : object
        What was given.
    known : iterable of str
        What could have been given.

    Returns
    -------
    str
        For example ``did you mean 'compute'? Known: compute, local.``, or ``known: compute, local.``; the sentence goes
        on with it behind a semicolon, and ends with a full stop.
    """
    names = sorted(known)
    by_folded = {candidate.casefold(): candidate for candidate in names}
    near = difflib.get_close_matches(str(name).casefold(), by_folded, n=1)
    if not names:
        return "there is none yet."
    listed = f"{', '.join(names)}."
    return f"did you mean {by_folded[near[0]]!r}? Known: {listed}" if near else f"known: {listed}"


class ChiltepinError(Exception):
    """The root of all errors of this package.

    Parameters
    ----------
    message : str
        What is told; names of files and words of services in it may hold anything, so that what a terminal might obey
        is escaped.
    """

    def __init__(self, message: str = "") -> None:
        # Of the settings several problems are told at once, each on a line of its own; a traceback has lines, too.
        lines = str(message).split("\n") if isinstance(self, (ConfigError, AppFailedError)) else [str(message)]
        super().__init__("\n".join(map(printable, lines)))


class ConfigError(ChiltepinError, ValueError):
    """The settings are wrong, or an argument names something that they do not hold.

    Parameters
    ----------
    message : str
        One sentence: what, which value, what to type instead.
    file : str
        The settings file, as the user named it; empty if the settings did not come from a file.
    key : str
        Where in the settings, with dots: ``compute.max_blocks``; empty if no single key is at fault.
    line : int
        Line of that key in the file, from 1; 0 if unknown.
    """

    def __init__(self, message: str, *, file: str = "", key: str = "", line: int = 0) -> None:
        super().__init__(message)
        self.file, self.key, self.line = file, key, line


class EndpointError(ChiltepinError):
    """An endpoint cannot be used as asked; ``endpoint`` is the name that was given."""

    def __init__(self, message: str, *, endpoint: str = "") -> None:
        super().__init__(message)
        self.endpoint = endpoint


class EndpointNotFoundError(EndpointError, LookupError, RuntimeError):
    """No endpoint has the name that was given."""


class EndpointMismatchError(EndpointError):
    """The endpoint exists but cannot serve this use: for instance, it has no place on the chosen backend."""


class BackendError(ChiltepinError):
    """A backend could not do what it was asked, and no task was made.

    Parameters
    ----------
    message : str
        One sentence: what, which value, what to do.
    backend : str
        Name of the backend.
    code : str
        The service's own word for the failure, if it has one.
    request_id : str
        The service's id of the refused request, if it gave one; its support asks for it.
    transient : bool
        Whether the same call, with the same submission id, may be repeated.
    """

    def __init__(
        self, message: str, *, backend: str = "", code: str = "", request_id: str = "", transient: bool = False
    ) -> None:
        super().__init__(message)
        self.backend, self.code, self.request_id, self.transient = backend, code, request_id, transient


class LoginRequiredError(BackendError):
    """Nobody is logged in, or the login has ended; the message names the command to type."""


class ConsentRequiredError(LoginRequiredError):
    """The login is fine, but a collection wants one more consent; the message names the command to type."""


class PermissionDeniedError(BackendError, PermissionError):
    """The backend refuses: no right to do this, or a path that leads out of the endpoint."""


class PathNotFoundError(BackendError, FileNotFoundError):
    """Nothing is at that path."""


class UnsupportedOptionError(BackendError):
    """The backend does not have the option that was asked for; nothing was submitted."""


class PathsInUseError(BackendError):
    """The service has a task with the same paths that has not ended, and takes no second one.

    Parameters
    ----------
    status : TaskStatus or None
        What is known of that task; its handle names it.
    message, backend, code, request_id, transient
        As for `BackendError`.
    """

    def __init__(
        self,
        message: str,
        *,
        status: TaskStatus | None = None,
        backend: str = "",
        code: str = "",
        request_id: str = "",
        transient: bool = False,
    ) -> None:
        super().__init__(message, backend=backend, code=code, request_id=request_id, transient=transient)
        self.status = status


class EndpointUnavailableError(BackendError):
    """The service answers, but could not use an endpoint now: it is busy, or not connected.

    Unlike an error that is ``transient``, this one is borne for ``fault_grace`` only, as it is inside a task.
    """


class ServiceUnavailableError(BackendError):
    """The service did not answer, or is down for maintenance."""


class AppFailedError(ChiltepinError):
    """An app ended with something that Parsl cannot hand on as it is, such as ``SystemExit``.

    It stands for an exception, or a result, that does not survive pickling. The message names its type, repeats its
    message and, where there is one, has the traceback of the worker.
    """


class TaskError(ChiltepinError):
    """A task was made and did not succeed.

    Parameters
    ----------
    message : str
        One sentence: what was to be done, and the service's reason why it was not.
    status : TaskStatus or None
        The last status of the task; None only where no status could be had.
    """

    def __init__(self, message: str, *, status: TaskStatus | None = None) -> None:
        super().__init__(message)
        self.status = status


class TaskFailedError(TaskError):
    """The backend gave the task up."""


class TaskCanceledError(TaskError):
    """Somebody cancelled the task, or the workflow that waited for it has ended."""


class TaskExpiredError(TaskError):
    """The deadline that was sent with the task has passed at the backend."""


class TaskLostError(TaskError):
    """The backend does not know the task any more; what became of it is unknown."""


class TaskInactiveError(TaskError):
    """The backend had suspended the task until somebody logs in anew, and it was stopped."""


class TaskPausedError(TaskError):
    """The owner of an endpoint had paused the task, and it was stopped."""


class TaskTimeoutError(TaskError, TimeoutError):
    """The ``timeout`` of the call has passed; the task was asked to stop."""


#: Longest value in a message, in characters.
_SHOWN_WIDTH = 80

_ESCAPES = {"\a": r"\a", "\b": r"\b", "\t": r"\t", "\n": r"\n", "\v": r"\v", "\f": r"\f", "\r": r"\r"}


def printable(text: str) -> str:
    r"""Return a text on one line, in which nothing moves the cursor, changes a colour or turns the reading around.

    Parameters
    ----------
    text : str
        A name, a path or a message.

    Returns
    -------
    str
        The same where it is printable; any other character is escaped as in a string of Python (``\n``, ``\x1b``,
        ``\u202e``), as ``ls -b`` does. A backslash stays one: who needs the exact name asks for JSON.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _ESCAPES.get(char) or _escaped(char) for char in text)


def shown(value: Any) -> str:
    """Return a value as it stands in a message: on one line, not endless, and whatever its own text does."""
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 - of an int with 5,000 digits, say; and a class of the user's may do anything
        return f"<{type(value).__name__}>"
    # Messages end in logs, so that a password in a URL is left out of them.
    text = re.sub(r"://[^/@\s]*@", "://***@", text)
    return printable(text if len(text) <= _SHOWN_WIDTH else f"{text[:_SHOWN_WIDTH]}...")


def _escaped(char: str) -> str:
    return char.encode("unicode_escape", "surrogatepass").decode("ascii")
