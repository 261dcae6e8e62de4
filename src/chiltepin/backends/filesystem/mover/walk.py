"""Going through all folders of a tree, together."""

from __future__ import annotations

import threading
from collections import deque
from functools import partial
from typing import TYPE_CHECKING

from chiltepin.backends.filesystem.mover.pool import TaskGroup

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from chiltepin.backends.filesystem.mover.task import TaskRun
    from chiltepin.paths import Parts

__all__ = ["Node", "walk"]


class Node:
    """A folder that is not done with yet, below the top of a tree.

    It knows its name and the folder above, not its path: a million of them may be waiting.
    """

    __slots__ = ("above", "kept", "name", "open")

    def __init__(self, name: str = "", above: Node | None = None) -> None:
        self.name, self.above = name, above
        #: Folders in it that are not done with yet, and itself as long as it is visited.
        self.open = 1
        #: Whether something has to stay in it, when a tree is removed.
        self.kept = False

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
        self, run: TaskRun, visit: Callable[[Node, TaskGroup], Iterable[str]], leave: Callable[[Node], None] | None
    ) -> None:
        self._task, self._visit, self._leave = run, visit, leave
        self._lock = threading.Lock()

    def below(self, group: TaskGroup, top: Node) -> None:
        """Visit a folder and all below it, depth first, except what an idle thread takes over."""
        waiting = deque([top])
        while waiting:
            self._task.check()
            # The folder that waits longest is the nearest to the top, and so has most below it.
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
    run: TaskRun, visit: Callable[[Node, TaskGroup], Iterable[str]], leave: Callable[[Node], None] | None = None
) -> None:
    """Visit all folders of a tree, with as many threads as the pool of the run has.

    Parameters
    ----------
    run : TaskRun
        The task, which may be cancelled.
    visit : callable
        Processes a folder, handles its errors, and returns the names of the folders in it.
    leave : callable or None
        Called for each folder after it and all folders below it were visited.
    """
    with TaskGroup(run.pool) as group:
        _Walk(run, visit, leave).below(group, Node())
