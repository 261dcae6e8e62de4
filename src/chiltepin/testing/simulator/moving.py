"""Move the items of a transfer: files and folders, with filters, skipped errors and removed extra files.

Each generator here yields the seconds that its last step took, so that the engine can run other tasks between the
steps. A fault of one file does not stop the rest.
"""

from __future__ import annotations

import fnmatch
from contextlib import contextmanager
from typing import TYPE_CHECKING

from chiltepin.protocol.paths import joined
from chiltepin.testing.simulator.clock import utc
from chiltepin.testing.simulator.copying import Copier
from chiltepin.testing.simulator.removing import remove_tree
from chiltepin.testing.simulator.task_faults import FROM_DISK, SKIPPABLE, TaskFault, fault_from_error

if TYPE_CHECKING:
    from collections.abc import Generator

    from chiltepin.backends.filesystem.local.folder import LocalFolder
    from chiltepin.backends.filesystem.store import Entry
    from chiltepin.protocol.paths import Parts
    from chiltepin.testing.simulator.collection import Collection
    from chiltepin.testing.simulator.settings import Settings
    from chiltepin.testing.simulator.submissions import Item
    from chiltepin.testing.simulator.tasks import Task

__all__ = ["Transfer"]


class Transfer:
    """One round of a transfer, which tries everything that is not done yet once."""

    def __init__(self, task: Task, settings: Settings) -> None:
        assert task.submission.destination is not None  # noqa: S101 - only deletes have none
        self._task, self._submission = task, task.submission
        self._source, self._goal = task.submission.source, task.submission.destination
        self._copier = Copier(task, self._goal, settings)
        #: The number of paths of this round to retry, and of skipped paths.
        self._faulty = self._skipped = 0
        #: Destination folders, and the names in their sources.
        self._kept: list[tuple[Parts, set[str]]] = []

    def run(self) -> Generator[float, None, bool]:
        """Try all unfinished items once; return whether any is still unfinished."""
        for item in self._submission.items:
            yield from self._attempt(item, self._item(item), item.source_path, item.destination_path)
        return self._faulty > 0

    def _attempt(
        self, item: Item, steps: Generator[float, None, None], source_path: str, destination_path: str
    ) -> Generator[float, None, None]:
        """Do the steps; record a fault of these paths alone, or skip them if the user requested that."""
        try:
            yield from steps
        except FROM_DISK as err:
            fault = fault_from_error(err, self._goal.where(destination_path))
        else:
            return
        if fault.fatal or fault.everywhere:
            raise fault
        skippable = isinstance(fault, _SourceFault) and fault.code in SKIPPABLE
        if skippable and self._submission.flag("skip_source_errors"):
            self._skip(item, fault, source_path, destination_path)
        else:
            self._faulty += 1
            self._task.retry(fault)

    def _skip(self, item: Item, fault: TaskFault, source_path: str, destination_path: str) -> None:
        self._skipped += 1
        if not self._task.count(("skip", source_path, destination_path), subtasks_skipped_errors=1):
            return
        if source_path != item.source_path:
            self._task.count((source_path, destination_path), subtasks_total=1)
        self._task.skipped.append(
            {
                "DATA_TYPE": "skipped_error",
                "checksum_algorithm": item.checksum_algorithm,
                "destination_path": destination_path,
                "error_code": fault.code,
                "error_details": fault.details,
                "error_time": utc(self._task.now()).isoformat(timespec="seconds"),
                "external_checksum": item.external_checksum,
                "is_delete_destination_extra": False,
                "is_directory": source_path.endswith("/"),
                "is_symlink": False,
                "source_path": source_path,
            }
        )

    def _item(self, item: Item) -> Generator[float, None, None]:
        if item in self._task.done:
            return
        before = self._faulty
        self._task.count(item, subtasks_total=1)
        source, entry = self._look(item)
        folder = entry is None or entry.kind == "dir"
        if item.recursive is True and not folder:
            raise TaskFault("NOT_A_DIRECTORY", f"{self._source.where(item.source_path)}: Not a directory", fatal=True)
        if item.recursive is False and folder:
            raise TaskFault("IS_A_DIRECTORY", f"{self._source.where(item.source_path)}: Is a directory", fatal=True)
        goal = self._goal.parts(item.destination_path)
        if not folder:
            if not goal or item.destination_path.endswith("/"):
                raise TaskFault(
                    "IS_A_DIRECTORY", f"{self._goal.where(item.destination_path)}: Is a directory", fatal=True
                )
            yield from self._file(item, source, goal, (item.source_path, item.destination_path))
        else:
            yield from self._tree(item, source, goal)
        if self._faulty == before:
            self._task.done.add(item)
            self._task.count(("done", item), subtasks_succeeded=1)

    def _look(self, item: Item) -> tuple[Parts, Entry | None]:
        """Return an item's source path with links resolved, and its entry; None for the root of the collection."""
        with _source_side(self._source, item.source_path):
            parts = self._source.parts(item.source_path)
            self._source.admit(parts)
            parts = self._source.store.resolve(parts, follow=True)
            if not parts:
                return parts, None
            with self._source.store.folder(parts[:-1]) as above:
                entry = above.entry(parts[-1])
            if entry is None:
                raise FileNotFoundError(2, "No such file or directory")
            return parts, entry

    def _tree(self, item: Item, source: Parts, goal: Parts) -> Generator[float, None, None]:
        goal = self._goal.store.resolve(goal, follow=True)
        if self._source.store.contains(source, self._goal.store, goal):
            raise TaskFault(
                "INVALID_PATH_NAME",
                f"{self._goal.where(item.destination_path)}: The destination lies in the source",
                fatal=True,
            )
        roots = (item.source_path.rstrip("/"), item.destination_path.rstrip("/"))
        waiting: list[tuple[str, ...]] = [()]
        while waiting:
            below = waiting.pop()
            shown = tuple("/".join((root, *below)) for root in roots)
            folders: list[str] = []
            steps = self._folder(item, (*source, *below), (*goal, *below), shown, folders)
            yield from self._attempt(item, steps, f"{shown[0]}/", f"{shown[1]}/")
            waiting.extend((*below, name) for name in reversed(folders))
        if self._submission.flag("delete_destination_extra"):
            yield from self._remove_extra(goal)

    def _folder(
        self, item: Item, source: Parts, goal: Parts, shown: tuple[str, ...], folders: list[str]
    ) -> Generator[float, None, None]:
        """Move the files of one folder; add the names of its subfolders to ``folders``."""
        with _source_side(self._source, shown[0]):
            self._source.admit(source)
            with self._source.store.folder(source) as here:
                entries = sorted(here.entries(), key=lambda entry: entry.name)
        self._goal.admit(goal)
        with self._goal.store.folder(goal, create=True):
            pass
        self._task.count((*shown, "/"), directories=1, subtasks_total=1, subtasks_succeeded=1)
        for entry in entries:
            paths = (f"{shown[0]}/{entry.name}", f"{shown[1]}/{entry.name}")
            if entry.kind == "link":
                self._task.count((*paths, "link"), symlinks=1)
            elif entry.kind == "dir" and self._wanted(entry):
                folders.append(entry.name)
            elif entry.kind == "file" and self._wanted(entry):
                steps = self._file(item, (*source, entry.name), (*goal, entry.name), paths)
                yield from self._attempt(item, steps, *paths)
        self._kept.append((goal, {entry.name for entry in entries}))

    def _remove_extra(self, goal: Parts) -> Generator[float, None, None]:
        """Remove what exists only in the destination folders, if everything was moved."""
        if self._skipped or self._faulty:
            self._task.add_event("DELETE_DESTINATION_EXTRA_SKIPPED", f"Path: {joined(goal)}")
            return
        for folder, names in self._kept:
            with self._goal.store.folder(folder) as there:
                extra = sorted(entry.name for entry in there.entries() if entry.name not in names)
            for name in extra:
                yield from remove_tree(self._goal, (*folder, name))
        self._kept.clear()

    def _wanted(self, entry: Entry) -> bool:
        """Whether the filter rules accept an entry of a folder; the first rule that matches decides."""
        for rule in self._submission.filter_rules:
            if rule.get("type") in (None, entry.kind) and fnmatch.fnmatchcase(entry.name, rule["name"]):
                return bool(rule["method"] == "include")
        return True

    def _file(self, item: Item, source: Parts, goal: Parts, shown: tuple[str, str]) -> Generator[float, None, None]:
        """Move one file, unless it is done or the sync level skips it."""
        if shown in self._task.done:
            return
        with _source_side(self._source, shown[0]):
            self._source.admit(source)
            above = self._source.store.folder(source[:-1])
        with above:
            with _source_side(self._source, shown[0]):
                reader = above.read(source[-1])
            with reader:
                self._task.count(shown, files=1, subtasks_total=1)
                self._goal.admit(goal)
                goal, there = self._enter(goal)
                with there:
                    yield from self._copier.copy(item, reader, there, goal[-1], shown)
        self._task.done.add(shown)
        self._task.count(("done", *shown), subtasks_succeeded=1)
        self._task.progressed()

    def _enter(self, goal: Parts) -> tuple[Parts, LocalFolder]:
        above, folder = self._goal.store.enter(goal[:-1], create=True)
        return (*above, goal[-1]), folder


class _SourceFault(TaskFault):
    """A fault on the source, which may be skipped."""


@contextmanager
def _source_side(collection: Collection, path: str) -> Generator[None, None, None]:
    try:
        yield
    except Exception as error:  # noqa: BLE001 - whatever it is, it happened on the source
        fault = fault_from_error(error, collection.where(path))
        failure = _SourceFault(fault.code, fault.details, fatal=fault.fatal)
    else:
        return
    raise failure
