"""The workflows of the specification, which a user writes once for all backends."""

from __future__ import annotations

from chiltepin.data import delete_task, local_path, transfer_task
from chiltepin.tasks import python_task

LIMIT = 60


@python_task
def mean_of(_staged, table):
    """Return the mean of each column of a table."""
    import csv
    from statistics import fmean

    with open(table, newline="") as lines:
        rows = list(csv.DictReader(lines))
    return {name: fmean(float(row[name]) for row in rows) for name in rows[0]}


@python_task
def drop_incomplete(table, cleaned):
    """Copy the complete rows of a table; return the path of the copy."""
    import csv

    with open(table, newline="") as lines, open(cleaned, "w", newline="") as kept:
        out = csv.writer(kept)
        out.writerows(row for row in csv.reader(lines) if all(row))
    return cleaned


@python_task
def write(path, text):
    """Write a file."""
    with open(path, "w") as file:
        file.write(text)
    return True


def single_file(executor):
    """Transfer one file."""
    future = transfer_task(
        src_ep="my-laptop",
        dst_ep="hpc-scratch",
        src_path="/Users/me/data/dataset.csv",
        dst_path="/scratch/project/dataset.csv",
        executor=executor,
    )
    assert future.result(LIMIT)
    return ["/scratch/project/dataset.csv"]


def folder(executor):
    """Transfer the contents of a folder."""
    future = transfer_task(
        src_ep="my-laptop",
        dst_ep="hpc-scratch",
        src_path="/Users/me/data/",
        dst_path="/scratch/project/data/",
        recursive=True,
        executor=executor,
    )
    assert future.result(LIMIT)
    return ["/scratch/project/data/dataset.csv", *(f"/scratch/project/data/more/sim{n}.dat" for n in (1, 2, 3))]


def by_uuid(executor):
    """Name both collections by UUID."""
    future = transfer_task(
        src_ep="12345678-1234-1234-1234-123456789abc",
        dst_ep="87654321-4321-4321-4321-cba987654321",
        src_path="/Users/me/data/more/sim1.dat",
        dst_path="/scratch/sim1.dat",
        executor=executor,
    )
    assert future.result(LIMIT)
    return ["/scratch/sim1.dat"]


def by_display_name(executor):
    """Name an endpoint by its display name, with capitals and spaces."""
    future = transfer_task(
        src_ep="my-laptop",
        dst_ep="HPC Scratch Space",
        src_path="/Users/me/data/dataset.csv",
        dst_path="/x.csv",
        executor=executor,
    )
    assert future.result(LIMIT)
    back = transfer_task(
        src_ep="HPC Scratch Space", dst_ep="hpc-scratch", src_path="/x.csv", dst_path="/y.csv", executor=executor
    )
    assert back.result(LIMIT)
    return ["/y.csv"]


def several_files(executor):
    """Transfer several files concurrently."""
    names = ["sim1.dat", "sim2.dat", "sim3.dat"]
    transfers = [
        transfer_task(
            src_ep="my-laptop",
            dst_ep="hpc-scratch",
            src_path=f"/Users/me/data/more/{name}",
            dst_path=f"/scratch/project/{name}",
            executor=executor,
        )
        for name in names
    ]
    assert all(transfer.result(LIMIT) for transfer in transfers)
    return [f"/scratch/project/{name}" for name in names]


def deletions(executor):
    """Delete a file, then a folder."""
    several_files(executor)
    assert delete_task(src_ep="hpc-scratch", src_path="/scratch/project/sim1.dat", executor=executor).result(LIMIT)
    left = folder(executor)
    assert delete_task(
        src_ep="hpc-scratch", src_path="/scratch/project/data/", recursive=True, executor=executor
    ).result(LIMIT)
    assert left
    return ["/scratch/project/sim2.dat", "/scratch/project/sim3.dat"]


WITHOUT_PROGRAMS = [single_file, folder, by_uuid, by_display_name, several_files, deletions]


def stage_process_clean_up(executor):
    """Stage a table, process it in place, and clean up, without explicit waits."""
    staged = transfer_task(
        src_ep="my-laptop",
        dst_ep="hpc-scratch",
        src_path="/Users/me/data/dataset.csv",
        dst_path="/scratch/project/dataset.csv",
        executor=executor,
    )
    means = mean_of(staged, local_path("hpc-scratch", "/scratch/project/dataset.csv"), executor="compute")
    cleaned = delete_task(
        src_ep="hpc-scratch", src_path="/scratch/project/dataset.csv", inputs=[means], executor=executor
    )
    assert cleaned.result(LIMIT)
    assert means.result(LIMIT) == {"a": 2.0, "b": 3.0}
    return []


def several_tasks_then_a_transfer(executor):
    """Transfer the output of two tasks back when both are done."""
    transfer_task("my-laptop", "hpc-scratch", "/Users/me/data/dataset.csv", "/scratch/here", executor=executor).result(
        LIMIT
    )
    written = [
        write(local_path("hpc-scratch", "/scratch/config.json"), '{"param": 1}', executor="compute"),
        write(local_path("hpc-scratch", "/scratch/input.dat"), "data", executor="compute"),
    ]
    brought = transfer_task(
        src_ep="hpc-scratch",
        dst_ep="my-laptop",
        src_path="/scratch/",
        dst_path="/results/",
        recursive=True,
        inputs=written,
        executor=executor,
    )
    assert brought.result(LIMIT)
    return ["/scratch/config.json", "/scratch/here", "/scratch/input.dat"]


def data_pipeline(executor):
    """Stage, clean, analyze, transfer back, clean up."""
    raw, clean = "/scratch/raw.csv", "/scratch/clean.csv"
    transfer_task(
        src_ep="my-laptop", dst_ep="hpc-scratch", src_path="/Users/me/raw.csv", dst_path=raw, executor=executor
    ).result(LIMIT)
    cleaned = drop_incomplete(local_path("hpc-scratch", raw), local_path("hpc-scratch", clean), executor="compute")
    analysis = mean_of(None, cleaned, executor="compute")
    assert analysis.result(LIMIT) == {"a": 5.0, "b": 6.0}
    transfer_task(
        src_ep="hpc-scratch", dst_ep="my-laptop", src_path=clean, dst_path="/data/cleaned.csv", executor=executor
    ).result(LIMIT)
    gone = delete_task(src_ep="hpc-scratch", src_path="/scratch/", recursive=True, executor=executor)
    assert gone.result(LIMIT)
    assert gone.result(LIMIT)
    return []


WITH_PROGRAMS = [stage_process_clean_up, several_tasks_then_a_transfer, data_pipeline]
