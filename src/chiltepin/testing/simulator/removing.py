"""Remove the paths of a delete in steps; see `moving` for what the generators yield."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from chiltepin.errors import PermissionDeniedError
from chiltepin.protocol.paths import glob
from chiltepin.testing.simulator.task_faults import FROM_DISK, TaskFault, fault_from_error

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from chiltepin.protocol.paths import Parts
    from chiltepin.testing.simulator.collection import Collection
    from chiltepin.testing.simulator.settings import Settings
    from chiltepin.testing.simulator.submissions import Item
    from chiltepin.testing.simulator.tasks import Task

__all__ = ["Delete", "remove_tree"]


def remove_tree(
    collection: Collection, top: Parts, removed: Callable[[str], object] | None = None
) -> Generator[float, None, None]:
    """Remove a file, a link or a whole folder; the root of a collection is never removed.

    No parent folder in ``top`` is a link. ``removed`` is called with ``"dir"``, ``"file"`` or ``"link"`` per entry.
    """
    if not top:
        raise _root_refused(collection)
    waiting = [(top, False)]
    while waiting:
        parts, emptied = waiting.pop()
        collection.admit(parts)
        with collection.store.folder(parts[:-1]) as above:
            entry = above.entry(parts[-1])
            if entry is None:
                continue
            if entry.kind == "dir" and not emptied:
                with collection.store.folder(parts) as folder:
                    names = sorted((inner.name for inner in folder.entries(temp_files=True)), reverse=True)
                waiting.append((parts, True))
                waiting.extend(((*parts, name), False) for name in names)
                continue
            remove = above.remove_folder if entry.kind == "dir" else above.remove
            remove(parts[-1])
        if removed is not None:
            removed(entry.kind)
        yield 0.0


def _root_refused(collection: Collection) -> TaskFault:
    return TaskFault("PERMISSION_DENIED", f"{collection.where('/')}: The root cannot be deleted", fatal=True)


class Delete:
    """One round of a delete."""

    def __init__(self, task: Task, settings: Settings) -> None:
        self._task, self._submission, self._settings = task, task.submission, settings
        self._collection = task.submission.source

    def run(self) -> Generator[float, None, bool]:
        """Try all unfinished items once; return whether any is still unfinished."""
        has_faults = False
        for item in self._submission.items:
            if item in self._task.done:
                continue
            self._task.count(item, subtasks_total=1)
            try:
                yield from self._item(item)
            except FROM_DISK as err:
                fault = fault_from_error(err, self._collection.where(item.source_path))
                if fault.fatal or fault.everywhere:
                    raise fault from None
                self._task.retry(fault)
                has_faults = True
            else:
                self._task.done.add(item)
                self._task.count(("done", item), subtasks_succeeded=1)
                self._task.progressed()
        return has_faults

    def _item(self, item: Item) -> Generator[float, None, None]:
        for parts in self._matches(item):
            yield self._settings.latency
            yield from self._one(item, parts)

    def _matches(self, item: Item) -> list[Parts]:
        """Return the paths that match; only the last name may be a pattern."""
        parts = self._collection.parts(item.source_path)
        if parts:
            parts = self._collection.store.resolve(parts, follow=False)
        if not parts:
            raise _root_refused(self._collection)
        if not self._submission.flag("interpret_globs"):
            return [parts]
        try:
            matches = glob(parts[-1])
        except PermissionDeniedError as err:
            raise TaskFault("PERMISSION_DENIED", str(err), fatal=True) from None
        try:
            with self._collection.store.folder(parts[:-1]) as above:
                names = sorted(entry.name for entry in above.entries() if matches(entry.name))
        except (FileNotFoundError, NotADirectoryError):
            names = []
        return [(*parts[:-1], name) for name in names] or [parts]

    def _one(self, item: Item, parts: Parts) -> Generator[float, None, None]:
        self._collection.admit(parts)
        where = self._collection.where(item.source_path)
        try:
            with self._collection.store.folder(parts[:-1]) as above:
                entry = above.entry(parts[-1])
        except OSError as err:
            if err.errno not in (errno.ENOENT, errno.ENOTDIR):
                raise
            entry = None
        if entry is None:
            if self._submission.flag("ignore_missing"):
                return
            # Unlike a transfer, a delete does not wait for its path to appear (docs.globus.org, "Task Submission", 4).
            raise TaskFault("FILE_NOT_FOUND", f"{where}: No such file or directory", fatal=True)
        if entry.kind == "dir" and not self._submission.flag("recursive"):
            raise TaskFault("IS_A_DIRECTORY", f"{where}: Is a directory", fatal=True)
        yield from remove_tree(self._collection, parts, self._gone)

    def _gone(self, kind: str) -> None:
        counter = {"dir": "directories", "link": "symlinks"}.get(kind, "files")
        self._task.add(subtasks_total=1, subtasks_succeeded=1, **{counter: 1})
