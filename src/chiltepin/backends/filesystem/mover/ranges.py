"""Divide large files between several workers, and copy one range of a file.

All ranges go into one temporary file. Each worker verifies what it has written, and that its source is the file that
the other workers copy. After all ranges, one worker renames the file. A worker that counts as lost may still write, so
after a loss the ranges go into a new temporary file.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, cast

from chiltepin.backends.filesystem.errors import Fault, changed_source
from chiltepin.backends.filesystem.local.reader import LocalReader
from chiltepin.backends.filesystem.mover.content import Content
from chiltepin.backends.filesystem.mover.retry import with_retries
from chiltepin.backends.filesystem.mover.source_errors import fail_copy, is_skipped
from chiltepin.backends.filesystem.store import CopyOptions, Dividing
from chiltepin.protocol import FileRange, Shard
from chiltepin.protocol.paths import joined

if TYPE_CHECKING:
    from chiltepin.backends.filesystem.location import Location
    from chiltepin.backends.filesystem.mover.shard import ShardRun
    from chiltepin.backends.filesystem.mover.task import TaskRun
    from chiltepin.backends.filesystem.store import Folder, Reader
    from chiltepin.model import TransferRequest
    from chiltepin.protocol.paths import Parts

__all__ = ["copy_range", "divided"]


def divided(shard: ShardRun, reader: Reader, there: Folder, name: str, path: Parts, options: CopyOptions) -> bool:
    """Divide a large file into ranges for several workers, if they can copy it; return whether that was done."""
    size, count = reader.size, shard.shard.range_size
    if shard.shard.workers == 1 or size is None or size < 2 * count or not reader.parts:
        return False
    # A checksum of the whole is computed from the first byte to the last.
    if options.checksum or (options.verify and reader.checksum) or not isinstance(there, Dividing):
        return False
    taken = there.entry(name)
    if taken is not None and taken.kind == "dir":
        return False
    return _divide(shard, reader, there, name, path)


def _divide(shard: ShardRun, reader: Reader, there: Dividing, name: str, path: Parts) -> bool:
    """Begin a temporary file, and return its ranges for several workers; False if the disk does not accept parts."""
    size, count = cast("int", reader.size), shard.shard.range_size
    temp_file = there.begin_shared(reader, name, shard.shard)
    if temp_file is None:
        return False
    whole = FileRange(file=path, temp_file=temp_file, content_id=_identity(reader))
    shard.rest += [
        Shard(range=replace(whole, offset=offset, count=min(count, size - offset))) for offset in range(0, size, count)
    ]
    return True


def _identity(reader: Reader) -> str:
    """Return an id of the content that is the same for all workers."""
    if not isinstance(reader, LocalReader):
        return reader.content_id
    # The device number differs between hosts. The change time cannot be set, so two files that agree in all these
    # values are the same file, or come from the same disk image.
    facts = reader.facts
    return f"{facts.st_ino}:{facts.st_size}:{facts.st_mtime_ns}:{facts.st_ctime_ns}"


def copy_range(run: TaskRun, request: TransferRequest, origin: Location, goal: Location, shard: ShardRun) -> None:
    """Run the step of a `FileRange`."""
    part = cast("FileRange", shard.shard.range)
    source, target = _places(request, origin, goal, part.file)
    with target.parent() as there:
        if part.step in ("again", "remove", "skip"):
            with suppress(FileNotFoundError):
                there.remove(part.temp_file)
        if part.step == "skip":
            run.skip(joined(source.parts))
        if part.step in ("remove", "skip"):
            return
        try:
            with_retries(run, partial(_do, run, request, source, target, there, shard), origin.store, goal.store)
        except Exception as err:  # noqa: BLE001 - the task continues with other files and ranges
            if is_skipped(request, source, err, folder=False):
                # Each range finds this out, but the file counts as skipped once.
                shard.rest.append(Shard(range=replace(part, step="skip")))
            else:
                fail_copy(run, source, target, err)


def _places(request: TransferRequest, origin: Location, goal: Location, file: Parts) -> tuple[Location, Location]:
    """Return the source and the destination of a file, as `copy_tree` and `copy_file` find them."""
    if request.recursive:
        return origin.resolved(follow=True).below(*file), goal.resolved(follow=True).below(*file)
    above = replace(goal, parts=goal.parts[:-1]).resolved(follow=True)
    return origin.resolved(follow=True), above.below(goal.parts[-1])


def _do(
    run: TaskRun, request: TransferRequest, source: Location, target: Location, there: Folder, shard: ShardRun
) -> None:
    part, name = cast("FileRange", shard.shard.range), target.parts[-1]
    options = CopyOptions(verify=request.verify_checksum, mtime=request.preserve_timestamp)
    with source.parent() as here, here.read(source.parts[-1]) as reader:
        if _identity(reader) != part.content_id:
            raise changed_source(str(source))
        if part.step == "again":
            if not _divide(shard, reader, cast("Dividing", there), name, part.file):
                raise Fault("ENDPOINT_ERROR", f"{target} can no longer be written in parts; run the transfer again.")
            return
        size = cast("int", reader.size)
        with cast("Dividing", there).shared_temp_file(part.temp_file, name, size) as temp_file:
            if part.step == "commit":
                temp_file.commit(reader.mtime if options.mtime else None)
                run.count(files=1, size=size)
                return
            with run.moving() as passed:
                Content(reader, temp_file, options, name, passed).copy_range(part.offset, part.count, run.pool.all)
