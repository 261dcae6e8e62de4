"""Operations on a path that need no task: list, stat, make a folder, rename, compute a checksum."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Protocol, TypeVar, runtime_checkable

from chiltepin.backends.filesystem.errors import Fault, fault_of
from chiltepin.backends.filesystem.location import is_missing
from chiltepin.backends.filesystem.store import BLOCK, limited
from chiltepin.errors import BackendError, PathNotFoundError, PermissionDeniedError, UnsupportedOptionError
from chiltepin.model import DirEntry

if TYPE_CHECKING:
    from collections.abc import Callable

    from chiltepin.backends.filesystem.location import Location
    from chiltepin.backends.filesystem.protected_roots import Roots
    from chiltepin.backends.filesystem.store import Entry, Folder

__all__ = ["Renaming", "at_once", "checksum", "dir_entry", "entries", "make_folder", "rename", "stat"]

T = TypeVar("T")

_ERRORS = {"FILE_NOT_FOUND": PathNotFoundError, "PERMISSION_DENIED": PermissionDeniedError}


@runtime_checkable
class Renaming(Protocol):
    """A folder whose entries can be renamed, within it or into another folder of the same store."""

    def rename(self, name: str, goal: Folder, new_name: str) -> None:
        """Rename an entry, of any kind; a ``FileExistsError`` if the new name is in use."""
        ...


def at_once(operation: Callable[[Location], T], location: Location, what: str, backend: str) -> T:
    """Run an operation on a place; any exception of a store becomes a ``BackendError`` that begins with ``what``."""
    try:
        return operation(location)
    except BackendError as err:
        raise err from None
    except FileNotFoundError:
        fault = is_missing(location)
    except NotADirectoryError:
        fault = _no_folder(location)
    except Exception as err:  # noqa: BLE001 - any exception of a store is translated
        fault = fault_of(err, f"{what} {location}")
    raise _ERRORS.get(fault.code, BackendError)(fault.reason, backend=backend, code=fault.code)


def entries(location: Location) -> list[Entry]:
    """List a folder."""
    with location.store.folder(location.resolved(follow=True).parts) as folder:
        return list(limited(folder.entries(), location))


def stat(location: Location) -> Entry:
    """Return the entry at a place; links are followed."""
    entry = location.resolved(follow=True).entry()
    if entry is None:
        raise is_missing(location)
    return entry


def make_folder(location: Location) -> None:
    """Make one folder in an existing folder."""
    place = location.resolved(follow=False)
    if not place.parts or place.entry() is not None:
        raise _exists(location)
    above = place.parts[:-1]
    if above and stat(location.above()).kind != "dir":
        raise NotADirectoryError
    with place.store.folder(place.parts, create=True):
        pass


def rename(location: Location, new: Location, roots: Roots) -> None:
    """Rename an entry; nothing is replaced, and no root of an endpoint is moved."""
    old, new = location.resolved(follow=False), new.resolved(follow=False)
    roots.refuse(old)
    entry = old.entry()
    if entry is None:
        raise is_missing(location)
    if not new.parts or new.entry() is not None:
        raise _exists(new)
    if old.contains(new):
        raise Fault("INVALID_PATH_NAME", f"{old} cannot be moved into itself; choose a path outside of it.")
    try:
        _rename(entry, old, new, roots)
    except (FileNotFoundError, NotADirectoryError):
        above = new.above()
        found = above.entry()
        if old.entry() is None or (found and found.kind == "dir"):
            raise
    else:
        return
    raise _no_folder(above) if found else is_missing(above)


def _rename(entry: Entry, old: Location, new: Location, roots: Roots) -> None:
    with old.parent() as source, new.parent() as goal:
        if not isinstance(source, Renaming):
            raise UnsupportedOptionError(
                f"Endpoint {old.endpoint!r} cannot rename; transfer {old.parts[-1]!r} and delete the old one."
            )
        if entry.kind == "link":
            roots.refuse_link(source, old)
        elif entry.kind == "dir":
            with old.store.folder(old.parts) as folder:
                roots.refuse_opened(folder, old)
        source.rename(old.parts[-1], goal, new.parts[-1])


def checksum(location: Location) -> str:
    """Return the checksum of a file; links are followed."""
    place = location.resolved(follow=True)
    entry = place.entry()
    if entry is None:
        raise is_missing(location)
    if entry.kind != "file":
        raise Fault("IS_A_DIRECTORY", f"{location} is not a file; name a file.")
    digest, block = hashlib.sha256(), memoryview(bytearray(BLOCK))
    with place.parent() as folder, folder.read(place.parts[-1]) as reader:
        while count := reader.readinto(block):
            digest.update(block[:count])
        if reader.changed():
            raise Fault("FILE_CHANGED", f"{location} changed while it was read; try again.")
    return f"sha256:{digest.hexdigest()}"


def dir_entry(entry: Entry) -> DirEntry:
    """Return an entry of a store as `TransferBackend.ls` returns it."""
    modified = None
    if entry.mtime is not None:
        # A store may keep a time that no datetime can hold, or the C library cannot convert (OSError).
        with suppress(ValueError, OverflowError, OSError):
            modified = datetime.fromtimestamp(entry.mtime, timezone.utc)
    return DirEntry(
        name=entry.name,
        kind=entry.kind,
        size=entry.size if entry.kind == "file" else 0,
        modified=modified,
    )


def _exists(location: Location) -> Fault:
    return Fault("FILE_EXISTS", f"{location} already exists; choose another path, or delete it first.")


def _no_folder(location: Location) -> Fault:
    return Fault("NOT_A_DIRECTORY", f"{location} is not a folder, or is not below a folder; name a folder.")
