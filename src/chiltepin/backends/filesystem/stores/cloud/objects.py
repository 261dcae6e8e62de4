"""One object of a store: read by ranges, and written in one request or in parts."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from chiltepin.backends.filesystem.errors import Fault
from chiltepin.backends.filesystem.stores.cloud.client import PART, CloudFault

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

    from chiltepin.backends.filesystem.store import Reader
    from chiltepin.backends.filesystem.stores.cloud.client import Client, ObjectInfo, Upload

__all__ = ["ObjectDraft", "ObjectReader"]


class ObjectReader:
    """An object that is open for reading: one content of it, even if it is replaced meanwhile.

    Parameters
    ----------
    client : Client
        The way to its bucket.
    found : Found
        What the store told of it.
    """

    def __init__(self, client: Client, found: ObjectInfo) -> None:
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

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing is held but memory."""
        self._window = memoryview(b"")

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
            reason = f"{self._client.store} did not send the range of {self._found.key} that it was asked for."
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
        """Return False, as all that was read is of one content; compare it with its CRC, if all of it was read.

        Raises
        ------
        Fault
            ``VERIFY_CHECKSUM`` if it is something else.
        """
        if self._crc is not None and self._end == self._found.size and self._crc.digest() != self._found.crc32c:
            reason = f"What came of {self._found.key} has another checksum than {self._client.store} tells of it."
            raise Fault("VERIFY_CHECKSUM", reason)
        return False


def _crc32c() -> Any:
    # Only a client that tells a CRC has the package.
    import google_crc32c  # noqa: PLC0415

    return google_crc32c.Checksum()


class ObjectDraft:
    """An object that is being written; it is not seen before `commit`.

    Up to one part it is kept in memory and sent in one request. Otherwise its parts are sent as they come.

    Parameters
    ----------
    client : Client
        The way to its bucket.
    key : str
        Its name.
    size : int or None
        How many bytes it will have; None if that is not known.
    """

    #: The store compares each part with a checksum that is sent with it.
    verifies_writes = True

    def __init__(self, client: Client, key: str, size: int | None) -> None:
        self._client, self._key, self._size = client, key, size
        self._upload: Upload | None = client.upload(key, size) if size is not None and size > PART else None
        self.part = self._upload.part if self._upload else None
        self._pending, self._sent, self._committed = bytearray(), 0, False

    def __enter__(self) -> Self:
        return self

    def has_part(self, offset: int, count: int) -> None:
        """Return None: nothing is kept of an upload whose process died."""
        del offset, count

    def mark_verified(self, offset: int, digest: bytes) -> None:
        """Note nothing."""
        del offset, digest

    def step(self, reader: Reader) -> None:
        """Return None: a request for each step would cost more."""

    def copy_part(self, reader: Reader, offset: int, count: int, *, verify: bool) -> bool:
        """Return False: this store has no faster path."""
        del reader, offset, count, verify
        return False

    def write(self, block: memoryview) -> None:
        """Append the block; whole parts are sent."""
        self._pending += block
        # The last part stays here, as the store is told which one it is.
        while len(self._pending) > PART:
            self._upload = self._upload or self._client.upload(self._key, self._size)
            self._upload.send(self._sent, bytes(self._pending[:PART]), last=False)
            self._sent += PART
            del self._pending[:PART]

    def write_at(self, offset: int, block: memoryview) -> None:
        """Send one part; only asked where parts may come in any order."""
        if self._upload:
            self._upload.send(offset, bytes(block), last=offset + len(block) == self._size)

    def read_back(self) -> ObjectReader:
        """Not asked of a temporary file that proves what it writes."""
        raise NotImplementedError

    def commit(self, mtime: float | None) -> None:
        """Send what is left, and have the object seen; the store sets its time itself."""
        del mtime
        if self._upload is None:
            self._client.put(self._key, bytes(self._pending))
        else:
            if self._pending:
                self._upload.send(self._sent, bytes(self._pending), last=True)
            self._upload.finish()
        self._committed = True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Drop what was not committed."""
        if self._upload is not None and not self._committed:
            # What ended the copy is what is told.
            with suppress(Fault, OSError):
                self._upload.abort()
