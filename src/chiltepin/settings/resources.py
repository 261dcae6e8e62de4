"""One resource of the settings: where apps run, and how many at a time."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from chiltepin.errors import suggest
from chiltepin.model import UUID, endpoint_name
from chiltepin.settings import limits
from chiltepin.settings.messages import Strict, misfit

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["LOCAL", "Count", "Resource", "Seconds", "Text", "label_problem", "one_of", "uuid_text"]

#: The label that always exists.
LOCAL = "local"

_PROVIDERS = ("localhost", "pbspro", "slurm", "threads")

#: The launchers whose command lines Parsl can compose (its module ``mpi_prefix_composer``).
_MPI_LAUNCHERS = ("aprun", "mpiexec", "srun")

_WALLTIME = re.compile(r"([0-9]{1,4}):([0-5][0-9]):([0-5][0-9])")
_SHORT_TIME = re.compile(r"([0-9]{1,2}):([0-5][0-9])")
_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


def one_of(*names: str) -> BeforeValidator:
    """Return a validator for these names; for any other value, it suggests the nearest name."""

    def check(value: Any) -> Any:
        if value not in names:
            raise misfit(suggest(value, names))
        return value

    return BeforeValidator(check)


def _text(value: Any) -> str:
    """Return text; a whole number becomes the text that was typed."""
    if isinstance(value, bool):
        raise misfit(f'write a name, and quote it if it is "{str(value).lower()}"')
    if isinstance(value, float):
        raise misfit("quote it, spelled as you need it, because YAML reads 1.10 and 1.1 as the same number")
    if not isinstance(value, str | int):
        raise misfit("write one piece of text")
    # A line break in an account would start a new line in the job script.
    if not str(value).isprintable():
        raise misfit("write it on one line, without control characters")
    return str(value).strip()


def _endpoint(value: Any) -> str:
    # With an empty value, apps meant for an endpoint would silently run on this machine.
    if value is None or value == "":
        raise misfit("write the UUID of a Globus Compute endpoint, or remove the key")
    return uuid_text(value, "write a UUID, such as 12345678-1234-1234-1234-123456789abc")


def _within(numbers: limits.Range) -> Callable[[Any], Any]:
    """Return a validator for the numbers of a range; pydantic checks text."""

    def check(value: Any) -> Any:
        # A bool is an int in Python, so that 'max_blocks: true' would mean 1.
        if isinstance(value, bool):
            raise misfit("write a number")
        if not limits.is_number(value):
            return value
        if not numbers.holds(value):
            raise misfit(f"write {numbers.remedy(value)}")
        return limits.plain_number(value)

    return check


def uuid_text(value: Any, advice: str) -> str:
    """Return a UUID in lower case; any other value is an error with this advice."""
    if not isinstance(value, str) or not UUID.fullmatch(value.strip()):
        raise misfit(advice)
    return value.strip().lower()


def _walltime(value: Any) -> str:
    """Return hours, minutes and seconds with two digits each."""
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 10**8:
        minutes, seconds = divmod(round(value), 60)
        # YAML 1.1, which many tools use, reads 1:00:00 without quotes as a number of seconds.
        written = f"{minutes // 60:02}:{minutes % 60:02}:{seconds:02}"
        raise misfit(f'write "{written}" for that many seconds')
    text = str(value).strip()
    if short := _SHORT_TIME.fullmatch(text):
        first, second = int(short[1]), short[2]
        raise misfit(f'write "00:{first:02}:{second}" for minutes and seconds, or "{first:02}:{second}:00" for hours')
    found = _WALLTIME.fullmatch(text)
    if not found or not any(int(part) for part in found.groups()):
        raise misfit('write hours, minutes and seconds, such as "01:00:00"')
    return f"{int(found[1]):02}:{found[2]}:{found[3]}"


def _environment(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        return tuple(value.splitlines())
    if not isinstance(value, list | tuple):
        raise misfit("write a list of shell lines, such as '- module load gcc' and '- export NAME=value'")
    for line in value:
        if not isinstance(line, str):
            raise misfit(f"put the line {line!r} in quotes, so that it is text")
    return tuple(value)


def _working_dir(value: Any) -> str:
    endpoint, colon, folder = _text(value).partition(":/")
    if not endpoint.strip() or not colon or ".." in folder.split("/"):
        raise misfit("write an endpoint and a folder on it, such as hpc-scratch:/project/parsl")
    return f"{endpoint_name(endpoint.strip())}:/{folder.strip('/')}"


Text = Annotated[str, BeforeValidator(_text)]
_count, _count_or_none, _share, _seconds = (
    _within(numbers) for numbers in (limits.COUNT, replace(limits.COUNT, least=0), limits.SHARE, limits.GRACE)
)
# Validated twice: a number before pydantic, which refuses very large ints, and text after pydantic has parsed it.
Count = Annotated[int, BeforeValidator(_count), AfterValidator(_count)]
_CountOrNone = Annotated[int, BeforeValidator(_count_or_none), AfterValidator(_count_or_none)]
Seconds = Annotated[float, BeforeValidator(_seconds), AfterValidator(_seconds)]
_Share = Annotated[float, BeforeValidator(_share), AfterValidator(_share)]


class Resource(Strict):
    """One executor. A missing or empty key has its default.

    Parameters
    ----------
    provider : {"threads", "localhost", "slurm", "pbspro"}
        Threads of this process, processes of this machine, or the nodes of a batch system.
    endpoint : str or None
        UUID of a Globus Compute endpoint, which then receives the other keys.
    mpi : bool
        Run MPI programs: one worker on the first node of a block, and a launcher that starts each program on the nodes.
    max_mpi_apps : int
        Limit of MPI programs at a time in one block.
    mpi_launcher : {"srun", "mpiexec", "aprun"} or None
        The command that starts an MPI program; None is ``srun`` with Slurm, else ``mpiexec``.
    max_threads : int
        Threads of the provider ``threads``. With the default of 8, transfers and functions can wait for disks and
        networks without delaying the rest; more would gain little, because Python threads share one core and the
        filesystem backend copies the files of one transfer in parallel. The default does not depend on the number of
        cores, so that a workflow runs in the same way everywhere.
    cores_per_worker : float
        Cores for one worker; below 1, workers share cores.
    max_workers_per_node : int or None
        Limit of workers on one node; None is as many as its cores allow.
    cores_per_node : int or None
        Cores to request from the batch system on each node; None leaves it to the batch system, and is 1 with PBS and
        Globus Compute.
    nodes_per_block : int
        Nodes of one batch job.
    init_blocks, min_blocks, max_blocks : int
        Batch jobs (or groups of processes) at the start, at least, and at most. The default of ``init_blocks`` is
        ``min_blocks``.
    exclusive : bool
        Whether Slurm allocates whole nodes.
    partition, queue, account : str or None
        Where a job is queued and which account is charged; ``queue`` is the QOS with Slurm.
    walltime : str
        Time limit of a block, ``HH:MM:SS``.
    environment : tuple of str
        Shell lines to run before a worker starts.
    working_dir : str or None
        ``ENDPOINT:/path``, a folder that its apps can access, for files that Parsl stages. None refuses such files.
    """

    provider: Annotated[str, one_of(*_PROVIDERS)] = "localhost"
    endpoint: Annotated[str | None, BeforeValidator(_endpoint)] = None
    mpi: bool = False
    max_mpi_apps: Count = 1
    mpi_launcher: Annotated[str, one_of(*_MPI_LAUNCHERS)] | None = None
    max_threads: Count = 8
    cores_per_worker: _Share = 1.0
    max_workers_per_node: Count | None = None
    cores_per_node: Count | None = None
    nodes_per_block: Count = 1
    max_blocks: Count = 1
    min_blocks: _CountOrNone = 0
    init_blocks: _CountOrNone = Field(default=None, validate_default=True)
    exclusive: bool = True
    partition: Text | None = None
    queue: Text | None = None
    account: Text | None = None
    walltime: Annotated[str, BeforeValidator(_walltime)] = "00:10:00"
    environment: Annotated[tuple[str, ...], BeforeValidator(_environment)] = ()
    working_dir: Annotated[str, BeforeValidator(_working_dir)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _left_empty(cls, data: dict[str, Any]) -> dict[str, Any]:
        return {
            key: value
            for key, value in data.items()
            if value is not None or key == "endpoint" or key not in cls.model_fields
        }

    @field_validator("partition", "queue", "account")
    @classmethod
    def _named(cls, value: str | None) -> str | None:
        return value or None

    @field_validator("init_blocks", mode="before")
    @classmethod
    def _at_start(cls, value: Any, info: ValidationInfo) -> Any:
        return info.data.get("min_blocks", 0) if value is None else value

    @field_validator("min_blocks", "init_blocks")
    @classmethod
    def _at_most(cls, value: int, info: ValidationInfo) -> int:
        most, least = info.data.get("max_blocks", value), info.data.get("min_blocks", value)
        if value > most:
            raise misfit(f"max_blocks is {most}, so write a number up to that, or raise max_blocks")
        if value < least:
            raise misfit(f"min_blocks is {least}, so write at least {least}, or lower min_blocks")
        return value

    @field_validator("endpoint")
    @classmethod
    def _not_threads(cls, value: str | None, info: ValidationInfo) -> str | None:
        if info.data.get("provider") == "threads":
            raise misfit("threads run in this process, so remove the endpoint, or write another provider")
        return value

    @property
    def launcher(self) -> str:
        """The command that starts an MPI program."""
        return self.mpi_launcher or ("srun" if self.provider == "slurm" else "mpiexec")

    @property
    def kind(self) -> str:
        """The kind of this resource, for messages."""
        if self.endpoint:
            return "a Globus Compute endpoint"
        mpi = "and mpi: true" if self.mpi and self.provider != "threads" else "without mpi"
        return f"provider {self.provider!r}" if self.provider == "threads" else f"provider {self.provider!r} {mpi}"

    def idle_keys(self) -> tuple[str, ...]:
        """Return the given keys that have no effect on this kind of resource, in the order of the fields."""
        used = self._used()
        return tuple(key for key in type(self).model_fields if key in self.model_fields_set and key not in used)

    def _used(self) -> set[str]:
        if self.endpoint:
            return set(type(self).model_fields) - {"max_threads", "cores_per_worker", "max_workers_per_node"}
        # 'mpi: false' also applies to threads.
        if self.provider == "threads":
            return {"provider", "max_threads", "working_dir"} | (set() if self.mpi else {"mpi"})
        used = {"provider", "mpi", "max_blocks", "min_blocks", "init_blocks", "environment", "working_dir"}
        used |= {"max_mpi_apps", "mpi_launcher"} if self.mpi else {"cores_per_worker", "max_workers_per_node"}
        if self.provider == "localhost":
            return used
        used |= {"nodes_per_block", "queue", "account", "walltime"}
        if self.provider == "pbspro":
            return used | {"cores_per_node"}
        return used | {"exclusive", "partition"} | (set() if self.mpi else {"cores_per_node"})


def label_problem(label: Any) -> str:
    """Return the problem of a resource's name, as the end of a sentence; empty if it is valid."""
    if not isinstance(label, str):
        return "is not text; name a resource with text"
    if label == "all":
        return "is not a valid name of a resource: executor='all' means all resources; choose another name"
    if label.startswith("_"):
        return "is not a valid name of a resource: names that start with '_' belong to Parsl; remove the '_'"
    # Parsl uses the label in folder names, and unquoted on a command line.
    if not _LABEL.fullmatch(label):
        return (
            "is not a valid name of a resource; write letters, digits, '_', '-' and '.', and start with a letter or "
            "digit"
        )
    return ""
