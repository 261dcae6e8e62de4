"""Explain failed copies, and skip what cannot be read at the source, if the request allows it."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from chiltepin.backends.filesystem.errors import Fault, fault_of
from chiltepin.backends.filesystem.store import SharedNames
from chiltepin.protocol.paths import joined

if TYPE_CHECKING:
    from collections.abc import Callable

    from chiltepin.backends.filesystem.location import Location
    from chiltepin.backends.filesystem.mover.task import TaskRun
    from chiltepin.model import TransferRequest

__all__ = ["OTHER_KIND", "fail_copy", "failed_copy", "is_skipped", "or_skip", "replaced_source", "skips"]

#: The faults that ``skip_source_errors`` is for, at the source only (docs.globus.org, "Task Behavior", 4.1).
SKIPPABLE = frozenset({"FILE_NOT_FOUND", "PERMISSION_DENIED"})

#: Codes of faults if a source file has become a link, a folder, a pipe or a socket since it was listed.
_REPLACED = frozenset({"INVALID_SYMLINK", "IS_A_DIRECTORY", "NOT_A_FILE", "ENDPOINT_ERROR"})

#: Codes of faults if the name belongs to an entry of the other kind.
OTHER_KIND = frozenset({"FILE_EXISTS", "IS_A_DIRECTORY", "NOT_A_DIRECTORY"})


def or_skip(copy: Callable[..., None]) -> Callable[..., None]:
    """Return a function that copies one item, and skips it if its source cannot be read and the request allows that."""

    def operation(run: TaskRun, request: TransferRequest, origin: Location, goal: Location) -> None:
        try:
            copy(run, request=request, origin=origin, goal=goal)
        except Exception as err:
            if not skips(run, request, origin, err, folder=request.recursive):
                raise

    return operation


def skips(run: TaskRun, request: TransferRequest, source: Location, error: Exception, *, folder: bool) -> bool:
    """Record a file or folder that failed as skipped, and return True, if `is_skipped` allows it."""
    if not is_skipped(request, source, error, folder=folder):
        return False
    run.skip(joined(source.parts))
    return True


def is_skipped(request: TransferRequest, source: Location, error: Exception, *, folder: bool) -> bool:
    """Whether to skip a file or folder that failed: the request allows it, and the source is the cause.

    The same error may come from the destination, so the source is read once more.
    """
    may_skip = request.skip_source_errors and _is_skippable(error) and _has_root(source)
    return may_skip and _is_unreadable(source, folder=folder)


def failed_copy(source: Location, goal: Location, error: Exception, *, folder: bool = False) -> str:
    """Return the beginning of the sentence about a failed copy; if permission is denied, with the side concerned."""
    if fault_of(error, "").code != "PERMISSION_DENIED":
        return f"Copying {source} to {goal}"
    return f"Cannot read {source}" if _is_unreadable(source, folder=folder) else f"Cannot write {goal}"


def fail_copy(run: TaskRun, source: Location, goal: Location, error: Exception, *, folder: bool = False) -> None:
    """Record a file or folder that could not be copied, or whose source or destination is of another kind."""
    told = _other_kind(goal, error, folder=folder) or (None if folder else replaced_source(source, error))
    run.fail(told or error, failed_copy(source, goal, error, folder=folder))


def _other_kind(goal: Location, error: Exception, *, folder: bool) -> Fault | None:
    """Return the fault of a file or folder whose name belongs to an entry of the other kind; None for other errors."""
    # FTP servers have one code for all refusals.
    if fault_of(error, "").code not in OTHER_KIND | {"PERMISSION_DENIED"}:
        return None
    with suppress(Exception):
        entry = goal.entry()
        # Of a link, the error says why it is not followed.
        if entry is not None and entry.kind != "link" and (entry.kind == "dir") != folder:
            old, new = ("file", "folder") if folder else ("folder", "file")
            code = "NOT_A_DIRECTORY" if folder else "IS_A_DIRECTORY"
            return Fault(code, f"{goal} is a {old}, and the source has a {new} there; remove it.")
    return None


def replaced_source(source: Location, error: Exception) -> Fault | None:
    """Return the fault of a source file that has become something else since it was listed; None for other errors."""
    # In an object store, a name may be a file and a folder.
    if fault_of(error, "").code not in _REPLACED or isinstance(source.store, SharedNames):
        return None
    with suppress(Exception):
        entry = source.entry()
        if entry is not None and entry.kind != "file":
            now = {"dir": "a folder", "link": "a link"}.get(entry.kind, "neither a file nor a folder")
            reason = f"{source} changed during the copy, and is now {now}; run the transfer again."
            return Fault("FILE_SIZE_CHANGED", reason)
    return None


def _is_skippable(error: Exception) -> bool:
    return fault_of(error, "").code in SKIPPABLE


def _has_root(source: Location) -> bool:
    """Whether the root of an endpoint can be opened; if not, its disk may not be mounted."""
    try:
        with source.store.folder(()):
            return True
    except FileNotFoundError:
        # The backend `local` creates the root when it is first written to.
        return True
    except Exception:  # noqa: BLE001 - any exception of a store is an answer
        return False


def _is_unreadable(source: Location, *, folder: bool) -> bool:
    try:
        source = source.resolved(follow=True)
        if source.entry() is None:
            return True
        if folder:
            with source.store.folder(source.parts) as opened:
                next(iter(opened.entries()), None)
        else:
            with source.parent() as opened, opened.read(source.parts[-1]) as reader:
                reader.readinto(memoryview(bytearray(1)))
    except Exception as err:  # noqa: BLE001 - any exception of a store is an answer
        return _is_skippable(err)
    return False
