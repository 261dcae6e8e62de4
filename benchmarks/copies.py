"""What `chiltepin.data.transfer` costs on one disk against ``cp``, rsync, rclone and what Python has.

Run ``python benchmarks/copies.py --help``; README.md beside this file tells what each line of the table means.
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

from measure import Stopwatch, Times, alternate, scratch
from rich.console import Console
from rich.table import Table

from chiltepin.data import transfer

if TYPE_CHECKING:
    from collections.abc import Callable

MIB = 1 << 20
ENDPOINT = "disk"
COPY = count()
SETTINGS = f"""
data:
  backend: local
  root: .
  endpoints:
    {ENDPOINT}: {{}}
"""

#: Copies that are larger than this are removed at once, for the room that they take.
LARGE = 256 * MIB


def _transfer(source: str, target: str, **options: object) -> None:
    transfer(ENDPOINT, ENDPOINT, f"/{source}", f"/{target}", recursive=os.path.isdir(source), **options)


def _cp(source: str, target: str, flags: str = "-r") -> None:
    subprocess.run(["cp", flags, source, target], check=True)


def _rsync(source: str, target: str) -> None:
    subprocess.run(["rsync", "-a", source + "/" * os.path.isdir(source), target], check=True)


def _rclone(source: str, target: str, *flags: str) -> None:
    verb = "copy" if os.path.isdir(source) else "copyto"
    environment = {**os.environ, "RCLONE_CONFIG": "/dev/null"}
    subprocess.run(["rclone", verb, *flags, source, target], check=True, env=environment, stderr=subprocess.DEVNULL)


def _shutil(source: str, target: str) -> None:
    (shutil.copytree if os.path.isdir(source) else shutil.copy2)(source, target)


def _fsspec(source: str, target: str) -> None:
    import fsspec  # noqa: PLC0415 - the others need not wait for it

    fsspec.filesystem("file").copy(source, target, recursive=os.path.isdir(source))


def _dvc(source: str, target: str) -> None:
    from dvc_objects.fs import LocalFileSystem, generic  # noqa: PLC0415 - it need not be installed

    disk = LocalFileSystem()
    names = [os.path.join(folder, name) for folder, _, names in os.walk(source) for name in names] or [source]
    generic.copy(disk, names, disk, [os.path.abspath(target + name[len(source) :]) for name in names])


def _has_dvc() -> bool:
    try:
        import dvc_objects  # noqa: F401, PLC0415 - to see whether it is there
    except ImportError:
        return False
    return True


#: What copies, and whether it can.
COPIERS: dict[str, tuple[Callable[[str, str], None], bool]] = {
    "cp": (_cp, True),
    "transfer": (_transfer, True),
    "transfer, not verified": (partial(_transfer, verify_checksum=False), True),
    "rsync -a": (_rsync, shutil.which("rsync") is not None),
    "rclone": (_rclone, shutil.which("rclone") is not None),
    "rclone, not verified": (lambda a, b: _rclone(a, b, "--ignore-checksum"), shutil.which("rclone") is not None),
    "shutil": (_shutil, True),
    "fsspec": (_fsspec, True),
    "dvc-objects": (_dvc, _has_dvc()),
}

#: What looks at a tree that is there already, and finds nothing to do.
LOOKERS: dict[str, tuple[Callable[[str, str], None], bool]] = {
    "cp -ru": (lambda a, b: _cp(f"{a}/.", b, "-ru"), True),
    "transfer, mtime": (partial(_transfer, sync_level="mtime"), True),
    "rsync -a": COPIERS["rsync -a"],
    "rclone": COPIERS["rclone"],
}


def main() -> None:
    """Measure, and print the tables."""
    if sys.argv[1:2] == ["--do"]:
        {**COPIERS, **LOOKERS}[sys.argv[2]][0](*sys.argv[3:])
        return
    options = _options()
    console = Console(width=118)
    table = Table(
        title=f"Copies on one disk, {'cold' if options.cold else 'warm'} cache, median of {options.rounds} rounds",
        caption="ratio: to the first line of the same work, in the same round, median (smallest-largest)",
    )
    for name in ("what", "by", "s", "cpu s", "MiB/s", "files/s", "best s", "ratio"):
        table.add_column(name, justify="right" if name[-1] == "s" else "left")
    missing = sorted(name for name, (_, there) in COPIERS.items() if not there)
    for name in options.without:
        COPIERS[name] = LOOKERS[name] = COPIERS[name][0], False
    with scratch(options.folder) as folder:
        os.chdir(_make_endpoint(folder))
        if options.mib:
            _make_tree("file-of", 1, 1, options.mib * MIB)
            os.rename("file-of/folder-0/0.dat", "file")
            _measure(table, f"1 file of {options.mib} MiB", "file", options)
            os.remove("file")
        if options.middle:
            _make_tree("middle", options.middle, 1, options.middle_mib * MIB)
            _measure(table, f"{options.middle} files of {options.middle_mib} MiB", "middle", options)
            shutil.rmtree("middle")
        if options.files:
            _make_tree("tree", options.files, options.folders, options.size)
            _measure(table, f"{options.files} files of {options.size} bytes", "tree", options)
        console.print(table)
        console.print(f"Not installed, and left out: {', '.join(missing) or 'nothing'}.")
        if options.calls:
            console.print(_calls(options.files, options.folders))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--mib", type=int, default=4096, help="size of the large file in MiB; 0 leaves it out (4096)")
    parser.add_argument("--middle", type=int, default=200, help="number of middle files; 0 leaves them out (200)")
    parser.add_argument("--middle-mib", type=int, default=16, help="size of each in MiB (16)")
    parser.add_argument("--files", type=int, default=10_000, help="number of small files; 0 leaves them out (10000)")
    parser.add_argument("--folders", type=int, default=100, help="folders that they are in (100)")
    parser.add_argument("--size", type=int, default=4096, help="bytes per small file (4096)")
    parser.add_argument("--calls", action="store_true", help="count the system calls for the small files, with strace")
    parser.add_argument("--cold", action="store_true", help="empty the caches before each copy; needs root")
    parser.add_argument("--without", nargs="+", default=[], choices=COPIERS, help="what is to be left out")
    parser.add_argument("--rounds", type=int, default=5, help="rounds that count (5)")
    parser.add_argument("--folder", help="where to make the temporary folder: this chooses the disk")
    return parser.parse_args()


def _make_endpoint(folder: str) -> str:
    """Make the folder of an endpoint, and the settings file that declares it the one in use; return the former."""
    settings = os.path.join(folder, "chiltepin.yaml")
    with open(settings, "w", encoding="utf-8") as file:
        file.write(SETTINGS)
    os.environ["CHILTEPIN_CONFIG"] = settings
    os.environ.pop("CHILTEPIN_BACKEND", None)
    root = os.path.join(folder, ENDPOINT)
    os.mkdir(root)
    return root


def _make_tree(path: str, files: int, folders: int, size: int) -> None:
    for number in range(files):
        folder = os.path.join(path, f"folder-{number % folders}")
        os.makedirs(folder, exist_ok=True)
        with open(os.path.join(folder, f"{number}.dat"), "wb") as file:
            file.writelines(os.urandom(min(MIB, size - start)) for start in range(0, size, MIB))


def _size(source: str) -> tuple[int, int]:
    """Return the number of files and of bytes."""
    names = [os.path.join(folder, name) for folder, _, names in os.walk(source) for name in names] or [source]
    return len(names), sum(os.path.getsize(name) for name in names)


def _measure(table: Table, what: str, source: str, options: argparse.Namespace) -> None:
    """Measure copies of one source, and for a tree then looks at a copy of it."""
    files, size = _size(source)
    prepare = _emptied if options.cold else os.sync
    copiers = {name: _copying(source, copy, size, prepare) for name, (copy, there) in COPIERS.items() if there}
    _add_rows(table, what, alternate(copiers, options.rounds), size / MIB, files)
    if os.path.isdir(source):
        _cp(source, "same", "-a")
        lookers = {name: _looking(source, look, prepare) for name, (look, there) in LOOKERS.items() if there}
        _add_rows(table, f"{what}, unchanged", alternate(lookers, options.rounds), size / MIB, files)
        shutil.rmtree("same")


def _add_rows(table: Table, what: str, measured: dict[str, Times], mib: float, files: int) -> None:
    for name, times in measured.items():
        speed, rate = f"{mib / times.wall:.0f}", f"{files / times.wall:.0f}"
        best = f"{min(times.walls):.3f}"
        table.add_row(what, name, f"{times.wall:.3f}", f"{times.cpu:.3f}", speed, rate, best, times.ratio)
    table.add_section()


def _emptied() -> None:
    """Write what is to be written, and forget what was read (proc_sys_vm(5), drop_caches)."""
    os.sync()
    with open("/proc/sys/vm/drop_caches", "w", encoding="ascii") as caches:
        caches.write("3")


def _copying(
    source: str, copy: Callable[[str, str], None], size: int, prepare: Callable[[], None]
) -> Callable[[], Stopwatch]:
    """Return a candidate that copies to a new name; the first time, all bytes are compared."""
    compared = False

    def candidate() -> Stopwatch:
        nonlocal compared
        target = f"copy-{next(COPY)}"
        # Nobody pays for what others have left the disk to do.
        prepare()
        with Stopwatch() as watch:
            copy(source, target)
        if not compared:
            subprocess.run(["diff", "-r", source, target], check=True)
            compared = True
        # Small trees stay until the end: ext4 makes new files slowly for half a minute after many were deleted.
        if os.path.isfile(target):
            os.remove(target)
        elif size > LARGE:
            shutil.rmtree(target)
        return watch

    return candidate


def _looking(source: str, look: Callable[[str, str], None], prepare: Callable[[], None]) -> Callable[[], Stopwatch]:
    def candidate() -> Stopwatch:
        prepare()
        with Stopwatch() as watch:
            look(source, "same")
        return watch

    return candidate


def _calls(files: int, folders: int) -> Table:
    """Count the system calls of each copier for one more file: those for all less those for a single one."""
    table = Table(title=f"System calls per file, of {files} (strace)")
    table.add_column("by")
    table.add_column("calls per file", justify="right")
    _make_tree("single", 1, 1, 1)
    for name, (_, there) in COPIERS.items():
        if there:
            many, few = _traced(name, "tree"), _traced(name, "single")
            table.add_row(name, f"{(many - few) / (files - 1):.1f}")
    table.caption = f"those of {folders} folders are among them"
    return table


def _traced(name: str, source: str) -> int:
    strace = ["strace", "-f", "-c", "-o", "calls", sys.executable, os.path.abspath(__file__)]
    subprocess.run([*strace, "--do", name, source, f"copy-{next(COPY)}"], check=True, stderr=subprocess.DEVNULL)
    with open("calls", encoding="utf-8") as file:
        return int(next(line for line in file if line.endswith(" total\n")).split()[3])


if __name__ == "__main__":
    main()
