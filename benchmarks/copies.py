"""Compare `chiltepin.data.transfer` on one disk with ``cp``, rsync, rclone and Python libraries.

``python benchmarks/copies.py --help`` lists the options; docs/reference/benchmarks.md explains the figures.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from functools import partial
from itertools import count
from typing import TYPE_CHECKING

from measure import Stopwatch, command, compare, drop_caches, fresh, needs, scratch, show
from trees import ENDPOINT, endpoint, make_tree, run

from chiltepin.data import transfer

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    #: Copies a source to a target and returns the stopwatch that timed it.
    Copier: TypeAlias = Callable[[str, str], Stopwatch]

__all__ = ["COPIERS", "LOOKERS", "Copier", "by_python", "copied"]

MIB = 1 << 20
COPY = count()


def _transfer(source: str, target: str, **options: object) -> None:
    transfer(ENDPOINT, ENDPOINT, f"/{source}", f"/{target}", recursive=os.path.isdir(source), **options)


def _shutil(source: str, target: str) -> None:
    (shutil.copytree if os.path.isdir(source) else shutil.copy2)(source, target)


def _fsspec(source: str, target: str) -> None:
    import fsspec  # noqa: PLC0415 - only this copier needs it

    fsspec.filesystem("file").copy(source, target, recursive=os.path.isdir(source))


def _dvc(source: str, target: str) -> None:
    from dvc_objects.fs import LocalFileSystem, generic  # noqa: PLC0415 - it may not be installed

    disk = LocalFileSystem()
    names = [os.path.join(folder, name) for folder, _, names in os.walk(source) for name in names] or [source]
    generic.copy(disk, names, disk, [os.path.abspath(target + name[len(source) :]) for name in names])


def by_python(copy: Callable[[str, str], None]) -> Copier:
    """Return a copier that calls a function in a new process, after a first call that loads its modules."""

    def warm(source: str, target: str) -> Stopwatch:
        copy("single", f"warm-up-{target}")
        with Stopwatch() as watch:
            copy(source, target)
        return watch

    return lambda source, target: fresh(partial(warm, source, target))


def _rsync(source: str, target: str) -> Stopwatch:
    return command("rsync", "-a", source + "/" * os.path.isdir(source), target)


def _rclone(source: str, target: str, *flags: str) -> Stopwatch:
    verb = "copy" if os.path.isdir(source) else "copyto"
    return command("rclone", verb, "--quiet", "--config", os.devnull, *flags, source, target)


#: Ways to copy: the program or package that each needs, and the copier.
COPIERS: dict[str, tuple[str, Copier]] = {
    "cp": ("cp", partial(command, "cp", "-r")),
    "transfer": ("chiltepin", by_python(_transfer)),
    "transfer, not verified": ("chiltepin", by_python(partial(_transfer, verify_checksum=False))),
    "rsync -a": ("rsync", _rsync),
    "rclone": ("rclone", _rclone),
    "rclone, not verified": ("rclone", lambda source, target: _rclone(source, target, "--ignore-checksum")),
    "shutil": ("python", by_python(_shutil)),
    "fsspec": ("fsspec", by_python(_fsspec)),
    "dvc-objects": ("dvc_objects", by_python(_dvc)),
}

#: Ways to synchronize a tree with an identical copy, which find nothing to do.
LOOKERS: dict[str, tuple[str, Copier]] = {
    "cp -ru": ("cp", lambda source, target: command("cp", "-ru", f"{source}/.", target)),
    "transfer, mtime": ("chiltepin", by_python(partial(_transfer, sync_level="mtime"))),
    "rsync -a": COPIERS["rsync -a"],
    "rclone": COPIERS["rclone"],
}


def main() -> None:
    """Measure, and print the tables."""
    if sys.argv[1:2] == ["--do"]:
        {**COPIERS, **LOOKERS}[sys.argv[2]][1](*sys.argv[3:])
        return
    options = _options()
    with scratch(options.folder) as folder:
        os.chdir(endpoint(os.path.join(folder, "root")))
        _make_file("single", 1)
        for mib in filter(None, options.mib):
            _make_file("file", mib * MIB)
            _measure(f"file-{mib}", f"1 file of {mib} MiB", "file", options)
            os.remove("file")
        if options.middle:
            make_tree("middle", options.middle, 1, options.middle_mib * MIB)
            _measure("middle", f"{options.middle} files of {options.middle_mib} MiB", "middle", options)
            shutil.rmtree("middle")
        if options.files:
            what = f"{options.files} files of {options.size} bytes"
            make_tree("tree", options.files, options.folders, options.size)
            _measure("small", what, "tree", options)
            run("cp", "-a", "tree", "same")
            _compare(
                "unchanged",
                f"{what}, unchanged",
                LOOKERS,
                lambda _, copy: copy("tree", "same"),
                options,
            )
        if options.calls:
            _calls(options.files, options.folders)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--mib", type=int, nargs="+", default=[4096], help="sizes of large files in MiB; 0: none (4096)"
    )
    parser.add_argument("--middle", type=int, default=200, help="number of middle files; 0 leaves them out (200)")
    parser.add_argument("--middle-mib", type=int, default=16, help="size of each in MiB (16)")
    parser.add_argument("--files", type=int, default=10_000, help="number of small files; 0 leaves them out (10000)")
    parser.add_argument("--folders", type=int, default=100, help="folders that they are in (100)")
    parser.add_argument("--size", type=int, default=4096, help="bytes per small file (4096)")
    parser.add_argument("--calls", action="store_true", help="count the system calls for the small files, with strace")
    parser.add_argument("--cold", action="store_true", help="empty the caches before each copy; needs root")
    parser.add_argument("--without", nargs="+", default=[], choices=COPIERS, help="tools to leave out")
    parser.add_argument("--rounds", type=int, default=5, help="rounds that count (5)")
    parser.add_argument("--folder", help="where to make the temporary folder: this chooses the disk")
    return parser.parse_args()


def _make_file(path: str, size: int) -> None:
    with open(path, "wb") as file:
        file.writelines(os.urandom(min(MIB, size - start)) for start in range(0, size, MIB))


def _measure(key: str, title: str, source: str, options: argparse.Namespace) -> None:
    """Measure copies of one source."""
    _compare(key, title, COPIERS, partial(copied, source, set()), options)


def _compare(
    key: str,
    title: str,
    copiers: dict[str, tuple[str, Copier]],
    work: Callable[[str, Copier], Stopwatch],
    options: argparse.Namespace,
) -> None:
    """Measure the selected copiers; flush pending writes before each one, or drop the caches."""
    prepare = drop_caches if options.cold else os.sync

    def prepared(name: str, copy: Copier) -> Stopwatch:
        prepare()
        return work(name, copy)

    candidates = {
        name: needs(program, partial(prepared, name, copy))
        for name, (program, copy) in copiers.items()
        if name not in options.without
    }
    compare(key, f"{title}, cold" if options.cold else title, candidates, options.rounds)


def copied(source: str, compared: set[str], name: str, copy: Copier) -> Stopwatch:
    """Copy to a new name; compare all bytes the first time."""
    target = f"copy-{next(COPY)}"
    watch = copy(source, target)
    if name not in compared:
        run("diff", "-r", source, target)
        compared.add(name)
    # Small trees stay until the end: ext4 creates files slowly for half a minute after many deletions.
    if os.path.isfile(target):
        os.remove(target)
    elif source == "middle":
        shutil.rmtree(target)
    return watch


def _calls(files: int, folders: int) -> None:
    """Count the system calls of each copier per additional file: those for the tree minus those for one file."""
    rows = []
    for name, (program, _) in COPIERS.items():
        if not isinstance(needs(program, Stopwatch), str):
            many, few = _traced(name, "tree"), _traced(name, "single")
            rows.append([name, f"{(many - few) / (files - 1):.1f}"])
    title = f"System calls per file, of {files} in {folders} folders (strace)"
    show("calls", title, ["by", "calls per file"], rows)


def _traced(name: str, source: str) -> int:
    strace = ["strace", "-f", "-c", "-o", "calls", sys.executable, os.path.abspath(__file__)]
    subprocess.run([*strace, "--do", name, source, f"copy-{next(COPY)}"], check=True, stderr=subprocess.DEVNULL)
    with open("calls", encoding="utf-8") as file:
        return int(next(line for line in file if line.endswith(" total\n")).split()[3])


if __name__ == "__main__":
    main()
