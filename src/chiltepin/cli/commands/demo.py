"""``chiltepin demo``: a whole pipeline on this machine, offline, on real files."""

from __future__ import annotations

import filecmp
import math
import random
import time
from concurrent.futures import wait
from datetime import datetime, timedelta, timezone
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from chiltepin.cli.output import format_duration, format_size, pluralize
from chiltepin.errors import ChiltepinError

if TYPE_CHECKING:
    from concurrent.futures import Future

    from rich.console import Console

__all__ = ["demo"]

STATIONS = 24
HOURS = 24 * 365

SETTINGS = """\
# Written by `chiltepin demo`. Where tasks run, and where the data is.

compute:
  provider: threads           # localhost for worker processes, slurm or pbspro on a cluster

data:
  backend: local              # the only word to change to use Globus or S3
  root: sandbox
  endpoints:
    my-laptop:
    hpc-scratch:
"""


@click.command()
@click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("chiltepin-demo"),
    show_default=True,
    help="Folder for the settings, the pipeline and the data.",
)
def demo(folder: Path) -> None:
    """Run an example pipeline on this machine, offline.

    It stages a year of weather observations from one endpoint to another, summarizes them in a Parsl task, copies the
    summary back and cleans up. The pipeline and its settings stay in the folder, to be changed and run again.
    """
    from rich.console import Console  # noqa: PLC0415 - `chiltepin --help` needs no table

    console = Console(highlight=False)
    folder = folder.absolute()
    _prepare_folder(folder)
    console.print(f"[bold]Chiltepin demo[/bold] in {folder}")
    laptop, scratch = folder / "sandbox" / "my-laptop", folder / "sandbox" / "hpc-scratch"
    with console.status("Writing a year of observations"):
        size = _write_observations(laptop / "data" / "observations")
    console.print(
        f"  [green]✓[/green] A year of hourly weather of {STATIONS} stations on my-laptop: {format_size(size)}"
    )
    started = time.monotonic()
    rows = _run(folder, console, laptop, scratch)
    seconds = time.monotonic() - started
    console.print(f"  [green]✓[/green] {rows:,} rows summarized, every file compared; {seconds:.1f} s in all")
    _show_summary(laptop / "results" / "summary.csv", console)
    _print_next_steps(folder, console)


def _prepare_folder(folder: Path) -> None:
    settings = folder / "chiltepin.yaml"
    if folder.exists() and any(folder.iterdir()) and not settings.exists():
        raise ChiltepinError(
            f"{folder} is not empty and was not created by a demo; choose another folder with --folder."
        )
    if settings.exists() and not settings.read_text(encoding="utf-8").startswith(SETTINGS.splitlines()[0]):
        raise ChiltepinError(f"{settings} was not written by a demo; choose another folder with --folder.")
    folder.mkdir(parents=True, exist_ok=True)
    settings.write_text(SETTINGS, encoding="utf-8")
    pipeline = files("chiltepin.cli").joinpath("demo_pipeline.py").read_text(encoding="utf-8")
    (folder / "pipeline.py").write_text(pipeline, encoding="utf-8")


def _write_observations(folder: Path) -> int:
    """Write a table of hourly temperatures for each station; return their total size in bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    chance = random.Random(20260101)  # noqa: S311 - weather, no secret
    start = datetime(2025, 1, 1, tzinfo=timezone.utc)
    times = [f"{start + timedelta(hours=hour):%Y-%m-%dT%H:%M}" for hour in range(HOURS)]
    size = 0
    for station in range(STATIONS):
        mean, swing = chance.uniform(2, 22), chance.uniform(4, 14)
        lines = ["time,station,temperature"]
        for hour, moment in enumerate(times):
            season = -swing * math.cos(2 * math.pi * hour / HOURS)
            day = -4 * math.cos(2 * math.pi * (hour % 24 - 3) / 24)
            lines.append(f"{moment},{station:02d},{mean + season + day + chance.gauss(0, 2):.1f}")
        size += (folder / f"station-{station:02d}.csv").write_text("\n".join(lines) + "\n", encoding="ascii")
    return size


def _run(folder: Path, console: Console, laptop: Path, scratch: Path) -> int:
    from chiltepin import Workflow  # noqa: PLC0415 - Parsl takes a second to load
    from chiltepin.cli.demo_pipeline import pipeline  # noqa: PLC0415

    def follow(step: str, future: Future[Any]) -> None:
        _follow(step, future, console)
        if step.startswith("Stage"):
            _compare(laptop / "data" / "observations", scratch / "project" / "observations")
        elif step.startswith("Bring"):
            _compare(scratch / "project", laptop / "results", ["summary.csv"])

    with Workflow(folder / "chiltepin.yaml", run_dir=folder / "runinfo", backend="local"):
        rows = pipeline(follow)
    if (scratch / "project").exists():
        raise ChiltepinError(f"{scratch / 'project'} still exists after the cleanup.")
    return rows


def _follow(step: str, future: Future[Any], console: Console) -> None:
    from chiltepin import TransferFuture  # noqa: PLC0415

    started = time.monotonic()
    with console.status(step) as shown:
        while not wait([future], timeout=0.1).done:
            if isinstance(future, TransferFuture):
                shown.update(f"{step}: {format_size(future.status().bytes_done)}")
    future.result()
    seconds = time.monotonic() - started
    moved, speed = "", ""
    if isinstance(future, TransferFuture):
        status = future.status()
        moved = f": {pluralize(status.files_done, 'file')}"
        if status.bytes_done:
            moved += f", {format_size(status.bytes_done)}"
            speed = f" ({format_size(status.bytes_done / seconds)}/s)"
    console.print(f"  [green]✓[/green] {step}{moved} in {format_duration(seconds)}{speed}")


def _compare(origin: Path, copy: Path, names: list[str] | None = None) -> None:
    names = names or [file.name for file in origin.iterdir()]
    _, different, missing = filecmp.cmpfiles(origin, copy, names, shallow=False)
    if different or missing:
        raise ChiltepinError(f"{copy} and {origin} differ: {', '.join(different + missing)}.")


def _show_summary(summary: Path, console: Console) -> None:
    from rich.table import Table  # noqa: PLC0415

    head, *rows = [line.split(",") for line in summary.read_text(encoding="ascii").splitlines()]
    rows.sort(key=lambda row: float(row[1]))
    table = Table(*head, title="Coldest and warmest", title_justify="left")
    for row in (rows[0], rows[-1]):
        table.add_row(*row)
    console.print(table)


def _print_next_steps(folder: Path, console: Console) -> None:
    console.print(f"Files in {folder.name}/:")
    for name, what in (
        ("pipeline.py", "the pipeline; run it again with: python pipeline.py"),
        ("chiltepin.yaml", "the endpoints and the backend"),
        ("sandbox/my-laptop/", "the observations, and results/summary.csv"),
        ("runinfo/", "Parsl's own log"),
    ):
        console.print(f"  [bold]{name:<20}[/bold] {what}")
