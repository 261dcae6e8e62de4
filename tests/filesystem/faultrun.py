"""A transfer, deletion or listing on a disk that fails at one of its operations, and checks of the outcome.

Everything here runs in the process of `elsewhere`.
"""

from __future__ import annotations

import errno
import os
import random
import shutil
import tempfile
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from elsewhere import Faulty
from worlds import World, file_world

from chiltepin.backends.filesystem.temp_names import TEMP_PREFIX
from chiltepin.errors import BackendError
from chiltepin.model import TaskState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chiltepin.model import TaskStatus

__all__ = ["faults_of", "rename_faults_of"]

KINDS = ("file", "tree", "sync", "mirror", "delete", "ls")
ERRORS = (errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.ESTALE, 0)
MODES = ((), ("direct",), ("nocopy",), ("direct", "nocopy"), ("late",), ("late", "nocopy"))
SIZES = (0, 1, 4000, 4000, 4000, 300_000)
#: Errors after which a task tries no other file.
FULL = (errno.ENOSPC, errno.EDQUOT)
#: Operations on a single file.
OF_FILES = frozenset({"create", "read", "write", "rename", "copy", "truncate", "utimens", "lseek"})

Tree = dict[str, bytes]


@dataclass
class Plan:
    """A call, a disk and a failure, all chosen at random from one seed."""

    seed: int
    source: Tree = field(default_factory=dict)
    before: Tree = field(default_factory=dict)

    def __post_init__(self) -> None:
        chance = random.Random(self.seed)  # noqa: S311 - reproducible, not secret
        self.kind, self.modes = chance.choice(KINDS), chance.choice(MODES)
        self.error, self.times = chance.choice(ERRORS), chance.choice((1, 1, 0))
        sizes = (*SIZES, (8 << 20) + 5) if chance.random() < 0.1 else SIZES
        names = ["f", *(f"{chance.choice(('', 'a/', 'b/', 'b/c/'))}{number}" for number in range(chance.randint(0, 8)))]
        self.source = {f"d/{name}": chance.randbytes(chance.choice(sizes)) for name in names}
        self.before = {
            path: b"old " + path.encode() for path in ("d/f", "d/extra", "d/gone/extra") if chance.random() < 0.5
        }
        self.options = {
            "verify_checksum": chance.random() < 0.8,
            "preserve_timestamp": chance.random() < 0.5,
        }
        if self.kind == "sync":
            self.options["sync_level"] = chance.choice(("size", "mtime", "checksum"))
        if self.kind == "mirror":
            self.options["delete_destination_extra"] = True

    def wanted(self) -> Tree:
        """The files at the destination after a successful run."""
        if self.kind == "ls":
            return self.before
        if self.kind == "delete":
            return {}
        if self.kind == "file":
            return {**self.before, "d/f": self.source["d/f"]}
        return self.source if self.kind == "mirror" else {**self.before, **self.source}

    def run(self, world: World) -> TaskStatus | set[str]:
        """Run the plan."""
        if self.kind == "file":
            return world.move("/d/f", "/d/f", **self.options)
        if self.kind == "delete":
            return world.remove("/d", recursive=True, ignore_missing=True)
        if self.kind == "ls":
            return {entry.name for entry in world.transfers.ls("scratch", "/d")}
        return world.move("/d", "/d", recursive=True, **self.options)


def fill(top: str, tree: Tree) -> None:
    """Recreate a tree, with old modification times."""
    shutil.rmtree(f"{top}/d", ignore_errors=True)
    os.mkdir(f"{top}/d")
    for path, content in tree.items():
        place = f"{top}/{path}"
        os.makedirs(os.path.dirname(place), exist_ok=True)
        with open(place, "wb") as file:
            file.write(content)
        os.utime(place, (1e9, 1e9))


def tree_of(top: str) -> tuple[Tree, list[str]]:
    """Return the files of a tree, and the paths of its temporary files."""
    files, temp_files = {}, []
    for folder, _, names in os.walk(top):
        for name in names:
            path = os.path.relpath(f"{folder}/{name}", top)
            if name.startswith(TEMP_PREFIX):
                temp_files.append(path)
            else:
                with open(f"{folder}/{name}", "rb") as file:
                    files[path] = file.read()
    return files, temp_files


def open_files() -> Counter[str]:
    """The files that this process has open."""
    places = []
    for descriptor in os.listdir("/proc/self/fd"):
        # The descriptor of the listing itself is already closed.
        with suppress(OSError):
            places.append(os.readlink(f"/proc/self/fd/{descriptor}"))
    return Counter(places)


