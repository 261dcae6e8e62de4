"""Which benchmarks there are, how run.py starts each, and the targets that its page compares them with."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["BENCHMARKS", "FASTEST", "Benchmark", "Target"]

#: Stands for the fastest of the other sides of a work.
FASTEST = "the fastest"


@dataclass(frozen=True)
class Target:
    """A number that a figure is not to exceed.

    Parameters
    ----------
    work, side : str
        The key of a work, and one of the sides that it measures.
    limit : float
        The largest median that meets the target.
    to : str
        The side whose time in the same round is 1; empty if the figure itself is meant.
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
    """A script, and what it is run for; the script says what is measured, and next to what.

    Parameters
    ----------
    name : str
        What ``--only`` takes.
    about : str
        What a reader of the page needs to know.
    words, quick : tuple of str
        The script and its options, for a whole and for a quick run.
    targets : tuple of Target
        What its figures are compared with.
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
        name="tasks",
        about="1,000 calls in one process on a pool of threads: an empty Parsl app, and transfers of 4 KiB with "
        "`backend: local`. The log is Parsl's, which is on by default.",
        words=("tasks.py", "--threads", "1", "2", "8", "--rounds", "3"),
        quick=("tasks.py", "--threads", "1", "8", "--log", "on", "--rounds", "2", "--files", "300"),
        targets=tuple(Target(f"on-{threads}", "transfer_task", 2.0, to="Parsl no-op") for threads in (1, 2, 8)),
    ),
    Benchmark(
        name="large",
        about="A large file, copied on one disk, each time in a new process. Chiltepin and rclone verify, unless the "
        "line says otherwise; the other tools do not.",
        words=("copies.py", "--mib", "1024", "4096", "--middle", "0", "--files", "0", "--rounds", "4"),
        quick=("copies.py", "--mib", "1024", "--middle", "0", "--files", "0", "--rounds", "2"),
        targets=(
            Target("file-1024", "transfer", 1.15, to="cp"),
            Target("file-4096", "transfer", 1.15, to="cp"),
        ),
    ),
    Benchmark(
        name="middle",
        about="Files of middle size, in the same way.",
        words=("copies.py", "--mib", "0", "--files", "0", "--rounds", "3"),
        quick=("copies.py", "--mib", "0", "--middle", "50", "--files", "0", "--rounds", "2"),
        targets=(Target("middle", "transfer", 1.25, to=FASTEST),),
    ),
    Benchmark(
        name="small",
        about="Small files, in the same way, and synchronized with a copy that equals them.",
        words=("copies.py", "--mib", "0", "--middle", "0"),
        quick=("copies.py", "--mib", "0", "--middle", "0", "--rounds", "2"),
        targets=(
            Target("small", "transfer", 1.5, to="cp"),
            Target("small", "transfer", 0.7, to="rsync -a"),
            Target("unchanged", "transfer, mtime", 0.7, to="rsync -a"),
        ),
    ),
    Benchmark(
        name="cold",
        about="The same after the kernel has dropped its caches; needs root.",
        words=("copies.py", "--cold", "--mib", "1024", "--middle", "0", "--files", "5000", "--rounds", "3"),
        quick=("copies.py", "--cold", "--mib", "0", "--middle", "0", "--files", "5000", "--rounds", "2"),
        targets=(Target("small", "transfer", 0.8, to="rsync -a"),),
    ),
    Benchmark(
        name="trees",
        about="A FUSE disk that delays each operation by 1 ms, with 100 files in each folder, so that 100 files are in "
        "one; and deletion on the disk of the temporary folder.",
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
        name="workers",
        about="Several workers for one folder or file, in memory: processes of `transfer`, and HTEX workers of "
        "`transfer_task`. The million is synchronized by the command `chiltepin transfer`.",
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
        about="An OpenSSH server on the loopback, on the same cores; each side opens its connection. Only Chiltepin "
        "verifies, unless the line says otherwise.",
        words=("sftp.py", "--rounds", "2"),
        quick=("sftp.py", "--rounds", "2", "--mib", "256", "--files", "500"),
        targets=tuple(
            Target(work, "chiltepin, verified", 1.3, to=FASTEST)
            for work in ("large-up", "large-down", "small-up", "small-down")
        ),
    ),
    Benchmark(
        name="stores",
        about="`rclone serve s3` on the loopback, on the same cores, its objects in memory; each side opens its "
        "connection. Chiltepin verifies.",
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
        "A task takes 1 s and 10 ms for each file. By hand: one task made with the SDK and polled every second.",
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
        about="One workflow moves files for six hours of a clock that runs 400 times as fast; it also says by how many "
        "seconds polls are late.",
        words=("long_day.py", "--hours", "6", "--transfers", "25000", "--samples", "6"),
        quick=("long_day.py", "--hours", "1", "--transfers", "4000", "--samples", "2"),
    ),
)
