"""Walk all folders of a tree, with several threads."""

from __future__ import annotations

import sys
import threading
from collections import deque
from functools import partial
from typing import TYPE_CHECKING

from chiltepin.backends.filesystem.mover.thread_count import TaskGroup

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from chiltepin.backends.filesystem.mover.task import TaskRun
    from chiltepin.protocol.paths import Parts

__all__ = ["Node", "walk"]


class Node:
    """A folder of a tree that is not finished yet.

    It knows its name and the folder above, not its path: a million of them may be waiting.
    """

    __slots__ = ("above", "kept", "name", "open")

    def __init__(self, name: str = "", above: Node | None = None) -> None:
        self.name, self.above = name, above
        #: Unfinished folders in it, plus one while it is visited itself.
        self.open = 1
        #: Whether something has to stay in it, when a tree is removed.
        self.kept = False

    @classmethod
    def at(cls, parts: Parts) -> Node:
        """Return the node of a folder where a walk starts; ``leave`` is never called for those above it."""
        node = cls()
        for name in parts:
            node.open = sys.maxsize
            node = cls(name, node)
        return node

    @property
    def parts(self) -> Parts:
        """The names from the top of the tree down to it; none for the top."""
        names, node = [], self
        while node.above is not None:
            names.append(node.name)
            node = node.above
        return tuple(reversed(names))


class _Walk:
    def __init__(
        self,
        run: TaskRun,
        visit: Callable[[Node, TaskGroup], Iterable[str]],
        leave: Callable[[Node], None] | None,
        enough: Callable[[], bool],
    ) -> None:
        self._task, self._visit, self._leave, self._enough = run, visit, leave, enough
        self._lock = threading.Lock()
        self.rest: list[Parts] = []

    def below(self, group: TaskGroup, *tops: Node) -> None:
        """Visit folders and all below them, depth first, except those that an idle thread takes over."""
        waiting = deque(tops)
        while waiting:
            self._task.check()
            if self._enough():
                # Their parents stay open, so ``leave`` is not called for them.
                self.rest.extend(node.parts for node in waiting)
                return
            # The folder that has waited longest is nearest to the top, and so probably has the most below it.
            if len(waiting) > 1 and group.offer(partial(self.below, group, waiting[0])):
                waiting.popleft()
                continue
            node = waiting.pop()
            folders = [Node(name, node) for name in self._visit(node, group)]
            with self._lock:
                node.open += len(folders)
            waiting.extend(folders)
            self._close(node)

    def _close(self, node: Node | None) -> None:
        while node is not None:
            with self._lock:
                node.open -= 1
                if node.open:
                    return
            if self._leave is not None:
                self._leave(node)
            node = node.above


def walk(
    run: TaskRun,
    visit: Callable[[Node, TaskGroup], Iterable[str]],
    leave: Callable[[Node], None] | None = None,
    *,
    starts: Iterable[Parts] = ((),),
    enough: Callable[[], bool] = lambda: False,
) -> list[Parts]:
    """Visit all folders of a tree, with as many threads as the pool of the run has.

    Parameters
    ----------
    run : TaskRun
        The task, which may be canceled.
    visit : callable
        Processes a folder, handles its errors, and returns the names of the folders in it.
    leave : callable or None
        Called for each folder after it and all folders below it were visited.
    starts : iterable of tuple of str
        The folders to begin with; by default the top of the tree.
    enough : callable
        Called before each folder; if it returns True, no more folders are visited.

    Returns
    -------
    list of tuple of str
        The folders that were found but not visited.
    """
    walking = _Walk(run, visit, leave, enough)
    with TaskGroup(run.pool) as group:
        walking.below(group, *map(Node.at, starts))
    return walking.rest