class Trial:
    """One plan on one disk, run with a failure at one operation after another."""

    def __init__(self, faulty: Faulty, plan: Plan) -> None:
        self.faulty, self.plan = faulty, plan
        self.world = file_world(Path(self.faulty.disk))
        #: Number of operations in the latest run.
        self.operations = 0
        self.behind = f"{self.faulty.folder}/scratch"
        fill(self.world.roots["laptop"], plan.source)

    def at(self, number: int) -> str:
        """Run the plan and make operation ``number`` fail; return its kind, or "none" if nothing failed."""
        fill(self.world.roots["scratch"], self.plan.before)
        descriptors = open_files()
        self.faulty.plan(number, self.plan.times, self.plan.error)
        outcome: Any
        try:
            outcome = self.plan.run(self.world)
        except BackendError as err:
            outcome = err
        self.operations, failed, kind = self.faulty.count()
        self.faulty.plan()
        # Worker processes of an earlier test may end meanwhile, which closes their pipes.
        left = open_files() - descriptors
        assert not left, f"left open: {left}, after {kind}, {outcome}"
        self._judge(outcome, failed, kind)
        again = self.plan.run(self.world)
        assert isinstance(again, set) or again.state is TaskState.SUCCEEDED, again
        files, temp_files = tree_of(self.behind)
        assert not temp_files, f"the second run left {temp_files}, after {outcome}"
        assert files == self.plan.wanted(), f"the second run did not complete it, after {outcome}"
        return kind

    def _judge(self, outcome: Any, failed: int, kind: str) -> None:
        files, temp_files = tree_of(self.behind)
        if failed == 1 and kind != "unlink":
            assert not temp_files, temp_files
        if isinstance(outcome, BackendError):
            assert failed
            assert str(outcome).endswith("."), outcome
            return
        if isinstance(outcome, set):
            assert outcome == {path.split("/")[1] for path in self.plan.before}
            return
        for path, content in files.items():
            assert content in (self.plan.source.get(path), self.plan.before.get(path)), f"{path} is neither old nor new"
        if outcome.state is TaskState.SUCCEEDED:
            assert (files, outcome.code, outcome.reason) == (self.plan.wanted(), "", "")
        else:
            assert failed
            assert outcome.state is TaskState.FAILED
            assert outcome.code
            assert outcome.reason.endswith("."), outcome.reason
            assert outcome.faults
        if self.plan.kind == "delete":
            assert outcome.files_done == len(self.plan.before) - len(files)
            return
        new = {path for path, content in self.plan.source.items() if files.get(path) == content}
        # Files that a mirror deletes are counted as well.
        removed = len(self.plan.before.keys() - files.keys())
        counts = (outcome.files_done, len(new) + removed)
        assert counts[0] == counts[1], f"{counts[0]} counted of {counts[1]}: {outcome.reason}"
        assert outcome.bytes_done == sum(len(self.plan.source[path]) for path in new)
        if outcome.state is TaskState.FAILED:
            assert files.keys() >= self.plan.before.keys() or self.plan.kind == "mirror", "a file of before is gone"
            missing = self._due() - new
            if failed == 1 and kind in OF_FILES and self.plan.error not in FULL:
                assert len(missing) <= 1, f"one bad file kept others: {missing}"

    def _due(self) -> set[str]:
        return {"d/f"} if self.plan.kind == "file" else set(self.plan.source)


def faults_of(program: str, seed: int, most: int) -> Counter[str]:
    """Make each operation of a plan fail in turn, or ``most`` of them at random; return the failures by kind."""
    plan = Plan(seed)
    chance, seen = random.Random(seed), Counter[str]()  # noqa: S311 - reproducible, not secret
    with tempfile.TemporaryDirectory() as top, Faulty(program, f"{top}/behind", *plan.modes) as faulty:
        trial = Trial(faulty, plan)
        trial.at(0)
        positions: Sequence[int] = range(1, trial.operations + 1)
        if len(positions) > most:
            positions = chance.sample(positions, most)
        for number in positions:
            try:
                seen[trial.at(number)] += 1
            except AssertionError as err:  # noqa: PERF203 - to name the operation
                raise AssertionError(f"{plan.kind} {plan.modes} errno {plan.error} at {number}: {err}") from err
    return seen


def rename_faults_of(program: str, error: int) -> list[tuple[str, set[str]]]:
    """Make each operation of a rename fail in turn; return its kind and the paths that the file has afterwards."""
    seen = []
    with tempfile.TemporaryDirectory() as top, Faulty(program, f"{top}/behind", "direct") as faulty:
        world = file_world(Path(faulty.disk))
        while not seen or seen[-1][0] != "none":
            fill(world.roots["scratch"], {"d/old/f": b"data", "d/new/other": b"other"})
            faulty.plan(len(seen) + 1, 1, error)
            with suppress(BackendError):
                world.transfers.backend.rename("scratch", "/d/old/f", "/d/new/f")
            kind = faulty.count()[2]
            faulty.plan()
            files = tree_of(world.roots["scratch"])[0]
            seen.append((kind, {path for path, content in files.items() if content == b"data"}))
    return seen
