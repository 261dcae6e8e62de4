"""How the laws ask a backend for something, and how they say what they miss."""

from __future__ import annotations

import copyreg
import io
import pickle
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, cast

import pytest

from chiltepin.errors import ChiltepinError, PathNotFoundError, PermissionDeniedError
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
    "must_move",
    "must_remove",
    "pickled",
    "remove",
    "require",
    "run",
    "transfer",
]

T = TypeVar("T")
E = TypeVar("E", bound=Exception)


def require(kept: object, law: str) -> None:
    """Raise AssertionError with the words of the law, if it was not kept; works in optimized Python, too."""
    __tracebackhide__ = True
    if not kept:
        raise AssertionError(law)


def pickled(value: T, what: str) -> T:
    """Return a value as it comes out of a pickle; one that does not come out breaks the law.

    Notes
    -----
    Exceptions go by their own means. Parsl has tblib teach pickle another way for every class of them that is defined
    before ``parsl.app.python`` is imported (``tblib.pickling_support.install``); that way brings even those through
    whose makers want more than they keep, and a worker that knows the class from elsewhere has not learned it.
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
    raise AssertionError(f"{what} can be pickled and unpickled; here {came}.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of a request: exactly one of the two is there.

    Parameters
    ----------
    status : TaskStatus or None
        The last status of the task that was made; live, if it would never have ended.
    error : ChiltepinError or None
        Why no task was made.
    """

    status: TaskStatus | None = None
    error: ChiltepinError | None = None

    @property
    def state(self) -> TaskState | None:
        """The last state of the task; None where none was made."""
        return self.status.state if self.status is not None else None

    @property
    def succeeded(self) -> bool:
        """Whether there is a task, and it has done all that was asked."""
        return self.state is TaskState.SUCCEEDED

    @property
    def code(self) -> str:
        """Why it did not succeed, in Globus's vocabulary; an error's class speaks where it has no code."""
        if self.status is not None:
            return self.status.code
        if isinstance(self.error, PathNotFoundError):
            return "FILE_NOT_FOUND"
        if isinstance(self.error, PermissionDeniedError):
            return "PERMISSION_DENIED"
        return str(getattr(self.error, "code", ""))

    def __str__(self) -> str:
        if self.status is None:
            return f"submit raised {type(self.error).__name__}: {self.error}"
        return f"the task is {self.status.state.name} (code {self.status.code!r}: {self.status.reason!r})"


def transfer(rig: Rig, *pairs: tuple[str, str], **options: Any) -> TransferRequest:
    """Return a request from the rig's source to its destination, unless the options say otherwise."""
    items = tuple(TransferItem(source=source, destination=destination) for source, destination in pairs)
    return TransferRequest(**{"source": rig.source, "destination": rig.destination, "items": items, **options})


def deletion(rig: Rig, *paths: str, **options: Any) -> DeleteRequest:
    """Return a request that deletes on the rig's destination."""
    return DeleteRequest(endpoint=rig.destination, paths=paths, **options)


def run(rig: Rig, request: Request) -> Outcome:
    """Submit, let time pass, and return what came of it; a task that would live on is cancelled."""
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
    """Run a transfer that has to succeed."""
    return _success(move(rig, *pairs, **options), f"a transfer of {pairs}")


def must_raise(kind: type[E] | tuple[type[E], ...], call: Callable[[], object], law: str) -> E:
    """Return the error of a call that has to raise one of its kind; anything else breaks the law."""
    try:
        call()
    except kind as err:
        return err
    except Exception as err:  # noqa: BLE001 - told below, in the words of the law
        came = f"{type(err).__name__}: {err}"
    else:
        came = "no error"
    raise AssertionError(f"{law}; here {came}.")


def must_remove(rig: Rig, *paths: str, **options: Any) -> TaskStatus:
    """Run a deletion that has to succeed."""
    return _success(remove(rig, *paths, **options), f"a deletion of {paths}")


def _success(outcome: Outcome, what: str) -> TaskStatus:
    if outcome.status is None or outcome.state is not TaskState.SUCCEEDED:
        raise AssertionError(f"{what} has to end SUCCEEDED; here {outcome}.")
    return outcome.status


def needs_empty_folder(rig: Rig, endpoint: str, folder: str) -> None:
    """Make an empty folder, whose path ends in ``/``; skip the law in a store that has no empty folders."""
    rig.mkdir(endpoint, folder)
    if folder not in rig.tree(endpoint):
        pytest.skip(f"The store of {endpoint!r} has no empty folders.")


def needs_writable_source(rig: Rig) -> None:
    """Skip the law where nothing can be written to the source endpoint."""
    if rig.source_is_read_only:
        pytest.skip(f"Nothing can be written to {rig.source!r}.")


def files(rig: Rig, endpoint: str) -> set[str]:
    """Return all files of an endpoint, leftovers included."""
    return {path for path in rig.tree(endpoint) if not path.endswith("/")}
