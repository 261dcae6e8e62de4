"""Copy a tree of files from one store to another."""

from __future__ import annotations

from functools import partial
from itertools import islice
from operator import attrgetter
from typing import TYPE_CHECKING, TypeVar

from chiltepin.backends.filesystem.errors import Fault, fault_of
from chiltepin.backends.filesystem.local.folder import LocalFolder
from chiltepin.backends.filesystem.location import is_missing
from chiltepin.backends.filesystem.mover.file import Copier, refuse_temporary
from chiltepin.backends.filesystem.mover.folder_pair import (
    FolderPair,
    Top,
    into_itself,
    open_filled,
    vanished,
    with_pair,
)
from chiltepin.backends.filesystem.mover.listing import ListingStats, batches, changed, entries, is_lost, named
from chiltepin.backends.filesystem.mover.mirror import delete_extra, make_way
from chiltepin.backends.filesystem.mover.name_clash import CaseTests, SeenNames, clashing_name, compare_twins
from chiltepin.backends.filesystem.mover.retry import with_retries
from chiltepin.backends.filesystem.mover.shard import ShardRun, fewest, folder_key
from chiltepin.backends.filesystem.mover.shared_names import is_both, share_name
from chiltepin.backends.filesystem.mover.source_errors import OTHER_KIND, fail_copy, skips
from chiltepin.backends.filesystem.mover.sync_level import Listing, is_up_to_date
from chiltepin.backends.filesystem.mover.walk import walk
from chiltepin.backends.filesystem.store import Batching, SharedNames, limited
from chiltepin.backends.filters import NameFilter
from chiltepin.protocol import Shard

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from chiltepin.backends.filesystem.location import Location
    from chiltepin.backends.filesystem.mover.listing import Item
    from chiltepin.backends.filesystem.mover.task import TaskRun
    from chiltepin.backends.filesystem.mover.thread_count import TaskGroup
    from chiltepin.backends.filesystem.mover.walk import Node
    from chiltepin.backends.filesystem.protected_roots import Roots
    from chiltepin.backends.filesystem.store import Entry, Folder
    from chiltepin.model import SyncLevel, TransferRequest
    from chiltepin.protocol.paths import Parts

__all__ = ["copy_tree"]

T = TypeVar("T")

#: Small files that are one operation: enough that handing it to a thread costs little beside them, and few enough that
#: on a disk with latency there are operations for many threads.
FEW = 10


def copy_tree(
    run: TaskRun,
    request: TransferRequest,
    origin: Location,
    goal: Location,
    roots: Roots,
    shard: ShardRun | None = None,
) -> None:
    """Copy the contents of a folder, or a ``shard`` of it, into another folder, which is created if missing.

    Links inside the tree are skipped, as Globus does (globus transfer --help, "Symbolic links"); so are devices, pipes
    and sockets. If a file fails, the others are still copied, but then nothing is removed. ``roots`` are the places
    that are never removed.
    """
    refuse_temporary(goal)
    origin, goal = origin.resolved(follow=True), goal.resolved(follow=True)
    if origin.contains(goal):
        raise into_itself(origin, goal)
    entry = origin.entry()
    if entry is None:
        raise is_missing(origin)
    if entry.kind != "dir" and not is_both(origin):
        raise Fault("NOT_A_DIRECTORY", f"{origin} is a file; set recursive=False to transfer it.")
    if request.delete_destination_extra and goal.contains(origin):
        raise Fault("INVALID_PATH_NAME", f"{origin} lies in {goal}, and would be deleted with the extra files there.")
    tree = _Tree(run, request, origin, goal, roots.also(origin), shard or ShardRun(Shard()))
    if shard is None or not shard.shard.last:
        tree.copy_all()
    if request.delete_destination_extra and not run.failures and (shard is None or shard.shard.last):
        walk(run, tree.mirror)


