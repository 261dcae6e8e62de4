"""What a tree costs against cp -r, rsync, rclone and rm -rf: with latency, synced again, deleted, and a million files.

Run ``python benchmarks/trees.py --help``; README.md beside this file tells what each line of the tables means.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from functools import partial
from itertools import count
from typing import TYPE_CHECKING

from measure import Stopwatch, Times, alternate, scratch
from rich.console import Console
from rich.table import Table

from chiltepin.data import delete, transfer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["make_tree", "mounted", "run", "timed"]

ENDPOINT = "disk"
NUMBER = count()
SETTINGS = f"""
data:
  backend: filesystem
  endpoints:
    {ENDPOINT}: {{filesystem: "file://ROOT"}}
"""
HERE = os.path.dirname(os.path.abspath(__file__))

#: Runs a command in a process of its own, and prints the KiB that this took at most.
PEAK = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""

#: Syncs ``tree`` with ``copy`` below a folder, in a process that has loaded no more than that needs.
SYNC = """
import sys
from chiltepin.transfers.arguments import transfer_request
from chiltepin.backends.filesystem import FilesystemBackend
from chiltepin.transfers.runner import Transfers
transfers = Transfers(FilesystemBackend.from_config({"disk": {"url": sys.argv[1]}}, {}))
ends = {"src_ep": "disk", "dst_ep": "disk", "src_path": "/tree", "dst_path": "/copy"}
request = transfer_request(**ends, recursive=True, sync_level="mtime")
print(transfers.run(request, timeout=36_000, polling_interval=1), file=sys.stderr)
"""
OPTIONS = {"recursive": True, "sync_level": "mtime", "timeout": 36_000}


def main() -> None:
    """Measure, and print one table for each kind of work."""
    options = _options()
    with scratch(options.folder) as folder:
        if options.lagged:
            with mounted(folder, options.lag) as disk:
                root = _endpoint(os.path.join(disk, "root"))
                _report(f"{options.lagged} files, {options.lag} us for each operation", _copies(root, options))
        if options.files:
            root = _endpoint(os.path.join(folder, "plain"))
            make_tree(os.path.join(root, "tree"), options.files, options.folders, options.size)
            _report(f"{options.files} files again, unchanged", _syncs(root, options.rounds))
            _report(f"delete of {options.files} files", _deletions(root, options))
        if options.million:
            root = _endpoint(os.path.join(folder, "many"))
            make_tree(os.path.join(root, "tree"), options.million, max(1, options.million // 1000), 0)
            _report(f"{options.million} empty files, nothing to do", _million(root, options.rounds))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--files", type=int, default=10_000, help="small files; 0 leaves these tables out (10000)")
    parser.add_argument("--folders", type=int, default=100, help="folders that they are in (100)")
    parser.add_argument("--size", type=int, default=4096, help="bytes per file (4096)")
    parser.add_argument("--lagged", type=int, default=1000, help="files on the disk with latency; 0: none (1000)")
    parser.add_argument("--lag", type=int, default=1000, help="microseconds that each operation there takes (1000)")
    parser.add_argument("--million", type=int, default=1_000_000, help="empty files; 0 leaves them out (1000000)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds that count (3)")
    parser.add_argument("--folder", help="where to make the temporary folder: this chooses the disk")
    return parser.parse_args()


def _report(title: str, measured: dict[str, Times], note: str = "") -> None:
    table = Table(title=title, caption=note or "ratio: to the first line in the same round")
    table.add_column("by")
    for name in ("s", "cpu s"):
        table.add_column(name, justify="right")
    table.add_column("ratio")
    for name, times in measured.items():
        table.add_row(name, f"{times.wall:.3f}", f"{times.cpu:.3f}", times.ratio)
    Console(width=110).print(table)


def _endpoint(root: str) -> str:
    """Make the folder of an endpoint, and the settings that declare it the ones in use; return the former."""
    os.makedirs(root, exist_ok=True)
    settings = f"{root}.yaml"
    with open(settings, "w", encoding="utf-8") as file:
        file.write(SETTINGS.replace("ROOT", root))
    os.environ["CHILTEPIN_CONFIG"] = settings
    os.environ.pop("CHILTEPIN_BACKEND", None)
    return root


def make_tree(path: str, files: int, folders: int, size: int) -> None:
    """Make files of so many random bytes in folders called ``folder-0`` and so on."""
    for number in range(folders):
        os.makedirs(os.path.join(path, f"folder-{number}"))
    for number in range(files):
        with open(os.path.join(path, f"folder-{number % folders}", f"{number}.dat"), "wb") as file:
            file.write(os.urandom(size))


@contextmanager
def mounted(folder: str, lag: int) -> Iterator[str]:
    """Give a disk where each operation takes some microseconds more: latency.c, over FUSE."""
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
    """Run a command, without its output."""
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def timed(work: Callable[[], object], before: Callable[[], object] = os.sync) -> Callable[[], Stopwatch]:
    """Return a candidate; nobody pays for what others have left the disk to do."""

    def candidate() -> Stopwatch:
        before()
        with Stopwatch() as watch:
            work()
        return watch

    return candidate


def _present(commands: dict[str, Callable[[], Stopwatch]]) -> dict[str, Callable[[], Stopwatch]]:
    """Leave out what this machine has not."""
    return {
        name: candidate for name, candidate in commands.items() if name == "transfer" or shutil.which(name.split()[0])
    }


def _copies(root: str, options: argparse.Namespace) -> dict[str, Times]:
    """Copy the tree to a new place each time, and compare the first copy of ours with its source."""
    make_tree(os.path.join(root, "tree"), options.lagged, max(1, options.lagged // 100), options.size)
    source = f"{root}/tree"

    def new() -> str:
        return f"copy-{next(NUMBER)}"

    measured = alternate(
        _present(
            {
                "cp -r": timed(lambda: run("cp", "-r", source, f"{root}/{new()}")),
                "transfer": timed(lambda: transfer(ENDPOINT, ENDPOINT, "/tree", f"/{new()}", recursive=True)),
                "rsync -a": timed(lambda: run("rsync", "-a", f"{source}/", f"{root}/{new()}")),
                "rclone copy": timed(lambda: run("rclone", "copy", source, f"{root}/{new()}")),
            }
        ),
        options.rounds,
    )
    transfer(ENDPOINT, ENDPOINT, "/tree", "/checked", recursive=True)
    run("diff", "-r", source, f"{root}/checked")
    return measured


def _syncs(root: str, rounds: int) -> dict[str, Times]:
    """Sync a tree with a copy that equals it, modification times included."""
    source, target = f"{root}/tree", f"{root}/copy"
    run("cp", "-a", source, target)
    return alternate(
        _present(
            {
                "rsync -a": timed(lambda: run("rsync", "-a", f"{source}/", target)),
                "transfer": timed(lambda: transfer(ENDPOINT, ENDPOINT, "/tree", "/copy", **OPTIONS)),
                "rclone copy": timed(lambda: run("rclone", "copy", source, target)),
            }
        ),
        rounds,
    )


def _deletions(root: str, options: argparse.Namespace) -> dict[str, Times]:
    """Delete a fresh copy of the tree each time."""
    doomed = f"{root}/doomed"

    def fresh() -> None:
        run("cp", "-r", f"{root}/tree", doomed)
        os.sync()

    def gone(work: Callable[[], object]) -> Callable[[], Stopwatch]:
        def checked() -> None:
            work()
            assert not os.path.exists(doomed)  # noqa: S101 - a benchmark that deletes nothing is quick

        return timed(checked, fresh)

    return alternate(
        _present(
            {
                "rm -rf": gone(lambda: run("rm", "-rf", doomed)),
                "transfer": gone(lambda: delete(ENDPOINT, "/doomed", recursive=True)),
                "rclone purge": gone(lambda: run("rclone", "purge", doomed)),
            }
        ),
        options.rounds,
    )


def _million(root: str, rounds: int) -> dict[str, Times]:
    """Sync a huge tree with a copy that equals it; print what the processes needed at most in memory."""
    source, target = f"{root}/tree", f"{root}/copy"
    run("cp", "-a", source, target)
    peaks: dict[str, int] = {}

    def child(name: str, *command: str) -> None:
        peak = subprocess.run([sys.executable, "-c", PEAK, *command], check=True, capture_output=True, text=True).stdout
        peaks[name] = max(peaks.get(name, 0), int(peak))

    ours = partial(child, "transfer", sys.executable, "-c", SYNC, root)
    theirs = partial(child, "rsync -a", "rsync", "-a", f"{source}/", target)
    measured = alternate(_present({"rsync -a": timed(theirs), "transfer": timed(ours)}), rounds)
    for name, peak in peaks.items():
        Console().print(f"{name}: at most {peak / 1024:.0f} MiB of memory in one process")
    return measured


if __name__ == "__main__":
    main()
