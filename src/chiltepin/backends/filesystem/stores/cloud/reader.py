"""One object of Azure or Google, read in ranges."""

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
    """A client whose objects are read in ranges."""

    def get(self, found: ObjectInfo, offset: int, count: int) -> bytes:
        """Return a range of exactly that content; a `CloudFault` if the object has been replaced."""
        ...

    def read(self, key: str) -> ObjectReader:
        """Open an object; IsADirectoryError for one that only marks a folder."""
        found = self.head(key)
        if found.is_folder:
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), key)
        return ObjectReader(self, found)


class ObjectReader(NothingHeld):
    """The content that ``found`` describes, open for reading; a read fails if the object has been replaced."""

    pinned = True

    def __init__(self, client: RangeClient, found: ObjectInfo) -> None:
        self._client, self._found = client, found
        self.size: int | None = found.size
        self.mtime: float | None = found.mtime
        self.checksum = f"md5:{found.md5.hex()}" if found.md5 else ""
        self.content_id = f"{client.server}/{client.bucket}/{found.key}:{found.version}"
        # Google has no MD5 for a composed object, and a CRC has to be computed in the order of the bytes.
        self._crc: Any = _crc32c() if found.crc32c and not found.md5 else None
        self.parts = self._crc is None
        # The bytes in memory, and the offset of their end.
        self._window, self._end = memoryview(b""), 0

    def read_at(self, offset: int, block: memoryview) -> int:
        """Fill the block from ``offset``; see `Reader.read_at`."""
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
        """Fill the block from the current position, reading a part at a time; see `Reader.readinto`."""
        if not self._window:
            data = self._get(self._end, PART)
            self._window, self._end = memoryview(data), self._end + len(data)
            if self._crc is not None:
                self._crc.update(data)
        found, self._window = self._window[: len(block)], self._window[len(block) :]
        block[: len(found)] = found
        return len(found)

    def changed(self) -> bool:
        """Return False: all parts are of the same content; a ``Fault`` if all of it was read and its CRC differs."""
        if self._crc is not None and self._end == self._found.size and self._crc.digest() != self._found.crc32c:
            reason = f"The data received of {self._found.key} does not match its checksum at {self._client.store}."
            raise Fault("VERIFY_CHECKSUM", reason)
        return False


def _crc32c() -> Any:
    # Imported here: only Google's client, which has CRCs, needs the package.
    import google_crc32c  # noqa: PLC0415

    return google_crc32c.Checksum()
