"""The files of a folder in batches: listed by one thread, checked and copied by any thread.

A local listing has names and kinds; the size and time of each file cost another call. The thread that receives the
batch makes these calls, because on a disk with latency they take most of the time of a listing. For files that are
equal on both sides, two calls and few steps of Python each suffice here, because synchronizing a tree again does
nothing else.
"""

from __future__ import annotations

import os
import stat
from contextlib import contextmanager, nullcontext
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, cast

from chiltepin.backends.filesystem.errors import Fault, fault_of
from chiltepin.backends.filesystem.local.folder import LocalFolder
from chiltepin.backends.filesystem.mover.retry import with_retries
from chiltepin.backends.filesystem.mover.sync_level import KEPT
from chiltepin.backends.filesystem.store import MOST_KEPT, Entry, is_valid_name
from chiltepin.backends.filesystem.temp_names import TEMP_PREFIX, is_temp_name

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence
    from contextlib import AbstractContextManager

    from chiltepin.backends.filesystem.location import Location
    from chiltepin.backends.filesystem.mover.task import TaskRun
    from chiltepin.backends.filesystem.store import Folder, Store
    from chiltepin.backends.filters import NameFilter
    from chiltepin.model import SyncLevel

    Item = os.DirEntry[str] | Entry

__all__ = ["BATCH_FILES", "ListingStats", "batches", "changed", "entries", "is_lost", "named"]

#: Files in a portion: few enough that a task that must stop does so soon, even on a disk with latency.
BATCH_FILES = 100


class ListingStats:
    """Results of a listing other than files: the names of the folders, and the number of entries of each kind.

    ``kept`` counts the files that are copied, ``skipped`` all other entries except folders. ``nameless``: whether there
    are entries that no path can name, whose content was therefore not listed.
    """

    def __init__(self) -> None:
        self.folders: list[str] = []
        self.count = self.kept = self.skipped = 0
        self.nameless = False

    def refuse_nameless(self, source: Location) -> None:
        """Raise a ``Fault`` if there is more in the folder than could be listed."""
        if self.nameless:
            reason = (
                f"{source} has an entry whose name is not a valid path, so nothing is removed at the destination; "
                "rename that entry."
            )
            raise Fault("INVALID_PATH_NAME", reason)


def batches(
    run: TaskRun,
    folder: Folder,
    found: ListingStats,
    filters: NameFilter | None,
    store: Store,
    *,
    mine: Callable[[str], bool] | None = None,
    own_content: bool = False,
) -> Generator[list[Item], None, None]:
    """List a folder; yield its files, and put the names of folders and the number of entries into ``found``.

    Links, devices, pipes and sockets are counted as skipped, and so are files that the ``filters`` do not select;
    folders that they do not select are left out. The folder has to stay open while its batches are in use. Transient
    failures of the store are retried. ``mine`` returns whether a name is included; None: all are. ``own_content``:
    whether the content of the folder itself (`SharedNames`) is one of its files.
    """
    listing: AbstractContextManager[Callable[[], list[Any]]]
    if isinstance(folder, LocalFolder):
        listing, split = _scanned(folder), _split_local
    else:
        listing, split = (
            nullcontext(partial(with_retries, run, _Listed(folder).portion, store)),
            partial(_split, run, found, own_content=own_content),
        )
    with listing as portion:
        while listed := portion():
            run.check()
            if mine is not None:
                listed = [item for item in listed if mine(item.name)]
            files, inner, others = split(listed)
            found.folders.extend(inner if filters is None else filter(filters.selects_folder, inner))
            if len(found.folders) > MOST_KEPT:
                raise Fault(
                    "LIMIT_EXCEEDED", f"A folder has more than {MOST_KEPT:,} subfolders; transfer them by name."
                )
            found.count += len(files) + len(inner) + others
            kept = files if filters is None else [item for item in files if filters.selects_file(item.name)]
            found.kept += len(kept)
            found.skipped += others + len(files) - len(kept)
            yield kept


def named(
    run: TaskRun, folder: Folder, *, temp_files: bool = False, lost: Callable[[Entry], bool] = lambda _: False
) -> Iterator[tuple[str, str]]:
    """Yield the name and the kind of all entries of a folder.

    A local listing has both; the size and time of each entry would cost another call. The fault of an entry that is
    ``lost`` is raised.
    """
    if isinstance(folder, LocalFolder):
        found = folder.kinds(temp_files=temp_files)
    else:
        found = _kinds(run, folder.entries(temp_files=temp_files), lost)
    for number, pair in enumerate(found):
        if not number % BATCH_FILES:
            run.check()
            # These count as short operations: for a long one, the pool would assume system calls, and add threads that
            # only wait for Python's lock.
            run.pool.free()
        yield pair


