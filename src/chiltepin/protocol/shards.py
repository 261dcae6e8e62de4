"""The parts of a request that several workers process together."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chiltepin.model import TaskStatus

__all__ = ["FileRange", "Shard", "ShardOutcome"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRange:
    """A part of a large file that several workers write into one temporary file; plain data.

    Parameters
    ----------
    file : tuple of str
        The names from the folder of the request down to the file; empty if the request is for one file.
    temp_file : str
        The name of the temporary file, in the folder of the destination.
    content_id : str
        An id of the content of the source; all workers compare it, so that they copy parts of the same content.
    offset, count : int
        Bytes.
    step : {"copy", "commit", "again", "remove", "skip"}
        "copy": copy the bytes; "commit": rename the file; "again": begin a new one, as a lost worker may still write to
        it; "remove": remove it after a failure; "skip": also count it as skipped, because its source is unreadable.
    """

    file: tuple[str, ...]
    temp_file: str
    content_id: str
    offset: int = 0
    count: int = 0
    step: Literal["copy", "commit", "again", "remove", "skip"] = "copy"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """A part of a request for one worker; plain data.

    Parameters
    ----------
    folders : tuple of tuple of str
        Folders with everything below them, each as the names from the folder of the request down to it.
    part, parts : int
        For one large folder: the shard contains only the names in class ``part``, from 0, of ``parts`` classes.
    new : bool
        Whether the task itself created the folder at the destination, so that no file there is replaced.
    seconds : float or None
        Time after which the worker returns what it has not started; None: it does everything.
    workers : int
        Number of workers, for dividing a large folder.
    range_size : int
        Bytes of one `FileRange` of a large file; a file of at least two ranges may be divided.
    owner : str
        The process that hands out the shards; see ``chiltepin.backends.processes.process_id``.
    attempt : str
        A random id, new each time that the shard is handed out. All ids of one task begin with the same digits.
    abandoned : tuple of str
        Attempts whose outcome is not awaited, as their workers were lost, and tasks that did not succeed: the first
        digits of their ids. Their temporary files are not needed.
    range : FileRange or None
        A part of one large file, instead of folders.
    resumed : bool
        Whether an earlier process was killed during the same request. Without a sync level, a file whose content (and
        time, if it is preserved) is equal is then not copied again.
    last : bool
        Whether this is the last shard, after all other shards succeeded: a transfer removes what exists only at the
        destination, and a deletion removes the remaining folders.
    listed : mapping of int to int
        For the last shard: the number of entries of each source folder, by a hash of its names.
    """

    folders: tuple[tuple[str, ...], ...] = ((),)
    part: int = 0
    parts: int = 1
    new: bool = False
    seconds: float | None = None
    workers: int = 1
    range_size: int = 1 << 29
    owner: str = ""
    attempt: str = ""
    abandoned: tuple[str, ...] = ()
    range: FileRange | None = None
    resumed: bool = False
    last: bool = False
    listed: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardOutcome:
    """The outcome of one shard; plain data.

    Parameters
    ----------
    status : TaskStatus
        Its final status.
    failures : tuple of (str, str)
        Codes and reasons of the first failures.
    failed : int
        Number of files and folders that failed.
    fatal : bool
        Whether other shards would fail for the same reason, such as a full disk.
    rest : tuple of Shard
        The parts that the worker did not finish.
    listed : mapping of int to int
        As in `Shard`, if the request removes what exists only at the destination.
    seconds : float
        Duration in seconds.
    error : Exception or None
        A `ChiltepinError`, if the worker could not do the shard at all.
    host : str
        The host of the worker; empty if it does not matter.
    """

    status: TaskStatus
    failures: tuple[tuple[str, str], ...] = ()
    failed: int = 0
    fatal: bool = False
    rest: tuple[Shard, ...] = ()
    listed: Mapping[int, int] = field(default_factory=dict)
    seconds: float = 0.0
    error: Exception | None = None
    host: str = ""
