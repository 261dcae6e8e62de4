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

from measure import Stopwatch, command, compare, fresh, needs, scratch
from trees import ENDPOINT, HERE, endpoint, make_tree, run, timed

from chiltepin.data import delete, transfer

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    from measure import Candidate

    #: Processes a source or a target and returns the stopwatch that timed it.
    Side: TypeAlias = Callable[[str, str], Stopwatch]

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
        _compare("copy", f"{what}, copied", _copiers(program), partial(_copied, set()), options)
        _compare("deletion", f"{what}, deleted", _deleters(program), _deleted, options)
        if options.unchanged:
            run("rm", "-rf", "tree")
            make_tree("tree", options.unchanged, options.folders, 0)
            run("cp", "-a", "tree", "same")
            what = f"{options.unchanged} empty files, unchanged"
            _compare("unchanged", what, _comparers(program), lambda _, side: side("tree", "same"), options)


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
    key: str,
    title: str,
    sides: dict[str, Side],
    work: Callable[[str, Side], Stopwatch],
    options: argparse.Namespace,
) -> None:
    programs = {"rsync -a": "rsync", "in C": "cc"}
    candidates: dict[str, Candidate] = {
        name: needs(programs.get(name, "python"), partial(work, name, side)) for name, side in sides.items()
    }
    compare(key, title, candidates, options.rounds)


def _copied(compared: set[str], name: str, copy: Side) -> Stopwatch:
    """Copy the tree to a new path, after pending writes; compare all bytes the first time."""
    target = f"copy-{next(NUMBER)}"
    os.sync()
    watch = copy("tree", target)
    if name not in compared:
        run("diff", "-r", "tree", target)
        compared.add(name)
    return watch


def _deleted(_: str, remove: Side) -> Stopwatch:
    """Delete a fresh copy of the tree, after pending writes."""
    target = f"doomed-{next(NUMBER)}"
    run("cp", "-r", "tree", target)
    os.sync()
    watch = remove("", target)
    assert not os.path.exists(target)  # noqa: S101 - a benchmark that deletes nothing is quick
    return watch


def _copiers(program: str) -> dict[str, Side]:
    return {
        "cp -r": lambda source, target: command("cp", "-r", source, target),
        "rsync -a": lambda source, target: command("rsync", "-a", f"{source}/", target),
        "in C": lambda source, target: _by_floor(program, "copy", source, target),
        "in Python": lambda source, target: fresh(timed(partial(_copy_all, source, target))),
        "transfer": partial(_by_chiltepin, _transfer),
    }


def _comparers(program: str) -> dict[str, Side]:
    return {
        "rsync -a": lambda source, target: command("rsync", "-a", f"{source}/", target),
        "in C": lambda source, target: _by_floor(program, "compare", source, target),
        "in Python": lambda source, target: fresh(timed(partial(_compare_all, source, target))),
        "transfer": partial(_by_chiltepin, partial(_transfer, sync_level="mtime")),
    }


def _deleters(program: str) -> dict[str, Side]:
    return {
        "rm -rf": lambda _, target: command("rm", "-rf", target),
        "in C": lambda _, target: _by_floor(program, "delete", target),
        "in Python": lambda _, target: fresh(timed(partial(_delete_all, target))),
        "delete": partial(_by_chiltepin, lambda _, target: delete(ENDPOINT, f"/{target}", recursive=True)),
    }


def _by_floor(program: str, *words: str) -> Stopwatch:
    return command(program, *words, version=("true",))


def _transfer(source: str, target: str, **options: object) -> None:
    transfer(ENDPOINT, ENDPOINT, f"/{source}", f"/{target}", recursive=True, **options)


def _by_chiltepin(work: Callable[[str, str], object], source: str, target: str) -> Stopwatch:
    """Time a call in a new process, after a first call that loads its modules."""

    def both() -> Stopwatch:
        warm = f"warm-{next(NUMBER)}"
        run("cp", "-r", "single", warm)
        work("single", warm)
        return timed(lambda: work(source, target), lambda: None)()

    return fresh(both)


# The loops that floor.c has, in Python.


def _folders(top: str) -> list[str]:
    return [entry.name for entry in os.scandir(top)]


def _copy_all(source: str, target: str) -> None:
    os.mkdir(target)
    for folder in _folders(source):
        os.mkdir(f"{target}/{folder}")
        here, there = (os.open(f"{top}/{folder}", FOLDER) for top in (source, target))
        with os.scandir(here) as found:
            for entry in found:
                _copy(here, there, entry.name)
        os.close(here)
        os.close(there)


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
    for folder in _folders(source):
        here, there = (os.open(f"{top}/{folder}", FOLDER) for top in (source, target))
        with os.scandir(here) as found:
            for entry in found:
                ours, theirs = (os.stat(entry.name, dir_fd=side, follow_symlinks=False) for side in (here, there))
                if (ours.st_size, ours.st_mtime) != (theirs.st_size, theirs.st_mtime):
                    raise OSError(entry.name)
        os.close(here)
        os.close(there)


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
