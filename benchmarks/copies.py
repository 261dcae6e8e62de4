"""What `chiltepin.data.transfer` costs against ``cp``: one large file, and many small ones in folders.

Run ``python benchmarks/copies.py --help``; README.md beside this file tells what each line of the table means.
"""

from __future__ import annotations

import argparse
import os
import subprocess
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


def main() -> None:
    """Measure, and print one table."""
    options = _options()
    table = Table(
        title=f"Copies on one disk, warm cache, median of {options.rounds} rounds",
        caption="ratio: to cp in the same round, median (smallest-largest)",
    )
    table.add_column("what")
    table.add_column("by")
    for name in ("s", "cpu s", "MiB/s", "files/s"):
        table.add_column(name, justify="right")
    table.add_column("ratio")
    with scratch(options.folder) as folder:
        root = _make_endpoint(folder)
        if options.mib:
            _make_file(os.path.join(root, "file"), options.mib)
            _add_rows(
                table, f"1 file of {options.mib} MiB", _measured(root, "file", "cp", options.rounds), options.mib, 1
            )
            os.remove(os.path.join(root, "file"))
        if options.files:
            _make_tree(os.path.join(root, "tree"), options.files, options.folders, options.size)
            what = f"{options.files} files of {options.size} bytes"
            _add_rows(
                table,
                what,
                _measured(root, "tree", "cp -r", options.rounds),
                options.files * options.size / MIB,
                options.files,
            )
    Console(width=110).print(table)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--mib", type=int, default=1024, help="size of the large file in MiB; 0 leaves it out (1024)")
    parser.add_argument("--files", type=int, default=10_000, help="number of small files; 0 leaves them out (10000)")
    parser.add_argument("--folders", type=int, default=100, help="folders that they are in (100)")
    parser.add_argument("--size", type=int, default=4096, help="bytes per small file (4096)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds that count (5)")
    parser.add_argument("--folder", help="where to make the temporary folder: this chooses the disk")
    return parser.parse_args()


def _add_rows(table: Table, what: str, measured: dict[str, Times], mib: float, files: int) -> None:
    for name, times in measured.items():
        speed, rate = f"{mib / times.wall:.0f}", f"{files / times.wall:.0f}"
        table.add_row(what, name, f"{times.wall:.3f}", f"{times.cpu:.3f}", speed, rate, times.ratio)
    table.add_section()


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


def _make_file(path: str, mib: int) -> None:
    with open(path, "wb") as file:
        file.writelines(os.urandom(MIB) for _ in range(mib))


def _make_tree(path: str, files: int, folders: int, size: int) -> None:
    for number in range(files):
        folder = os.path.join(path, f"folder-{number % folders}")
        os.makedirs(folder, exist_ok=True)
        with open(os.path.join(folder, f"{number}.dat"), "wb") as file:
            file.write(os.urandom(size))


def _measured(root: str, source: str, command: str, rounds: int) -> dict[str, Times]:
    """Measure ``command`` and transfers of one source, a file or a folder."""
    plain = partial(_transfer, source, recursive=os.path.isdir(os.path.join(root, source)))
    return alternate(
        {
            command: _copying(root, source, partial(_cp, command, root, source)),
            "transfer": _copying(root, source, plain),
            "transfer, not verified": _copying(root, source, partial(plain, verify_checksum=False)),
        },
        rounds,
    )


def _copying(root: str, source: str, copy: Callable[[str], object]) -> Callable[[], Stopwatch]:
    """Return a candidate that calls ``copy`` with a new name; the first time, all bytes are compared."""
    compared = False

    def candidate() -> Stopwatch:
        nonlocal compared
        target = f"copy-{next(COPY)}"
        # Nobody pays for what others have left the disk to do.
        os.sync()
        with Stopwatch() as watch:
            copy(target)
        if not compared:
            subprocess.run(["diff", "-r", source, target], cwd=root, check=True)
            compared = True
        # Trees stay until the end: ext4 makes new files slowly for half a minute after many were deleted.
        if os.path.isfile(os.path.join(root, target)):
            os.remove(os.path.join(root, target))
        return watch

    return candidate


def _cp(command: str, root: str, source: str, target: str) -> None:
    subprocess.run([*command.split(), source, target], cwd=root, check=True)


def _transfer(source: str, target: str, **options: bool) -> None:
    transfer(ENDPOINT, ENDPOINT, f"/{source}", f"/{target}", **options)


if __name__ == "__main__":
    main()
