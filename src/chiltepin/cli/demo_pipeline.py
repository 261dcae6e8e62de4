"""Stage, process, bring back, clean up: a workflow that runs wherever chiltepin.yaml says.

Run it beside its chiltepin.yaml:  python pipeline.py
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chiltepin import Workflow, delete_task, local_path, python_task, transfer_task

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future


@python_task
def summarize(_staged: bool, observations: str, summary: str) -> int:  # noqa: FBT001
    """Write the mean, lowest and highest temperature of each station to a table; return the number of rows read."""
    import csv  # noqa: PLC0415 - a task imports what it needs where it runs
    from pathlib import Path  # noqa: PLC0415
    from statistics import fmean  # noqa: PLC0415

    rows = 0
    with open(summary, "w", newline="", encoding="ascii") as table:
        out = csv.writer(table)
        out.writerow(["station", "mean", "lowest", "highest"])
        for file in sorted(Path(observations).glob("*.csv")):
            with file.open(newline="", encoding="ascii") as lines:
                temperatures = [float(row["temperature"]) for row in csv.DictReader(lines)]
            rows += len(temperatures)
            out.writerow([file.stem, f"{fmean(temperatures):.2f}", min(temperatures), max(temperatures)])
    return rows


def pipeline(follow: Callable[[str, Future[Any]], None]) -> int:
    """Run the four steps; call ``follow`` as each step starts, to wait for it."""
    stage_in = transfer_task(
        src_ep="my-laptop",
        dst_ep="hpc-scratch",
        src_path="/data/observations",
        dst_path="/project/observations",
        recursive=True,
        executor="local",
    )
    follow("Stage observations to hpc-scratch", stage_in)

    summary = summarize(
        stage_in,
        local_path("hpc-scratch", "/project/observations"),
        local_path("hpc-scratch", "/project/summary.csv"),
        executor="compute",
    )
    follow("Summarize them there", summary)

    stage_out = transfer_task(
        src_ep="hpc-scratch",
        dst_ep="my-laptop",
        src_path="/project/summary.csv",
        dst_path="/results/summary.csv",
        inputs=[summary],
        executor="local",
    )
    follow("Copy the summary back to my-laptop", stage_out)

    clean_up = delete_task(
        src_ep="hpc-scratch", src_path="/project", recursive=True, inputs=[stage_out], executor="local"
    )
    follow("Clean up hpc-scratch", clean_up)
    rows: int = summary.result()
    return rows


def wait(step: str, future: Future[Any]) -> None:
    """Wait for a step and say that it is done."""
    future.result()
    print(f"{step}: done")  # noqa: T201


if __name__ == "__main__":
    with Workflow("chiltepin.yaml"):
        print(f"{pipeline(wait):,} rows summarized")  # noqa: T201
