"""One object of Azure or Google, read by ranges."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Any, Protocol

from chiltepin.backends.filesystem.defaults import NothingHeld
from chiltepin.backends.filesystem.errors import Fault
from chiltepin.backends.filesystem.stores.objects.client import Client, CloudFault
from chiltepin.backends.filesystem.stores.objects.part_size import PART

if TYPE_CHECKING:
    from chiltepin.backends.filesystem.stores.objects.client import ObjectInfo

__all__ = ["ObjectReader", "RangeClient"]


class RangeClient(Client, Protocol):
    """A client whose objects are read by ranges."""

    def get(self, found: ObjectInfo, offset: int, count: int) -> bytes:
        """Return some bytes of exactly that content; a `CloudFault` if the object has been replaced."""
        ...

    def read(self, key: str) -> ObjectReader:
        """Open an object; IsADirectoryError for one that only stands for a folder."""
        found = self.head(key)
        if found.is_folder:
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), key)
        return ObjectReader(self, found)


class ObjectReader(NothingHeld):
    """An object that is open for reading: the content that ``found`` describes, even if it is replaced meanwhile."""

    pinned = True

    def __init__(self, client: RangeClient, found: ObjectInfo) -> None:
        self._client, self._found = client, found
        self.size: int | None = found.size
        self.mtime: float | None = found.mtime
        self.checksum = f"md5:{found.md5.hex()}" if found.md5 else ""
        self.content_id = f"{client.server}/{client.bucket}/{found.key}:{found.version}"
        # Google tells no MD5 of an object that was composed of others; a CRC is computed in the order of the bytes.
        self._crc: Any = _crc32c() if found.crc32c and not found.md5 else None
        self.parts = self._crc is None
        # What is in memory of the object, and where it ends.
        self._window, self._end = memoryview(b""), 0

    def read_at(self, offset: int, block: memoryview) -> int:
        """Fill the block from there; see `Reader.read_at`."""
        data = self._get(offset, len(block))
        block[: len(data)] = data
        return len(data)

    def _get(self, offset: int, count: int) -> bytes:
        count = min(count, self._found.size - offset)
        if count <= 0:
            return b""
        data = self._client.get(self._found, offset, count)
        if len(data) != count:
            reason = f"{self._client.store} did not send the requested range of {self._found.key}."
            raise CloudFault("ENDPOINT_ERROR", reason, transient=True)
        return data

    def readinto(self, block: memoryview) -> int:
        """Fill the block from where the last call ended, a part being got at a time; see `Reader.readinto`."""
        if not self._window:
            data = self._get(self._end, PART)
            self._window, self._end = memoryview(data), self._end + len(data)
            if self._crc is not None:
                self._crc.update(data)
        found, self._window = self._window[: len(block)], self._window[len(block) :]
        block[: len(found)] = found
        return len(found)

    def changed(self) -> bool:
        """Return False, because only one content was read; a ``Fault`` if all of it was read and its CRC differs."""
        if self._crc is not None and self._end == self._found.size and self._crc.digest() != self._found.crc32c:
            reason = f"The data received of {self._found.key} does not match its checksum at {self._client.store}."
            raise Fault("VERIFY_CHECKSUM", reason)
        return False


def _crc32c() -> Any:
    # Only a client that tells a CRC has the package.
    import google_crc32c  # noqa: PLC0415

    return google_crc32c.Checksum()
