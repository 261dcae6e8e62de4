"""Run the benchmarks, keep their figures in one JSON file, and write the documentation page from it.

Ctrl-C ends a run and keeps the figures measured so far; ``--only`` measures the rest later.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import changes
import page
from declared import BENCHMARKS
from measure import RESULTS, drop_caches

if TYPE_CHECKING:
    from collections.abc import Iterable

    from declared import Benchmark

__all__ = ["measure_all"]

HERE = Path(__file__).parent
PACKAGES = ("chiltepin", "parsl", "globus-sdk", "fsspec", "boto3", "obstore", "s3fs", "awscli", "dvc-objects")
NOT_INSTALLED = "not installed"
#: Number of earlier runs whose medians are kept: enough to see whether a figure holds on other days.
EARLIER = 5
PROGRAMS = (("cp", "--version"), ("rsync", "--version"), ("rclone", "--version"), ("ssh", "-V"))


def main() -> None:
    """Run the benchmarks and write the page, or compare two runs."""
    options = _options()
    results = Path(options.results)
    if options.compare:
        changes.show(_read(Path(options.compare)), _read(results))
        return
    wanted = [one for one in BENCHMARKS if not options.only or one.name in options.only]
    try:
        measure_all(wanted, results, quick=options.quick, drop=True)
    except KeyboardInterrupt:
        sys.exit(f"Interrupted; what was measured is in {results} and on the page.")
    finally:
        if results.exists():
            page.write(_read(results), BENCHMARKS, Path(options.page))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    names = [one.name for one in BENCHMARKS]
    parser.add_argument("--only", nargs="+", choices=names, metavar="NAME", help=f"some of: {', '.join(names)}")
    parser.add_argument("--quick", action="store_true", help="smaller sizes and fewer rounds: five minutes")
    parser.add_argument(
        "--compare", metavar="FILE", help="measure nothing; show what changed since the results in FILE"
    )
    parser.add_argument("--results", default=HERE / "results.json", help="file of the figures (results.json here)")
    parser.add_argument(
        "--page", default=HERE.parent / "docs" / "reference" / "benchmarks.md", help="the page (in docs/reference)"
    )
    return parser.parse_args()


def _read(results: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(results.read_text(encoding="utf-8"))
    return found


def measure_all(benchmarks: Iterable[Benchmark], results: Path, *, quick: bool, drop: bool = False) -> None:
    """Run benchmarks, and write the figures of each to the file as soon as it ends.

    Parameters
    ----------
    benchmarks : iterable of Benchmark
        The benchmarks to run; the file keeps the figures of all other ones.
    results : pathlib.Path
        A JSON file, created if missing.
    quick : bool
        Whether to use small sizes and few rounds.
    drop : bool
        Whether to drop the kernel's caches before each benchmark, if this user may.
    """
    found = _read(results) if results.exists() else {}
    about = {"commit": _commit(), "machine": _machine(), "versions": _versions()}
    for benchmark in benchmarks:
        run = {"date": time.strftime("%Y-%m-%d, %H:%M"), "quick": quick, **about}
        began = time.monotonic()
        try:
            run["failure"] = ""
            # With a full page cache, copies that use both processors compete with the kernel for memory.
            with suppress(OSError):
                if drop:
                    drop_caches()
                    run["caches_dropped"] = True
            _run(benchmark, run, quick=quick)
        finally:
            run["seconds"] = round(time.monotonic() - began)
            if run.get("works") or run["failure"]:
                run["earlier"] = _earlier(benchmark, found.get(benchmark.name, {}))
                found[benchmark.name] = run
                results.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def _earlier(benchmark: Benchmark, before: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the medians of earlier runs, except quick ones, whose sizes differ."""
    runs: list[dict[str, Any]] = list(before.get("earlier", ()))
    if before.get("works") and not before["quick"]:
        found = {key: before[key] for key in ("date", "commit", "machine")}
        runs.append({**found, "figures": page.figures(benchmark, before)})
    return runs[-EARLIER:]


def _run(benchmark: Benchmark, run: dict[str, Any], *, quick: bool) -> None:
    """Run a script in a process, and add its measurements to ``run``, even after an interrupt."""
    script, *options = run["words"] = benchmark.quick if quick else benchmark.words
    with tempfile.TemporaryDirectory() as folder:
        figures, errors = Path(folder, "figures"), Path(folder, "errors")
        environment = {**os.environ, RESULTS: str(figures)}
        # Without bytecode files, each import compiles again and takes three times as long as an installed package's.
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        print(f"\n{benchmark.name}: {script} {' '.join(options)}", flush=True)
        with errors.open("w", encoding="utf-8") as stderr:
            process = subprocess.Popen([sys.executable, HERE / script, *options], env=environment, stderr=stderr)
        try:
            if process.wait():
                said = errors.read_text(encoding="utf-8").splitlines() or [f"{script} ended with {process.returncode}"]
                print(*said, sep="\n", file=sys.stderr)
                run["failure"] = said[-1]
        except KeyboardInterrupt:
            # Ctrl-C interrupts the script, too, which then removes its folder.
            process.wait()
            run["failure"] = "interrupted"
            raise
        finally:
            with suppress(FileNotFoundError):
                run["works"] = [json.loads(line) for line in figures.read_text(encoding="utf-8").splitlines()]


def _said(*words: str) -> str:
    """Return the first line that a program prints to stdout or stderr."""
    if shutil.which(words[0]) is None:
        return NOT_INSTALLED
    run = subprocess.run(words, cwd=HERE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    return next(iter(run.stdout.splitlines()), "")


def _commit() -> str:
    """Return the last commit that changed the package; commits to the benchmarks do not affect it."""
    changed = _said("git", "status", "--porcelain", "--", "../src")
    return _said("git", "log", "-1", "--format=%h", "--", "../src") + (" and changes" if changed else "")


def _machine() -> dict[str, str]:
    processor = next(
        (
            line.partition(": ")[2]
            for line in Path("/proc/cpuinfo").read_text(encoding="ascii").splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    disk = _said("stat", "--file-system", "--format=%T", tempfile.gettempdir())
    return {
        "processor": f"{processor}, {os.cpu_count()} cores",
        "memory": f"{memory:.0f} GiB",
        "disk": disk.replace("ext2/ext3", "ext4"),
        "kernel": f"{platform.system()} {platform.release().partition('-')[0]}",
        "priority": "normal" if os.sched_getscheduler(0) == os.SCHED_OTHER else "real time, beside other work",
    }


def _versions() -> dict[str, str]:
    packages = {package: _version(package) for package in PACKAGES}
    return {"Python": platform.python_version(), **packages, **{words[0]: _said(*words) for words in PROGRAMS}}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return NOT_INSTALLED


if __name__ == "__main__":
    main()
