"""Compare several workers on one folder or large file with one worker, cp, rsync, rclone and another commit.

``python benchmarks/many_workers.py --help`` lists the options; docs/reference/benchmarks.md explains the figures.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import threading
from contextlib import suppress
from itertools import count
from typing import TYPE_CHECKING, Any

import psutil
from measure import Stopwatch, command, compare, needs, scratch, start
from stores import KEY, SECRET, rclone, server
from trees import make_tree, mounted, run, timed

from chiltepin import Workflow
from chiltepin.data import transfer, transfer_task

if TYPE_CHECKING:
    from collections.abc import Callable

MIB = 1 << 20
PARTS = "abcdefg"
NUMBER = count()
SETTINGS = """
data:
  backend: filesystem
  journal: false
  endpoints: ENDPOINTS
movers: {provider: localhost, max_workers_per_node: 2}
"""
RECURSIVE = {"recursive": True, "timeout": 36_000}

#: Transfers ``tree`` below a folder, in a process that loads only what this needs; prints wall and processor seconds.
#: It also runs with the chiltepin of another commit. A small transfer comes first, to load modules that load late.
ONE = """
import json, sys, time
from chiltepin.transfers.arguments import transfer_request
from chiltepin.backends.filesystem import FilesystemBackend
from chiltepin.transfers.runner import Transfers
root, target, options = json.loads(sys.argv[1])
transfers = Transfers(FilesystemBackend.from_config({"disk": {"url": "file://" + root}}, {}))
for path, goal in ("/tree/folder-0", "/warm-up"), ("/tree", target):
    ends = {"src_ep": "disk", "dst_ep": "disk", "src_path": path, "dst_path": goal}
    request = transfer_request(**ends, recursive=True, **options)
    wall, cpu = time.perf_counter(), time.process_time()
    assert transfers.run(request, timeout=36_000, polling_interval=1).state.value == "succeeded"
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
print(json.dumps([wall, cpu]))
"""


def main() -> None:
    """Measure the selected parts, and print the tables of each one when it ends."""
    options = _options()
    parts: dict[str, Callable[[argparse.Namespace, str], None]] = {
        "a": _lagged,
        "b": _small,
        "c": _million,
        "d": _objects,
        "e": _large,
        "f": _flat,
        "g": _commits,
    }
    os.environ.pop("CHILTEPIN_BACKEND", None)
    for part in options.parts:
        with scratch(options.folder) as folder:
            parts[part](options, folder)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--parts", default=PARTS, help=f"which tables ({PARTS})")
    parser.add_argument("--lagged", type=int, default=2000, help="a: files on a disk with latency (2000)")
    parser.add_argument("--lagged-size", type=int, default=MIB, help="a: bytes per file (1048576)")
    parser.add_argument("--lag", type=int, default=1000, help="a: microseconds that each operation takes (1000)")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4, 8], help="a: processes (1 2 4 8)")
    parser.add_argument("--files", type=int, default=100_000, help="b: small files (100000)")
    parser.add_argument("--folders", type=int, default=100, help="b, g: folders that they are in (100)")
    parser.add_argument("--size", type=int, default=4096, help="b, f, g: bytes per small file (4096)")
    parser.add_argument("--million", type=int, default=1_000_000, help="c: empty files (1000000)")
    parser.add_argument("--objects", type=int, default=2000, help="d: objects of 16 KiB (2000)")
    parser.add_argument("--rclone", default="rclone", help="d: rclone 1.65 or later, client and server (rclone)")
    parser.add_argument("--endpoint", help="d: another server, with a bucket called bucket")
    parser.add_argument("--mib", type=int, default=4096, help="e: size of the large file in MiB (4096)")
    parser.add_argument("--flat", type=int, default=50_000, help="f: files in one folder (50000)")
    parser.add_argument("--before", help="g: a Python in which the chiltepin of another commit is installed")
    parser.add_argument("--compared", type=int, default=20_000, help="g: files (20000)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds that count (3)")
    parser.add_argument("--folder", help="where to make the temporary folder: this chooses the disk")
    return parser.parse_args()


def _settings(folder: str, **endpoints: Any) -> None:
    """Write settings with these endpoints, and set CHILTEPIN_CONFIG to the file."""
    file = os.path.join(folder, "settings.yaml")
    places = {name: {"filesystem": place} for name, place in endpoints.items()}
    with open(file, "w", encoding="utf-8") as settings:
        settings.write(SETTINGS.replace("ENDPOINTS", json.dumps(places)))
    os.environ["CHILTEPIN_CONFIG"] = file


def _disk(folder: str, root: str) -> str:
    """Make a folder the root of the endpoint ``disk``, and return it."""
    os.makedirs(root, exist_ok=True)
    _settings(folder, disk=f"file://{root}")
    return root


def _named(workers: int) -> str:
    return f"{workers} process{'es' * (workers > 1)}"


def _new() -> str:
    return f"copy-{next(NUMBER)}"


def _processes(workers: int, path: str = "/tree", source: str = "disk", **options: Any) -> Callable[[], Stopwatch]:
    """Return a candidate that runs `transfer` to a new path with some processes."""
    return timed(lambda: transfer(source, "disk", path, f"/{_new()}", workers=workers, **options))


def _compared(root: str, workers: int, source: str = "/tree", **options: Any) -> None:
    """Copy the source with some processes, and compare the copy with it."""
    target = _new()
    transfer("disk", "disk", source, f"/{target}", workers=workers, **options)
    run("diff", "-r", root + source, os.path.join(root, target))


def _lagged(options: argparse.Namespace, folder: str) -> None:
    """Copy a tree on a disk with latency."""
    with mounted(folder, options.lag) as disk:
        root = _disk(folder, os.path.join(disk, "root"))
        behind = os.path.join(folder, "behind", "root")
        make_tree(os.path.join(behind, "tree"), options.lagged, max(1, options.lagged // 100), options.lagged_size)
        daemon = next(child for child in psutil.Process().children() if child.name() == "latency")

        def candidate(workers: int) -> Callable[[], Stopwatch]:
            def copied() -> Stopwatch:
                target, before = _new(), sum(daemon.cpu_times()[:2])
                watch = timed(lambda: transfer("disk", "disk", "/tree", f"/{target}", workers=workers, **RECURSIVE))()
                watch.more["cores of the FUSE daemon"] = (sum(daemon.cpu_times()[:2]) - before) / watch.wall
                shutil.rmtree(os.path.join(behind, target), ignore_errors=True)
                return watch

            return copied

        compare(
            "lagged",
            f"{options.lagged} files of {options.lagged_size} bytes, {options.lag} us for each operation",
            {_named(workers): candidate(workers) for workers in options.workers},
            options.rounds,
        )
        _compared(root, max(options.workers), **RECURSIVE)


def _small(options: argparse.Namespace, folder: str) -> None:
    """Copy many small files with processes, Parsl workers, rsync and cp."""
    root = _disk(folder, os.path.join(folder, "root"))
    make_tree(os.path.join(root, "tree"), options.files, options.folders, options.size)
    with Workflow(run_dir=os.path.join(folder, "runs")):
        compare(
            "small",
            f"{options.files} files of {options.size} bytes",
            {
                "1 process": _processes(1, **RECURSIVE),
                "2 processes": _processes(2, **RECURSIVE),
                "2 workers of Parsl": _by_parsl("disk", 2),
                "rsync -a": needs("rsync", timed(lambda: command("rsync", "-a", f"{root}/tree/", f"{root}/{_new()}"))),
                "cp -r": timed(lambda: command("cp", "-r", f"{root}/tree", f"{root}/{_new()}")),
            },
            options.rounds,
        )
    _compared(root, 2, **RECURSIVE)


def _by_parsl(source: str, workers: int, path: str = "/tree") -> Callable[[], Stopwatch]:
    """Return a candidate that runs `transfer_task` to a new path with some workers."""
    options = {**RECURSIVE, "executor": "movers", "workers": workers}
    return timed(lambda: transfer_task(source, "disk", path, f"/{_new()}", **options).result())


def _million(options: argparse.Namespace, folder: str) -> None:
    """Synchronize a huge tree with an identical copy, by commands; measure the time and peak memory."""
    root = _disk(folder, os.path.join(folder, "root"))
    make_tree(os.path.join(root, "tree"), options.million, max(1, options.million // 1000), 0)
    run("cp", "-a", f"{root}/tree", f"{root}/copy")
    program = os.path.join(os.path.dirname(sys.executable), "chiltepin")
    ours = (program, "transfer", "disk:/tree", "disk:/copy", "-r", "-s", "mtime")
    compare(
        "million",
        f"{options.million} empty files, unchanged",
        {
            "rsync -a": needs("rsync", lambda: _watched("rsync", "-a", f"{root}/tree/", f"{root}/copy")),
            "1 process": lambda: _watched(*ours),
            "2 processes": lambda: _watched(*ours, "--workers", "2"),
        },
        options.rounds,
    )


def _watched(*words: str) -> Stopwatch:
    """Run a command, and record the largest peak memory of its processes."""
    started = start(words[0], "--version")
    with Stopwatch() as watch:
        peaks = _peaks(words)
    watch.more["peak MiB"] = max(peaks, default=0) / 1024
    return watch.without(started)


def _peaks(command: tuple[str, ...]) -> list[int]:
    """Run a command; return the peak memory of it and of each process that it starts, in KiB."""
    peaks: dict[int, int] = {}
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        ended = threading.Event()

        def watch() -> None:
            top = psutil.Process(process.pid)
            while not ended.wait(0.1):
                with suppress(psutil.Error):
                    for one in [top, *top.children(recursive=True)]:
                        peaks[one.pid] = max(peaks.get(one.pid, 0), _peak(one.pid))

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            code = process.wait()
        finally:
            ended.set()
            watcher.join()
    if code:
        raise SystemExit(f"{' '.join(command)} ended with {code}.")
    return [peak for peak in peaks.values() if peak]


def _peak(pid: int) -> int:
    """Return the peak resident set of a process since its last exec, in KiB (proc(5), VmHWM)."""
    with suppress(OSError), open(f"/proc/{pid}/status", encoding="utf-8") as file:
        for line in file:
            if line.startswith("VmHWM:"):
                return int(line.split()[1])
    return 0


def _objects(options: argparse.Namespace, folder: str) -> None:
    """Download small objects from S3 with running Parsl workers, with processes, and with rclone."""
    os.environ.update(AWS_ACCESS_KEY_ID=KEY, AWS_SECRET_ACCESS_KEY=SECRET, NO_PROXY="127.0.0.1")
    with server(options, folder, "a") as url:
        root = os.path.join(folder, "root")
        make_tree(os.path.join(root, "tree"), options.objects, 1, 16_384)
        keys = {"key": {"env": "AWS_ACCESS_KEY_ID"}, "secret": {"env": "AWS_SECRET_ACCESS_KEY"}}
        bucket = {"url": "s3://bucket", "options": {**keys, "endpoint_url": url, "region": "us-east-1"}}
        _settings(folder, disk=f"file://{root}", bucket=bucket)
        transfer("disk", "bucket", "/tree", "/several", **RECURSIVE)
        words = [options.rclone, *rclone("many-down", root, [url], "COPY")[1:-1]]
        with Workflow(run_dir=os.path.join(folder, "runs")):
            candidates = {
                "1 worker of Parsl": _by_parsl("bucket", 1, "/several"),
                "2 workers of Parsl": _by_parsl("bucket", 2, "/several"),
                "2 processes": _processes(2, "/several", "bucket", **RECURSIVE),
                "rclone copy": needs(options.rclone, timed(lambda: command(*words, f"{root}/{_new()}"))),
            }
            compare("objects", f"{options.objects} objects of 16 KiB from S3", candidates, options.rounds)
        for name in os.listdir(root):
            run("diff", "-r", f"{root}/tree", f"{root}/{name}")


def _large(options: argparse.Namespace, folder: str) -> None:
    """Copy one large file."""
    root = _disk(folder, os.path.join(folder, "root"))
    with open(os.path.join(root, "large"), "wb") as file:
        file.writelines(os.urandom(MIB) for _ in range(options.mib))

    def candidate(copy: Callable[[str], object]) -> Callable[[], Stopwatch]:
        def copied() -> Stopwatch:
            target = _new()
            watch = timed(lambda: copy(target))()
            os.remove(os.path.join(root, target))
            return watch

        return copied

    candidates = {"cp": candidate(lambda target: command("cp", f"{root}/large", f"{root}/{target}"))}
    for workers in (1, 2):
        candidates[_named(workers)] = candidate(
            lambda target, workers=workers: transfer("disk", "disk", "/large", f"/{target}", workers=workers)
        )
    compare("large", f"1 file of {options.mib} MiB", candidates, options.rounds)
    _compared(root, 2, "/large")


def _flat(options: argparse.Namespace, folder: str) -> None:
    """Copy one folder of many files."""
    root = _disk(folder, os.path.join(folder, "root"))
    make_tree(os.path.join(root, "tree"), options.flat, 1, options.size)
    compare(
        "flat",
        f"1 folder of {options.flat} files of {options.size} bytes",
        {_named(workers): _processes(workers, "/tree/folder-0", **RECURSIVE) for workers in (1, 2)},
        options.rounds,
    )
    _compared(root, 2, "/tree/folder-0", **RECURSIVE)


def _commits(options: argparse.Namespace, folder: str) -> None:
    """Compare one worker with the chiltepin of another commit."""
    if options.before is None:
        print("g is left out: give --before a Python in which the chiltepin of another commit is installed.")
        return
    root = os.path.join(folder, "root")
    make_tree(os.path.join(root, "tree"), options.compared, options.folders, options.size)
    run("cp", "-a", f"{root}/tree", f"{root}/same")

    def candidate(python: str, **request: str) -> Callable[[], Stopwatch]:
        def moved() -> Stopwatch:
            os.sync()
            said = json.dumps([root, "/same" if request else f"/{_new()}", request])
            printed = subprocess.run([python, "-c", ONE, said], check=True, capture_output=True, text=True).stdout
            return Stopwatch(*json.loads(printed))

        return moved

    works: dict[str, dict[str, str]] = {"copied": {}, "unchanged": {"sync_level": "mtime"}}
    for work, request in works.items():
        both = {"before": candidate(options.before, **request), "now": candidate(sys.executable, **request)}
        compare(f"before-{work}", f"{options.compared} files of {options.size} bytes, {work}", both, options.rounds)


if __name__ == "__main__":
    main()
