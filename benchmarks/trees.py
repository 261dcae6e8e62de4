"""Compare copies on a disk with latency, and deletions, with cp -r, rsync, rclone and rm -rf.

``python benchmarks/trees.py --help`` lists the options; docs/reference/benchmarks.md explains the figures.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from itertools import count
from typing import TYPE_CHECKING

from measure import Stopwatch, command, compare, needs, scratch

from chiltepin.data import delete, transfer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from measure import Candidate

__all__ = ["ENDPOINT", "HERE", "endpoint", "make_tree", "mounted", "run", "timed"]

ENDPOINT = "disk"
NUMBER = count()
SETTINGS = f"""
data:
  backend: filesystem
  endpoints:
    {ENDPOINT}: {{filesystem: "file://ROOT"}}
"""
HERE = os.path.dirname(os.path.abspath(__file__))


def main() -> None:
    """Measure, and print one table for each kind of work."""
    options = _options()
    with scratch(options.folder) as folder:
        if options.lagged:
            with mounted(folder, options.lag) as disk:
                root = endpoint(os.path.join(disk, "root"))
                _copies(root, options)
        if options.files:
            root = endpoint(os.path.join(folder, "plain"))
            make_tree(os.path.join(root, "tree"), options.files, options.folders, options.size)
            _deletions(root, options)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--files", type=int, default=10_000, help="small files; 0 leaves this table out (10000)")
    parser.add_argument("--folders", type=int, default=100, help="folders that they are in (100)")
    parser.add_argument("--size", type=int, default=4096, help="bytes per file (4096)")
    parser.add_argument("--lagged", type=int, default=1000, help="files on the disk with latency; 0: none (1000)")
    parser.add_argument("--lag", type=int, default=1000, help="microseconds added to each operation there (1000)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds that count (3)")
    parser.add_argument("--folder", help="where to make the temporary folder: this chooses the disk")
    return parser.parse_args()


def endpoint(root: str) -> str:
    """Create the folder of an endpoint, set CHILTEPIN_CONFIG to a file that declares it, and return the folder."""
    os.makedirs(root, exist_ok=True)
    settings = f"{root}.yaml"
    with open(settings, "w", encoding="utf-8") as file:
        file.write(SETTINGS.replace("ROOT", root))
    os.environ["CHILTEPIN_CONFIG"] = settings
    os.environ.pop("CHILTEPIN_BACKEND", None)
    return root


def make_tree(path: str, files: int, folders: int, size: int) -> None:
    """Create files of ``size`` random bytes in folders called ``folder-0`` and so on."""
    for number in range(folders):
        os.makedirs(os.path.join(path, f"folder-{number}"))
    for number in range(files):
        with open(os.path.join(path, f"folder-{number % folders}", f"{number}.dat"), "wb") as file:
            file.write(os.urandom(size))


@contextmanager
def mounted(folder: str, lag: int) -> Iterator[str]:
    """Mount a FUSE disk that delays each operation by ``lag`` microseconds (latency.c); yield its path."""
    program, behind, disk = (os.path.join(folder, name) for name in ("latency", "behind", "disk"))
    flags = subprocess.run(
        ["pkg-config", "--cflags", "--libs", "fuse3"], check=True, capture_output=True, text=True
    ).stdout.split()
    subprocess.run(["cc", "-O2", "-o", program, os.path.join(HERE, "latency.c"), *flags], check=True)
    os.mkdir(behind)
    os.mkdir(disk)
    served = subprocess.Popen(
        [program, behind, str(lag), disk, "-f", "-o", "max_threads=64"], stderr=subprocess.DEVNULL
    )
    try:
        while not os.path.ismount(disk):
            if served.poll() is not None:
                sys.exit("The disk with latency could not be mounted; it needs /dev/fuse, or leave it out: --lagged 0.")
            time.sleep(0.01)
        yield disk
    finally:
        subprocess.run(["fusermount3", "-u", disk], check=True)
        served.wait()


def run(*command: str) -> None:
    """Run a command, and discard its output."""
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def timed(work: Callable[[], Stopwatch | object], before: Callable[[], object] = os.sync) -> Callable[[], Stopwatch]:
    """Return a candidate that flushes pending writes first; if the work returns a stopwatch, it returns that one."""

    def candidate() -> Stopwatch:
        before()
        with Stopwatch() as watch:
            done = work()
        return done if isinstance(done, Stopwatch) else watch

    return candidate


def _copies(root: str, options: argparse.Namespace) -> None:
    """Copy the tree to a new path each time; then compare one more copy by Chiltepin with its source."""
    make_tree(os.path.join(root, "tree"), options.lagged, max(1, options.lagged // 100), options.size)
    source = f"{root}/tree"

    def copied(*words: str) -> Candidate:
        return needs(words[0], timed(lambda: command(*words, f"{root}/copy-{next(NUMBER)}")))

    compare(
        "lagged",
        f"{options.lagged} files, {options.lag} us for each operation",
        {
            "cp -r": copied("cp", "-r", source),
            "transfer": timed(lambda: transfer(ENDPOINT, ENDPOINT, "/tree", f"/copy-{next(NUMBER)}", recursive=True)),
            "rsync -a": copied("rsync", "-a", f"{source}/"),
            "rclone copy": copied("rclone", "copy", source),
        },
        options.rounds,
    )
    transfer(ENDPOINT, ENDPOINT, "/tree", "/checked", recursive=True)
    run("diff", "-r", source, f"{root}/checked")


def _deletions(root: str, options: argparse.Namespace) -> None:
    """Delete a fresh copy of the tree each time."""
    doomed = f"{root}/doomed"

    def fresh() -> None:
        run("cp", "-r", f"{root}/tree", doomed)
        os.sync()

    def gone(work: Callable[[], object]) -> Callable[[], Stopwatch]:
        def checked() -> Stopwatch:
            watch = timed(work, fresh)()
            assert not os.path.exists(doomed)  # noqa: S101 - a benchmark that deletes nothing is quick
            return watch

        return checked

    compare(
        "deletion",
        f"deletion of {options.files} files",
        {
            "rm -rf": gone(lambda: command("rm", "-rf", doomed)),
            "delete": gone(lambda: delete(ENDPOINT, "/doomed", recursive=True)),
            "rclone purge": needs("rclone", gone(lambda: command("rclone", "purge", doomed))),
        },
        options.rounds,
    )


if __name__ == "__main__":
    main()
