"""The list of benchmarks: how run.py starts each one, and the targets for its figures."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["BENCHMARKS", "FASTEST", "Benchmark", "Target"]

#: As `Target.to`: the fastest side that is not Chiltepin.
FASTEST = "the fastest"


@dataclass(frozen=True)
class Target:
    """An upper limit for the median of a figure.

    Parameters
    ----------
    work, side : str
        The key of a measurement, and one of its sides.
    limit : float
        The largest median that meets the target.
    to : str
        The side whose time in the same round divides the figure; empty to use the figure itself.
    what : str
        ``s``, ``cpu s``, or another column of the table.
    """

    work: str
    side: str
    limit: float
    to: str = ""
    what: str = "s"


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """A script with its options and targets; the script defines what it measures and compares.

    Parameters
    ----------
    name : str
        The name for ``--only``.
    about : str
        The introduction on the page.
    words, quick : tuple of str
        The script and its options, for a full and for a quick run.
    targets : tuple of Target
        The targets for its figures.
    """

    name: str
    about: str
    words: tuple[str, ...]
    quick: tuple[str, ...]
    targets: tuple[Target, ...] = ()


BENCHMARKS = (
    Benchmark(
        name="startup",
        about="Each command and import runs in a new process.",
        words=("startup.py",),
        quick=("startup.py", "--rounds", "3"),
        targets=(Target("startup", "chiltepin --help", 0.15),),
    ),
    Benchmark(
        name="small",
        about="Small files, copied on one disk in a new process each time, and synchronized with an identical copy. "
        "Chiltepin and rclone verify the copy unless the line says otherwise; the other tools do not.",
        words=("copies.py", "--mib", "0", "--middle", "0"),
        quick=("copies.py", "--mib", "0", "--middle", "0", "--rounds", "2"),
        targets=(
            Target("small", "transfer", 1.5, to="cp"),
            Target("small", "transfer", 0.7, to="rsync -a"),
            Target("unchanged", "transfer, mtime", 0.7, to="rsync -a"),
        ),
    ),
    Benchmark(
        name="tasks",
        about="1,000 calls in one process with a thread pool: an empty Parsl app, and transfers of 4 KiB with "
        "`backend: local`. The log is Parsl's own, which is on by default.",
        words=("tasks.py", "--threads", "1", "2", "8", "--rounds", "3"),
        quick=("tasks.py", "--threads", "1", "8", "--log", "on", "--rounds", "2", "--files", "300"),
        targets=tuple(Target(f"on-{threads}", "transfer_task", 2.0, to="Parsl no-op") for threads in (1, 2, 8)),
    ),
    Benchmark(
        name="large",
        about="A large file, copied in the same way.",
        words=("copies.py", "--mib", "1024", "4096", "--middle", "0", "--files", "0", "--rounds", "4"),
        quick=("copies.py", "--mib", "1024", "--middle", "0", "--files", "0", "--rounds", "2"),
        targets=(
            Target("file-1024", "transfer", 1.15, to="cp"),
            Target("file-4096", "transfer", 1.15, to="cp"),
        ),
    ),
    Benchmark(
        name="middle",
        about="Medium-sized files, copied in the same way.",
        words=("copies.py", "--mib", "0", "--files", "0", "--rounds", "3"),
        quick=("copies.py", "--mib", "0", "--middle", "50", "--files", "0", "--rounds", "2"),
        targets=(Target("middle", "transfer", 1.25, to=FASTEST),),
    ),
    Benchmark(
        name="cold",
        about="The same, with the kernel's caches dropped before each copy; needs root.",
        words=("copies.py", "--cold", "--mib", "1024", "--middle", "0", "--files", "5000", "--rounds", "3"),
        quick=("copies.py", "--cold", "--mib", "0", "--middle", "0", "--files", "5000", "--rounds", "2"),
        targets=(Target("small", "transfer", 0.8, to="rsync -a"),),
    ),
    Benchmark(
        name="trees",
        about="Copies on a FUSE disk that delays each operation by 1 ms, with 100 files in each folder; and deletion "
        "on the disk of the temporary folder.",
        words=("trees.py", "--lagged", "500"),
        quick=("trees.py", "--lagged", "500", "--rounds", "1"),
        targets=(
            Target("lagged", "transfer", 0.2, to="cp -r"),
            Target("lagged", "transfer", 0.2, to="rsync -a"),
            Target("deletion", "delete", 0.7, to="rm -rf"),
        ),
    ),
    Benchmark(
        name="tmpfs",
        about="Deletion in `/dev/shm`.",
        words=("trees.py", "--lagged", "0", "--folder", "/dev/shm"),  # noqa: S108 - this chooses the disk
        quick=("trees.py", "--lagged", "0", "--folder", "/dev/shm", "--rounds", "2"),  # noqa: S108 - likewise
        targets=(Target("deletion", "delete", 1.2, to="rm -rf"),),
    ),
    Benchmark(
        name="floors",
        about="How near Chiltepin is to its system calls, in `/dev/shm`: one program in C and one in Python make only "
        "the calls that `transfer` and `delete` make for each file. No program that works in the same way is faster "
        "than the one in C.",
        words=("floors.py", "--folder", "/dev/shm"),  # noqa: S108 - this chooses the disk
        quick=("floors.py", "--folder", "/dev/shm", "--rounds", "2"),  # noqa: S108 - likewise
    ),
    Benchmark(
        name="workers",
        about="Several workers that share one folder or file in memory: processes of `transfer`, and HTEX workers of "
        "`transfer_task`. The command `chiltepin transfer` synchronizes the million files.",
        words=(
            *("many_workers.py", "--folder", "/dev/shm", "--parts", "bcdef", "--rounds", "2"),  # noqa: S108 - likewise
            *("--files", "50000", "--mib", "2048"),
        ),
        quick=(
            *("many_workers.py", "--folder", "/dev/shm", "--parts", "bf", "--rounds", "2"),  # noqa: S108 - likewise
            *("--files", "20000", "--flat", "20000"),
        ),
        targets=(
            Target("small", "2 processes", 0.63, to="1 process"),
            Target("small", "2 processes", 1.0, to="rsync -a"),
            Target("small", "2 processes", 1.0, to="cp -r"),
            Target("million", "1 process", 0.6, to="rsync -a"),
            Target("million", "2 processes", 0.6, to="rsync -a"),
            Target("million", "2 processes", 100, what="peak MiB"),
            Target("objects", "2 processes", 1.0, to="rclone copy"),
            Target("large", "2 processes", 0.9, to="cp"),
            Target("flat", "2 processes", 0.77, to="1 process"),
        ),
    ),
    Benchmark(
        name="sftp",
        about="An OpenSSH server on the loopback interface and the same cores; each side opens its own connection. "
        "Only Chiltepin verifies the copy unless the line says otherwise.",
        words=("sftp.py", "--rounds", "2"),
        quick=("sftp.py", "--rounds", "2", "--mib", "256", "--files", "500"),
        targets=tuple(
            Target(work, "chiltepin, verified", 1.3, to=FASTEST)
            for work in ("large-up", "large-down", "small-up", "small-down")
        ),
    ),
    Benchmark(
        name="stores",
        about="`rclone serve s3` on the loopback interface and the same cores, with its objects in memory; each side "
        "opens its own connection. Chiltepin verifies the copy.",
        words=("stores.py", "--rounds", "2"),
        quick=("stores.py", "--rounds", "2", "--mib", "256", "--files", "500"),
        targets=(
            *(Target(work, "chiltepin", 1.2, to=FASTEST) for work in ("up", "down", "many-up", "many-down")),
            Target("between", "chiltepin", 1.0, to=FASTEST),
            Target("between", "chiltepin", 300, what="RSS MiB"),
        ),
    ),
    Benchmark(
        name="service",
        about="A simulated Globus with the documented limits: 3 running transfers, 100 pending, 20 requests a second. "
        "A task takes 1 s, plus 10 ms for each file. The task by hand is submitted with the SDK and polled every "
        "second.",
        words=("transfers.py", "--large", "--blocking", "20", "--rounds", "2", "--slices", "20"),
        quick=("transfers.py", "--parts", "ac", "--rounds", "2", "--singles", "5"),
        targets=(
            Target("loop-1000", "transfer_task", 1.5, to="one task by hand"),
            Target("loop-1000", "transfer_task", 0.05, what="requests each"),
            Target("loop-10000", "transfer_task", 0.6, to="one task by hand"),
            Target("loop-10000", "transfer_task", 20, what="tasks"),
            Target("loop-10000", "transfer_task", 300, what="peak MB"),
            Target("alone", "batched", 0.1),
            Target("end", "end of the future", 1.5),
            Target("beside-off", "1000 transfers", 1.11, to="nothing in flight"),
            Target("beside-on", "1000 transfers", 1.11, to="nothing in flight"),
        ),
    ),
    Benchmark(
        name="day",
        about="One workflow moves files for six hours on a clock that runs at 400 times real time. The table also "
        "shows how many seconds late the polls are.",
        words=("long_day.py", "--hours", "6", "--transfers", "25000", "--samples", "6"),
        quick=("long_day.py", "--hours", "1", "--transfers", "4000", "--samples", "2"),
    ),
)
