"""Compare Chiltepin with programs that only make its system calls, in C and in Python, and with cp, rsync and rm.

``python benchmarks/floors.py --help`` lists the options; docs/reference/benchmarks.md explains the figures.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
from functools import partial
from itertools import count
from typing import TYPE_CHECKING

from copies import COPIERS, LOOKERS, by_python, copied
from measure import Stopwatch, command, compare, fresh, needs, scratch
from trees import ENDPOINT, HERE, endpoint, make_tree, run, timed

from chiltepin.data import delete

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from copies import Copier

NUMBER = count()
TEMPORARY = ".chiltepin-0123456789ab-0123456789abcdef-1-01234567"
FOLDER = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_DIRECTORY
OLD = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC


def main() -> None:
    """Measure, and print one table for each kind of work."""
    options = _options()
    with scratch(options.folder) as folder:
        root, program = endpoint(os.path.join(folder, "root")), os.path.join(folder, "floor")
        os.chdir(root)
        if shutil.which("cc"):
            subprocess.run(["cc", "-O2", "-o", program, os.path.join(HERE, "floor.c")], check=True)
        make_tree("single", 1, 1, options.size)
        make_tree("tree", options.files, options.folders, options.size)
        what = f"{options.files} files of {options.size} bytes"
        _compare("copy", f"{what}, copied", _copiers(program), partial(copied, "tree", set()), options.rounds)
        _compare("deletion", f"{what}, deleted", _deleters(program), _deleted, options.rounds)
        if options.unchanged:
            run("rm", "-rf", "tree")
            make_tree("tree", options.unchanged, options.folders, 0)
            run("cp", "-a", "tree", "same")
            what = f"{options.unchanged} empty files, unchanged"
            _compare("unchanged", what, _lookers(program), lambda _, look: look("tree", "same"), options.rounds)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--files", type=int, default=10_000, help="files to copy and to delete (10000)")
    parser.add_argument("--folders", type=int, default=100, help="folders that they are in (100)")
    parser.add_argument("--size", type=int, default=4096, help="bytes per file (4096)")
    parser.add_argument("--unchanged", type=int, default=200_000, help="files to compare; 0: none (200000)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds that count (5)")
    parser.add_argument("--folder", help="where to make the temporary folder: this chooses the disk")
    return parser.parse_args()


def _compare(
    key: str, title: str, sides: dict[str, tuple[str, Copier]], work: Callable[[str, Copier], Stopwatch], rounds: int
) -> None:
    candidates = {name: needs(program, timed(partial(work, name, side))) for name, (program, side) in sides.items()}
    compare(key, title, candidates, rounds)


def _copiers(program: str) -> dict[str, tuple[str, Copier]]:
    return {
        **{name: COPIERS[name] for name in ("cp", "rsync -a")},
        "in C": ("cc", partial(_by_floor, program, "copy")),
        "in Python": ("python", by_python(_copy_all)),
        "transfer": COPIERS["transfer"],
    }


def _lookers(program: str) -> dict[str, tuple[str, Copier]]:
    return {
        "rsync -a": LOOKERS["rsync -a"],
        "in C": ("cc", partial(_by_floor, program, "compare")),
        "in Python": ("python", lambda source, target: fresh(timed(partial(_compare_all, source, target)))),
        "transfer, mtime": LOOKERS["transfer, mtime"],
    }


def _deleters(program: str) -> dict[str, tuple[str, Copier]]:
    return {
        "rm -rf": ("rm", lambda _, target: command("rm", "-rf", target)),
        "in C": ("cc", lambda _, target: _by_floor(program, "delete", target)),
        "in Python": ("python", lambda _, target: fresh(timed(partial(_delete_all, target)))),
        "delete": ("chiltepin", lambda _, target: timed(lambda: delete(ENDPOINT, f"/{target}", recursive=True))()),
    }


def _deleted(_: str, remove: Copier) -> Stopwatch:
    """Delete a fresh copy of the tree, after pending writes."""
    target = f"doomed-{next(NUMBER)}"
    run("cp", "-r", "tree", target)
    os.sync()
    watch = remove("tree", target)
    assert not os.path.exists(target)  # noqa: S101 - a benchmark that deletes nothing is quick
    return watch


def _by_floor(program: str, *words: str) -> Stopwatch:
    return command(program, *words, version=("true",))


# The loops that floor.c has, in Python.


def _folders(top: str) -> list[str]:
    return [entry.name for entry in os.scandir(top)]


def _pairs(source: str, target: str) -> Iterator[tuple[int, int, Iterator[os.DirEntry[str]]]]:
    """Open each folder of the source and its copy; yield both, and the entries of the first."""
    for folder in _folders(source):
        here, there = (os.open(f"{top}/{folder}", FOLDER) for top in (source, target))
        with os.scandir(here) as found:
            yield here, there, found
        os.close(here)
        os.close(there)


def _copy_all(source: str, target: str) -> None:
    os.mkdir(target)
    for folder in _folders(source):
        os.mkdir(f"{target}/{folder}")
    for here, there, found in _pairs(source, target):
        for entry in found:
            _copy(here, there, entry.name)


def _copy(here: int, there: int, name: str) -> None:
    file = os.open(name, OLD, dir_fd=here)
    before = os.fstat(file)
    content = os.read(file, before.st_size + 1)
    after = os.fstat(file)
    os.close(file)
    file = os.open(TEMPORARY, NEW, 0o666, dir_fd=there)
    os.write(file, content)
    if after.st_mtime_ns != before.st_mtime_ns or os.pread(file, len(content) + 1, 0) != content:
        raise OSError(name)
    os.close(file)
    os.rename(TEMPORARY, name, src_dir_fd=there, dst_dir_fd=there)


def _compare_all(source: str, target: str) -> None:
    for here, there, found in _pairs(source, target):
        for entry in found:
            ours, theirs = (os.stat(entry.name, dir_fd=side, follow_symlinks=False) for side in (here, there))
            if (ours.st_size, ours.st_mtime) != (theirs.st_size, theirs.st_mtime):
                raise OSError(entry.name)


def _delete_all(target: str) -> None:
    for folder in _folders(target):
        here = os.open(f"{target}/{folder}", FOLDER)
        with os.scandir(here) as found:
            for entry in found:
                os.unlink(entry.name, dir_fd=here)
        os.close(here)
        os.rmdir(f"{target}/{folder}")
    os.rmdir(target)


if __name__ == "__main__":
    main()
