"""Helpers that send the requests of the laws to a backend and check the outcomes."""

from __future__ import annotations

import copyreg
import io
import pickle
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, cast

import pytest

from chiltepin.errors import ChiltepinError, PathNotFoundError, PermissionDeniedError, UnsupportedOptionError
from chiltepin.model import DeleteRequest, TaskState, TaskStatus, TransferItem, TransferRequest

if TYPE_CHECKING:
    from collections.abc import Callable

    from chiltepin.model import Request
    from chiltepin.testing.conformance.rig import Rig

__all__ = [
    "Outcome",
    "deletion",
    "files",
    "move",
    "must_be_refused",
    "must_move",
    "must_remove",
    "needs",
    "pickled",
    "remove",
    "require",
    "run",
    "transfer",
]

T = TypeVar("T")
E = TypeVar("E", bound=Exception)


def require(kept: object, law: str) -> None:
    """Raise an AssertionError with the text of the law if the law is broken, also in optimized Python."""
    __tracebackhide__ = True
    if not kept:
        raise AssertionError(law)


def pickled(value: T, what: str) -> T:
    """Pickle and unpickle a value, and return the result; a failure breaks the law.

    Notes
    -----
    Exceptions are pickled without tblib. Parsl calls ``tblib.pickling_support.install``, which registers another way
    to pickle every exception class that is defined before ``parsl.app.python`` is imported. It also works for classes
    whose ``__init__`` requires more than ``args`` has, but a worker that imports such a class later does not use it.
    """
    file = io.BytesIO()
    pickler = pickle.Pickler(file)
    pickler.dispatch_table = {
        kind: how for kind, how in copyreg.dispatch_table.items() if not issubclass(kind, BaseException)
    }
    try:
        pickler.dump(value)
        return cast("T", pickle.loads(file.getvalue()))  # noqa: S301 - our own bytes
    except Exception as err:  # noqa: BLE001 - told below, in the words of the law
        came = f"{type(err).__name__}: {err}"
    raise AssertionError(f"{what} must survive a pickle round trip; got {came}.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The outcome of a request: the last status of the task (live if it never ended), or the error from submit."""

    status: TaskStatus | None = None
    error: ChiltepinError | None = None

    @property
    def state(self) -> TaskState | None:
        """The last state of the task; None without a task."""
        return self.status.state if self.status is not None else None

    @property
    def succeeded(self) -> bool:
        """Whether the request became a task that ended as SUCCEEDED."""
        return self.state is TaskState.SUCCEEDED

    @property
    def code(self) -> str:
        """The Globus code of the failure; for an error without a code, the code that corresponds to its class."""
        if self.status is not None:
            return self.status.code
        if isinstance(self.error, PathNotFoundError):
            return "FILE_NOT_FOUND"
        if isinstance(self.error, PermissionDeniedError):
            return "PERMISSION_DENIED"
        return str(getattr(self.error, "code", ""))

    def __str__(self) -> str:
        if self.status is None:
            return f"{type(self.error).__name__} from submit: {self.error}"
        return f"a task in state {self.status.state.name} (code {self.status.code!r}: {self.status.reason!r})"


def transfer(rig: Rig, *pairs: tuple[str, str], **options: Any) -> TransferRequest:
    """Return a transfer request from the rig's source to its destination; the options can override both."""
    items = tuple(TransferItem(source=source, destination=destination) for source, destination in pairs)
    return TransferRequest(**{"source": rig.source, "destination": rig.destination, "items": items, **options})


def deletion(rig: Rig, *paths: str, **options: Any) -> DeleteRequest:
    """Return a request that deletes paths on the rig's destination."""
    return DeleteRequest(endpoint=rig.destination, paths=paths, **options)


def run(rig: Rig, request: Request) -> Outcome:
    """Submit a request, let time pass, and return the outcome; cancel a task that does not end."""
    try:
        handle = rig.backend.submit(request, rig.backend.new_submission_id())
    except ChiltepinError as err:
        return Outcome(error=err)
    status = rig.settle(handle)
    if not status.state.final:
        rig.backend.cancel(handle)
        rig.settle(handle)
    return Outcome(status=status)


def move(rig: Rig, *pairs: tuple[str, str], **options: Any) -> Outcome:
    """Run a transfer of each source to its destination."""
    return run(rig, transfer(rig, *pairs, **options))


def remove(rig: Rig, *paths: str, **options: Any) -> Outcome:
    """Run a deletion on the rig's destination."""
    return run(rig, deletion(rig, *paths, **options))


def must_move(rig: Rig, *pairs: tuple[str, str], **options: Any) -> TaskStatus:
    """Run a transfer that must succeed."""
    return _success(move(rig, *pairs, **options), f"a transfer of {pairs}")


def must_be_refused(outcome: Outcome, law: str) -> None:
    """Check that submit refused a request because of an option."""
    require(isinstance(outcome.error, UnsupportedOptionError), f"{law}; got {outcome}")


def must_raise(kind: type[E] | tuple[type[E], ...], call: Callable[[], object], law: str) -> E:
    """Return the error of a call that must raise one of these classes; any other result breaks the law."""
    try:
        call()
    except kind as err:
        return err
    except Exception as err:  # noqa: BLE001 - told below, in the words of the law
        came = f"{type(err).__name__}: {err}"
    else:
        came = "no error"
    raise AssertionError(f"{law}; got {came}.")


def must_remove(rig: Rig, *paths: str, **options: Any) -> TaskStatus:
    """Run a deletion that must succeed."""
    return _success(remove(rig, *paths, **options), f"a deletion of {paths}")


def _success(outcome: Outcome, what: str) -> TaskStatus:
    if outcome.status is None or outcome.state is not TaskState.SUCCEEDED:
        raise AssertionError(f"{what} must end as SUCCEEDED; got {outcome}.")
    return outcome.status


def needs(claimed: object, what: str) -> None:
    """Skip the law if the capabilities of the backend do not include something."""
    if not claimed:
        pytest.skip(f"The capabilities of this backend do not include {what}.")


def needs_empty_folder(rig: Rig, endpoint: str, folder: str) -> None:
    """Create an empty folder, whose path ends in ``/``; skip the law in a store without empty folders."""
    rig.mkdir(endpoint, folder)
    if folder not in rig.tree(endpoint):
        pytest.skip(f"The store of {endpoint!r} cannot hold empty folders.")


def needs_writable_source(rig: Rig) -> None:
    """Skip the law if the source endpoint is read-only."""
    if rig.source_is_read_only:
        pytest.skip(f"The source endpoint {rig.source!r} is read-only.")


def files(rig: Rig, endpoint: str = "") -> set[str]:
    """Return the paths of all files on an endpoint, by default the destination, including leftovers."""
    return {path for path in rig.tree(endpoint or rig.destination) if not path.endswith("/")}
