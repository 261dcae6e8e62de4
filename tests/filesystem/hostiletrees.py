"""Trees and paths that try to leave the root of an endpoint, and a check of the files outside."""

from __future__ import annotations

import os
import shutil
import threading
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from chiltepin.errors import ChiltepinError
from chiltepin.model import TaskState
from chiltepin.transfers.arguments import delete_request, transfer_request

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from random import Random

    from typing_extensions import Self

    from chiltepin.transfers.runner import Transfers

__all__ = ["Outside", "Swapper", "Tally", "ask_all", "link_target", "odd_path", "plant"]

#: Contained in every file outside and in some of their names, but in no requested path and no link.
MARK = "marrow-of-the-outside"

NAMES = ("a", "b", "c", "d")

#: Targets of links inside, formatted with the folder of the roots and the names of both roots.
TARGETS = (
    *("{base}/outside", "{base}/outside/folder", "{base}/outside/key", "{base}/{root}-twin/key", "{base}/{root}-twin"),
    *("/", "/proc/self/root{base}/outside", "/proc/self/cwd", "/etc", "/etc/passwd", "//{base}/outside/key"),
    *("{base}/{root}/../outside/key", "{base}/{root}/a/../../outside", "{base}/./{root}/../outside/."),
    *("{base}/{root}", "{base}/{root}/a", "{base}/{root}/b/c", "{base}/{root}/", "{base}", "{base}/{other}", "nowhere"),
    *("..", ".", "../..", "../../..", "../outside", "../../outside/key", "../../../outside/folder", "../{root}-twin"),
    *("a", "b", "c", "d", "a/b", "b/../a", "../a", "../b/c", "./c", "a/../../outside/key", "../{root}/a", "d/", "a//b"),
)

#: Components of a path, most of them plain names.
STEPS = (
    *NAMES * 6,
    "..",
    "..",
    ".",
    "",
    "~",
    "key",
    "outside",
    "folder",
    "%2e%2e",
    "..\\",
    "...",
    "\u2025",
    "a\n",
    "..;",
)

#: Whole paths that are odd or invalid, or lead above the root.
WHOLE = (
    *("", "/", "//", ".", "./", "/.", "~", "~/", "~/.", "..", "/..", "../", "~/..", "/a/..", "a/..", "/a/../", "/./."),
    *("\0", "/a\0b", "/../outside/key", "../outside/key", "~/../outside", "/a/../../outside/key", "/proc/self/cwd"),
    *("/" + "x" * 300, "/" + "a/" * 300, "/a/" + "../" * 40 + "etc/passwd", "\udcff", "/\udcff/..", "/*", "/a*", "[a]"),
)


def link_target(chance: Random, base: str, root: str, other: str) -> str:
    """A target for a link in one of two roots in the same folder."""
    return chance.choice(TARGETS).format(base=base, root=root, other=other)


def odd_path(chance: Random, root: str = "") -> str:
    """A path for a request, usually within the tree."""
    if chance.random() < 0.1:
        return chance.choice(WHOLE)
    if root and chance.random() < 0.7:
        return _way(chance, root)
    start = chance.choice(("/", "/", "/", "", "~/", "//"))
    return start + "/".join(chance.choice(STEPS) for _ in range(chance.randint(1, 4)))


def _way(chance: Random, root: str) -> str:
    """A path to something in the tree."""
    path, place = "", root
    for _ in range(chance.randint(1, 4)):
        # The target of a link is not listed, because that could read a folder outside.
        names = os.listdir(place) if place == root or (os.path.isdir(place) and not os.path.islink(place)) else NAMES
        if not names:
            break
        name = chance.choice(sorted(names))
        path, place = f"{path}/{name}", os.path.join(place, name)
        if os.path.isfile(place) and not os.path.islink(place):
            break
    return path or "/a"


def plant(chance: Random, folder: str, base: str, root: str, other: str, depth: int = 0) -> None:
    """Fill a folder with files, folders, pipes and links."""
    for name in NAMES:
        place, kind = os.path.join(folder, name), chance.random()
        if kind < 0.25:
            os.mkdir(place)
            if depth < 3:
                plant(chance, place, base, root, other, depth + 1)
        elif kind < 0.5:
            with open(place, "wb") as file:
                file.write(b"inside")
        elif kind < 0.85:
            os.symlink(link_target(chance, base, root, other), place)
        elif kind < 0.88:
            os.mkfifo(place)


class LinkedFileSystem(LocalFileSystem):
    """A store that reports links: fsspec's local filesystem, which follows them out of any folder."""

    protocol = "hostile"

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return super()._strip_protocol(path.removeprefix("hostile://"))


fsspec.register_implementation("hostile", LinkedFileSystem, clobber=True)


class Outside:
    """The files beside the roots, which must not be read, written or removed.

    Parameters
    ----------
    base : path
        The folder of the roots.
    roots : sequence of str
        The names of the roots.
    """

    def __init__(self, base: Path | str, roots: tuple[str, ...]) -> None:
        self.base = str(base)
        places = [os.path.join(self.base, name) for name in ("outside", *(f"{root}-twin" for root in roots))]
        for place in places:
            os.makedirs(os.path.join(place, "folder", f"{MARK}-folder"))
            for name in ("key", "folder/key", f"folder/{MARK}", f"folder/{MARK}-folder/key"):
                with open(os.path.join(place, name), "w") as file:
                    file.write(f"{MARK} of {name}")
            os.symlink("key", os.path.join(place, "link"))
        found = [path for place in places for path in _below(place)]
        for path in found:
            # So old that any read updates the access time, even on a disk mounted with ``relatime``.
            os.utime(path, (1000, 1000), follow_symlinks=False)
        self._before = {path: _facts(path) for path in found}
        self._roots = {root: os.stat(os.path.join(self.base, root)).st_ino for root in roots}
        self._top = sorted(os.listdir(self.base))

    def check(self) -> None:
        """Check that nothing was read, written, added or removed."""
        for path, before in self._before.items():
            now = _facts(path)
            assert now == before, f"{path} was touched: {before} {now}"
        for root, inode in self._roots.items():
            assert os.stat(os.path.join(self.base, root)).st_ino == inode, f"the root {root} is another one"
        assert sorted(os.listdir(self.base)) == self._top