class _Tree:
    def __init__(
        self, run: TaskRun, request: TransferRequest, origin: Location, goal: Location, roots: Roots, shard: ShardRun
    ) -> None:
        self._shard = shard
        self._task, self._request, self._origin, self._goal, self._roots = run, request, origin, goal, roots
        self._copier = Copier(run, request)
        self._level, self._stores = self._copier.level, (origin.store, goal.store)
        self._filters = NameFilter(request.filters) if request.filters else None
        self._own_content = isinstance(goal.store, SharedNames)
        self._objects = any(isinstance(store, SharedNames) for store in self._stores)
        self._case_tests = CaseTests()
        #: None until the top folder of the destination is open.
        self._top: Top | None = None
        #: How many entries each source folder had: some 100 bytes a folder.
        self._listed = shard.listed

    def copy_all(self) -> None:
        """Copy the contents of the folders of the shard, and of those below them."""
        shard = self._shard
        if () not in shard.shard.folders:
            # A walk that starts below the top needs it too.
            with with_retries(self._task, partial(open_filled, self._goal), *self._stores) as top:
                self._top = Top(top.identity, self._goal)
        shard.give_back(walk(self._task, self.copy, starts=shard.shard.folders, enough=shard.enough))

    def copy(self, node: Node, group: TaskGroup) -> list[str]:
        """Copy the files of one folder, and create it even if there are none; return the names of its subfolders."""
        parts = node.parts
        source, target = self._origin.below(*parts), self._goal.below(*parts)
        found = ListingStats()
        try:
            with with_retries(self._task, partial(self._open, source, target), *self._stores) as pair:
                apart = SeenNames(pair.twins)
                pair.compare_twins = partial(compare_twins, self._task, pair, source, found)
                if self._shard.is_new(parts):
                    pair.assume_new()
                portions = self._batches(parts, pair, found)
                if portions is None:
                    if found.kept or found.folders:
                        pair.fills()
                    return []
                for items in portions:
                    mine = self._own(pair, source, items, attrgetter("name"), apart)
                    self._give(group, pair, partial(self._files, pair, mine, source, group))
                found.folders = self._own(pair, source, found.folders, str, apart)
                if found.folders:
                    pair.fills()
            self._task.count(skipped=found.skipped)
            if self._request.delete_destination_extra:
                found.refuse_nameless(source)
                self._listed[folder_key(parts)] = found.count
        except Exception as err:  # noqa: BLE001 - the task continues with other folders
            if not skips(self._task, self._request, source, err, folder=True):
                fail_copy(self._task, source, target, err, folder=True)
        return found.folders

    def _batches(self, parts: Parts, pair: FolderPair, found: ListingStats) -> Iterator[list[Item]] | None:
        """Return the batches of a folder; None if it is large, and left to several workers."""
        here, store, mine = pair.here, pair.origin.store, self._shard.mine(parts)
        listed = batches(self._task, here, found, self._filters, store, mine=mine, own_content=self._own_content)
        local = isinstance(here, LocalFolder)
        return self._shard.undivided(parts, found, listed, local=local, objects=self._objects, new=pair.new)

    def _own(
        self, pair: FolderPair, source: Location, items: list[T], name_of: Callable[[T], str], apart: SeenNames
    ) -> list[T]:
        """Return the entries of a folder whose names are not known to be one at the destination; the others fail."""
        for name in self._roots.linked(pair.there, pair.goal, map(name_of, items)):
            items = [item for item in items if name_of(item) != name or self._may_replace(pair, name)]
        folding = self._case_tests.ignores_case(pair.there, map(name_of, items))
        if self._own_content:
            # An object store distinguishes all names.
            return items
        names: Iterable[str] = map(name_of, items)
        if folding is False:
            # A disk that distinguishes case may still unite two Unicode normalizations.
            names = (name for name in names if not name.isascii())
        refused = apart.refused(names, folding=bool(folding))
        for name in refused:
            self._task.fail(clashing_name(source.below(name)), "")
        return [item for item in items if name_of(item) not in refused] if refused else items

    def _may_replace(self, pair: FolderPair, name: str) -> bool:
        """Whether a name may be written to; a link that leads to a root stays, and its replacement fails."""
        try:
            self._roots.refuse_link(pair.there, pair.goal.below(name))
        except Fault as err:
            self._task.fail(err, "")
            return False
        return True

    def _open(self, source: Location, target: Location) -> FolderPair:
        try:
            pair = FolderPair(source, target, self._top)
        except Exception as err:
            if target.parts == self._goal.parts or not self._way_is_made(source, target, err, folder=True):
                raise
            pair = FolderPair(source, target, self._top)
        if target.parts == self._goal.parts:
            try:
                self._top = Top(pair.there.identity, self._goal)
            except BaseException:
                pair.__exit__(None, None, None)
                raise
        # A lookup of a local file costs no more than its entry in a listing; elsewhere it is a request.
        if self._level and not isinstance(pair.there, LocalFolder):
            pair.listing = Listing(pair.there)
        return pair

    def _give(self, group: TaskGroup, pair: FolderPair, operation: Callable[[], None]) -> None:
        """Have an idle thread run an operation on two folders, or run it here."""
        if group.free():
            operation = partial(with_pair, pair.shared(), operation)
            if group.offer(operation):
                return
        operation()

    def _files(self, pair: FolderPair, items: Sequence[Item], source: Location, group: TaskGroup) -> None:
        try:
            if self._level != "checksum" and isinstance(pair.here, LocalFolder) and isinstance(pair.there, LocalFolder):
                left = self._changed(pair, pair.there, items, source)
                pair.here.read_ahead(item.name for item in left)
                rest = iter(left)
                while few := list(islice(rest, FEW)):
                    small = partial(self._small, pair, pair.here, pair.there, few, source, group)
                    self._give(group, pair, small)
                return
            files = entries(items, partial(self._fail, pair, source))
            if pair.batched:
                self._together(pair, list(files), self._level, source)
                return
            group.each(self._each(pair, files, source))
        except Exception as err:  # noqa: BLE001 - the task continues with other files
            self._task.fail(err, f"Copying files of {source}")

    def _each(self, pair: FolderPair, files: Iterable[Entry], source: Location) -> Iterator[Callable[[], None]]:
        for entry in files:
            self._task.check()
            yield partial(with_pair, pair.shared(), partial(self._file, pair, entry, self._level, source))

    def _changed(self, pair: FolderPair, there: LocalFolder, items: Sequence[Item], source: Location) -> Sequence[Item]:
        """Return the files that the sync level does not skip, if finding them takes few steps."""
        # For files of unknown size, only the content could decide.
        if self._level is None or (
            self._level != "exists" and isinstance(pair.here, LocalFolder) and pair.here.has_unknown_sizes
        ):
            return items
        kept = self._copier.kept_time(there)
        files, unchanged = changed(items, there, self._level, kept, partial(self._fail, pair, source))
        self._task.count(skipped=unchanged)
        return files

    def _small(
        self,
        pair: FolderPair,
        here: LocalFolder,
        there: LocalFolder,
        items: Sequence[Item],
        source: Location,
        group: TaskGroup,
    ) -> None:
        """Copy files within this machine; a file that is not small becomes a separate operation."""
        files = size = 0
        try:
            for item in items:
                self._task.check()
                done = failed = None
                try:
                    done = there.take_small(here, item.name, item.name, self._copier.options)
                except Exception as err:  # noqa: BLE001 - it may be worth another try
                    failed = err
                if done is not None:
                    files, size = files + 1, size + done
                    self._task.arrived(pair.origin, pair.goal, item.name)
                    continue
                for entry in entries([item], partial(self._fail, pair, source)):
                    self._give(group, pair, partial(self._file, pair, entry, None, source, failed=failed))
        finally:
            # Once for all of them: counting costs as much as a system call.
            self._task.count(files=files, size=size)

    def _together(self, pair: FolderPair, files: Sequence[Entry], level: SyncLevel | None, source: Location) -> None:
        """Copy the files of a portion with as few requests as their stores allow."""
        if level and level != "checksum":
            files, level = [entry for entry in files if not self._left_alone(pair, entry, level, source)], None
        here, there = pair.here, pair.there
        if isinstance(here, Batching):
            here = here.prefetch(files)
        taken: Iterable[tuple[Entry, int | Exception | None]] = ((entry, None) for entry in files)
        if level is None and isinstance(there, Batching):
            taken = there.copy_all_from(here, files, self._copier.options)
        for entry, outcome in taken:
            self._task.check()
            if isinstance(outcome, int):
                self._task.count(files=1, size=outcome)
                self._task.arrived(pair.origin, pair.goal, entry.name)
            else:
                self._file(pair, entry, level, source, here=here, failed=outcome)

    def _left_alone(self, pair: FolderPair, entry: Entry, level: SyncLevel, source: Location) -> bool:
        """Whether a file must not be copied, because it is up to date or could not be checked."""
        try:
            existing = (pair.listing or pair.there).entry(entry.name)
        except Exception as err:  # noqa: BLE001 - the task continues with other files
            self._task.fail(err, f"Copying {source.below(entry.name)}")
            return True
        if existing is None or not is_up_to_date(level, entry, existing, self._copier.kept_time(pair.there)):
            return False
        self._task.count(skipped=1)
        return True

    def _file(
        self,
        pair: FolderPair,
        entry: Entry,
        level: SyncLevel | None,
        source: Location,
        *,
        here: Folder | None = None,
        failed: Exception | None = None,
    ) -> None:
        """Copy one file, perhaps after a failed try in a batch; a failure does not stop the other files."""
        failures = [failed] if failed else []

        def move() -> None:
            if failures:
                raise failures.pop()
            self._move(pair, here or pair.here, entry, level)

        try:
            try:
                with_retries(self._task, move, *self._stores)
            except Exception as err:
                if not self._way_is_made(source.below(entry.name), pair.goal.below(entry.name), err, folder=False):
                    raise
                with_retries(self._task, move, *self._stores)
        except Exception as err:  # noqa: BLE001 - the task continues with other files
            self._fail(pair, source, entry.name, err)

    def _way_is_made(self, source: Location, target: Location, error: Exception, *, folder: bool) -> bool:
        """Make a destination accept a source of the other kind; return whether a retry is worthwhile.

        A name of both kinds at the source may be both at the destination. Else a mirror removes the existing entry.
        """
        mirrored = self._request.delete_destination_extra
        shared = self._shared(target) if mirrored or fault_of(error, "").code in OTHER_KIND else [False]
        if shared[-1]:
            return True
        return (mirrored and self._is_removed(source, target, folder=folder)) or any(shared)

    def _shared(self, target: Location) -> list[bool]:
        """Return, for each name on the path to a place, whether a file and a folder may share it from now on."""
        names = target.parts[len(self._goal.parts) :]
        ways = [names[:count] for count in range(1, len(names) + 1)]
        return [share_name(self._origin.below(*way), self._goal.below(*way)) for way in ways]

    def _is_removed(self, source: Location, target: Location, *, folder: bool) -> bool:
        """Remove an entry of the other kind, if the source can be read; otherwise the source cannot replace it."""
        try:
            with source.store.folder(source.parts) if folder else source.parent() as opened:
                if not folder:
                    with opened.read(source.parts[-1]):
                        pass
        except Exception:  # noqa: BLE001 - the first failure is reported
            return False
        return make_way(self._task, target, folder=folder, filters=self._filters, roots=self._roots)

    def _fail(self, pair: FolderPair, source: Location, name: str, error: Exception) -> None:
        file = source.below(name)
        pair.failed.add(name)
        if skips(self._task, self._request, file, error, folder=False):
            return
        if isinstance(error, FileNotFoundError):
            error = vanished(pair, file)
        fail_copy(self._task, file, pair.goal.below(name), error)

    def _move(self, pair: FolderPair, here: Folder, entry: Entry, level: SyncLevel | None) -> None:
        existing = (pair.listing or pair.there).entry(entry.name) if level else None
        # Ranges would arrive after names that may be one were compared.
        path = None if entry.name in pair.twins else (*pair.goal.parts[len(self._goal.parts) :], entry.name)
        if self._copier.file(here, entry, pair.there, entry.name, existing=existing, path=path):
            self._task.arrived(pair.origin, pair.goal, entry.name)

    def mirror(self, node: Node, group: TaskGroup) -> list[str]:
        """Remove from one destination folder everything that its source lacks; return the source's subfolders."""
        del group
        source, target = (top.below(*node.parts) for top in (self._origin, self._goal))
        try:
            found = with_retries(self._task, partial(self._held, source), source.store)
            self._refuse_fewer(node, len(found), source)
        except Exception as err:  # noqa: BLE001 - an incomplete listing must not remove anything
            self._task.fail(err, f"Listing {source} to find extra files in {target}")
            return []
        names = {(name, kind == "dir") for name, kind in found}
        # An entry that is neither keeps any entry with its name.
        names.update((name, True) for name, kind in found if kind not in ("file", "dir"))
        delete_extra(self._task, target, names, filters=self._filters, roots=self._roots)
        folders = [name for name, kind in found if kind == "dir"]
        return folders if self._filters is None else list(filter(self._filters.selects_folder, folders))

    def _held(self, source: Location) -> list[tuple[str, str]]:
        """Return the name and kind of everything in a source folder."""
        lost = partial(is_lost, own_content=self._own_content)
        with source.store.folder(source.parts) as here:
            return list(limited(named(self._task, here, lost=lost), source))

    def _refuse_fewer(self, node: Node, count: int, source: Location) -> None:
        """Check that the source is complete: a disk that was unmounted after the copy leaves an empty folder."""
        before = fewest(self._listed, node.parts)
        if before is None or count < before:
            raise Fault("FILE_SIZE_CHANGED", f"{source} changed after it was copied; transfer it again.")
