"""An object that is being written, in one request or in parts."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from chiltepin.backends.filesystem.defaults import InOrderFile
from chiltepin.backends.filesystem.errors import Fault
from chiltepin.backends.filesystem.stores.objects.part_size import PART

if TYPE_CHECKING:
    from typing_extensions import Self

    from chiltepin.backends.filesystem.store import Reader
    from chiltepin.backends.filesystem.stores.objects.client import Client, Upload

__all__ = ["ObjectTempFile"]


class ObjectTempFile(InOrderFile):
    """An object that is being written; it is not visible before `commit`.

    Up to one part is kept in memory and sent in one request. The parts of a larger object are sent as they are written.
    ``size`` is None if unknown.
    """

    #: The store compares each part with a checksum that is sent with it.
    verifies_writes = True

    def __init__(self, client: Client, key: str, size: int | None) -> None:
        self._client, self._key, self._size = client, key, size
        self.upload: Upload | None = client.upload(key, size) if size is not None and size > PART else None
        self.part = self.upload.part if self.upload else None
        self._pending, self._sent, self._committed = bytearray(), 0, False

    def __enter__(self) -> Self:
        return self

    def copy_part(self, reader: Reader, offset: int, count: int, *, verify: bool) -> bool:
        """Copy a part on the server if it can; the part is not read back."""
        del verify
        return self.upload is not None and self.upload.copy_part(reader, offset, count)

    def write(self, block: memoryview) -> None:
        """Append the block; whole parts are sent."""
        self._pending += block
        part = self.part or PART
        # Keep the last part: `Upload.send` has to know which one it is.
        while len(self._pending) > part:
            self.upload = self.upload or self._client.upload(self._key, self._size)
            self.upload.send(self._sent, memoryview(bytes(self._pending[:part])), last=False)
            self._sent += part
            del self._pending[:part]

    def write_at(self, offset: int, block: memoryview) -> None:
        """Send one part; called only if parts may be sent in any order."""
        if self.upload:
            self.upload.send(offset, block, last=offset + len(block) == self._size)

    def read_back(self) -> Reader:
        """Not called for a temporary file that verifies its writes."""
        raise NotImplementedError

    def commit(self, mtime: float | None) -> None:
        """Send the rest, and make the object visible; the store sets its modification time."""
        del mtime
        if self.upload is None:
            self._client.put(self._key, self._pending)
        else:
            if self._pending:
                self.upload.send(self._sent, memoryview(self._pending), last=True)
            self.upload.finish()
        self._committed = True

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Abort an upload that was not committed."""
        if self.upload is not None and not self._committed:
            # The error that ended the copy is reported, not one of the abort.
            with suppress(Fault, OSError):
                self.upload.abort(error)