def _below(place: str) -> Iterator[str]:
    yield place
    for above, folders, files in os.walk(place):
        yield from (os.path.join(above, name) for name in (*folders, *files))


def _facts(path: str) -> tuple[int, ...]:
    facts = os.lstat(path)
    return (
        facts.st_ino,
        facts.st_mode,
        facts.st_nlink,
        facts.st_size,
        facts.st_mtime_ns,
        facts.st_ctime_ns,
        # Reading a link changes its access time; only the links inside are followed.
        0 if os.path.islink(path) else facts.st_atime_ns,
    )


@dataclass
class Tally:
    """Counts of the calls and their outcomes."""

    tries: int = 0
    asked: int = 0
    succeeded: int = 0
    refused: int = 0
    listed: int = 0
    swaps: int = 0
    trees: int = 0


def ask_all(chance: Random, transfers: Transfers, tally: Tally, path: str, goal: str) -> None:
    """Transfer, delete and list paths of ``laptop`` and ``scratch``; check that no message reveals files outside."""
    tally.tries += 1
    for made in (
        lambda: _transfer(chance, path, "/got", recursive=False),
        lambda: _transfer(chance, path, "/tree", recursive=True),
        lambda: _transfer(chance, "/a", goal, recursive=chance.random() < 0.5),
        lambda: _transfer(chance, path, goal, recursive=chance.random() < 0.5),
        lambda: delete_request(src_ep="scratch", src_path=goal, recursive=chance.random() < 0.7),
        lambda: delete_request(src_ep="laptop", src_path=path, recursive=chance.random() < 0.3),
    ):
        tally.asked += 1
        try:
            status = transfers.run(made(), timeout=60, polling_interval=1)
        except (ChiltepinError, ValueError) as err:
            tally.refused += 1
            _clean(str(err))
            continue
        assert status.state in (TaskState.SUCCEEDED, TaskState.FAILED), status
        tally.succeeded += status.state is TaskState.SUCCEEDED
        tally.refused += status.code == "PERMISSION_DENIED"
        _clean(status.reason)
    for endpoint, where in (("laptop", path), ("scratch", goal)):
        tally.asked += 1
        try:
            entries = transfers.ls(endpoint, where)
        except (ChiltepinError, ValueError) as err:
            _clean(str(err))
            continue
        tally.listed += 1
        _clean("\n".join(entry.name for entry in entries))


def _transfer(chance: Random, source: str, goal: str, *, recursive: bool) -> Any:
    extra = recursive and chance.random() < 0.3
    level = chance.choice((None, None, "exists", "size", "mtime", "checksum"))
    return transfer_request(
        src_ep="laptop",
        dst_ep="scratch",
        src_path=source,
        dst_path=goal,
        recursive=recursive,
        sync_level=level,
        delete_destination_extra=extra,
    )


def _clean(words: str) -> None:
    assert MARK not in words, words


def nothing_came_in(root: str) -> None:
    """Check that no file below a root has a name or content from outside, then empty the root."""
    for above, folders, files in os.walk(root):
        for name in (*folders, *files):
            _clean(name)
        for name in files:
            path = os.path.join(above, name)
            if os.path.isfile(path) and not os.path.islink(path):
                with open(path, "rb") as file:
                    assert MARK.encode() not in file.read(), path
    with os.scandir(root) as entries:
        for entry in entries:
            shutil.rmtree(entry.path) if entry.is_dir(follow_symlinks=False) else os.unlink(entry.path)


class Swapper:
    """Threads that replace folders and files by links, and back again, as fast as possible.

    Parameters
    ----------
    chance : Random
        Chooses the targets of the links.
    base : str
        The folder of the roots.
    roots : tuple of str
        The names of the roots.
    """

    def __init__(self, chance: Random, base: str, roots: tuple[str, ...]) -> None:
        self._chance, self._base, self._roots = chance, base, roots
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._swap, args=(root,), daemon=True) for root in roots]
        self.swaps = 0

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive()

    def _swap(self, root: str) -> None:
        other = next(name for name in self._roots if name != root)
        places = [*NAMES, "a/a", "a/b", "b/a", "tree", "tree/a", "got"]
        targets = [link_target(self._chance, self._base, root, other) for _ in range(4)]
        targets += [f"{self._base}/outside/folder", f"{self._base}/outside/key", f"{self._base}/outside"]
        while not self._over.is_set():
            for place in places:
                if self._over.is_set():
                    return
                above, _, name = place.rpartition("/")
                # Held open, so that a link at /a cannot redirect a swap in /a/a.
                with suppress(OSError):
                    folder = os.open(
                        os.path.join(self._base, root, above), os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
                    )
                    try:
                        self._swap_in(folder, name, targets)
                    finally:
                        os.close(folder)

    def _swap_in(self, folder: int, name: str, targets: list[str]) -> None:
        for target in targets:
            with suppress(OSError):
                os.rename(name, "aside", src_dir_fd=folder, dst_dir_fd=folder)
                os.symlink(target, name, dir_fd=folder)
                self.swaps += 1
                os.unlink(name, dir_fd=folder)
            with suppress(OSError):
                os.rename("aside", name, src_dir_fd=folder, dst_dir_fd=folder)
