"""Find names that differ at the source but are one name at the destination, such as ``a`` and ``A``.

On a disk that ignores case (macOS, VFAT, folders of ext4 with ``casefold``) the second of two files would replace the
first, and both would count as copied. The same holds for names in two Unicode normalizations (macOS, some ZFS), and for
names with a dot or a space at the end (Windows). A local disk is tested for case before the first file is written, and
each folder for the flag.
"""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from chiltepin.backends.filesystem.errors import Fault
from chiltepin.backends.filesystem.local.case_flag import has_case_flag
from chiltepin.backends.filesystem.local.folder import LocalFolder
from chiltepin.backends.filesystem.local.reader import close_quietly
from chiltepin.backends.filesystem.mover.folder_pair import open_filled
from chiltepin.backends.filesystem.mover.listing import named
from chiltepin.backends.filesystem.mover.retry import with_retries
from chiltepin.protocol.paths import folded

if TYPE_CHECKING:
    from collections.abc import Iterable

    from chiltepin.backends.filesystem.location import Location
    from chiltepin.backends.filesystem.mover.folder_pair import FolderPair
    from chiltepin.backends.filesystem.mover.listing import ListingStats
    from chiltepin.backends.filesystem.mover.task import TaskRun
    from chiltepin.backends.filesystem.store import Folder

__all__ = ["CaseTests", "SeenNames", "clashing_name", "compare_twins"]


class CaseTests:
    """Tests of the folders of one destination by their flag, and of its disks by the first folder with a letter."""

    def __init__(self) -> None:
        self._ignored: dict[int, bool | None] = {}
        self._without_flags: set[int] = set()

    def ignores_case(self, there: Folder, names: Iterable[str]) -> bool | None:
        """Whether a folder ignores the case of names; None if unknown, as for all servers."""
        if not isinstance(there, LocalFolder):
            return None
        device = there.device
        if device not in self._without_flags:
            flag = has_case_flag(there.descriptor)
            if flag:
                return True
            if flag is None:
                self._without_flags.add(device)
        if self._ignored.get(device) is None:
            self._ignored[device] = _is_case_insensitive(there, names)
        return self._ignored[device]


def _is_case_insensitive(there: LocalFolder, names: Iterable[str]) -> bool | None:
    """Whether the disk of a folder ignores the case of names; None if none of the names has a letter.

    This is tested with an existing file, or with a new one, which is removed: the transfer will write files anyway.
    """
    telling = next((name for name in names if name.swapcase() != name), None)
    if telling is None:
        return None
    # The disk may not accept the name; then only this file must fail.
    with suppress(OSError):
        if there.entry(telling) is not None:
            if there.entry(telling.swapcase()) is None:
                return False
            if _same(there, telling, telling.swapcase()):
                return True
            # Two files, or one file with an inode number for each name, as over FUSE (exfat-fuse).
    temp_files = there.open_temp_files()
    try:
        name, descriptor = temp_files.new()
    except OSError:
        # The first file of the transfer will report why no file can be created.
        return None
    try:
        # No other file has such a name.
        return there.entry(name.swapcase()) is not None
    finally:
        temp_files.give_up(name)
        close_quietly(descriptor)


def _same(there: LocalFolder, *names: str) -> bool:
    try:
        return os.path.samestat(*(os.stat(name, dir_fd=there.descriptor, follow_symlinks=False) for name in names))
    except OSError:
        return False


class SeenNames:
    """The names in one source folder; ``twins`` gets those that may be one at the destination."""

    def __init__(self, twins: set[str]) -> None:
        self._first: dict[str, str] = {}
        self._twins = twins

    def refused(self, names: Iterable[str], *, folding: bool) -> set[str]:
        """Add names; if the disk is ``folding``, return those that equal an earlier one except in case."""
        found = set()
        for name in names:
            # Most keys equal their names; one string for both takes a third less memory.
            first = self._first.setdefault(name if (key := folded(name)) == name else key, name)
            if first is name:
                continue
            if folding and _plain(first).casefold() == _plain(name).casefold():
                found.add(name)
            else:
                self._twins.update((first, name))
        return found


def _plain(name: str) -> str:
    """Return a name without its Unicode normalization, which a listing may change."""
    return unicodedata.normalize("NFC", name)


def compare_twins(run: TaskRun, pair: FolderPair, source: Location, found: ListingStats) -> None:
    """After a folder's files are copied, fail each file that another file with an equivalent name has replaced.

    A server does not tell which names its disk distinguishes. So its folder is listed, with the ``found`` folders.
    """
    try:
        for name in pair.twins.intersection(found.folders):
            # The walk reports why a folder cannot be made.
            with (
                suppress(Exception),
                with_retries(run, partial(open_filled, pair.goal.below(name)), pair.goal.store),
            ):
                pass
        lost = with_retries(run, partial(_lost, run, pair), pair.goal.store)
    except Exception as err:  # noqa: BLE001 - the task continues with other folders
        run.fail(err, f"Listing {pair.goal} to compare names")
        return
    for name in lost:
        run.fail(clashing_name(source.below(name)), "")


def _lost(run: TaskRun, pair: FolderPair) -> list[str]:
    """Return the names that the destination does not list, although they were copied."""
    keys = set(map(folded, pair.twins))
    listed = [name for name, _ in named(run, pair.there) if folded(name) in keys]
    lacking = Counter(map(_plain, pair.twins)) - Counter(map(_plain, listed))
    return [name for name in sorted(pair.twins.difference(listed)) if lacking[_plain(name)] and _is_copied(pair, name)]


def _is_copied(pair: FolderPair, name: str) -> bool:
    # A large file that several workers copy is not there yet, on a local disk that distinguishes the names.
    return name not in pair.failed and (not isinstance(pair.there, LocalFolder) or pair.there.entry(name) is not None)


def clashing_name(location: Location) -> Fault:
    """Return the fault of a file or folder whose name is already used at the destination."""
    reason = "the destination treats its name and that of another file as the same name"
    return Fault("AMBIGUOUS_PATH", f"{location} was not copied because {reason}; rename one of the two.")
