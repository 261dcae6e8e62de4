"""Copy one file in steps; see `moving` for what the generators yield."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING, Any

from chiltepin.testing.simulator.task_faults import TaskFault

if TYPE_CHECKING:
    from collections.abc import Generator

    from chiltepin.backends.filesystem.local.folder import LocalFolder
    from chiltepin.backends.filesystem.local.reader import LocalReader
    from chiltepin.backends.filesystem.store import Entry, TempFile
    from chiltepin.testing.simulator.collection import Collection
    from chiltepin.testing.simulator.settings import Settings
    from chiltepin.testing.simulator.submissions import Item
    from chiltepin.testing.simulator.tasks import Task

__all__ = ["Copier"]

#: Bytes of one step, so that the lock is never held for long.
STEP = 1 << 20

#: The supported values of ``checksum_algorithm`` (globus transfer --help, "--checksum-algorithm").
ALGORITHMS = ("md5", "sha1", "sha256", "sha512")

#: The service's numbers for the sync levels (globus_sdk, TransferData, "Sync Levels").
EXISTS, SIZE, MTIME = range(3)


class Copier:
    """Copies the files of one task."""

    def __init__(self, task: Task, goal: Collection, settings: Settings) -> None:
        self._task, self._submission, self._settings = task, task.submission, settings
        self._source, self._goal = task.submission.source, goal

    def copy(
        self, item: Item, reader: LocalReader, there: LocalFolder, name: str, shown: tuple[str, str]
    ) -> Generator[float, None, None]:
        """Write one file under a temporary name, and rename it when it is complete."""
        existing = there.entry(name)
        if existing is not None and existing.kind == "dir":
            raise TaskFault("IS_A_DIRECTORY", f"{self._goal.where(shown[1])}: Is a directory", fatal=True)
        is_up_to_date = yield from self._in_place(reader, existing, there)
        if is_up_to_date:
            self._task.count(("skipped", shown), files_skipped=1)
            return
        size = reader.size or 0
        self._take_quota(size, shown[1])
        yield self._settings.latency
        algorithm = (item.checksum_algorithm or "md5").lower().replace("-", "")
        if algorithm not in ALGORITHMS:
            raise TaskFault("EXTERNAL_CHECKSUM_MISMATCH", f"Unknown checksum algorithm {algorithm}", fatal=True)
        with there.temp_file(name) as temp_file:
            digest = yield from self._fill(reader, temp_file, size, algorithm)
            if reader.changed():
                raise TaskFault("FILE_SIZE_CHANGED", f"{self._source.where(shown[0])}: File size changed")
            if self._submission.flag("verify_checksum"):
                yield from self._verify(temp_file.read_back(), algorithm, digest, shown[1])
            if item.external_checksum and item.external_checksum.lower() != digest:
                what = f"External checksum mismatch, expected {item.external_checksum}, found {digest}"
                raise TaskFault("EXTERNAL_CHECKSUM_MISMATCH", f"{self._source.where(shown[0])}: {what}", fatal=True)
            temp_file.commit(reader.mtime if self._submission.flag("preserve_timestamp") else None)
        if self._goal.quota is not None:
            self._goal.quota -= size
        self._task.counters.files_transferred += 1
        self._task.successful.append(self._success(shown, size, algorithm, digest))

    def _fill(self, reader: LocalReader, temp_file: TempFile, size: int, algorithm: str) -> Generator[float, None, str]:
        digest, moved = hashlib.new(algorithm, usedforsecurity=False), 0
        block = memoryview(bytearray(min(STEP, size) or 1))
        # A file that keeps growing must not be read endlessly.
        while moved <= size and (count := reader.readinto(block)):
            temp_file.write(block[:count])
            digest.update(block[:count])
            moved += count
            self._task.counters.bytes_transferred += count
            yield count / self._settings.bandwidth if self._settings.bandwidth else 0.0
        return digest.hexdigest()

    def _success(self, shown: tuple[str, str], size: int, algorithm: str, checksum: str) -> dict[str, Any]:
        verified = self._submission.flag("verify_checksum")
        return {
            "DATA_TYPE": "successful_transfer",
            "checksum": checksum if verified else None,
            "checksum_algorithm": algorithm.upper() if verified else None,
            "destination_path": shown[1],
            "dynamic": False,
            "size": size,
            "source_path": shown[0],
        }

    def _verify(self, written: LocalReader, algorithm: str, expected: str, path: str) -> Generator[float, None, None]:
        digest = yield from _digest(written, algorithm)
        self._task.counters.bytes_checksummed += written.size or 0
        if digest != expected:
            raise TaskFault("VERIFY_CHECKSUM", f"{self._goal.where(path)}: Checksum mismatch")

    def _in_place(
        self, reader: LocalReader, existing: Entry | None, there: LocalFolder
    ) -> Generator[float, None, bool]:
        """Whether the sync level skips an existing file; from SIZE on, no file with a different size is skipped."""
        level = self._submission.sync_level
        if level is None or existing is None or existing.kind != "file":
            return False
        if level == EXISTS:
            return True
        if existing.size != reader.size:
            return False
        if level == SIZE:
            return True
        if level == MTIME:
            return (existing.mtime or 0) >= (reader.mtime or 0)
        with there.read(existing.name) as copy:
            theirs = yield from _digest(copy, "md5")
        ours = yield from _digest(reader, "md5")
        os.lseek(reader.descriptor, 0, os.SEEK_SET)
        return ours == theirs

    def _take_quota(self, size: int, path: str) -> None:
        if self._goal.quota is not None and size > self._goal.quota:
            details = f"{self._goal.where(path)}: Disk quota exceeded"
            raise TaskFault("QUOTA_EXCEEDED", details, fatal=self._submission.flag("fail_on_quota_errors"))


def _digest(reader: LocalReader, algorithm: str) -> Generator[float, None, str]:
    digest, block = hashlib.new(algorithm, usedforsecurity=False), memoryview(bytearray(STEP))
    while count := reader.readinto(block):
        digest.update(block[:count])
        yield 0.0
    return digest.hexdigest()