def _kinds(run: TaskRun, found: Iterator[Entry], lost: Callable[[Entry], bool]) -> Iterator[tuple[str, str]]:
    for entry in found:
        run.check()
        if entry.fault is not None and lost(entry):
            raise entry.fault
        yield entry.name, entry.kind


@contextmanager
def _scanned(folder: LocalFolder) -> Iterator[Callable[[], list[Any]]]:
    with folder.scan() as items:
        yield lambda: list(islice(items, BATCH_FILES))


class _Listed:
    """The entries of a store's folder; after a failure, it is listed again, and each entry is returned only once.

    For this, up to `KEPT` names are kept: in a larger folder, a failure after these is not retried.
    """

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._entries: Iterator[Entry] | None = None
        self._given: set[tuple[str, str]] = set()

    def portion(self) -> list[Entry]:
        """Return the next entries; none at the end."""
        if self._entries is None:
            self._entries = (entry for entry in self._folder.entries() if (entry.name, entry.kind) not in self._given)
        try:
            listed = list(islice(self._entries, BATCH_FILES))
        except Exception as err:
            if len(self._given) >= KEPT:
                raise fault_of(err, "Listing a large folder") from None
            self._entries = None
            raise
        if len(self._given) < KEPT:
            self._given.update((entry.name, entry.kind) for entry in listed)
        return listed


def _split(
    run: TaskRun, found: ListingStats, listed: Sequence[Any], *, own_content: bool
) -> tuple[list[Any], list[str], int]:
    """Return the files of a portion, the names of the folders, and the number of other entries."""
    faulty = [entry for entry in listed if is_lost(entry, own_content=own_content)]
    if faulty:
        listed = [entry for entry in listed if not is_lost(entry, own_content=own_content)]
        for entry in faulty:
            run.fail(entry.fault, f"Copying {entry.name}")
    files = [entry for entry in listed if entry.kind == "file"]
    folders = [entry.name for entry in listed if entry.kind == "dir"]
    others = [entry for entry in listed if entry.kind not in ("file", "dir")]
    found.nameless = found.nameless or not all(entry.named and is_valid_name(entry.name) for entry in others)
    return files, folders, len(others)


def is_lost(entry: Entry, *, own_content: bool) -> bool:
    """Whether an entry cannot be copied; ``own_content`` as in `batches`."""
    return entry.fault is not None and (bool(entry.name) or entry.kind != "file" or not own_content)


def _split_local(listed: Sequence[Any]) -> tuple[list[Any], list[str], int]:
    """Split a local listing as `_split` does, and leave out temporary files."""
    files = [
        item
        for item in listed
        if item.is_file(follow_symlinks=False) and not (item.name.startswith(TEMP_PREFIX) and is_temp_name(item.name))
    ]
    if len(files) == len(listed):
        return files, [], 0
    shown = [item for item in listed if not is_temp_name(item.name)]
    folders = [item.name for item in shown if item.is_dir(follow_symlinks=False)]
    return files, folders, len(shown) - len(files) - len(folders)


def entries(items: Sequence[Item], failed: Callable[[str, Exception], object]) -> Iterator[Entry]:
    """Yield the entries of a portion; report the name and the error of those that cannot be examined."""
    for item in items:
        if isinstance(item, Entry):
            yield item
            continue
        try:
            facts = item.stat(follow_symlinks=False)
        except OSError as err:
            failed(item.name, err)
        else:
            yield _entry(item.name, facts)


def _entry(name: str, facts: os.stat_result) -> Entry:
    return Entry(name, "file" if stat.S_ISREG(facts.st_mode) else "other", facts.st_size, facts.st_mtime)


def changed(
    items: Sequence[Item],
    there: LocalFolder,
    level: SyncLevel | None,
    kept: Callable[[int], int] | None,
    failed: Callable[[str, Exception], object],
) -> tuple[list[Entry], int]:
    """Find the files of a local folder that a sync level does not skip, in few steps; see `is_up_to_date`.

    Return these files, and how many are skipped. The level ``checksum`` is not supported. ``failed`` gets the name and
    the error of a file that cannot be checked.
    """
    look, folder = os.stat, there.descriptor
    by_size, by_time = level != "exists", level == "mtime"
    found: list[Entry] = []
    unchanged = 0
    for item in cast("Sequence[os.DirEntry[str]]", items):
        try:
            facts = item.stat(follow_symlinks=False)
            existing = look(item.name, dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError:
            found.extend(entries([item], failed))
            continue
        except OSError as err:
            failed(item.name, err)
            continue
        if (
            not stat.S_ISREG(existing.st_mode)
            or (by_size and existing.st_size != facts.st_size)
            or (
                by_time
                and existing.st_mtime_ns < facts.st_mtime_ns
                and (kept is None or existing.st_mtime_ns < kept(facts.st_mtime_ns))
            )
        ):
            found.append(_entry(item.name, facts))
        else:
            unchanged += 1
    return found, unchanged
